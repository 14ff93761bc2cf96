from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_t, norm

from searchers.gaussian_process import (
    Hypothesis,
    condition,
    expected_improvement,
    probabilities,
    standardised,
)

POINTS = np.linspace(0.0, 3.0, 31)
SIMILARITIES = np.array(
    [np.exp(-((POINTS[:, None] - POINTS) ** 2) / (2 * scale**2)) for scale in (0.3, 1.0)]
)
SEEN = [0, 7, 15, 30]
TARGETS = np.sin(3 * POINTS[SEEN])


def conditioned(*weights: float, noise: float = 0.01):
    seen = SIMILARITIES[:, SEEN][:, :, SEEN]
    return condition(Hypothesis(np.array(weights), noise), seen, TARGETS)


def predict(posterior):
    own = np.ones((2, len(POINTS)), np.float32)
    return posterior.predict(SIMILARITIES[:, SEEN].astype(np.float32), own)


def test_predicts_as_scikit_learn_does():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    kernel = 0.5 * RBF(0.3) + 2.0 * RBF(1.0)
    theirs = GaussianProcessRegressor(kernel, alpha=0.01, optimizer=None)
    theirs.fit(POINTS[SEEN, None], TARGETS)
    mean, deviation = theirs.predict(POINTS[:, None], return_std=True)
    posterior = conditioned(0.5, 2.0)
    ours, spread = predict(posterior)
    np.testing.assert_allclose(ours, mean, atol=1e-4)
    np.testing.assert_allclose(spread, deviation * posterior.scale**0.5, atol=2e-3)


def test_evidence_is_the_likelihood_of_a_student_t():
    for weights in [(1.0, 0.0), (0.0, 1.0), (0.3, 2.0)]:
        covariance = np.tensordot(weights, SIMILARITIES[:, SEEN][:, :, SEEN], 1)
        shape = covariance + (0.01 + 1e-6) * np.eye(4)
        expected = multivariate_t(np.zeros(4), shape, df=2).logpdf(TARGETS)
        differences = conditioned(*weights).evidence - expected
        assert differences == pytest.approx(conditioned(1.0, 1.0).evidence - _reference(), abs=1e-6)


def _reference() -> float:
    shape = SIMILARITIES.sum(0)[np.ix_(SEEN, SEEN)] + (0.01 + 1e-6) * np.eye(4)
    return float(multivariate_t(np.zeros(4), shape, df=2).logpdf(TARGETS))


def test_probabilities_follow_the_evidence():
    posteriors = [conditioned(1.0, 0.0), conditioned(0.0, 1.0)]
    first, second = probabilities(posteriors)
    assert first + second == pytest.approx(1.0)
    assert np.log(first / second) == pytest.approx(posteriors[0].evidence - posteriors[1].evidence)


@given(st.floats(-4, 4), st.floats(0.1, 3), st.floats(-2, 2))
def test_expected_improvement_is_that_of_a_normal(mean, deviation, best):
    grid = np.linspace(mean - 9 * deviation, mean + 9 * deviation, 20001)
    gain = np.maximum(grid - best, 0) * norm.pdf(grid, mean, deviation)
    integral = float(((gain[1:] + gain[:-1]) / 2 * np.diff(grid)).sum())
    (ours,) = expected_improvement(np.array([mean]), np.array([deviation]), best)
    if integral > 1e-9:
        assert np.exp(ours) == pytest.approx(integral, rel=1e-2)


def test_expected_improvement_orders_the_hopeless():
    ahead = np.array([-60.0, -40.0, -30.001, -29.999, -10.0, 0.0])
    assert (np.diff(expected_improvement(ahead, np.ones(6), 0.0)) > 0).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
def test_standardised_keeps_the_order(values):
    ours = standardised(np.array(values))
    order = np.argsort(values, kind="stable")
    assert (np.diff(ours[order]) >= 0).all()
    assert abs(ours.mean()) < 1e-6


def test_one_that_failed_does_not_set_the_scale():
    good = [90.0, 91.0, 92.0, 93.0, 94.0]
    spread = np.ptp(standardised(np.array([*good, 10.0]))[:5])
    assert spread > 1.0
    assert standardised(np.array([*good, np.nan]))[-1] == standardised(np.array([*good, 90.0]))[-1]
    assert (standardised(np.array([np.nan, np.nan])) == 0).all()
