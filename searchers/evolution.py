"""Regularised (aging) evolution, with warmup and move proposal.

Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", algorithm 1;
guidance as in Abdelfattah et al. 2021, section 4: the population starts from the best of the
warmup pool, and a move scores the one-edit neighbours of the tournament's winner and trains the
best, or, with chance epsilon, a random one.

Deviations: (1) population 64 and tournament 10 by default, the settings of the 2021 paper rather
than 100 and 25; (2) mutation changes one decision and never repeats the parent.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace


class Evolution(Searcher):
    """Keeps a population of the last trained; mutates the winner of a tournament.

    Args:
        population: architectures alive; the oldest dies with each birth.
        tournament: how many of them, drawn without replacement, compete to be the parent.

    Raises :class:`UsageError` where the tournament exceeds the population, the warmup pool falls
    short of it, or, without repeats, the space does.
    """

    edits = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        population: int = 64,
        tournament: int = 10,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        at_least(1, "searcher", population=population)
        if not 1 <= tournament <= population:
            raise UsageError(
                f"searcher.tournament={tournament} must lie between 1 and "
                f"searcher.population={population}."
            )
        if not repeats and population > space.size:
            raise UsageError(
                f"searcher.population={population} exceeds the {space.size} architectures of "
                f"{space.name}; lower it or set searcher.repeats=true."
            )
        pool_size = self.guidance.pool_size(space)
        if 0 < pool_size < population:
            raise UsageError(
                f"guidance.warmup.pool={pool_size} is smaller than "
                f"searcher.population={population}; draw a larger pool."
            )
        rng = self.rng(0)
        start = self.fresh(self.guidance.pool(space, rng).architectures)[:population]
        self._start = start + self.draw(population - len(start), rng)
        self._alive: deque[tuple[float, Architecture]] = deque(maxlen=population)
        self._tournament = tournament

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        if step < len(self._start):
            return self._start[step]
        alive = self._alive
        if not alive:
            return self.draw(1, rng)[0]
        drawn = rng.choice(len(alive), min(self._tournament, len(alive)), replace=False)
        _, parent = max((alive[i] for i in drawn), key=lambda member: member[0])
        if self.repeats and not self.guidance.move:
            return self.space.mutate(parent, rng)
        edits = self.space.neighbours(parent)
        edits = self.fresh([edits[i] for i in rng.permutation(len(edits))])
        return self.guidance.choose(edits or self.draw(1, rng), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._alive.append((objective, arch))
