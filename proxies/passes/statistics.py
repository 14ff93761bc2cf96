"""Statistics of the units of a network: what proxy programs compute with.

Akhauri et al. 2022, "EZNAS: Evolving Zero-Cost Proxies for Neural Architecture Scoring". A *unit*
is a convolution whose output BatchNorm is given, with the ReLU before it or, where there is none,
the one after it. The network gets weights of the pass's own, N(0, 2 / fan out), and runs on 16
inputs, by which BatchNorm normalises; dropout is off. The sum of its outputs is differentiated: no
loss, no labels. Three kinds of inputs: *data*, the first 16 of the minibatch; *noise*, N(0, 1);
*perturbed*, data with noise of variance 0.01, of which the difference to data is kept.

==================  ========================  =======================  =========================
unit                input                     preactivation            activation
==================  ========================  =======================  =========================
ReLU-Conv-BN        what ReLU is given        what Conv is given       what BatchNorm returns
Conv-BN-ReLU        what Conv is given        what BatchNorm is given  what ReLU returns
Conv-BN             what Conv is given        what BatchNorm is given  what BatchNorm returns
==================  ========================  =======================  =========================

Deviations: (1) units are found by what is given to what, where the released code pairs modules by
their order; they agree on NAS-Bench-201, but in Conv-BN-ReLU networks the released code takes the
weight of BatchNorm for that of the convolution; (2) stems are left out, units that no weights come
before, where the released code leaves out the first two modules; where there is nothing but a
stem, it is a unit.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from proxies.passes.drawing import gaussian, gaussian_weights
from proxies.passes.modes import normalising_by_batch, out_of_place
from proxies.passes.run import Run, register_pass
from spaces.proxy_programs.formula import SCENARIOS
from spaces.proxy_programs.operations import Values

EXAMPLES: Final = 16
"""Inputs of each kind, as published; fewer where the minibatch is smaller."""

_VALUES: Final = ("input", "preactivation", "activation")
_PERTURBATION: Final = 0.1
_LINEAR: Final = 0.01


@dataclass(frozen=True)
class Unit:
    """One call of one unit: its weight, and by kind what was recorded, values or gradients too.

    ``alive`` says whether a gradient flows from it; where it does not, gradients are 0.
    """

    weight: Tensor
    recorded: dict[str, Tensor]
    alive: bool


class Statistics:
    """The units of one network; what each kind of input makes of them is recorded when asked for.

    It does not keep the run alive: in a circle all that was recorded would outlive its network.
    """

    def __init__(self, run: Run) -> None:
        self._run = weakref.ref(run)
        self._known: dict[str, list[Unit]] = {}
        self._stacked: dict[tuple[str, tuple[int, ...]], Values] = {}

    def of(self, scenario: str, *, gradients: bool = True) -> list[Unit]:
        """Return the units in the order of calls, for one of the three scenarios.

        Without ``gradients`` the network only runs forwards, which is most of the time saved.
        Raises ``ReferenceError`` for what was not asked for while there was a run.
        """
        name = f"statistics_{scenario}" + "_gradients" * gradients
        run = self._run()
        if run is not None:  # it counts the time
            record = run.record(name)
            self._known[name] = record if gradients else record.units
        elif name not in self._known:
            raise ReferenceError(f"the run that would record {name} is over")
        return self._known[name]

    def stacked(self, name: str, places: tuple[int, ...], scenario: str) -> Values:
        """Return one of the 22 statistics of the units in ``places``, for all that read it."""
        key = (name, places)
        if key not in self._stacked:
            if name == "weight":
                data = torch.stack([self.of(scenario, gradients=False)[p].weight for p in places])
            else:
                kind, _, of = name.rpartition("_")
                data = self._recorded(kind, of, places)
                if of == "perturbed":
                    data = data - self._recorded(kind, "data", places)
            self._stacked[key] = Values(data, data.new_full((len(data),), data[0].numel()))
        return self._stacked[key]

    def _recorded(self, kind: str, scenario: str, places: tuple[int, ...]) -> Tensor:
        units = self.of(scenario, gradients="gradient" in kind)
        return torch.stack([units[place].recorded[kind] for place in places])

    def groups(self, scenario: str = "noise") -> Iterator[UnitsAlike]:
        """Yield the units, those of the same shapes together.

        ``scenario`` is one that will be asked for anyway: shapes, weights and where gradients flow
        are the same in every one.
        """
        places: dict[tuple[torch.Size, ...], list[int]] = {}
        for place, unit in enumerate(self.of(scenario, gradients=False)):
            shapes = (unit.weight.shape, *(value.shape for value in unit.recorded.values()))
            places.setdefault(shapes, []).append(place)
        for members in places.values():
            yield UnitsAlike(self, members, scenario)


class UnitsAlike:
    """Units of one network that have the same shapes, for programs to be evaluated on."""

    def __init__(self, statistics: Statistics, places: Sequence[int], scenario: str) -> None:
        self._statistics, self._places, self._scenario = statistics, tuple(places), scenario
        units = statistics.of(scenario, gradients=False)
        self.networks = torch.zeros(len(places), dtype=torch.int64)
        self.alive = torch.tensor([units[place].alive for place in places])

    def terminal(self, name: str) -> Values:
        """Return one of the 22 statistics of each unit."""
        return self._statistics.stacked(name, self._places, self._scenario)


@register_pass("statistics")
def statistics(run: Run) -> Statistics:
    """Give the statistics of the units, for all three kinds of inputs, each when asked for."""
    return Statistics(run)


class _Draw(NamedTuple):
    tensors: dict[str, Tensor]
    inputs: dict[str, Tensor]


@register_pass("statistics_draw")
def _draw(run: Run) -> _Draw:
    """Draw weights and inputs: Kaiming normal for convolutions, N(0, 0.01^2) for linear layers."""
    stack, data = run.single, run.batch.inputs[:EXAMPLES]
    tensors = gaussian_weights(run, lambda _: 1.0)
    for weight in stack.weights():
        drawn = tensors[weight.name]
        linear = isinstance(weight.modules[0], nn.Linear)
        fan_out = len(drawn) * drawn[0, 0].numel()
        drawn.mul_(_LINEAR if linear else (2 / fan_out) ** 0.5)
    shape = (EXAMPLES, *data.shape[1:])
    noise, perturbation = gaussian(run, *shape), gaussian(run, *shape)
    perturbed = data + _PERTURBATION * perturbation[: len(data)]
    return _Draw(tensors, {"data": data, "noise": noise, "perturbed": perturbed})


def _register(scenario: str) -> None:
    @register_pass(f"statistics_{scenario}")
    def _(run: Run) -> _Forwards:
        draw: _Draw = run.record("statistics_draw")
        return _forwards(run, draw.tensors, draw.inputs[scenario])

    @register_pass(f"statistics_{scenario}_gradients")
    def _(run: Run) -> list[Unit]:
        forwards: _Forwards = run.record(f"statistics_{scenario}")
        return _backwards(forwards)


class _Forwards(NamedTuple):
    """The units of a network that ran, and what their gradients are of."""

    units: list[Unit]
    outputs: Tensor
    wanted: list[tuple[Tensor, ...]]


for _scenario in SCENARIOS:
    _register(_scenario)


def _forwards(run: Run, tensors: dict[str, Tensor], inputs: Tensor) -> _Forwards:
    """Run the network and find its units."""
    stack = run.single
    parameters = {name for name, _ in stack.module.named_parameters()}
    tensors = {
        name: tensor.detach().requires_grad_() if name in parameters else tensor.clone()
        for name, tensor in tensors.items()
    }
    inputs = run.laid_out(inputs.detach().clone())
    recorder = _Recorder()
    with normalising_by_batch(stack), out_of_place(stack), recorder:
        outputs = stack(tensors, inputs)
    run.finite(outputs)
    found = [parts for call in recorder.calls if (parts := recorder.unit(call))]
    found = [parts for parts in found if not parts.stem] or found
    if not found:
        raise ValueError("the network has no convolution that BatchNorm follows")
    reached = _reached(outputs)
    units = []
    for weight, *values, _ in found:
        recorded = dict(zip(_VALUES, (value.detach() for value in values), strict=True))
        units.append(Unit(weight.detach(), recorded, id(weight) in reached))
    return _Forwards(units, outputs, [parts[:4] for parts in found])


def _backwards(forwards: _Forwards) -> list[Unit]:
    """Differentiate the sum of the outputs."""
    wanted = [tensor for parts in forwards.wanted for tensor in parts]
    found = torch.autograd.grad(forwards.outputs.sum(), wanted, allow_unused=True)
    gradients = iter(map(_or_zero, found, wanted))
    units = []
    for unit in forwards.units:
        of_this = {f"{kind}_gradient": next(gradients) for kind in ("weight", *_VALUES)}
        units.append(dataclasses.replace(unit, recorded=unit.recorded | of_this))
    return units


def _reached(outputs: Tensor) -> set[int]:
    """Return ids of the weights from which a gradient flows."""
    found, seen, ahead = set(), set(), [outputs.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found.add(id(getattr(node, "variable", None)))
        ahead += [behind for behind, _ in node.next_functions]
    return found


def _or_zero(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


class _Parts(NamedTuple):
    weight: Tensor
    input: Tensor
    preactivation: Tensor
    activation: Tensor
    stem: bool


class _Call(NamedTuple):
    """A call of a layer: what it was given, as it was passed around and as it saw it, and gave."""

    kind: str
    given: Tensor
    seen: Tensor
    returned: Tensor
    passed: Tensor
    weight: Tensor | None


class _Recorder(TorchFunctionMode):
    """Records the calls of convolutions, BatchNorm and ReLU, modules or functions.

    Each call sees its input under a name of its own, so that its gradient is that of the call
    alone, and passes on a copy, so that what it returned stays, whatever is done to it later.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._makers: dict[int, _Call] = {}
        self._takers: dict[int, _Call] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _kind(func, args, kwargs)
        if kind is None:
            return func(*args, **kwargs)
        given = args[0]
        seen = given.view_as(given)
        if not seen.requires_grad:
            seen.requires_grad_()
        returned = func(seen, *args[1:], **kwargs)
        passed = returned.clone()
        weight = args[1] if kind == "convolution" and len(args) > 1 else None
        call = _Call(kind, given, seen, returned, passed, weight)
        self.calls.append(call)
        self._makers[id(passed)] = call
        self._takers.setdefault(id(given), call)
        return passed

    def unit(self, norm: _Call) -> _Parts | None:
        """Return the parts of the unit that ends in a call of BatchNorm, if there is one."""
        convolution = self._makers.get(id(norm.given))
        if norm.kind != "norm" or convolution is None or convolution.weight is None:
            return None
        first, source = convolution, self._makers.get(id(convolution.given))
        while source is not None and source.kind == "convolution":
            first, source = source, self._makers.get(id(source.given))
        weight, stem = convolution.weight, not first.given.requires_grad
        if source is not None and source.kind == "relu":
            return _Parts(weight, source.seen, convolution.seen, norm.returned, stem)
        relu = self._takers.get(id(norm.passed))
        last = relu if relu is not None and relu.kind == "relu" else norm
        return _Parts(weight, convolution.seen, norm.seen, last.returned, stem)


_FUNCTIONS: Final[dict[Any, str]] = {
    **dict.fromkeys(
        (
            *(torch.conv1d, torch.conv2d, torch.conv3d),
            *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
        ),
        "convolution",
    ),
    **dict.fromkeys((functional.batch_norm, torch.batch_norm), "norm"),
    **dict.fromkeys(
        (
            *(torch.relu, Tensor.relu, functional.relu, functional.relu6),
            *(functional.leaky_relu, torch.prelu),
        ),
        "relu",
    ),
}


def _kind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Say what a call is; None for what takes no part, as for whatever works in place."""
    if not args or not isinstance(args[0], Tensor) or kwargs.get("inplace"):
        return None
    if function is functional.hardtanh:
        lowest = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
        return "relu" if lowest == 0 else None
    return _FUNCTIONS.get(function)
