"""A space without the architectures that cost too much."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, SearchSpace
from spaces.costs import Cost

_TOLERANCE: Final = 1e-6  # costs are known to seven digits
_BATCH: Final = 64  # architectures drawn at once where only some will do
_LISTED: Final = {True: 1_000_000, False: 1000}  # the largest space to list, by costs at hand
_ROUNDS: Final = {True: 200, False: 16}  # of such draws, likewise


class LimitedSpace(SearchSpace):
    """The architectures of ``space`` whose costs are within ``limits``, and its meaning of them.

    They are drawn as ``space`` draws them, what costs too much being drawn again. Whatever a
    searcher gets of it, draws, neighbours, mutations or all of it, is within the limits. A cost
    that is not known is not within a limit.

    Args:
        space: whose names, encodings, networks and tables these are too.
        limits: costs and the largest that each may be, by the setting that says so.

    Raises :class:`UsageError` where no architecture is within the limits.
    """

    def __init__(self, space: SearchSpace, limits: Mapping[str, tuple[Cost, float]]) -> None:
        self._space = space
        self._limits = dict(limits)
        self._check_possible()

    def allowed(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs``, all of them valid, is within all limits."""
        within = np.ones(len(archs), np.bool_)
        for cost, limit in self._limits.values():
            within[within] = _within(
                cost([a for a, left in zip(archs, within, strict=True) if left]), limit
            )
        return within

    @property
    def size(self) -> int:
        """How many architectures are within the limits; where that is costly, how many there are.

        It is costly for huge spaces, and where costs are not at hand.
        """
        return len(self._list) if self._listable else self._space.size

    def is_valid(self, arch: Architecture) -> bool:
        """Whether ``arch`` is one of the space's, and within the limits."""
        return bool(self.are_legal([arch])[0])

    def are_legal(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs`` is one of the space's, and within the limits: bool [n]."""
        legal = self._space.are_legal(archs)
        legal[legal] = self.allowed([*itertools.compress(archs, legal)])
        return legal

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` architectures independently, with replacement.

        What some rounds of draws leave open is drawn from the list of a space that can be listed.
        Elsewhere only rounds in a row that find nothing count. Raises :class:`UsageError` where
        these are too many: hardly any architecture is within the limits.
        """
        found = self._keep(self._space.sample(rng, n))
        rounds = 0
        while len(found) < n and rounds < _ROUNDS[self._at_hand]:
            drawn = self._keep(self._space.sample(rng, max(_BATCH, n - len(found))))
            rounds = 0 if drawn and not self._listable else rounds + 1
            found += drawn
        if len(found) >= n:
            return found[:n]
        if not (self._listable and self._list):
            raise self._impossible("hardly any architecture of")
        places = rng.integers(len(self._list), size=n - len(found))
        return found + [self._list[place] for place in places.tolist()]

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """Every one-edit move that stays within the limits."""
        return self._keep(self._space.neighbours(arch))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Mutate as the space does, until the outcome is within the limits.

        Where no neighbour is, an architecture is drawn.
        """
        for _ in range(_BATCH):
            edit = self._space.mutate(arch, rng)
            if self.allowed([edit])[0]:
                return edit
        left = self.neighbours(arch) or self.sample(rng, 1)
        return left[int(rng.integers(len(left)))]

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture within the limits, in the space's order."""
        return iter(self._list)

    def __getattr__(self, name: str) -> Any:
        """Have what else the space has."""
        return getattr(object.__getattribute__(self, "_space"), name)

    @functools.cached_property
    def _list(self) -> list[Architecture]:
        return self._keep(list(self._space.enumerate()))

    @property
    def _at_hand(self) -> bool:
        return all(cost.at_hand for cost, _ in self._limits.values())

    @property
    def _listable(self) -> bool:
        return self._space.size <= _LISTED[self._at_hand]

    def _keep(self, archs: list[Architecture]) -> list[Architecture]:
        return [arch for arch, allowed in zip(archs, self.allowed(archs), strict=True) if allowed]

    def _check_possible(self) -> None:
        drawn = self._space.sample(np.random.default_rng(0), _BATCH)
        for setting, (cost, limit) in self._limits.items():
            if any(_within(cost([arch]), limit)[0] for arch in drawn):
                continue
            smallest = self._smallest(cost, drawn)
            if not _within(np.array([smallest]), limit)[0]:
                which = "possible" if self._space.size <= _LISTED[cost.at_hand] else "found"
                raise UsageError(
                    f"{setting}={limit:g} allows no architecture of {self._space.name}: "
                    f"the smallest {which} is {smallest:.7g} {cost.unit}."
                )
        self.sample(np.random.default_rng(0), 1)

    def _smallest(self, cost: Cost, drawn: list[Architecture]) -> float:
        """Return the smallest cost there is, or that going downhill from ``drawn`` finds."""
        if self._space.size <= _LISTED[cost.at_hand]:
            return float(np.nanmin(cost(list(self._space.enumerate()))))
        smallest = float("inf")
        while (costs := cost(drawn)).size and np.nanmin(costs) < smallest:
            smallest = float(np.nanmin(costs))
            drawn = self._space.neighbours(drawn[int(np.nanargmin(costs))])
        return smallest

    def _impossible(self, what: str) -> UsageError:
        settings = " with ".join(f"{name}={limit:g}" for name, (_, limit) in self._limits.items())
        return UsageError(f"{settings} allows {what} {self._space.name}; raise a limit.")


def _within(costs: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = costs <= limit * (1 + _TOLERANCE)
    return within


def _delegated(name: str) -> property:
    return property(lambda self: getattr(self._space, name))


for _name in vars(SearchSpace):
    if not _name.startswith("__") and _name not in vars(LimitedSpace):
        setattr(LimitedSpace, _name, _delegated(_name))
