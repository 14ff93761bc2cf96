"""A Gaussian process of a few kernels, whose parameters are the most probable ones.

Rasmussen and Williams 2006, chapters 2 and 5. What describes the architectures is a few matrices of
*points*, one for each kernel. The covariance is the sum over kernels k of w_k times

- exp(-sum over groups g of theta_g |x_g - x'_g|^2), a :class:`Radial` kernel, or
- the mean product of coordinates, a :class:`Linear` kernel;

a constant 1, and noise on the diagonal. The logarithms of the w, the theta and the noise have
normal priors; theta_g is a factor common to the groups times one of its own, so that few
observations move all groups together and many can tell them apart.

Deviations: (1) the scale of the function is integrated out under an inverse gamma prior, which
makes the marginal likelihood a Student-t's, and the prediction is taken as normal at the scale's
mean; (2) parameters are those of the highest posterior density, found by a few steps of L-BFGS
from the prior's mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import log_ndtr, ndtr

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]
Points = TypeVar("Points", Floats, Matrix)

_JITTER: Final = 1e-6
_DEGREES: Final = 2.0
"""Of freedom of the prior of the scale, whose mean is 1."""

_COMMON: Final = 1.0
_OWN: Final = 0.5
"""Standard deviations of the logarithms of the factors of theta."""

_NOISE: Final = 0.1
_SPREAD: Final = 1.0
"""Median of the noise, and standard deviation of the logarithms of noise and weights."""

_BOUND: Final = 4.0
"""Standard deviations from the prior's mean within which parameters are sought."""

_STEPS: Final = 12

_CHUNK: Final = 1 << 14
"""Points predicted together, so that the matrices of many stay small."""

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
    known = known - best  # small differences of large values are exact
    spread = known.std() if np.ptp(known) > 0 else 1.0
    return np.asarray((known - known.mean()) / (spread if spread > 0 else 1.0), np.float64)


class Kernel(Protocol):
    """Compares points, given ``parameters``; ``deviations`` are those of their normal priors."""

    deviations: Floats

    def compare(self, points: Matrix) -> Floats:
        """Return what of the comparison of ``points`` [n, columns] no parameter changes."""

    def among(self, compared: Floats, parameters: Floats) -> Floats:
        """Return the covariance [n, n] of points that were compared."""

    def slope(self, compared: Floats, parameters: Floats, weight: Floats) -> Floats:
        """Return the slope by each parameter of the sum of ``weight`` times the covariance.

        ``weight`` is [n, n] and has the covariance multiplied in already.
        """

    def between(self, points: Matrix, others: Matrix, parameters: Floats) -> Matrix:
        """Return the covariance [n, m] of two sets of points."""

    def own(self, points: Matrix) -> Matrix:
        """Return the covariance [n] of each point with itself."""


class Radial:
    """exp(-sum of theta_g |x_g - x'_g|^2) over groups of columns.

    ``groups`` is int64 [columns], the group of each column, counted from 0. Points are to be scaled
    so that two drawn at random are at a squared distance of about 1 in each group; a ``rate`` of 1
    then makes their covariance about 1 / e.
    """

    def __init__(self, groups: NDArray[np.int64], rate: float) -> None:
        self._groups = groups
        self._number = int(groups.max()) + 1
        self._mean = np.log(rate / self._number)
        own = self._number if self._number > 1 else 0
        self.deviations = np.array([_COMMON] + [_OWN] * own)

    def _theta(self, parameters: Floats) -> Floats:
        own = parameters[1:] if self._number > 1 else np.zeros(1)
        return np.asarray(np.exp(self._mean + parameters[0] + own), np.float64)

    def compare(self, points: Matrix) -> Floats:
        """Return squared distances by group, [groups, n, n]."""
        found = np.empty((self._number, len(points), len(points)))
        for group in range(self._number):
            part = points[:, self._groups == group].astype(np.float64)
            found[group] = _squares(part, part)
        return found

    def among(self, compared: Floats, parameters: Floats) -> Floats:
        """See :class:`Kernel`."""
        return np.asarray(np.exp(-np.tensordot(self._theta(parameters), compared, 1)), np.float64)

    def slope(self, compared: Floats, parameters: Floats, weight: Floats) -> Floats:
        """See :class:`Kernel`."""
        each = -self._theta(parameters) * np.tensordot(compared, weight, 2)
        return np.concatenate(([each.sum()], each if self._number > 1 else []))

    def between(self, points: Matrix, others: Matrix, parameters: Floats) -> Matrix:
        """See :class:`Kernel`."""
        stretch = np.sqrt(self._theta(parameters))[self._groups].astype(np.float32)
        return np.asarray(np.exp(-_squares(points * stretch, others * stretch)), np.float32)

    def own(self, points: Matrix) -> Matrix:
        """See :class:`Kernel`."""
        return np.ones(len(points), np.float32)


class Linear:
    """The mean product of coordinates: a trend."""

    deviations: Floats = np.zeros(0)

    def compare(self, points: Matrix) -> Floats:
        """Return the covariance [n, n], which has no parameters."""
        return self.between(points, points, self.deviations).astype(np.float64)

    def among(self, compared: Floats, parameters: Floats) -> Floats:
        """See :class:`Kernel`."""
        return compared

    def slope(self, compared: Floats, parameters: Floats, weight: Floats) -> Floats:
        """See :class:`Kernel`."""
        return np.zeros(0)

    def between(self, points: Matrix, others: Matrix, parameters: Floats) -> Matrix:
        """See :class:`Kernel`."""
        return np.asarray(points @ others.T / np.float32(points.shape[1]), np.float32)

    def own(self, points: Matrix) -> Matrix:
        """See :class:`Kernel`."""
        return np.asarray(np.square(points).mean(1), np.float32)


