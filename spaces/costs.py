"""What running an architecture costs, beside its accuracy.

Costs are named ``params`` (trainable parameters), ``flops`` (multiply-adds of one picture),
``latency_ms(device)`` and ``energy_mj(device)`` (milliseconds and millijoules measured on a device,
of one minibatch where the device's name ends in a number, of one picture elsewhere). They come
from the benchmark's table; parameters and operations that it does not have are counted on the
network. The smaller the better, and NaN is unknown.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from spaces.table import Table

UNITS: Final = {
    "params": "parameters",
    "flops": "multiply-adds",
    "latency_ms": "ms",
    "energy_mj": "mJ",
}
_COUNTED: Final = ("params", "flops")
_COMPARED: Final = 3  # architectures whose cost in a table is compared with the network's
_SIDE: Final = 32  # of the picture that operations are counted on, where a space has no size


@dataclass(frozen=True, eq=False)
class Cost:
    """One cost of architectures: ``cost(archs)`` is float64 [n].

    ``source`` says where they are from; ``at_hand`` is whether those of all architectures are in a
    table, or counted one by one.
    """

    name: str
    unit: str
    source: str
    of: Callable[[Sequence[Architecture]], NDArray[np.float64]]
    at_hand: bool = False

    def __call__(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the cost of each of ``archs``."""
        return self.of(archs)


def full_name(kind: str, device: str | None) -> str:
    """Name a cost of a ``kind`` that is measured on a device, or counted.

    Raises :class:`UsageError` for another kind, and where a device is missing.
    """
    if kind not in UNITS:
        raise unknown_name("cost", kind, UNITS)
    if kind in _COUNTED:
        return kind
    if device is None:
        raise UsageError(f"{kind} needs a device; give budget.device=raspi4, for instance.")
    return f"{kind}({device})"


def from_table(table: Table, space: SearchSpace, kind: str, device: str | None = None) -> Cost:
    """Look a cost up in the table of ``space``, or count what it does not have.

    Raises :class:`UsageError` for what is neither in the table nor counted.
    """
    name = full_name(kind, device)
    if name in table.costs:
        of = functools.partial(_look_up, table.rows, table.cost(name))
        return Cost(name, UNITS[kind], table.source, of, at_hand=True)
    if kind in _COUNTED:
        return counted(space, kind)
    devices = sorted(
        known.removeprefix(f"{kind}(").rstrip(")") for known in table.costs if kind in known
    )
    if devices:
        raise UsageError(
            f"budget.device={device} has no {kind} on {space.name} {space.dataset}; "
            f"choose one of: {', '.join(devices)}."
        )
    raise unmeasured(space, kind)


def counted(space: SearchSpace, kind: str, side: int = 0) -> Cost:
    """Count parameters or operations on the networks of ``space``, each architecture once.

    ``side`` is that of the pictures where the space leaves it open. Raises :class:`UsageError` for
    what can only be measured.
    """
    if full_name(kind, "any") not in _COUNTED:
        raise unmeasured(space, kind)
    of = functools.partial(_counts, space, kind, space.image_size or side or _SIDE, {})
    return Cost(kind, UNITS[kind], "counted on the network", of)


def agreed(space: SearchSpace, kind: str) -> Cost | None:
    """Look a cost up in the table of ``space`` if it is that of the networks that ``space`` builds.

    It is if both agree within 1e-3 on a few architectures, always the same ones: a space may be
    set to build narrower networks than those of its table. None where they do not, and without a
    table.
    """
    if kind not in _COUNTED:
        return None
    try:
        cost = from_table(space.table(), space, kind)
    except UsageError:
        return None
    if not cost.at_hand:
        return None
    archs = space.sample(np.random.default_rng(0), _COMPARED)
    return cost if np.allclose(cost(archs), counted(space, kind)(archs), rtol=1e-3) else None


def unmeasured(space: SearchSpace, kind: str) -> UsageError:
    """Say that nobody measured a cost of this kind here."""
    return UsageError(
        f"{kind} was not measured of {space.name} with this benchmark; "
        f"choose one of: {', '.join(_COUNTED)}."
    )


def _look_up(
    rows: Callable[[Sequence[Architecture]], NDArray[np.int64]],
    column: NDArray[np.float64],
    archs: Sequence[Architecture],
) -> NDArray[np.float64]:
    return column[rows(archs)]


def _counts(
    space: SearchSpace,
    kind: str,
    side: int,
    found: dict[Architecture, float],
    archs: Sequence[Architecture],
) -> NDArray[np.float64]:
    """Count what is not in ``found``, which fills."""
    for arch in archs:
        if arch not in found:
            found[arch] = _count(space, kind, side, arch)
    return np.array([found[arch] for arch in archs], np.float64)


def _count(space: SearchSpace, kind: str, side: int, arch: Architecture) -> float:
    import torch

    from proxies import score_model

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if kind == "params":
            shapes = _outline(space, arch).parameters()
            return float(sum(p.numel() for p in shapes if p.requires_grad))
        network = space.network(arch)
    picture = torch.zeros(1, 3, side, side, dtype=torch.float32, device="cpu")
    return score_model(network, picture, proxies=[kind], device="cpu")[kind]


def _outline(space: SearchSpace, arch: Architecture) -> nn.Module:
    """Build a network of shapes without numbers, or with them where building it reads some."""
    import torch

    try:
        with torch.device("meta"):
            return space.network(arch)
    except RuntimeError:
        return space.network(arch)
