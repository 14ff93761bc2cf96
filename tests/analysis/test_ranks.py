import itertools
import time
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr

from analysis.ranks import concordance, correlations, spearman_interval

NAN = np.nan
pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=25)


def columns(pairs):
    return np.array(pairs, np.float64).T


def brute_concordance(scores, accuracy):
    right = total = 0.0
    for (s, a), (t, b) in itertools.combinations(zip(scores, accuracy, strict=True), 2):
        if a != b:
            total += 1
            right += 0.5 if s == t else float((s < t) == (a < b))
    return right / total if total else NAN


@given(pairs)
def test_concordance_equals_counting_every_pair(pairs):
    scores, accuracy = columns(pairs)
    expected = brute_concordance(scores, accuracy)
    assert concordance(scores, accuracy) == pytest.approx(expected, nan_ok=True)


@given(pairs)
def test_correlations_are_scipy_s(pairs):
    scores, accuracy = columns(pairs)
    assume(len(set(scores)) > 1 and len(set(accuracy)) > 1)
    found = correlations(scores, accuracy)
    assert found["spearman"] == pytest.approx(spearmanr(scores, accuracy).statistic)
    assert found["kendall"] == pytest.approx(kendalltau(scores, accuracy).statistic)


@given(pairs)
def test_turning_the_score_round_turns_the_statistics_round(pairs):
    scores, accuracy = columns(pairs)
    there, back = correlations(scores, accuracy), correlations(-scores, accuracy)
    for name in ("spearman", "kendall", "spearman_top10"):
        np.testing.assert_allclose(there[name], -back[name], atol=1e-12)
    np.testing.assert_allclose(there["concordance"], 1 - back["concordance"], atol=1e-12)
    flagged = correlations(-scores, accuracy, higher_is_better=False)
    assert flagged["spearman"] == pytest.approx(back["spearman"], nan_ok=True)
    for name in ("concordance", "overlap_top10"):
        assert flagged[name] == pytest.approx(there[name], nan_ok=True)


def test_by_hand_with_ties():
    scores = np.array([1.0, 2.0, 2.0, 0.0])
    accuracy = np.array([10.0, 20.0, 30.0, 30.0])
    # (1,2) right, (1,3) right, (1,4) wrong, (2,3) tied, (2,4) wrong; (3,4) has equal accuracy.
    assert correlations(scores, accuracy)["concordance"] == pytest.approx(2.5 / 5)


def test_continuous_scores_have_the_textbook_relation_to_kendall():
    rng = np.random.default_rng(0)
    accuracy = rng.normal(size=300)
    found = correlations(accuracy + rng.normal(size=300), accuracy)
    assert found["concordance"] == pytest.approx((1 + found["kendall"]) / 2)


def test_perfect_and_reversed_scores():
    accuracy = np.arange(100.0)
    found = correlations(accuracy**3, accuracy)
    assert all(found[k] == pytest.approx(1) for k in found if k not in ("n", "nan"))
    found = correlations(-accuracy, accuracy)
    assert found["spearman"] == pytest.approx(-1)
    assert (found["concordance"], found["overlap_top10"]) == (0, 0)


def test_top_tenth_by_hand():
    accuracy = np.arange(30.0)
    scores = np.zeros(30)
    # Best three by accuracy: 27, 28, 29; best three by score: 29, 5, 27.
    scores[[27, 28, 29, 5, 6]] = [7.0, 5.0, 9.0, 8.0, 6.0]
    found = correlations(scores, accuracy)
    assert found["overlap_top10"] == pytest.approx(2 / 3)
    assert found["spearman_top10"] == pytest.approx(spearmanr([7, 5, 9], [1, 2, 3]).statistic)


def test_ties_across_the_tenth_count_as_expected_of_chance():
    accuracy = np.arange(20.0)
    scores = np.zeros(20)
    scores[19] = 1.0
    # 19 is surely in; the other place falls to each of 19 with equal chance, 18 one of them.
    assert correlations(scores, accuracy)["overlap_top10"] == pytest.approx((1 + 1 / 19) / 2)


def test_missing_scores_are_left_out_and_counted():
    accuracy = np.arange(50.0)
    scores = accuracy.copy()
    scores[[3, 7]] = NAN
    accuracy[9] = NAN
    found = correlations(scores, accuracy)
    assert (found["n"], found["nan"], found["spearman"]) == (47, 2, 1)


def test_infinite_scores_rank_at_the_ends():
    accuracy = np.arange(5.0)
    found = correlations(np.array([-np.inf, 1, 2, 3, np.inf]), accuracy)
    assert found["kendall"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("scores", "accuracy"),
    [
        (np.full(30, 2.0), np.arange(30.0)),
        (np.arange(30.0), np.full(30, 2.0)),
        (np.full(30, NAN), np.arange(30.0)),
        (np.empty(0), np.empty(0)),
        (np.array([1.0]), np.array([1.0])),
    ],
)
def test_what_cannot_be_correlated_is_nan_without_a_warning(scores, accuracy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = correlations(scores, accuracy)
        interval = spearman_interval(scores, accuracy)
    assert np.isnan([found["spearman"], found["kendall"], found["spearman_top10"]]).all()
    assert np.isnan(interval).all()


@given(pairs)
def test_errors_are_ranked_like_the_accuracies_that_they_come_from(pairs):
    scores, accuracy = columns(pairs)
    of_accuracy = correlations(scores, accuracy)
    of_error = correlations(scores, -accuracy, higher_accuracy_is_better=False)
    for name in ("concordance", "overlap_top10"):
        assert of_error[name] == pytest.approx(of_accuracy[name], nan_ok=True)
    for name in ("spearman", "kendall", "spearman_top10"):
        assert of_error[name] == pytest.approx(-of_accuracy[name], nan_ok=True)


def test_a_constant_score_is_chance():
    found = correlations(np.zeros(30), np.arange(30.0))
    assert found["concordance"] == 0.5
    assert found["overlap_top10"] == pytest.approx(0.1)


def test_a_whole_space_takes_well_under_a_second():
    rng = np.random.default_rng(0)
    accuracy = np.round(rng.normal(90, 5, 15625), 2)
    correlations(accuracy, accuracy)
    start = time.process_time()
    correlations(np.round(accuracy + rng.normal(0, 5, 15625)), accuracy)
    assert time.process_time() - start < 1


def test_interval_is_a_bootstrap_of_scipy_s_spearman():
    rng = np.random.default_rng(3)
    accuracy = rng.normal(size=60).round(1)
    scores = (accuracy + rng.normal(size=60)).round(1)
    draws = np.random.default_rng(0)
    plain = []
    for _ in range(200):
        rows = draws.integers(0, 60, 60)
        plain.append(spearmanr(scores[rows], accuracy[rows]).statistic)
    found = spearman_interval(scores, accuracy, samples=200)
    assert found.mean == pytest.approx(spearmanr(scores, accuracy).statistic)
    assert found[1:] == pytest.approx(np.quantile(plain, (0.025, 0.975)))
