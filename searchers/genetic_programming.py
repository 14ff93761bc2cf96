"""Genetic programming over a space whose architectures can be crossed.

Akhauri et al. 2022, "EZNAS", section 3: each generation half of the programs are offspring of
parents that win tournaments, by crossover or mutation, and half are drawn afresh. With
``selection="nsga2"`` parents are kept over all generations by non-dominated sorting of objective
and length (Deb et al. 2002), so that short programs survive beside good ones. Selection is deap's.

Deviations: (1) the objective is told, so that it is the benchmark that says how many networks are
scored and when they are drawn; (2) of equally good programs the shorter wins; (3) no program comes
twice, unless ``repeats`` allows it; (4) the settings are the paper's, for the released evolver
cannot run; (5) the words of a program are limited (``longest`` of its space), and not its depth
alone; (6) a program that has no fitness is told as worth -1, where the released code says -1000;
(7) programs are evolved on cut statistics (:mod:`proxies.samples`); (8) the best 20 programs of a
search meet further networks of the tasks that steer, which pick one, where the paper tests the
fittest of the last population and the two best ever on its spaces; (9) ``experiment=eznas_wide``,
which is ours, combines tasks by their mean, selects by NSGA-II, and reads no gradients. The
deviations of what programs are made of are in :mod:`spaces.proxy_programs.operations`.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace
from spaces.proxy_programs.space import seeded

_TRIES = 20


@runtime_checkable
class Crossing(Protocol):
    """A space that can cross two architectures."""

    def crossover(
        self, one: Architecture, other: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Return a child of both."""
        ...


class GeneticProgramming(Searcher):
    """Generations of offspring and of programs drawn afresh.

    Args:
        population: programs of one generation.
        tournament: how many parents compete, drawn with replacement.
        crossover: chance that an offspring has two parents.
        mutation: chance that it is a mutant of one; else it is a copy, drawn afresh where repeats
            are not allowed.
        fresh: share of each generation that is drawn afresh.
        selection: ``tournament``: the last generation are the parents; ``nsga2``: as many as a
            generation, kept over all by objective and length.

    Raises :class:`UsageError` for a space that cannot cross, for settings out of their range, and
    where deap is missing.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = False,
        population: int = 50,
        tournament: int = 4,
        crossover: float = 0.4,
        mutation: float = 0.4,
        fresh: float = 0.5,
        selection: Literal["tournament", "nsga2"] = "tournament",
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        if not isinstance(space, Crossing):
            raise UsageError(
                f"searcher=genetic_programming needs architectures that can be crossed, and those "
                f"of {space.name} cannot; choose space=proxy_programs."
            )
        if self.guidance.warmup or self.guidance.move:
            raise UsageError(
                "searcher=genetic_programming takes no guidance: programs have no networks that "
                "a proxy could score; choose guidance=none."
            )
        at_least(1, "searcher", population=population, tournament=tournament)
        if crossover < 0 or mutation < 0 or crossover + mutation > 1:
            raise UsageError(
                f"searcher.crossover={crossover} and searcher.mutation={mutation} must be chances "
                "whose sum is at most 1."
            )
        if not 0 <= fresh <= 1:
            raise UsageError(f"searcher.fresh={fresh} is not possible; give a share in [0, 1].")
        try:
            from deap import base, tools
        except ModuleNotFoundError:
            raise UsageError(
                "searcher=genetic_programming needs deap, which is not installed; run "
                "pip install 'assay[gp]'."
            ) from None
        self._tools = tools
        self._fitness = type("Fitness", (base.Fitness,), {"weights": (1.0, -1.0)})
        self._crossing: Crossing = space
        self._population, self._tournament = population, tournament
        self._crossover, self._mutation, self._fresh = crossover, mutation, fresh
        self._selection = selection
        self._generation: list[_Individual] = []
        self._parents: list[_Individual] = []

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        offspring = self._population - round(self._fresh * self._population)
        if not self._parents or step % self._population >= offspring:
            return self.draw(1, rng)[0]
        return self._offspring(rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._generation.append(_Individual(arch, self._fitness((objective, len(arch)))))
        if len(self._generation) == self._population:
            if self._selection == "nsga2":
                every = {individual.arch: individual for individual in self._parents}
                every |= {individual.arch: individual for individual in self._generation}
                self._parents = self._tools.selNSGA2(list(every.values()), self._population)
            else:
                self._parents = self._generation
            self._generation = []

    def _offspring(self, rng: np.random.Generator) -> Architecture:
        """Vary winners of tournaments until there is something that may be trained."""
        for _ in range(_TRIES):
            one, other = self._winners(rng)
            chance = rng.random()
            if chance < self._crossover:
                child = self._crossing.crossover(one, other, rng)
            elif chance < self._crossover + self._mutation:
                child = self.space.mutate(one, rng)
            else:
                child = one
            if self.fresh([child]):
                return child
        return self.draw(1, rng)[0]

    def _winners(self, rng: np.random.Generator) -> tuple[Architecture, Architecture]:
        with seeded(rng):
            one, other = self._tools.selTournament(self._parents, 2, self._tournament)
        return one.arch, other.arch


class _Individual:
    """A program with its fitness, as deap wants it."""

    def __init__(self, arch: Architecture, fitness: Any) -> None:
        self.arch, self.fitness = arch, fitness
