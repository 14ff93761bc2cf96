"""Local search: train neighbours, move to a better one, start anew where none is better.

White et al. 2021, "Exploring the Loss Landscape in Neural Architecture Search", algorithm 1, with
the settings of its released code: a climb starts from the best of ten random architectures and
moves on to the first better neighbour.

Deviations: (1) a neighbour that is trained already is not trained again, its value is known; (2)
neighbours are trained in random order; (3) where several are asked for at once, what the last
neighbours leave over goes to random architectures; (4) with warmup each climb starts from the best
of the pool that are not trained yet; with move proposal the neighbours of the best score come
first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from conf.errors import at_least, unknown_name
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

_STEPS = ("first", "best")


class LocalSearch(Searcher):
    """Climbs from random architectures to local optima.

    Args:
        start: architectures trained before each climb, which starts from the best of them.
        step: ``first`` moves to the first better neighbour, ``best`` trains all neighbours and
            moves to the best of them.

    Raises :class:`UsageError` for settings that are not possible.
    """

    edits = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        start: int = 10,
        step: Literal["first", "best"] = "first",
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        at_least(1, "searcher", start=start)
        if step not in _STEPS:
            raise unknown_name("searcher.step", step, _STEPS)
        self._start, self._step = start, step
        self._pool = self.guidance.pool(space, self.rng(0)).architectures
        self._values: dict[Architecture, float] = {}
        self._starts: list[Architecture] = []
        self._current: Architecture | None = None
        self._around: list[Architecture] = []

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        taken = self._values.keys() | set(self._pending or ())
        left = [arch for arch in self._around if arch not in taken]
        if left:
            return self.guidance.choose([left[i] for i in rng.permutation(len(left))], rng)
        pool = (arch for arch in self._pool if arch not in taken)
        return next(pool, None) or self.draw(1, rng)[0]

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._values[arch] = objective
        if self._current is None:
            self._starts.append(arch)
            if len(self._starts) < self._start:
                return
            self._move(max(self._starts, key=self._values.__getitem__))
        elif self._step == "first" and arch in self._around and objective > self._here:
            self._move(arch)
        while all(other in self._values for other in self._around):
            best = max(self._around, key=self._values.__getitem__, default=arch)
            if self._values[best] <= self._here:
                self._current, self._starts, self._around = None, [], []
                return
            self._move(best)

    @property
    def _here(self) -> float:
        assert self._current is not None
        return self._values[self._current]

    def _move(self, arch: Architecture) -> None:
        self._current, self._around = arch, self.space.neighbours(arch)
