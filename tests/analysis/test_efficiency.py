import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wilcoxon

from analysis.efficiency import (
    band,
    compare,
    holm,
    mean_interval,
    models_to_target,
    rank_trials,
    share_reaching,
    spread,
)

NAN = np.nan


def test_band_by_hand_and_without_missing_values():
    curve = np.array([[NAN, 1.0, 4.0], [NAN, NAN, 8.0], [NAN, 3.0, 12.0]])
    mean, low, high = band(curve)
    np.testing.assert_allclose(mean, [NAN, 2, 8])
    np.testing.assert_allclose(low, [NAN, 1.5, 6])
    np.testing.assert_allclose(high, [NAN, 2.5, 10])


def test_spread_is_numpy_s_and_leaves_missing_values_out():
    assert spread(np.array([1.0, NAN, 3.0])) == (2, 1, 2, 1.5, 2.5)
    assert np.isnan(spread(np.array([NAN]))).all()


def test_models_to_target_by_hand():
    curve = np.array([[1.0, 3.0, 3.0], [3.0, 3.0, 4.0], [NAN, 1.0, 2.0]])
    np.testing.assert_array_equal(models_to_target(curve, 3, unsolved=301), [2, 1, 301])
    np.testing.assert_array_equal(
        models_to_target(-curve, -2, unsolved=301, higher_is_better=False), [2, 1, 3]
    )


def test_mean_interval_is_reproducible_and_covers_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        interval = mean_interval(rng.normal(5, 2, 50), samples=400)
        hits += interval.low <= 5 <= interval.high
    # A 95 % bootstrap interval of 50 values covers a little less: 93 % within sampling error.
    assert 174 <= hits <= 199
    values = rng.normal(size=30)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values, seed=1) != mean_interval(values)
    for trials in (9, 99):
        assert mean_interval(np.full(trials, 4)) == (4, 4, 4)
    assert np.isnan(mean_interval(np.empty(0))).all()


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
def test_intervals_of_few_trials_cover_as_they_say(trials):
    rng = np.random.default_rng(1)
    intervals = [mean_interval(rng.normal(5, 2, trials)) for _ in range(1000)]
    hits = sum(interval.low <= 5 <= interval.high for interval in intervals)
    assert 930 <= hits <= 970


def test_intervals_are_cut_to_what_is_possible_and_one_value_has_none():
    assert mean_interval(np.array([1, 1, 31]), least=1, most=31) == (11, 1, 31)
    mean, *ends = interval = mean_interval(np.array([7]))
    assert mean == 7
    assert np.isnan(ends).all()
    assert interval.ends(str) == "[-, -]"
    assert mean_interval(np.full(3, 2.0)).ends(str) == "[2.0, 2.0]"


def test_holm_s_worked_example():
    # p = .01, .04, .03, .005 times 3, 1, 2, 4 in order of size, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p):
    corrected = np.array(holm(p))
    raw = np.array(p)
    assert (corrected >= raw - 1e-12).all()
    assert (corrected <= np.minimum(1, raw * len(p)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(raw, kind="stable")]) >= 0).all()


def test_compare_by_hand():
    first = np.array([3.0, 5.0, 2.0, 4.0, NAN])
    second = np.array([1.0, 5.0, 3.0, 1.0, 2.0])
    [result] = compare([(first, second)])
    assert result.difference.mean == 1.0
    assert result.wins == (2 + 0.5) / 4
    assert result.trials == 4
    assert result.p == pytest.approx(wilcoxon([2.0, 0.0, -1.0, 3.0]).pvalue)
    [worse] = compare([(first, second)], higher_is_better=False)
    assert worse.wins == 1 - result.wins
    assert worse.difference == result.difference


def test_equal_differences_of_decimals_tie():
    first, second = np.array([73.1, 72.8, 73.4, 70.0]), np.array([72.9, 72.6, 73.0, 70.1])
    assert 73.1 - 72.9 != 72.8 - 72.6
    [result] = compare([(first, second)])
    assert result.p == wilcoxon([2, 2, 4, -1]).pvalue
    [draw] = compare([(np.array([0.1 + 0.2]), np.array([0.3]))])
    assert (draw.wins, draw.p) == (0.5, 1)


@given(st.integers(0, 10**6), st.integers(-3, 6))
def test_the_unit_decides_no_test(seed, exponent):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(7_000, 7_100, (2, 20))
    whole = compare([(first.astype(float), second.astype(float))])[0]
    scaled = compare([(first / 10.0**exponent, second / 10.0**exponent)])[0]
    assert (scaled.wins, scaled.p) == (whole.wins, whole.p)


def test_compare_finds_a_real_difference_and_corrects_for_many():
    rng = np.random.default_rng(0)
    base = rng.normal(70, 1, 40)
    better, same = base + rng.normal(0.5, 0.5, 40), base.copy()
    one = compare([(better, base)])[0]
    two = compare([(better, base), (same, base)])
    assert one.p < 1e-3
    assert two[0].p == pytest.approx(2 * one.p)
    assert two[1].p == 1
    assert two[1].wins == 0.5
    assert one.difference.low > 0


def test_compare_of_nothing():
    assert compare([]) == []
    [empty] = compare([(np.array([NAN]), np.array([1.0]))])
    assert np.isnan(empty.wins)
    assert empty.p == 1


def test_ranks_by_hand():
    values = np.array([[3.0, 9.0, 5.0, NAN], [2.0, 9.0, 6.0, 1.0], [1.0, 0.0, 4.0, 1.0]])
    ranks = rank_trials(values)
    np.testing.assert_allclose(ranks.means, [(1 + 1.5 + 2) / 3, (2 + 1.5 + 1) / 3, 3])
    worse = rank_trials(values, higher_is_better=False)
    np.testing.assert_allclose(worse.means, 4 - ranks.means)


def test_the_critical_distance_is_demsar_s():
    """Demsar 2006, section 3.2.2: four classifiers on 14 data sets, 2.569 and 1.25."""
    values = np.random.default_rng(0).normal(size=(4, 14))
    assert rank_trials(values).distance == pytest.approx(
        2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3
    )
    assert rank_trials(values).distance == pytest.approx(1.25, abs=0.01)


def test_friedman_s_test_finds_a_difference_and_none_where_there_is_none():
    noise = np.random.default_rng(1).normal(size=(3, 40))
    assert rank_trials(noise).p > 0.05
    assert rank_trials(noise + np.array([[0.0], [0.0], [2.0]])).p < 1e-6
    assert rank_trials(np.ones((3, 5))).p == 1.0


def test_ranks_of_too_few_are_not_known():
    assert np.isnan(rank_trials(np.ones((2, 5))).means).all()
    assert np.isnan(rank_trials(np.full((3, 5), NAN)).p)


def test_means_of_few_trials_scatter_about_the_mean():
    values = np.random.default_rng(2).normal(70.0, 1.0, 400)
    mean = values.mean()
    assert share_reaching(values, mean, 10) == pytest.approx(0.5, abs=0.05)
    assert share_reaching(values, mean + 1.645 / 10**0.5, 10) == pytest.approx(0.05, abs=0.03)
    assert share_reaching(values, mean - 3, 10) == 1
    assert share_reaching(values, mean - 3, 10, higher_is_better=False) == 0
    assert np.isnan(share_reaching(values, mean, None))


def test_infinite_values_can_be_compared():
    found = compare([(np.array([-np.inf, 1.0, 2.0]), np.ones(3))])
    assert found[0].wins == 0.5
    assert 0 < found[0].p <= 1
