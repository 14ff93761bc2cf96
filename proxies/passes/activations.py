"""Which ReLUs are on: the signs of what they are given, for a minibatch or for small noise.

One mechanism finds every ReLU: a dispatch mode sees the operators that torch runs, so that modules
and functional code count alike, in place or not. A ReLU is relu, hardtanh from 0 (ReLU6), leaky
ReLU or PReLU; it is on where its input is positive.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from proxies.passes.drawing import gaussian
from proxies.passes.modes import initial_statistics, normalising_by_batch, training
from proxies.passes.run import Run, register_pass
from proxies.stack import Branching, Grouped
from spaces.grouped import GroupedReLU
from spaces.mixture import Branches

PATTERN_PASSES: Final = frozenset({"activations", "activations_and_parameters"})
"""The passes for which the forward pass of the loss records signs."""

REGION_BATCHES: Final = 3
REGION_INPUTS: Final = 1000
_SMALLEST_SIDES: Final = (3, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Signs:
    """Where one call of a ReLU is on: ``on`` bool [m, N, ...], ``members`` int64 [m] in 0..K-1."""

    on: Tensor
    members: Tensor


@dataclass(frozen=True)
class Patterns:
    """Which ReLUs of ``size`` = K networks are on, call by call, in order."""

    calls: list[Signs]
    size: int = 1

    @property
    def kernels(self) -> Tensor:
        """How many ReLU units each two examples switch alike, float64 [K, N, N]."""
        first = self.calls[0].on
        total = first.new_zeros((self.size, *first.shape[1:2] * 2), dtype=torch.float64)
        for signs in self.calls:
            total.index_add_(0, signs.members.to(total.device), _alike(signs.on, 1))
        return total


@dataclass(frozen=True)
class Kernels:
    """How many ReLU units of each of K networks two examples switch alike, float64 [K, N, N]."""

    kernels: Tensor


@dataclass(frozen=True)
class SizedPatterns:
    """Patterns, and the trainable parameters of the network, float64 [1]."""

    patterns: Patterns
    parameters: Tensor


@dataclass(frozen=True)
class Regions:
    """Sign patterns of all ReLUs for small random inputs: bits packed to uint8 [inputs, bytes]."""

    codes: NDArray[np.uint8]


class SignRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, appends to ``calls`` where each ReLU that is given ``examples`` rows is on."""

    def __init__(self, examples: int, calls: list[Signs]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.examples, self.calls = examples, calls
        self._alone = torch.zeros(1, dtype=torch.int64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_relu(func.overloadpacket, args) and args[0].shape[:1] == (self.examples,):
            self.calls.append(Signs((args[0].detach() > 0).unsqueeze(0), self._alone))
        return func(*args, **kwargs)


@contextlib.contextmanager
def recording_signs(run: Run, calls: list[Signs]) -> Iterator[None]:
    """Append where each ReLU is on that is given the minibatch."""
    if not isinstance(run.stack, Grouped):
        with SignRecorder(len(run.batch.inputs), calls):
            yield
        return

    def record(relu: Any, inputs: tuple[Tensor]) -> None:
        on = torch.unflatten(inputs[0].detach() > 0, 1, (len(relu.members), -1)).transpose(0, 1)
        calls.append(Signs(on, torch.tensor(relu.members)))

    with contextlib.ExitStack() as hooks:
        for part in run.stack.parts.values():
            if isinstance(part, GroupedReLU):
                hooks.callback(part.register_forward_pre_hook(record).remove)
        yield


class KernelRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, adds up in ``kernels``, float64 [K, N, N], what each ReLU says of each branch.

    What several operations of a supernet do to the same features, such as a ReLU, is done once.
    """

    def __init__(self, branches: Branches, examples: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.branches = branches
        self.kernels = torch.zeros(branches.count, examples, examples, dtype=torch.float64)
        self._done: dict[Any, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _is_relu(func.overloadpacket, args):
            times = torch.tensor(self.branches.having)[:, None, None]
            self.kernels += times * self._kernel(args[0])
        if func.overloadpacket not in _REPEATED:
            return func(*args, **kwargs)
        features, *settings = args
        return self._once(features, (func, str(settings)), lambda: func(*args, **kwargs))

    def _kernel(self, features: Tensor) -> Tensor:
        def count() -> Tensor:
            signs = torch.gt(features, 0, out=torch.empty_like(features))
            parted = self.branches.split(signs)
            return _alike(parted, parted.dim() - 4).cpu()

        kernel: Tensor = self._once(features, "kernel", count)
        return kernel

    def _once(self, features: Tensor, what: Any, compute: Callable[[], Any]) -> Any:
        """Compute something of ``features`` once in their lifetime."""
        key = id(features), what
        if key not in self._done:
            self._done[key] = compute()
            weakref.finalize(features, self._done.pop, key, None)
        return self._done[key]


@register_pass("activations")
def activations(run: Run) -> Patterns:
    """Give the patterns of the minibatch in training mode: BatchNorm on its statistics."""
    return _patterns(run, run.record("forward").signs)


@register_pass("activations_and_parameters")
def activations_and_parameters(run: Run) -> SizedPatterns:
    """Give the patterns of :func:`activations` with the number of parameters."""
    return SizedPatterns(run.record("activations"), run.record("parameters").number)


@register_pass("activations_eval", branching=True)
def activations_eval(run: Run) -> Patterns | Kernels:
    """Give the patterns of the minibatch in evaluation mode, or, of branches, their kernels.

    A BatchNorm without running statistics takes their initial values, mean 0 and variance 1; one
    that has some uses them.
    """
    if isinstance(run.stack, Branching):
        return _branching(run, run.stack)
    stack, calls = run.stack, list[Signs]()
    with (
        training(stack, False),
        initial_statistics(stack),
        torch.no_grad(),
        recording_signs(run, calls),
    ):
        outputs = stack(run.tensors(), run.inputs())
    run.finite(outputs)
    return _patterns(run, calls)


@register_pass("regions")
def regions(run: Run) -> Regions:
    """Run three batches of 1,000 small standard normal inputs.

    BatchNorm normalises by each batch, and dropout is off.

    Inputs have the channels of the minibatch's and sides of 3; where the network cannot take
    these, of 4, 8, 16 and so on, up to the minibatch's own.
    """
    shape = run.batch.inputs.shape[1:]
    sides = [s for s in _SMALLEST_SIDES if s < max(shape[1:], default=0)]
    for side in sides:
        with contextlib.suppress(RuntimeError, ValueError, IndexError):
            return _regions(run, (shape[0], *(min(side, own) for own in shape[1:])))
    return _regions(run, tuple(shape))


def _regions(run: Run, shape: tuple[int, ...]) -> Regions:
    stack, tensors = run.single, run.tensors()
    codes = []
    for _ in range(REGION_BATCHES):
        noise = gaussian(run, REGION_INPUTS, *shape)
        calls = list[Signs]()
        with normalising_by_batch(stack), torch.no_grad(), SignRecorder(REGION_INPUTS, calls):
            outputs = stack(tensors, noise)
        run.finite(outputs)
        signs = [call.on[0].flatten(1) for call in _patterns(run, calls).calls]
        codes.append(np.packbits(torch.cat(signs, 1).cpu().numpy(), axis=1))
    return Regions(np.concatenate(codes))


def _branching(run: Run, stack: Branching) -> Kernels:
    tensors, recorder = run.tensors(), KernelRecorder(stack.branches, len(run.batch.inputs))
    with training(stack, False), initial_statistics(stack), torch.no_grad(), recorder:
        stack(tensors, run.batch.inputs)
    return Kernels(recorder.kernels)


def _alike(signs: Tensor, axis: int) -> Tensor:
    """Count the units that each two examples switch alike: [..., N, units...] to [..., N, N].

    ``axis`` is that of the examples; all after it are units, whose order is of no account: channels
    go last, so that those of pictures stay as they lie in memory.
    """
    on = signs.movedim(axis + 1, -1).flatten(axis + 1).float()
    both = (on @ on.mT).double()
    each = both.diagonal(dim1=-2, dim2=-1)
    return 2 * both - each[..., :, None] - each[..., None, :] + on.shape[-1]


_aten = torch.ops.aten
_RELUS: Final = (_aten.relu, _aten.relu_, _aten.leaky_relu, _aten.leaky_relu_, _aten._prelu_kernel)
_REPEATED: Final = (
    _aten.relu,
    _aten.hardtanh,
    _aten.avg_pool2d,
    _aten.max_pool2d_with_indices,
)
_CLIPS: Final = (_aten.hardtanh, _aten.hardtanh_)


def _is_relu(operator: Any, args: Any) -> bool:
    return operator in _RELUS or (operator in _CLIPS and args[1:2] in ((0,), (0.0,)))


def _patterns(run: Run, calls: list[Signs]) -> Patterns:
    if not calls:
        raise ValueError("the network has no ReLU")
    return Patterns(calls, run.stack.size)