def _squares(points: Points, others: Points) -> Points:
    """Return squared distances [n, m]."""
    lengths = np.square(points).sum(1)[:, None] + np.square(others).sum(1)
    found: Points = np.maximum(lengths - 2 * points @ others.T, 0)
    return found


@dataclass(frozen=True)
class GaussianProcess:
    """A model: ``kernels``, and the median of the weight of each."""

    kernels: Sequence[Kernel]
    weights: Sequence[float]

    def fit(self, points: Sequence[Matrix], targets: Floats) -> Posterior:
        """Find the most probable parameters for ``targets`` [n] at ``points``, one for each kernel.

        Depends on nothing but its arguments.
        """
        compared = [kernel.compare(p) for kernel, p in zip(self.kernels, points, strict=True)]
        deviations = np.concatenate(
            [[_SPREAD] * len(self.kernels), *[k.deviations for k in self.kernels], [_SPREAD]]
        )
        found = minimize(
            self._improbability,
            np.zeros(len(deviations)),
            args=(deviations, compared, targets),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-_BOUND, _BOUND)] * len(deviations),
            options={"maxiter": _STEPS},
        )
        return self._condition(found.x * deviations, points, compared, targets)

    def condition(self, parameters: Floats, points: Sequence[Matrix], targets: Floats) -> Posterior:
        """Condition on ``targets`` [n] at ``points`` with the ``parameters`` of another fit."""
        compared = [kernel.compare(p) for kernel, p in zip(self.kernels, points, strict=True)]
        return self._condition(parameters, points, compared, targets)

    def split(self, parameters: Floats) -> tuple[Floats, list[Floats], float]:
        """Return the kernels' weights, their own parameters, and the noise."""
        number = len(self.kernels)
        ends = number + np.cumsum([len(kernel.deviations) for kernel in self.kernels])
        weights = np.array(self.weights) * np.exp(parameters[:number])
        own = np.split(parameters[number : ends[-1]], ends[:-1] - number)
        return weights, own, _NOISE * float(np.exp(parameters[-1]))

    def _improbability(
        self, standard: Floats, deviations: Floats, compared: Sequence[Floats], targets: Floats
    ) -> tuple[float, Floats]:
        """Return the negative log density of parameters in standard deviations, and its slope."""
        weights, own, noise = self.split(standard * deviations)
        n = len(targets)
        parts = [
            weight * kernel.among(what, p)
            for weight, kernel, what, p in zip(weights, self.kernels, compared, own, strict=True)
        ]
        covariance = 1.0 + sum(parts) + (noise + _JITTER) * np.eye(n)
        factor = np.linalg.cholesky(covariance)
        inverse = cho_solve((factor, True), np.eye(n), check_finite=False)
        solved = inverse @ targets
        square = float(targets @ solved) + _DEGREES
        value = float(np.log(np.diag(factor)).sum()) + 0.5 * (n + _DEGREES) * np.log(square)
        slope = 0.5 * inverse - 0.5 * (n + _DEGREES) / square * np.outer(solved, solved)
        weighed = [slope * part for part in parts]
        each = [
            kernel.slope(what, p, w)
            for kernel, what, p, w in zip(self.kernels, compared, own, weighed, strict=True)
        ]
        gradient = np.concatenate(
            [[w.sum() for w in weighed], *each, [noise * float(np.trace(slope))]]
        )
        return value + 0.5 * float(standard @ standard), gradient * deviations + standard

    def _condition(
        self,
        parameters: Floats,
        points: Sequence[Matrix],
        compared: Sequence[Floats],
        targets: Floats,
    ) -> Posterior:
        weights, own, noise = self.split(parameters)
        n = len(targets)
        covariance = np.ones((n, n)) + (noise + _JITTER) * np.eye(n)
        for weight, kernel, what, p in zip(weights, self.kernels, compared, own, strict=True):
            covariance += weight * kernel.among(what, p)
        factor = np.asarray(np.linalg.cholesky(covariance), np.float64)
        whitened = solve_triangular(factor, targets, lower=True, check_finite=False)
        scale = (float(whitened @ whitened) + _DEGREES) / (n + _DEGREES)
        return Posterior(self, parameters, points, scale, factor, whitened)


@dataclass(frozen=True)
class Posterior:
    """What a model makes of observations at ``points``, by its ``parameters``."""

    model: GaussianProcess
    parameters: Floats
    points: Sequence[Matrix]
    scale: float
    _factor: Floats
    _whitened: Floats

    def predict(self, others: Sequence[Matrix]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of what m others would be seen to have, noise and all.

        float64 [m] each.
        """
        m = len(others[0])
        mean, deviation = np.empty(m), np.empty(m)
        for start in range(0, m, _CHUNK):
            part = slice(start, start + _CHUNK)
            mean[part], deviation[part] = self._predict([other[part] for other in others])
        return mean, deviation

    def _predict(self, others: Sequence[Matrix]) -> tuple[Floats, Floats]:
        weights, parameters, noise = self.model.split(self.parameters)
        m = len(others[0])
        cross = np.ones((len(self._whitened), m), np.float32)
        own = np.ones(m, np.float32)
        for weight, kernel, known, other, p in zip(
            weights.astype(np.float32),
            self.model.kernels,
            self.points,
            others,
            parameters,
            strict=True,
        ):
            cross += weight * kernel.between(known, other, p)
            own += weight * kernel.own(other)
        solved = solve_triangular(
            self._factor.astype(np.float32), cross, lower=True, check_finite=False
        )
        mean = self._whitened.astype(np.float32) @ solved
        left = np.maximum(own - np.einsum("nm,nm->m", solved, solved), _JITTER)
        return mean.astype(np.float64), np.sqrt(self.scale * (left.astype(np.float64) + noise))


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
