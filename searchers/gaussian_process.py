"""A Gaussian process over finitely many candidates, of kernels that are kept.

Rasmussen and Williams 2006, chapters 2 and 5. A candidate set is described by a few *base kernels*,
each a matrix of similarities; a model is a weighted sum of them plus noise. With the length scales
fixed, the similarities to one more observation are one more row, so that an observation costs a row
rather than a matrix. Which of the weighted sums holds is a matter of their marginal likelihoods.

Deviations: (1) the scale of the function is integrated out under an inverse gamma prior, which
makes the marginal likelihood a Student-t's, and the posterior is taken as normal at the scale's
mean; (2) the constant mean is one more kernel, of ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]

_JITTER: Final = 1e-6
_DEGREES: Final = 2.0
"""Of freedom of the prior of the scale, whose mean is 1."""

_FAR: Final = 30.0
"""Deviations below the best at which the expected improvement is near underflow."""

_REACH: Final = 3.0
"""How far below the median a value counts, in distances from the median to the best."""


def standardised(values: NDArray[np.float64]) -> Floats:
    """Centre and scale ``values`` [n], the larger the better, after raising the hopeless ones.

    What is not finite counts as the worst; what lies further below the median than three times the
    distance from it to the best is raised to there: how bad the bad ones are says nothing about
    the best, and would set the scale.
    """
    finite = np.isfinite(values)
    if not finite.any():
        return np.zeros(len(values))
    known = np.where(finite, values, values[finite].min())
    best, median = known.max(), np.median(known)
    if best > median:
        known = np.maximum(known, median - _REACH * (best - median))
    spread = known.std()
    return np.asarray((known - known.mean()) / (spread if spread > 0 else 1.0), np.float64)


@dataclass(frozen=True)
class Hypothesis:
    """One weighted sum of base kernels: ``weights`` float64 [kernels], ``noise`` a variance."""

    weights: Floats
    noise: float


@dataclass(frozen=True)
class Posterior:
    """What one hypothesis makes of the observations; see :func:`condition`."""

    hypothesis: Hypothesis
    evidence: float
    scale: float
    _factor: Floats
    _whitened: Floats

    def predict(
        self, similarities: NDArray[np.float32], own: NDArray[np.float32]
    ) -> tuple[Floats, Floats]:
        """Return mean and standard deviation at m candidates, float64 [m] each.

        ``similarities`` is float32 [kernels, n, m], between observations and candidates; ``own`` is
        float32 [kernels, m], of each candidate to itself.
        """
        weights = self.hypothesis.weights.astype(np.float32)
        cross = sum(weights[k] * similarities[k] for k in np.flatnonzero(weights))
        solved = solve_triangular(
            self._factor.astype(np.float32), cross, lower=True, check_finite=False
        )
        mean = self._whitened.astype(np.float32) @ solved
        left = weights @ own - np.einsum("nm,nm->m", solved, solved)
        deviation = np.sqrt(self.scale * np.maximum(left, _JITTER))
        return mean.astype(np.float64), deviation.astype(np.float64)


def condition(hypothesis: Hypothesis, similarities: Floats, targets: Floats) -> Posterior:
    """Condition on ``targets`` [n] at observations of ``similarities`` [kernels, n, n]."""
    n = len(targets)
    covariance = np.tensordot(hypothesis.weights, similarities, 1)
    covariance[np.diag_indices(n)] += hypothesis.noise + _JITTER
    factor = np.asarray(np.linalg.cholesky(covariance), np.float64)
    whitened = solve_triangular(factor, targets, lower=True, check_finite=False)
    square = float(whitened @ whitened) + _DEGREES
    evidence = -float(np.log(np.diag(factor)).sum()) - 0.5 * (n + _DEGREES) * np.log(square)
    return Posterior(hypothesis, evidence, square / (n + _DEGREES), factor, whitened)


def probabilities(posteriors: list[Posterior]) -> Floats:
    """Return how probable each is, from equal chances beforehand, float64 [posteriors]."""
    evidence = np.array([posterior.evidence for posterior in posteriors])
    likely = np.exp(evidence - evidence.max())
    return np.asarray(likely / likely.sum(), np.float64)


def expected_improvement(mean: Floats, deviation: Floats, best: float) -> Floats:
    """Return the logarithm of the expected improvement over ``best``, float64 [m].

    Mockus 1978, Jones et al. 1998; by its asymptotic series where it would underflow.
    """
    ahead = (mean - best) / deviation
    density = np.exp(-0.5 * ahead**2) / np.sqrt(2 * np.pi)
    near = np.log(np.maximum(density + ahead * ndtr(ahead), 1e-300))
    behind = np.maximum(-ahead, 1.0)
    far = log_ndtr(ahead) - np.log(behind) + np.log1p(-2 / np.maximum(behind, _FAR) ** 2)
    return np.asarray(np.log(deviation) + np.where(behind < _FAR, near, far), np.float64)
