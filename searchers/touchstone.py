"""Touchstone: a Gaussian process that reads scores beside the encoding, over the whole space.

Ours. Scores of several zero-cost proxies describe an architecture as its choices do. A Gaussian
process (:mod:`searchers.gaussian_process`) is fitted to the few objectives known, and the
architecture of the highest expected improvement over everything known is trained next: of what its
training will be seen to reach, luck included, since that is what counts. Of architectures that
compute the same, one is a candidate.

The covariance of two architectures is the sum of

- half, shared by one or two, of exp(-sum of theta_g |x_g - x'_g|^2): of architectures as they are
  written, decision by decision, and of the counts of their paths, or, where they are no graphs that
  branch, of their canonical forms (:mod:`searchers.encodings`);
- a quarter of exp(-theta |s - s'|^2) of their scores;
- half of the mean product of their scores: the better the scores the better, or the worse, which
  is a linear trend;
- a constant, and noise on the diagonal.

These halves and quarters are medians: weights, theta and noise are, at every step, the most
probable after what was observed.

Scores are read as normal quantiles of their rank in the first pool, turned so that the larger is
the better. The first models are drawn at random from the best by mean quantile.

Of more than 20,000 candidates all are compared every ten models; in between, the 20,000 of the
highest expected improvement then, and what joined the pool since.

Of several architectures at once each is chosen as if those before it had met their expectation
("kriging believer", Ginsbourger et al. 2010).

The settings were chosen on NATS size, NAS-Bench-Macro, the DARTS cells with a table and
class_object of TransNAS-Bench micro.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.encodings import encodings
from searchers.gaussian_process import (
    GaussianProcess,
    Kernel,
    Linear,
    Radial,
    expected_improvement,
    standardised,
)
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

Matrix = NDArray[np.float32]
Rows = NDArray[np.int64]

_ENCODING: Final = 0.5
_NEAR: Final = 0.25
_TREND: Final = 0.5
"""Medians of the kernels' weights."""

_RATE: Final = 0.2
"""Of the decay of covariance over all scores; see :class:`searchers.gaussian_process.Radial`."""

_ELITE: Final = 10
"""An architecture joins the pool with its neighbours while it is among so many best."""

_SHORTLIST: Final = 20_000
"""Of more candidates so many, those of the highest expected improvement, are compared at a step."""

_REVIEW: Final = 10
"""Models between two reviews of all candidates."""


Families = dict[Architecture, Architecture]
"""The first architecture that was met of each canonical form."""


def _families(space: SearchSpace, archs: Iterable[Architecture]) -> Families:
    """Return one of ``archs`` for all that compute the same."""
    archs = list(archs)
    found: Families = {}
    for arch, form in zip(archs, space.canonicals(archs), strict=True):
        found.setdefault(form, arch)
    return found


@lru_cache(maxsize=2)
def _all_families(space: SearchSpace) -> Families:
    """Return those of the whole space, found once for all trials."""
    return _families(space, space.enumerate())


class _Candidates:
    """Architectures, and the points that describe them to each kernel, as a pool that may grow.

    Of each family it holds one.
    """

    def __init__(
        self,
        space: SearchSpace,
        guidance: Guidance,
        features: Sequence[str],
        families: Families,
    ) -> None:
        self._space, self._guidance, self._features = space, guidance, features
        self.archs = list(families.values())
        self._place = {form: place for place, form in enumerate(families)}
        described = encodings(space, tuple(self.archs))
        self._encodings = [encoding for encoding, _ in described]
        self._codes = [code for _, code in described]
        goodness = self._rate(self.archs)
        self._reference = np.sort(goodness, axis=0)
        self.scores = self._quantiles(goodness)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.archs)

    def model(self) -> GaussianProcess:
        """Return the process whose kernels read :meth:`points`."""
        kernels: list[Kernel] = [Radial(e.groups, e.rate) for e in self._encodings]
        weights = [_ENCODING / len(kernels)] * len(kernels)
        if self._features:
            kernels += [Radial(np.zeros(len(self._features), np.int64), _RATE), Linear()]
            weights += [_NEAR, _TREND]
        return GaussianProcess(kernels, weights)

    def row(self, arch: Architecture) -> int | None:
        """Return the place of what computes the same as ``arch``; None if it is not here."""
        return self._place.get(self._space.canonical(arch))

    def add(self, archs: Sequence[Architecture]) -> None:
        """Take in and score those of ``archs`` that are new."""
        new = {f: a for f, a in _families(self._space, archs).items() if f not in self._place}
        if not new:
            return
        fresh = list(new.values())
        self._place |= {form: place for place, form in enumerate(new, len(self.archs))}
        self.archs += fresh
        self._codes = [
            np.vstack((known, encoding(fresh)))
            for known, encoding in zip(self._codes, self._encodings, strict=True)
        ]
        self.scores = np.vstack((self.scores, self._quantiles(self._rate(fresh))))

    def _rate(self, archs: list[Architecture]) -> NDArray[np.float64]:
        """Return the goodness of ``archs``, [n, features]."""
        if not self._features:
            return np.empty((len(archs), 0))
        return self._guidance.features(archs, self._features).T

    def _quantiles(self, goodness: NDArray[np.float64]) -> Matrix:
        """Return normal quantiles of the ranks of ``goodness`` [n, features] in the first pool."""
        found = np.empty(goodness.shape, np.float32)
        for column, values, pool in zip(found.T, goodness.T, self._reference.T, strict=True):
            below, up_to = pool.searchsorted(values), pool.searchsorted(values, "right")
            column[:] = ndtri((below + up_to + 1) / (2 * len(pool) + 2))
        return found

    def points(self, rows: Sequence[int] | Rows | slice) -> list[Matrix]:
        """Return what each kernel reads of the candidates at ``rows``."""
        found = [code[rows] for code in self._codes]
        if self._features:
            scores = self.scores[rows]
            found += [scores / np.float32(np.sqrt(2 * len(self._features))), scores]
        return found


