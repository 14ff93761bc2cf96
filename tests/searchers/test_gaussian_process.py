from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.stats import multivariate_t, norm

from searchers.gaussian_process import (
    GaussianProcess,
    Linear,
    Radial,
    expected_improvement,
    standardised,
)

GRID = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
SEEN = np.arange(0, 40, 4)
TARGETS = np.sin(2 * GRID[SEEN, 0].astype(np.float64)) + 0.3 * GRID[SEEN, 1]
GROUPS = np.array([0, 0, 1])
MODEL = GaussianProcess([Radial(GROUPS, 0.7), Linear()], [0.5, 2.0])
PARAMETERS = np.array([0.2, -0.3, 0.1, 0.4, -0.2, 0.5])
"""Two weights; what is common to the groups and their own; noise."""


def posterior():
    return MODEL.condition(PARAMETERS, [GRID[SEEN]] * 2, TARGETS)


def covariance(points, others):
    theta = 0.7 / 2 * np.exp(0.1 + np.array([0.4, 0.4, -0.2]))
    square = (theta * (points[:, None] - others) ** 2).sum(-1)
    radial = 0.5 * np.exp(0.2) * np.exp(-square)
    return 1 + radial + 2.0 * np.exp(-0.3) * points @ others.T / 3


def noise() -> float:
    return 0.1 * np.exp(0.5) + 1e-6


def test_covers_the_plane_as_the_formula_says():
    inverse = np.linalg.inv(covariance(GRID[SEEN], GRID[SEEN]) + noise() * np.eye(10))
    cross = covariance(GRID, GRID[SEEN])
    ours, deviation = posterior().predict([GRID, GRID])
    np.testing.assert_allclose(ours, cross @ inverse @ TARGETS, atol=1e-4)
    variance = np.diag(covariance(GRID, GRID)) - ((cross @ inverse) * cross).sum(1)
    scale = (TARGETS @ inverse @ TARGETS + 2) / 12
    np.testing.assert_allclose(deviation, np.sqrt(scale * (variance + noise())), atol=1e-3)


def improbability(parameters) -> float:
    compared = [kernel.compare(GRID[SEEN]) for kernel in MODEL.kernels]
    return MODEL._improbability(parameters, np.ones(6), compared, TARGETS)


def test_maximises_the_likelihood_of_a_student_t():
    def expected(parameters) -> float:
        weights, own, level = MODEL.split(parameters)
        parts = [
            w * k.among(k.compare(GRID[SEEN]), p)
            for w, k, p in zip(weights, MODEL.kernels, own, strict=True)
        ]
        shape = 1 + sum(parts) + (level + 1e-6) * np.eye(10)
        likelihood = multivariate_t(np.zeros(10), shape, df=2).logpdf(TARGETS)
        return -likelihood + 0.5 * float(parameters @ parameters)

    there, here = np.zeros(6), PARAMETERS
    difference = improbability(there)[0] - improbability(here)[0]
    assert difference == pytest.approx(expected(there) - expected(here), abs=1e-6)


def test_slope_is_that_of_the_likelihood():
    error = check_grad(lambda p: improbability(p)[0], lambda p: improbability(p)[1], PARAMETERS)
    assert error < 1e-4


def test_a_fit_is_more_probable_than_the_prior():
    found = MODEL.fit([GRID[SEEN]] * 2, TARGETS).parameters
    deviations = np.concatenate(([1, 1], MODEL.kernels[0].deviations, [1]))
    compared = [kernel.compare(GRID[SEEN]) for kernel in MODEL.kernels]
    fitted, _ = MODEL._improbability(found / deviations, deviations, compared, TARGETS)
    start, _ = MODEL._improbability(np.zeros(6), deviations, compared, TARGETS)
    assert fitted < start - 0.5


def test_finds_out_which_group_matters():
    points = np.random.default_rng(1).normal(size=(80, 4)).astype(np.float32)
    model = GaussianProcess([Radial(np.arange(4), 1.0)], [1.0])
    found = model.fit([points], np.sin(3 * points[:, 2].astype(np.float64))).parameters
    assert np.argmax(found[2:6]) == 2


def test_a_fit_depends_on_what_was_observed_alone():
    fits = [MODEL.fit([GRID[SEEN]] * 2, TARGETS).parameters for _ in range(2)]
    assert (fits[0] == fits[1]).all()


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
@example([699051.1512770748] * 3)
@example([1e6, 999999.9999999999])
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
