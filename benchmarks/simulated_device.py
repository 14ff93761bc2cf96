"""A device that is not there: its numbers lie on the CPU, and it refuses what a GPU refuses.

Inside :func:`simulated_device` tensors can be made on, and moved to, :data:`DEVICE`. They are
computed with as on the CPU, but an operation on them and on a tensor of the CPU raises, as it does
on a GPU. What it does not show is arithmetic in another order, speed, and memory.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

DEVICE: Final = torch.device("meta")
"""Torch knows no device of ours; it takes this one's name for one that computes nothing."""

_aten = torch.ops.aten
_MOVES = (_aten._to_copy.default, _aten.copy_.default)
_TAKE_INDICES_OF_THE_CPU = (
    *(_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default),
    *(_aten._index_put_impl_.default, _aten._unsafe_index.Tensor),
)


class Simulated(Tensor):
    """A tensor on :data:`DEVICE`; ``held`` is the same on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Simulated:
        """Wrap."""
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        return _run(function, given, named or {})

    def numpy(self, **_: Any) -> Any:
        """Refuse, with ``TypeError``."""
        raise TypeError("a tensor of this device has no NumPy array; use Tensor.cpu() first")


class Calls(TorchDispatchMode):
    """Runs operations on either device.

    ``launches`` counts those on :data:`DEVICE`, views not; ``waits`` those among them, by name,
    for which the CPU would have to wait.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: Counter[str] = Counter()
        self.launches = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        named = dict(named or {})
        target = named.get("device")
        simulated = any(isinstance(leaf, Simulated) for leaf in _leaves((given, named)))
        if simulated:
            if not function.is_view:
                self.launches += 1
            leaves = _leaves(given)
            to_cpu = function is _aten._to_copy.default and _is_cpu(target)
            to_cpu |= function is _aten.copy_.default and not isinstance(leaves[0], Simulated)
            if to_cpu or function in (_aten._local_scalar_dense.default, _aten.nonzero.default):
                self.waits[str(function)] += 1
            return _run(function, given, named)
        if target is not None and torch.device(target).type == DEVICE.type:
            named["device"] = "cpu"
            return Simulated(function(*given, **named))
        return function(*given, **named)


@contextlib.contextmanager
def simulated_device() -> Iterator[Calls]:
    """Make :data:`DEVICE` one that computes."""

    class NoAutocast(contextlib.nullcontext[None]):
        def __init__(self, *_: Any, **__: Any) -> None:
            super().__init__()

    swapping = torch.__future__.get_swap_module_params_on_conversion()
    # Module.double() and the like: exchange parameters, rather than what they hold.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with mock.patch("torch.autocast", NoAutocast), Calls() as calls:
            yield calls
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swapping)


def _run(function: Any, given: Any, named: Any) -> Any:
    _check_devices(function, given, named)
    held_given, held_named = tree_map(_held, (given, dict(named)))
    target = held_named.get("device")
    if target is not None and torch.device(target).type == DEVICE.type:
        held_named["device"] = "cpu"
    found = function(*held_given, **held_named)
    if function is _aten.copy_.default:
        return given[0]
    if _is_cpu(target):
        return found
    wrapped = tree_map(lambda leaf: Simulated(leaf) if isinstance(leaf, Tensor) else leaf, found)
    return return_and_correct_aliasing(function, given, named, wrapped)  # type: ignore[no-untyped-call]


def _check_devices(function: Any, given: Any, named: Any) -> None:
    if function in _MOVES:
        return
    if function in _TAKE_INDICES_OF_THE_CPU:
        given = [leaf for place, leaf in enumerate(given) if place != 1]
    for leaf in _leaves((given, named)):
        # As on a GPU, a lone number may come from the CPU.
        if isinstance(leaf, Tensor) and not isinstance(leaf, Simulated) and leaf.dim():
            raise RuntimeError(
                f"{function} expects all tensors on {DEVICE}, but got one on {leaf.device}"
            )


def _leaves(tree: Any) -> list[Any]:
    return torch.utils._pytree.tree_leaves(tree)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, Simulated) else leaf


def _is_cpu(target: Any) -> bool:
    return target is not None and torch.device(target).type == "cpu"
