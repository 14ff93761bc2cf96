"""Touchstone: a Gaussian process that reads scores beside the encoding, over the whole space.

Ours. Scores of several zero-cost proxies describe an architecture as its choices do. A Gaussian
process (:mod:`searchers.gaussian_process`) is fitted to the few objectives known, and the
architecture of the highest expected improvement over everything known is trained next.

The covariance of two architectures is the sum of

- a quarter to each of exp(-d / l) of the share d of decisions that differ, and that differ between
  their canonical forms: of how they are written, and of what they compute;
- half of exp(-d^2 / 2 l^2) of the root mean square distance d of their scores;
- half of the mean product of their scores: the better the scores the better, or the worse, which
  is a linear trend;
- a constant, and noise on the diagonal.

Scores are read as normal quantiles of their rank among the scored, turned so that the larger is the
better. Length scales and noise are drawn, step by step, with the probability that their marginal
likelihood gives them. The first models are drawn at random from the best by mean quantile.

Of several architectures at once each is chosen as if those before it had met their expectation
("kriging believer", Ginsbourger et al. 2010).

The settings were chosen on NATS size, NAS-Bench-Macro and class_object of TransNAS-Bench micro.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from conf.errors import UsageError
from searchers.base import Searcher
from searchers.gaussian_process import (
    Hypothesis,
    Posterior,
    condition,
    expected_improvement,
    probabilities,
    standardised,
)
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

Matrix = NDArray[np.float32]

_CHOICES: Final = (0.3, 1.0)
"""Length scales of the share of decisions that differ."""
_SCORES: Final = (0.5, 1.0, 2.0)
"""Length scales of the distance of scores, in standard deviations."""
_NOISES: Final = (0.01, 0.1)
_HALF: Final = 0.5
_ELITE: Final = 10
"""An architecture joins the pool with its neighbours while it is among so many best."""
_RESERVE: Final = 64


def _hypotheses(scored: bool) -> list[Hypothesis]:
    """List what may hold: weights of the kernels that :meth:`_Candidates.kernels` computes."""
    found = []
    for near, far, noise in itertools.product(_CHOICES, _SCORES if scored else (None,), _NOISES):
        weights = [float(near == scale) for scale in _CHOICES]
        if scored:
            weights = [_HALF * weight for weight in weights]
            weights += [_HALF * (far == scale) for scale in _SCORES] + [_HALF]
        found.append(Hypothesis(np.array([*weights, 1.0]), noise))
    return found


class _Candidates:
    """Architectures, their encodings and their scores, as a pool that may grow."""

    def __init__(
        self,
        space: SearchSpace,
        guidance: Guidance,
        features: Sequence[str],
        archs: Sequence[Architecture],
    ) -> None:
        self._space, self._guidance, self._features = space, guidance, features
        self.archs: list[Architecture] = []
        self.place: dict[Architecture, int] = {}
        self._written = self._canonical = np.empty((0, int(space.one_hot([]).shape[1])), np.float32)
        self.scores = np.empty((0, len(features)), np.float32)
        self._reference: list[NDArray[np.float64]] = []
        self.add(archs)

    def add(self, archs: Sequence[Architecture]) -> None:
        """Take in and score those of ``archs`` that are new."""
        fresh = [arch for arch in dict.fromkeys(archs) if arch not in self.place]
        if not fresh:
            return
        start = len(self.archs)
        self.place.update({arch: start + n for n, arch in enumerate(fresh)})
        self.archs += fresh
        forms = [self._space.canonical(arch) for arch in fresh]
        self._written = np.vstack((self._written, self._space.one_hot(fresh)))
        self._canonical = np.vstack((self._canonical, self._space.one_hot(forms)))
        self.scores = np.vstack((self.scores, self._quantiles(fresh)))

    def _quantiles(self, archs: list[Architecture]) -> Matrix:
        """Return normal quantiles of the scores among those of the first pool, [n, features]."""
        if not self._features:
            return np.empty((len(archs), 0), np.float32)
        goodness = self._guidance.features(archs, self._features)
        if not self._reference:
            self._reference = [np.sort(row) for row in goodness]
        quantiles = []
        for row, known in zip(goodness, self._reference, strict=True):
            below, within = (np.searchsorted(known, row, side) for side in ("left", "right"))
            quantiles.append(ndtri((below + within + 1) / (2 * len(known) + 2)))
        return np.array(quantiles, np.float32).T

    def kernels(self, row: int, columns: slice | NDArray[np.int64] = slice(None)) -> Matrix:
        """Compare one candidate with others by every kernel, float32 [kernels, others]."""
        decisions = len(self._space.decisions)
        shares = [1 - code[columns] @ code[row] / decisions for code in self._codes]
        found = [
            np.mean([np.exp(-share / scale) for share in shares], axis=0) for scale in _CHOICES
        ]
        scores = self.scores[columns]
        if width := scores.shape[1]:
            product = scores @ self.scores[row] / width
            own = self._squares
            square = np.maximum(own[columns] + own[row] - 2 * product, 0)
            found += [np.exp(-square / (2 * scale**2)) for scale in _SCORES] + [product]
        return np.array([*found, np.ones_like(found[0])], np.float32)

    @property
    def _codes(self) -> tuple[Matrix, Matrix]:
        return self._written, self._canonical

    @property
    def _squares(self) -> Matrix:
        return np.asarray(np.square(self.scores).mean(1), np.float32)

    def own(self) -> Matrix:
        """Compare each candidate with itself by every kernel, float32 [kernels, candidates]."""
        kernels = len(_CHOICES) + 1 + (len(_SCORES) + 1 if self._features else 0)
        found = np.ones((kernels, len(self.archs)), np.float32)
        if self._features:
            found[-2] = self._squares
        return found


class Touchstone(Searcher):
    """Trains the architecture of the highest expected improvement.

    Args:
        features: proxies whose scores describe architectures; none is possible, too.
        start: models drawn before the first fit.
        share: of the candidates, the best of which by mean score the first models are drawn from.
        candidates: how many architectures are compared at most. Of a larger space so many are
            drawn at random, and the neighbours of the best ten trained join them.

    With warmup the first models are the best of the warmup pool instead; with move proposal the
    best-scored of the highest expected improvements is trained. No architecture is proposed twice
    while candidates are left.

    Raises :class:`UsageError` for settings that are not possible, and for features where the
    guidance has no scores.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        features: Sequence[str] = (),
        start: int = 5,
        share: float = 0.1,
        candidates: int = 20000,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        for name, value in (("start", start), ("candidates", candidates)):
            if value < 1:
                raise UsageError(f"searcher.{name}={value} must be at least 1.")
        if not 0 < share <= 1:
            raise UsageError(f"searcher.share={share} must lie in (0, 1].")
        self.start = start
        rng = self.rng(0)
        whole = space.size <= candidates
        pool = list(space.enumerate()) if whole else space.sample(rng, candidates)
        self._grows = not whole
        self._candidates = _Candidates(space, self.guidance, features, pool)
        self._hypotheses = _hypotheses(bool(features))
        self._first = self._order(share, rng)
        self._archs: list[Architecture] = []
        self._objectives: list[float] = []
        self._rows: list[int] = []
        self._compared = np.empty((0, 0, 0), np.float32)

    def _order(self, share: float, rng: np.random.Generator) -> list[Architecture]:
        """Return the architectures to begin with."""
        if warm := self.guidance.pool(self.space, rng).architectures:
            return list(dict.fromkeys(warm))[: self.start]
        archs, scores = self._candidates.archs, self._candidates.scores
        mean = scores.mean(1) if scores.shape[1] else np.zeros(len(archs))
        count = min(max(self.start, round(share * len(archs))), len(archs))
        best = (
            np.argsort(-mean, kind="stable")[:count] if scores.shape[1] else np.arange(len(archs))
        )
        return [archs[i] for i in rng.permutation(best)[: self.start].tolist()]

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        if step < len(self._first):
            taken = self.trained.union(self._pending or ())
            ranked = [arch for arch in self._first if arch not in taken]
        else:
            ranked = self._ranked(rng)
        return self.guidance.choose(ranked or self.draw(1, rng), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._archs.append(arch)
        self._objectives.append(objective)
        self._candidates.add([arch])
        if self._grows and sum(other > objective for other in self._objectives) < _ELITE:
            self._candidates.add(self.space.neighbours(arch))

    def _ranked(self, rng: np.random.Generator) -> list[Architecture]:
        """Return what is not trained yet by expected improvement, as much as a choice needs."""
        archs = self._candidates.archs
        pending = [arch for arch in self._pending or () if arch in self._candidates.place]
        free = np.ones(len(archs), np.bool_)
        free[[self._candidates.place[a] for a in (*self._archs, *pending)]] = False
        if not free.any():
            return []
        known = bool(self._archs)
        improvement = self._improvement(pending, rng) if known else rng.random(len(archs))
        improvement = np.where(free, improvement, -np.inf)
        if not self.guidance.move:
            return [archs[int(np.argmax(improvement))]]
        wanted = min(self.guidance.candidates(self.space, archs[0]), int(free.sum()))
        return [archs[i] for i in np.argsort(-improvement, kind="stable")[:wanted].tolist()]

    def _improvement(
        self, pending: Sequence[Architecture], rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Return the logarithm of the expected improvement of every candidate."""
        rows = [self._candidates.place[arch] for arch in (*self._archs, *pending)]
        told = len(self._archs)
        compared = self._compare(rows)
        among = compared[:, :, rows].astype(np.float64)
        targets = standardised(np.array(self._objectives))
        posteriors = [condition(h, among[:, :told, :told], targets) for h in self._hypotheses]
        chosen = posteriors[int(rng.choice(len(posteriors), p=probabilities(posteriors)))]
        if pending:
            chosen, targets = self._believe(chosen, among, targets)
        mean, deviation = chosen.predict(compared, self._candidates.own())
        return expected_improvement(mean, deviation, float(targets.max()))

    def _believe(
        self, posterior: Posterior, among: NDArray[np.float64], targets: NDArray[np.float64]
    ) -> tuple[Posterior, NDArray[np.float64]]:
        """Take what is pending for trained, with the objective expected."""
        told = len(targets)
        between = among[:, :told, told:].astype(np.float32)
        own = np.diagonal(among[:, told:, told:], axis1=1, axis2=2).astype(np.float32)
        expected, _ = posterior.predict(between, own)
        targets = np.concatenate((targets, expected))
        return condition(posterior.hypothesis, among, targets), targets

    def _compare(self, rows: list[int]) -> Matrix:
        """Compare ``rows`` with every candidate, float32 [kernels, rows, candidates]."""
        kernels, space, width = self._compared.shape
        kept = 0
        if width == len(self._candidates.archs):
            pairs = zip(self._rows, rows, strict=False)
            kept = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        if len(rows) > space or width != len(self._candidates.archs):
            width = len(self._candidates.archs)
            kernels = len(self._hypotheses[0].weights)
            larger = np.empty((kernels, len(rows) + _RESERVE, width), np.float32)
            if kept:
                larger[:, :kept] = self._compared[:, :kept]
            self._compared = larger
        for n in range(kept, len(rows)):
            self._compared[:, n] = self._candidates.kernels(rows[n])
        self._rows = rows
        return self._compared[:, : len(rows)]
