"""The score that a program gives networks, all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from spaces.proxy_programs.formula import SUM, Node
from spaces.proxy_programs.operations import OPERATIONS, MisfitError, Values, mean


class Units(Protocol):
    """G units of the same shapes, of whichever networks."""

    @property
    def networks(self) -> Tensor:
        """Whose each unit is: int64 [G]."""
        ...

    @property
    def alive(self) -> Tensor:
        """Whether a gradient flows from each unit: bool [G]."""
        ...

    def terminal(self, name: str) -> Values:
        """Return one statistic of each unit."""
        ...


def evaluate(program: Node, groups: Iterable[Units], networks: int) -> Tensor:
    """Score ``networks`` = K networks by ``program``: float64 [K].

    The value of a unit is the mean over the elements that the program gives; the score is the
    mean over units, or their sum. A unit from which no gradient flows counts 0, and units whose
    shapes the program is not defined for are left out. NaN where no unit is left. The result may
    be infinite or NaN: such a program is invalid for that network.
    """
    return combine(program, *add_up(program, groups, networks))


def add_up(program: Node, groups: Iterable[Units], networks: int) -> tuple[Tensor, Tensor]:
    """Add up the values of the units of ``networks`` = K networks, and count the units that fit.

    Both are float64 [K].
    """
    body = program.arguments[0] if program.name == SUM else program
    total = torch.zeros(networks, dtype=torch.float64)
    counted = torch.zeros(networks, dtype=torch.float64)
    for group in groups:
        try:
            value = mean(_value(body, group, {})).data.to("cpu", torch.float64)
        except MisfitError:
            continue
        total.index_add_(0, group.networks, torch.where(group.alive, value, 0))
        counted.index_add_(0, group.networks, torch.ones_like(value))
    return total, counted


def combine(program: Node, total: Tensor, counted: Tensor) -> Tensor:
    """Return the scores, float64 [K], from what :func:`add_up` gives: means over units, or sums."""
    if program.name == SUM:
        return torch.where(counted > 0, total, torch.nan)
    return total / counted


def _value(node: Node, group: Units, known: dict[Node, Values]) -> Values:
    """Evaluate a node, each different one once."""
    if node not in known:
        arguments = [_value(argument, group, known) for argument in node.arguments]
        known[node] = OPERATIONS[node.name](*arguments) if arguments else group.terminal(node.name)
    return known[node]
