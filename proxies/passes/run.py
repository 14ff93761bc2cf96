"""One evaluation of a stack on a minibatch, in which every pass runs at most once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from proxies.batch import Minibatch
from proxies.stack import Single, Stack
from proxies.torch_state import own_chance

T = TypeVar("T")

Pass = Callable[["Run"], Any]

PASSES: Final[dict[str, Pass]] = {}
"""Every pass by name."""

STACKING: Final[set[str]] = set()
"""The passes that are faster over many small networks at once, on a CPU too."""


BRANCHING: Final[set[str]] = set()
"""The passes that run supernets which differ in one place as one."""


def register_pass(
    name: str, *, stacking: bool = False, branching: bool = False
) -> Callable[[Pass], Pass]:
    """Register the decorated function as the pass called ``name``.

    ``stacking`` and ``branching`` put it in ``STACKING`` and ``BRANCHING``.
    """

    def enter(function: Pass) -> Pass:
        if name in PASSES:
            raise ValueError(f"there is already a pass called '{name}'")
        PASSES[name] = function
        if stacking:
            STACKING.add(name)
        if branching:
            BRANCHING.add(name)
        return function

    return enter


class Run:
    """Records of the passes over one stack and one minibatch.

    Args:
        stack: K networks.
        batch: on the device and in the precision to compute in.
        wanted: all passes that will be asked for, so that one that serves several can record
            all that they need at once.
    """

    def __init__(self, stack: Stack, batch: Minibatch, wanted: Iterable[str] = ()) -> None:
        self.stack = stack
        self.batch = dataclasses.replace(batch, inputs=self.laid_out(batch.inputs))
        self.wanted = frozenset(wanted)
        self._records: dict[str, Any] = {}
        self._failures: dict[str, Exception] = {}
        self._seconds: dict[str, float] = {}
        self._borrowed: dict[Hashable, float] = {}
        self._extras: dict[Hashable, tuple[Any, float]] = {}

    def record(self, name: str) -> Any:
        """Return what the pass called ``name`` recorded, running it unless it has run.

        A pass that failed raises the same exception again.
        """
        if name not in self._seconds:
            outer, self._borrowed = self._borrowed, {}
            began = time.perf_counter()
            with own_chance(self.batch.inputs.device):
                try:
                    self._records[name] = PASSES[name](self)
                except Exception as error:
                    self._failures[name] = error
            spent = time.perf_counter() - began
            self._seconds[name] = spent + sum(self._borrowed.values())
            self._borrowed = outer
            outer[name] = 0.0  # whoever asked first has waited for it
        else:
            self._borrowed.setdefault(name, self._seconds[name])
        if name in self._failures:
            raise self._failures[name]
        return self._records[name]

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Compute something for a proxy that its pass leaves open, and the first time only.

        Later calls count its time as borrowed, for :meth:`borrowed`.
        """
        if key in self._extras:
            value, seconds = self._extras[key]
            self._borrowed.setdefault(key, seconds)
        else:
            began = time.perf_counter()
            value = compute()
            self._extras[key] = value, time.perf_counter() - began
            self._borrowed[key] = 0.0
        found: T = value
        return found

    def borrowed(self) -> float:
        """Return the seconds of all that others had computed and was used since the last call.

        What was used several times counts once.
        """
        seconds, self._borrowed = sum(self._borrowed.values()), {}
        return seconds

    @property
    def single(self) -> Stack:
        """The stack, for a pass that runs one module; raises ``ValueError`` for networks as one."""
        if not isinstance(self.stack, Single):
            raise ValueError("this pass runs one network at a time")
        return self.stack

    def tensors(self, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
        """Copy the stack's tensors to where the minibatch is, floating ones in its precision.

        ``dtype`` is another precision for them.
        """
        inputs = self.batch.inputs
        return {
            name: self.laid_out(
                tensor.to(
                    inputs.device,
                    (dtype or inputs.dtype) if tensor.is_floating_point() else tensor.dtype,
                    copy=True,
                )
            )
            for name, tensor in self.stack.tensors().items()
        }

    def inputs(self) -> Tensor:
        """Copy the minibatch for each network, [K x N, ...]."""
        inputs = self.batch.inputs.detach()
        size = self.stack.size
        return inputs.clone() if size == 1 else inputs.repeat(size, *[1] * (inputs.dim() - 1))

    def laid_out(self, tensor: Tensor) -> Tensor:
        """Bring pictures or kernels, [n, channels, height, width], into the stack's format."""
        if tensor.dim() != 4 or tensor.device.type != "cpu":
            return tensor
        return tensor.contiguous(memory_format=self.stack.memory_format)

    def finite(self, outputs: Tensor) -> Tensor:
        """Return what the stack returned; raises ``ValueError`` where that is not finite.

        Networks that run as one are not looked at.
        """
        if isinstance(self.stack, Single) and not bool(outputs.isfinite().all()):
            raise ValueError("the network returns values that are not finite")
        return outputs

    def seconds(self, name: str) -> float:
        """Time that a pass takes on its own, with those that it builds on."""
        return self._seconds.get(name, 0.0)


@dataclass(frozen=True)
class Layer:
    """One scored weight: ``weight`` and ``gradient`` [m, ...]; ``members`` int64 [m] in 0..K-1."""

    name: str
    weight: Tensor
    gradient: Tensor
    members: Tensor


@dataclass(frozen=True)
class Layers:
    """The scored weights of a stack of ``size`` = K networks."""

    size: int
    layers: list[Layer]

    def total(self, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Sum ``term(weight, gradient)`` over elements and layers, each network for itself.

        ``term`` maps two [m, ...] to [m, ...] of any further shape. Returns float64 [K].
        """

        def rows(layer: Layer) -> Tensor:
            value = term(layer.weight, layer.gradient)
            return value.reshape(len(value), -1).sum(1, dtype=torch.float64)

        return summed(self.size, ((layer.members, rows(layer)) for layer in self.layers))


def summed(size: int, terms: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Add up what layers give to each of ``size`` = K networks, float64 [K] on the CPU.

    A term is (members int64 [m] in 0..K-1, values float64 [m]). All values come from their device
    at once: each journey would wait for all that is under way there.
    """
    total = torch.zeros(size, dtype=torch.float64)
    given = list(terms)
    if not given:
        return total
    members, values = (torch.cat(part) for part in zip(*given, strict=True))
    return total.index_add_(0, members, values.cpu())
