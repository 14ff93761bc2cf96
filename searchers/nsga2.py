"""NSGA-II: a search for accurate and cheap architectures at once.

Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II". The objectives are
the benchmark's value and a cost; non-dominated sorting and crowding distances are those of the
library DEAP. Each generation breeds as many children as the population has members: two parents
win tournaments of two (by dominance, then by crowding), their decisions are mixed one by one, and
one decision of the child is edited. The best of parents and children live on.

Guidance as in Abdelfattah et al. 2021, section 4: with warmup the first generation is what NSGA-II
itself would select from the pool, scores standing for accuracies; with a move several children of
the same parents are bred and the best-scored is trained.

Deviations: (1) decisions are choices, so crossover is uniform and mutation is one edit, instead
of simulated binary crossover and polynomial mutation; a mixture that is no architecture is mixed
anew, and after ten times the first parent is mutated; (2) a child that was trained already is bred
anew, up to ten times; (3) an unknown value counts as the worst of those
that it is compared with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.guidance import Guidance
from searchers.ranking import percentiles
from spaces.base import Architecture, SearchSpace

_ATTEMPTS: Final = 10


@dataclass
class _Member:
    """An architecture with its objective and cost, and the fitness that DEAP wants to see."""

    arch: Architecture
    objective: float
    cost: float
    fitness: Any = None


class NSGA2(Searcher):
    """Keeps a population of the best compromises between the objective and ``cost``.

    Args:
        cost: what architectures cost, float64 [n], the smaller the better.
        population: how many live on, and how many children a generation has.
        crossover: chance in [0, 1] that a child has two parents.

    Raises :class:`UsageError` where no cost is given, where DEAP is missing, and for a warmup pool
    that falls short of the population.
    """

    edits = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        cost: Callable[[Sequence[Architecture]], NDArray[np.float64]] | None,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        population: int = 24,
        crossover: float = 0.9,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        if cost is None:
            raise UsageError(
                "searcher=nsga2 needs a second objective; give cost=params, flops, latency_ms or "
                "energy_mj."
            )
        at_least(2, "searcher", population=population)
        if not 0 <= crossover <= 1:
            raise UsageError(f"searcher.crossover={crossover} must lie in [0, 1].")
        pool_size = space.size if self.guidance.warmup == "all" else self.guidance.warmup
        if 0 < pool_size < population:
            raise UsageError(
                f"guidance.warmup.pool={pool_size} is smaller than "
                f"searcher.population={population}; draw a larger pool."
            )
        _deap()
        self._cost, self._size, self._crossover = cost, population, crossover
        self._alive: list[_Member] = []
        self._children: list[_Member] = []
        self._start = self._first()

    def _first(self) -> list[Architecture]:
        """Choose from the pool what the first generation begins with."""
        pool = self.guidance.pool(self.space, self.rng(0))
        rated = dict(zip(pool.architectures, percentiles(pool.goodness), strict=True))
        archs = list(rated)
        costs = self._cost(archs) if archs else np.empty(0)
        members = map(_Member, archs, rated.values(), costs.tolist())
        return [member.arch for member in _select(list(members), self._size)]

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        if step < len(self._start):
            return self._start[step]
        if not self._alive:
            return self.draw(1, rng)[0]
        parents = self._tournament(rng), self._tournament(rng)
        wanted = 1
        if self.guidance.move:
            wanted = self.guidance.candidates(self.space, parents[0])
        bred = self.fresh([self._breed(parents, rng) for _ in range(wanted)])
        return self.guidance.choose(bred or self.draw(1, rng), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._children.append(_Member(arch, objective, float(self._cost([arch])[0])))
        if len(self._children) == self._size:
            self._alive = _select(self._alive + self._children, self._size)
            self._children = []

    def _tournament(self, rng: np.random.Generator) -> Architecture:
        """Return the better of two members: it dominates, or else lies less crowded."""
        one, other = (self._alive[int(i)] for i in rng.choice(len(self._alive), 2, replace=False))
        if one.fitness.dominates(other.fitness):
            return one.arch
        if other.fitness.dominates(one.fitness):
            return other.arch
        less_crowded = one.fitness.crowding_dist >= other.fitness.crowding_dist
        return one.arch if less_crowded else other.arch

    def _breed(
        self, parents: tuple[Architecture, Architecture], rng: np.random.Generator
    ) -> Architecture:
        child = parents[0]
        for _ in range(_ATTEMPTS):
            child = self.space.mutate(self._mix(parents, rng), rng)
            if child not in self.trained:
                break
        return child

    def _mix(
        self, parents: tuple[Architecture, Architecture], rng: np.random.Generator
    ) -> Architecture:
        """Take each decision from either parent, or, with the chance of no crossover, the first."""
        if rng.random() < self._crossover:
            both = np.array(parents)
            for _ in range(_ATTEMPTS):
                picked = rng.integers(2, size=both.shape[1])
                child = tuple(both[picked, np.arange(both.shape[1])].tolist())
                if self.space.is_valid(child):
                    return child
        return parents[0]


def _select(members: list[_Member], k: int) -> list[_Member]:
    """Select the ``k`` best by front, then by crowding; each gets a fitness."""
    if not members:
        return []
    fitness, select = _deap()
    objectives = _finite([member.objective for member in members], min)
    costs = _finite([member.cost for member in members], max)
    for member, *values in zip(members, objectives, costs, strict=True):
        member.fitness = fitness(values)
    return select(members, min(k, len(members)), "log")


def _finite(values: list[float], worst: Callable[..., float]) -> list[float]:
    """Put the worst known value where there is none."""
    fallback = worst((v for v in values if math.isfinite(v)), default=0.0)
    return [v if math.isfinite(v) else fallback for v in values]


@functools.cache
def _deap() -> tuple[Callable[[list[float]], Any], Callable[..., list[_Member]]]:
    """Return a DEAP fitness and ``selNSGA2``; raises :class:`UsageError` where DEAP is missing."""
    try:
        from deap import base, tools
    except ModuleNotFoundError:
        raise UsageError(
            "searcher=nsga2 needs DEAP, which is not installed; run pip install 'assay[gp]'."
        ) from None
    fitness = type("Fitness", (base.Fitness,), {"weights": (1.0, -1.0)})
    return fitness, tools.selNSGA2
