"""RoBoT: the best weighted sum of proxies by Bayesian optimisation, then greedily down its ranking.

He et al. 2024, "Robustifying and Boosting Training-Free Neural Architecture Search", with the
settings of its released code: every proxy is scaled to [0, 1] over the space; weights in [-1, 1]
are chosen by the upper confidence bound of a Gaussian process (Matérn 5/2, kappa 2.576); the
architecture that their sum rates highest is trained, and its validation accuracy is what the
weights are worth. After 20 choices of weights, the architectures that the best of them rate highest
are trained, best first. Weights that choose what is trained already cost nothing.

Deviations: (1) GraSP, the sixth of the published proxies, is not among the default ones, for it
takes longer than they do together; (2) a score that is NaN or infinite counts as the worst, where
the published code leaves it out of the sum; scores that are better when smaller are turned; (3)
validation accuracies are those of the benchmark, the published ones are of 12 epochs on CIFAR-10
for every dataset; (4) the number of choices of weights is a setting, the published one is the
budget; (5) several models asked for at once are the next best of the same sum; (6) a space beyond
``candidates`` architectures is rated in part, so many drawn at random; (7) with warmup the first
model is the best of the pool; with move proposal each is the best-scored of those rated highest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

Floats = NDArray[np.float64]

_WEIGHTS: Final = 1 << 32  # first random stream of the weights; those below belong to the steps
_KAPPA: Final = 2.576
_DRAWN: Final = 10_000  # weights among which the highest bound is looked for


class RoBoT(Searcher):
    """Trains what a weighted sum of proxies rates highest, and learns the weights.

    Args:
        features: proxies that are summed.
        rounds: choices of weights before the best of them is followed.
        candidates: architectures rated; a space that has no more is rated whole.

    Raises :class:`UsageError` for settings that are not possible, and where the guidance has no
    scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        features: Sequence[str] = ("grad_norm", "snip", "fisher", "synflow", "jacob_cov"),
        rounds: int = 20,
        candidates: int = 20000,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        if not features:
            raise UsageError("searcher.features=[] must name at least one proxy to combine.")
        at_least(1, "searcher", rounds=rounds, candidates=candidates)
        self.rounds = rounds
        rng = self.rng(0)
        whole = space.size <= candidates
        drawn = list(space.enumerate()) if whole else space.sample(rng, candidates)
        self._candidates = list(dict.fromkeys(drawn))
        self._scores = scaled(self.guidance.features(self._candidates, features))
        self._first = self.guidance.pool(space, rng).architectures[:1]
        self._values: dict[Architecture, float] = {}
        self._weights: list[Floats] = [self.rng(_WEIGHTS).uniform(-1, 1, len(features))]
        self._worth: list[float] = []

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        self._explore()
        taken = self._values.keys() | set(self._pending or ())
        order = np.argsort(-(self._leading @ self._scores), kind="stable").tolist()
        wanted = 1
        if self.guidance.move:
            wanted = self.guidance.candidates(self.space, self._candidates[0])
        found = [] if taken else self._first
        for i in order:
            if len(found) >= wanted:
                break
            if self._candidates[i] not in taken:
                found = [*found, self._candidates[i]]
        return self.guidance.choose(found or self.draw(1, rng), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._values.setdefault(arch, objective)

    @property
    def _leading(self) -> Floats:
        """The weights to follow: the last chosen, or, once enough were chosen, the best."""
        if len(self._worth) < self.rounds:
            return self._weights[-1]
        return self._weights[int(np.argmax(self._worth))]

    def _explore(self) -> None:
        """Choose weights until theirs is an architecture that is not trained."""
        while len(self._worth) < self.rounds:
            chosen = self._candidates[int(np.argmax(self._weights[-1] @ self._scores))]
            if chosen not in self._values:
                return
            self._worth.append(self._values[chosen])
            if len(self._worth) < self.rounds:
                rng = self.rng(_WEIGHTS + len(self._worth))
                self._weights.append(promising(np.array(self._weights), self._worth, rng))


def scaled(goodness: Floats) -> Floats:
    """Scale each row of ``goodness`` [proxies, n] to [0, 1]; what is not finite is the worst."""
    finite = np.isfinite(goodness)
    low = np.where(finite, goodness, np.inf).min(1, keepdims=True)
    high = np.where(finite, goodness, -np.inf).max(1, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    return np.where(finite, (goodness - low) / span, 0.0)


def promising(weights: Floats, worth: Sequence[float], rng: np.random.Generator) -> Floats:
    """Return the weights [proxies] of the highest confidence bound, given those of known worth.

    ``weights`` is float64 [n, proxies]. A Gaussian process is fitted to ``worth`` [n], and its
    bound climbed from the best of many random weights.
    """
    from scipy.optimize import minimize
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    finite = np.isfinite(worth)
    targets = np.where(finite, worth, np.min(worth, where=finite, initial=np.inf))
    if not finite.any():
        targets = np.zeros(len(worth))
    process = GaussianProcessRegressor(
        Matern(nu=2.5),
        alpha=1e-6,
        normalize_y=True,
        n_restarts_optimizer=5,
        random_state=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(weights, targets)

        def bound(points: Floats) -> Floats:
            mean, deviation = process.predict(np.atleast_2d(points), return_std=True)
            return np.asarray(mean + _KAPPA * deviation, np.float64)

        drawn = rng.uniform(-1, 1, (_DRAWN, weights.shape[1]))
        best = drawn[int(np.argmax(bound(drawn)))]
        found = minimize(
            lambda point: -float(bound(point)[0]), best, bounds=[(-1, 1)] * weights.shape[1]
        )
    return np.asarray(found.x if -found.fun >= bound(best)[0] else best, np.float64)
