import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.stats import rankdata

from analysis.ranks import concordance, pairwise_concordance
from proxies import pools, registry
from proxies.pools import az_nas, majority, rank_average, ranks, vote

# Few distinct values, so that ties are common; -inf is a member without a score.
VALUES = st.sampled_from([-math.inf, -2.5, 0.0, 1.0, 1e9, 3e46])
POOLS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=VALUES)
ENSEMBLES = [vote, rank_average, az_nas]


def voted_above(goodness, i, j):
    """The published rule, for one ordered pair."""
    ahead = sum(member[i] > member[j] for member in goodness)
    return ahead >= len(goodness) / 2


@given(POOLS)
def test_majority_is_the_published_rule_in_both_orders(goodness):
    verdicts = np.concatenate(list(majority(goodness)))
    assert verdicts.dtype == np.int8
    for i, j in itertools.product(range(goodness.shape[1]), repeat=2):
        expected = int(voted_above(goodness, i, j)) - int(voted_above(goodness, j, i))
        assert verdicts[i, j] == expected


@given(POOLS)
def test_vote_counts_won_pairs(goodness):
    verdicts = np.concatenate(list(majority(goodness)))
    n = len(verdicts)
    others = [[verdicts[i, j] for j in range(n) if j != i] for i in range(n)]
    assert vote(goodness).tolist() == [row.count(1) + row.count(0) / 2 for row in others]


def test_two_members_overrule_the_third():
    assert vote(np.array([[1, 2, 3], [1, 2, 3], [3, 2, 1.0]])).tolist() == [0, 1, 2]


def test_a_circle_of_majorities_is_a_tie():
    circle = np.array([[1, 2, 3], [3, 1, 2], [2, 3, 1.0]])
    assert vote(circle).tolist() == [1, 1, 1]
    # The score is tied everywhere, but two of three pairs are ordered as these accuracies are.
    assert pairwise_concordance(majority(circle), np.array([1, 2, 3.0])) == pytest.approx(2 / 3)
    assert concordance(vote(circle), np.array([1, 2, 3.0])) == 0.5


def test_two_members_that_disagree_leave_a_tie():
    assert vote(np.array([[1, 2], [2, 1.0]])).tolist() == [0.5, 0.5]


@given(POOLS)
def test_ranks_are_scipy_s(goodness):
    assert np.array_equal(ranks(goodness), rankdata(goodness, axis=1))


def test_rank_average_and_az_nas_by_hand():
    goodness = np.array([[5, 5, 9, -math.inf], [1, 2, 3, 4.0]])
    assert ranks(goodness).tolist() == [[2.5, 2.5, 4, 1], [1, 2, 3, 4]]
    assert rank_average(goodness).tolist() == [1.75, 2.25, 3.5, 2.5]
    expected = [2.5 * 1, 2.5 * 2, 4 * 3, 1 * 4]
    assert np.exp(az_nas(goodness)) * 16 == pytest.approx(expected)
    # One low rank costs more than a high one gains: the plain mean puts the last above the second.
    assert az_nas(goodness)[1] > az_nas(goodness)[3]


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@given(goodness=POOLS, data=st.data())
def test_only_the_order_within_the_set_counts(ensemble, goodness, data):
    score = ensemble(goodness)
    assert score.dtype == np.float64
    assert score.shape == goodness.shape[1:]
    assert np.isfinite(score).all()
    order = data.draw(st.permutations(range(goodness.shape[1])))
    assert ensemble(goodness[:, order]) == pytest.approx(score[order])
    voters = data.draw(st.permutations(range(goodness.shape[0])))
    assert ensemble(goodness[voters]) == pytest.approx(score)
    assert ensemble(np.cbrt(goodness)) == pytest.approx(score)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@given(goodness=POOLS)
def test_one_member_alone_ranks_as_it_does(ensemble, goodness):
    score, alone = ensemble(goodness[:1]), goodness[0]
    assert np.array_equal(rankdata(score), rankdata(alone))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_an_empty_set(ensemble):
    assert ensemble(np.empty((3, 0))).shape == (0,)


def test_blocks_make_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    goodness, accuracy = rng.integers(0, 9, (3, 50)).astype(float), rng.normal(size=50)
    whole = vote(goodness), pairwise_concordance(majority(goodness), accuracy)
    monkeypatch.setattr(pools, "_BLOCK", 7 * 50)
    assert len(list(majority(goodness))) == 8
    assert np.array_equal(vote(goodness), whole[0])
    assert pairwise_concordance(majority(goodness), accuracy) == whole[1]


@given(POOLS, st.data())
def test_concordance_is_over_ordered_pairs_by_the_published_rule(goodness, data):
    n = goodness.shape[1]
    values = st.sampled_from([90.0, 91.0, 93.5, math.nan])
    accuracy = data.draw(arrays(np.float64, n, elements=values))
    right = [
        voted_above(goodness, i, j) == (accuracy[i] > accuracy[j])
        for i, j in itertools.permutations(range(n), 2)
        if accuracy[i] < accuracy[j] or accuracy[i] > accuracy[j]
    ]
    expected = np.mean(right) if right else math.nan
    found = pairwise_concordance(majority(goodness), accuracy)
    assert found == pytest.approx(expected, nan_ok=True)


@given(POOLS, st.data())
def test_concordance_of_one_member_is_that_of_its_score(goodness, data):
    accuracy = data.draw(arrays(np.float64, goodness.shape[1], elements=st.floats(0, 100)))
    found = pairwise_concordance(majority(goodness[:1]), accuracy)
    assert found == pytest.approx(concordance(ranks(goodness[:1])[0], accuracy), nan_ok=True)


def test_a_move_is_quick():
    goodness = np.random.default_rng(0).normal(size=(3, 24))
    for ensemble in ENSEMBLES:
        ensemble(goodness)
        times = []
        for _ in range(200):
            began = time.perf_counter()
            ensemble(goodness)
            times.append(time.perf_counter() - began)
        assert min(times) < 60e-6


def test_a_whole_benchmark_needs_little_memory():
    import tracemalloc

    goodness = np.random.default_rng(0).normal(size=(3, 15_625))
    tracemalloc.start()
    try:
        score = vote(goodness)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16e6
    assert score.sum() == math.comb(15_625, 2)


def test_registered_with_members_and_a_summary():
    ensembles = registry.ensembles()
    assert {"vote", "rank_average", "az_nas"} <= set(ensembles)
    assert ensembles["vote"].members == ("synflow", "jacob_cov", "snip")
    assert ensembles["vote"].pairwise is majority
    assert not set(ensembles) & set(registry.names())
    assert "(Abdelfattah et al. 2021)" in registry.describe()["vote"]


def test_names_are_unique_across_proxies_and_ensembles():
    for name in ("vote", "synflow", "synaptic_flow"):
        with pytest.raises(ValueError, match="already a proxy"):

            @registry.register_ensemble(name, members=["synflow"], paper="none")
            def again(goodness):
                """Do it again."""

    with pytest.raises(ValueError, match="docstring"):

        @registry.register_ensemble("silent", members=["synflow"], paper="none")
        def silent(goodness):
            return goodness[0]

    assert "silent" not in registry.ensembles()
    assert registry.ensembles()["vote"].function is vote