class Touchstone(Searcher):
    """Trains the architecture of the highest expected improvement.

    Args:
        features: proxies whose scores describe architectures; none is possible, too.
        start: models drawn before the first fit.
        share: of the candidates, the best of which by mean score the first models are drawn from.
        candidates: how many architectures are compared at most. Of a larger space so many are
            drawn at random, and the neighbours of the best ten trained join them. Beyond 20,000,
            all are compared every ten models, and the best 20,000 of these at each.

    With warmup the first models are the best of the warmup pool instead; with move proposal the
    best-scored of the highest expected improvements is trained. No architecture is proposed that
    computes the same as another while candidates are left.

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
        at_least(1, "searcher", start=start, candidates=candidates)
        if not 0 < share <= 1:
            raise UsageError(f"searcher.share={share} must lie in (0, 1].")
        self.start = start
        rng = self.rng(0)
        whole = space.size <= candidates
        pool = _all_families(space) if whole else _families(space, space.sample(rng, candidates))
        self._grows = not whole
        self._candidates = _Candidates(space, self.guidance, features, pool)
        self._model = self._candidates.model()
        self._first = self._order(share, rng)
        self._rows: list[int] = []
        self._objectives: list[float] = []
        self._sizes = [len(self._candidates)]
        self._review: tuple[int, Rows] = (0, np.arange(0))

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
        self._candidates.add([arch])
        row = self._candidates.row(arch)
        assert row is not None
        self._rows.append(row)
        self._objectives.append(objective)
        if self._grows and sum(other > objective for other in self._objectives) < _ELITE:
            self._candidates.add(self.space.neighbours(arch))
        self._sizes.append(len(self._candidates))

    def _ranked(self, rng: np.random.Generator) -> list[Architecture]:
        """Return what is not trained yet by expected improvement, as much as a choice needs."""
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        archs = self._candidates.archs
        pending = [row for a in self._pending or () if (row := self._candidates.row(a)) is not None]
        # Threads that wait for one another cost more than these small matrices.
        with threadpool_limits(1):
            rows = self._compared()
            free = np.isin(rows, [*self._rows, *pending], invert=True)
            if not free.any():
                return []
            told = len(self._rows)
            improvement = self._improvement(rows, told, pending) if told else rng.random(len(rows))
        improvement = np.where(free, improvement, -np.inf)
        if not self.guidance.move:
            return [archs[rows[np.argmax(improvement)]]]
        wanted = min(self.guidance.candidates(self.space, archs[0]), int(free.sum()))
        return [archs[rows[i]] for i in np.argsort(-improvement, kind="stable")[:wanted]]

    def _compared(self) -> Rows:
        """Return the candidates to compare: all, or the last review's shortlist and later ones."""
        told = len(self._rows)
        reviewed = max(told - told % _REVIEW, min(told, self.start))
        size = self._sizes[reviewed]
        if not told or size <= _SHORTLIST:
            return np.arange(len(self._candidates))
        if self._review[0] != reviewed:
            worth = self._improvement(slice(size), reviewed)
            best = np.argpartition(-worth, _SHORTLIST)[:_SHORTLIST]
            self._review = reviewed, np.sort(best)
        return np.concatenate((self._review[1], np.arange(size, len(self._candidates))))

    def _improvement(
        self, rows: Rows | slice, told: int, pending: Sequence[int] = ()
    ) -> NDArray[np.float64]:
        """Return the logarithm of the expected improvement at ``rows`` after ``told`` models."""
        known = self._rows[:told]
        targets = standardised(np.array(self._objectives[:told]))
        posterior = self._model.fit(self._candidates.points(known), targets)
        if pending:
            believed, _ = posterior.predict(self._candidates.points(pending))
            targets = np.concatenate((targets, believed))
            points = self._candidates.points([*known, *pending])
            posterior = self._model.condition(posterior.parameters, points, targets)
        mean, deviation = posterior.predict(self._candidates.points(rows))
        return expected_improvement(mean, deviation, float(targets.max()))
