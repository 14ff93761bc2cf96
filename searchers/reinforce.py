"""REINFORCE over independent softmax policies, one per decision.

Williams 1992; set up for cell spaces as in the NAS-Bench-201 baselines (Dong and Yang 2020):
Adam, reward in the benchmark's unit, a bias-corrected moving average as baseline, no entropy term.
Guidance as in Abdelfattah et al. 2021, section 4: during warmup the policy is rewarded by zero-cost
score; a move samples several architectures from the policy and trains the best-scored.

Deviations: (1) the reward of the warmup is the percentage of the scores seen so far that a score
reaches, for scores span many orders of magnitude; (2) warmup updates the policy once per
``warmup_batch`` scores, of a large pool once per more of them, ``warmup_updates`` times at most,
for a policy that is rewarded for long settles on one architecture; the optimiser and the baseline
start afresh after it; (3) the paper states neither learning rate nor baseline: the ones of the
NAS-Bench-201 baselines are used; (4) logits start at exactly 0, where those baselines draw them
from a normal of deviation 1e-3; (5) a reward that is not finite teaches nothing.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least, positive
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

_BETA1: Final = 0.9
_BETA2: Final = 0.999
_EPS: Final = 1e-8
_ROUNDS: Final = 10_000
"""How often a policy draws before it gives up."""


class Policy:
    """Independent categorical distributions; Adam on their logits, float64 [decisions, choices].

    Decisions with fewer choices than the widest are padded with logits of minus infinity.
    """

    def __init__(self, space: SearchSpace, learning_rate: float) -> None:
        widths = [len(d.choices) for d in space.decisions]
        self.space = space
        self.learning_rate = learning_rate
        self.logits = np.where(np.arange(max(widths)) < np.array(widths)[:, None], 0.0, -np.inf)
        self._rows = np.arange(len(widths))
        self.restart()

    def restart(self) -> None:
        """Forget the optimiser's moments."""
        self._step = 0
        self._mean = np.zeros_like(self.logits)
        self._square = np.zeros_like(self.logits)

    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, row by row."""
        weights = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` valid architectures; raises :class:`UsageError` where hardly any draw is."""
        edges = self.probabilities().cumsum(axis=1)[:, :-1]
        found: list[Architecture] = []
        for _ in range(_ROUNDS):
            uniform = rng.random((n - len(found), len(self._rows), 1))
            draws = [tuple(row) for row in (uniform >= edges).sum(axis=2).tolist()]
            found += itertools.compress(draws, self.space.are_legal(draws))
            if len(found) == n:
                return found
        raise UsageError(
            f"searcher=reinforce draws choices one by one, and hardly any such draw is an "
            f"architecture of space={self.space.name} as it is set; choose another searcher."
        )

    def update(self, archs: NDArray[np.int64], advantages: NDArray[np.float64]) -> None:
        """Ascend the mean of advantage times log probability; ``archs`` is int64 [n, decisions]."""
        gradient = advantages.mean() * self.probabilities()
        for arch, advantage in zip(archs, advantages, strict=True):
            gradient[self._rows, arch] -= advantage / len(archs)
        self._step += 1
        self._mean += (1 - _BETA1) * (gradient - self._mean)
        self._square += (1 - _BETA2) * (gradient**2 - self._square)
        mean = self._mean / (1 - _BETA1**self._step)
        square = self._square / (1 - _BETA2**self._step)
        self.logits -= self.learning_rate * mean / (np.sqrt(square) + _EPS)


class Baseline:
    """A bias-corrected exponential moving average."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self._sum = self._weight = 0.0

    def update(self, value: float) -> float:
        """Take in ``value`` and return the average including it."""
        self._sum = self.momentum * self._sum + (1 - self.momentum) * value
        self._weight = self.momentum * self._weight + (1 - self.momentum)
        return self._sum / self._weight


class Reinforce(Searcher):
    """Samples architectures from a policy that rewards make likelier.

    Args:
        learning_rate: of Adam.
        momentum: of the moving-average baseline, in [0, 1).
        warmup_batch: scores per policy update during warmup, at least.
        warmup_updates: policy updates during warmup, at most.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        warmup_batch: int = 10,
        warmup_updates: int = 300,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        positive("searcher", learning_rate=learning_rate)
        if not 0 <= momentum < 1:
            raise UsageError(f"searcher.momentum={momentum} must lie in [0, 1).")
        at_least(1, "searcher", warmup_batch=warmup_batch, warmup_updates=warmup_updates)
        if self.guidance.among is not None:
            raise UsageError(
                "guidance.warmup.among is not for searcher=reinforce, which is rewarded by the "
                "scores of what its policy draws; leave it null."
            )
        self.policy = Policy(space, learning_rate)
        self.policy.sample(np.random.default_rng(0), 1)  # a space that it never meets is refused
        if self.guidance.warmup:
            pool = self.guidance.pool_size(space)
            self._warm_up(pool, max(warmup_batch, math.ceil(pool / warmup_updates)))
        self._baseline = Baseline(momentum)

    def _warm_up(self, total: int, batch: int) -> None:
        rng = self.rng(0)
        seen = np.empty(0)
        while len(seen) < total:
            archs = self.policy.sample(rng, min(batch, total - len(seen)))
            goodness = self.guidance.goodness(archs)
            seen = np.sort(np.concatenate((seen, goodness)))
            reward = 100.0 * np.searchsorted(seen, goodness, side="right") / len(seen)
            self.policy.update(np.asarray(archs), reward - reward.mean())
        self.policy.restart()

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        wanted = 1
        if self.guidance.move:
            wanted = self.guidance.candidates(self.space, self.policy.sample(rng, 1)[0])
        drawn = self.fresh(self.policy.sample(rng, wanted))
        return self.guidance.choose(drawn or self.draw(1, rng), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        if not math.isfinite(objective):
            return
        advantage = objective - self._baseline.update(objective)
        self.policy.update(np.asarray([arch]), np.array([advantage]))
