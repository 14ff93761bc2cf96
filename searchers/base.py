"""The ask/tell contract of a searcher.

A search is a strict alternation: ``archs = ask(n)``, train them, ``tell(archs, evaluations)``.
What a searcher knows comes from its seed and from what it was told, never from how often it was
asked: each step draws from a generator of its own, so that a searcher to which a journal is
replayed goes on exactly as the one that wrote it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Final

import numpy as np

from conf.errors import UsageError
from searchers.guidance import Guidance
from searchers.streams import Streams
from spaces.base import Architecture, SearchSpace
from spaces.benchmark import Evaluation

_ATTEMPTS: Final = 1000
_LISTED: Final = 1_000_000
"""The largest space that is listed where draws find nothing new."""


class CallOrderError(RuntimeError):
    """``ask`` and ``tell`` were not called in turn, or ``tell`` got other architectures."""


def comparable(value: float) -> float:
    """Return ``value``, or minus infinity for NaN: what is unknown counts as the worst."""
    return -math.inf if math.isnan(value) else value


class Searcher(ABC):
    """Proposes architectures to train, one search at a time.

    Args:
        space: where to search.
        guidance: how zero-cost scores steer the search; by default not at all.
        seed: from 0 to 2^128 - 1, decides all that chance decides. Same seed, same search.
        repeats: whether an architecture may be trained again. A repeat costs like any other; with
            ``False`` a proposal that was trained before is drawn anew.

    Raises :class:`UsageError` for settings that cannot work together, and for a space without edits
    where edits are asked for.
    """

    edits: ClassVar[bool] = False
    """Whether it proposes edits of what it trained, and so needs a space that has some."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
    ) -> None:
        self.space = space
        self.guidance = guidance or Guidance()
        if self.edits or self.guidance.move == "all":
            space.check_neighbours()
        self.repeats = repeats
        self.told = 0
        self.trained: set[Architecture] = set()
        self._streams = Streams(seed)
        self._pending: list[Architecture] | None = None

    def ask(self, n: int = 1) -> list[Architecture]:
        """Propose the next ``n`` architectures to train."""
        if self._pending is not None:
            raise CallOrderError("tell the evaluations of the last ask before asking again")
        if n < 1:
            raise ValueError(f"ask needs n >= 1, not {n}")
        self._pending = []
        try:
            for step in range(self.told, self.told + n):
                self._pending.append(self._propose(step, self._streams.shared(step + 1)))
        except BaseException:
            self._pending = None
            raise
        return list(self._pending)

    def tell(self, archs: Sequence[Architecture], evaluations: Sequence[Evaluation]) -> None:
        """Report the trained values of the architectures of the last :meth:`ask`, in order."""
        if self._pending is None:
            raise CallOrderError("ask before telling")
        if list(archs) != self._pending or len(archs) != len(evaluations):
            raise CallOrderError("tell one evaluation for each architecture asked, in order")
        self._pending = None
        self.replay(archs, evaluations)

    def replay(self, archs: Sequence[Architecture], evaluations: Sequence[Evaluation]) -> None:
        """Take in evaluations from a journal, without asking."""
        for arch, evaluation in zip(archs, evaluations, strict=True):
            self.told += 1
            self.trained.add(arch)
            self._observe(arch, comparable(evaluation.objective))

    def rng(self, stream: int) -> np.random.Generator:
        """Return the generator of one stream of this search: 0 for set-up, t for the t-th model."""
        return self._streams.new(stream)

    def fresh(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Keep what may be trained now: all, or, without repeats, what was not proposed yet."""
        if self.repeats:
            return list(archs)
        taken = self.trained.union(self._pending or ())
        return [a for a in dict.fromkeys(archs) if a not in taken]

    def draw(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw ``n`` architectures at random that may be trained now.

        Raises :class:`UsageError` where fewer are left, or none is found in a space too large to
        list.
        """
        found: list[Architecture] = []
        for _ in range(_ATTEMPTS):
            found = self.fresh(found + self.space.sample(rng, n - len(found)))
            if len(found) == n:
                return found
        left = self.fresh(list(self.space.enumerate())) if self.space.size <= _LISTED else found
        if len(left) < n:
            raise UsageError(
                f"searcher.repeats=false leaves nothing to train: {len(self.trained)} "
                f"architectures of {self.space.name} are trained; lower budget.models or allow "
                "repeats."
            )
        return [left[i] for i in rng.permutation(len(left))[:n]]

    @abstractmethod
    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        """Propose what to train after ``step`` models, changing nothing that is learned."""

    @abstractmethod
    def _observe(self, arch: Architecture, objective: float) -> None:
        """Learn that ``arch`` reached ``objective``, the larger the better; it may be infinite."""
