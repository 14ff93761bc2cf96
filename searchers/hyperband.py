"""Hyperband and successive halving: many cheap looks, few trainings.

Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", and the
halving of Jamieson and Talwalkar 2016, over the two fidelities that a benchmark table has: a short
training, which is a proxy (``early_accuracy``: 12 epochs), and the full one (200 epochs). With
``ratio`` r of their costs, a bracket of halving looks at r architectures cheaply and trains the
best of them; Hyperband takes turns between such a bracket and one that trains two at once.

A short training is paid for as a score is: counted in ``proxy_evaluations``, and its seconds
charged to ``budget.train_seconds``; ``budget.models`` counts full trainings.

Deviations: (1) there are two fidelities, not log_3(r); (2) the full training starts anew, for the
table's short ones have a schedule of their own, and is paid in full; (3) architectures are drawn
without those of earlier brackets where repeats are forbidden; (4) with warmup brackets take theirs
from the pool, best score first, before they draw; with move proposal each is the best-scored of
several.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

import numpy as np

from conf.errors import UsageError, at_least, unknown_name
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

_BRACKETS: Final = 1 << 32  # first random stream of the brackets; those below belong to the steps
_ATTEMPTS: Final = 200
_KINDS: Final = ("hyperband", "halving")


class Hyperband(Searcher):
    """Trains the best of each bracket by a cheap fidelity.

    Args:
        fidelity: the proxy that is the cheap training.
        ratio: what a full training costs, in cheap ones; at least 2.
        brackets: ``hyperband`` takes turns between brackets with and without cheap trainings,
            ``halving`` has only those with them.

    Raises :class:`UsageError` for settings that are not possible, for a fidelity that is no proxy
    with scores of its own, and where the guidance has no scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        fidelity: str = "early_accuracy",
        ratio: float = 200 / 12,
        brackets: Literal["hyperband", "halving"] = "hyperband",
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        at_least(2, "searcher", ratio=ratio)
        if brackets not in _KINDS:
            raise unknown_name("searcher.brackets", brackets, _KINDS)
        self.fidelity, self.ratio, self.brackets = fidelity, ratio, brackets
        if self.guidance.scores is None:
            raise UsageError(
                f"searcher.fidelity={fidelity} needs Guidance(scores=...) to read it from."
            )
        self.guidance.features([], [fidelity])  # refuses what has no score of its own
        self._pool = deque(dict.fromkeys(self.guidance.pool(space, self.rng(0)).architectures))
        self._plan: list[Architecture] = []
        self._begun = 0

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        self._begin(step)
        return self._plan[step]

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._begin(self.told - 1)  # what was replayed is paid for as it was

    def _begin(self, step: int) -> None:
        """Begin brackets until it is known what to train after ``step`` models."""
        while len(self._plan) <= step:
            rng = self.rng(_BRACKETS + self._begun)
            if self.brackets == "hyperband" and self._begun % 2:
                self._plan += self._configurations(2, rng)
            else:
                drawn = self._configurations(math.ceil(self.ratio), rng)
                (goodness,) = self.guidance.features(drawn, [self.fidelity])
                self._plan.append(drawn[int(np.argmax(goodness))])
            self._begun += 1

    def _configurations(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        """Take ``n`` different architectures, fewer where no more can be found."""
        trained = set() if self.repeats else set(self._plan)
        found: dict[Architecture, None] = {}
        while self._pool and len(found) < n:
            if (arch := self._pool.popleft()) not in trained:
                found[arch] = None
        for _ in range(_ATTEMPTS):
            if len(found) == n:
                break
            found.update(dict.fromkeys(self._drawn(n - len(found), trained.union(found), rng)))
        return list(found) or self.draw(1, rng)

    def _drawn(
        self, n: int, taken: set[Architecture], rng: np.random.Generator
    ) -> list[Architecture]:
        """Draw ``n``, or fewer where chance will have it, of those that are not taken."""
        if not self.guidance.move:
            return [arch for arch in self.space.sample(rng, n) if arch not in taken]
        wanted = self.guidance.candidates(self.space, self.space.sample(rng, 1)[0])
        sets = ([a for a in self.space.sample(rng, wanted) if a not in taken] for _ in range(n))
        return [self.guidance.choose(candidates, rng) for candidates in sets if candidates]
