from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from searchers import Evolution, Guidance, Predictor, RandomSearch, Reinforce
from spaces import Choices
from spaces.base import distinct
from tests.searchers.conformance import Scorer, small_space, value


def rng(seed=0):
    return np.random.default_rng(seed)


def test_no_guidance_scores_nothing():
    guidance = Guidance()
    assert guidance.pool(small_space(), rng()).architectures == []
    assert guidance.choose([(1, 1, 1, 1), (3, 3, 2, 1)], rng()) == (1, 1, 1, 1)
    assert guidance.asked == 0
    assert guidance.seconds == 0


@given(size=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_pool_is_sorted_and_counted(size, seed):
    guidance = Guidance(Scorer(), warmup=size)
    pool = guidance.pool(small_space(), rng(seed))
    assert len(pool.architectures) == size == guidance.asked
    assert pool.goodness.tolist() == [value(a) for a in pool.architectures]
    assert (np.diff(pool.goodness) <= 0).all()
    assert guidance.seconds == 0.5 * size


def test_pool_of_all_holds_every_architecture_once():
    space = small_space()
    pool = Guidance(Scorer(), warmup="all").pool(space, rng())
    assert sorted(pool.architectures) == list(space.enumerate())


def test_pools_of_all_searches_come_from_one_sample():
    space = small_space()
    guidance = Guidance(Scorer(), warmup=20, among=30)
    pools = [guidance.pool(space, rng(seed)).architectures for seed in range(40)]
    assert all(len(set(pool)) == 20 for pool in pools)
    assert len({frozenset(pool) for pool in pools}) > 30
    met = set().union(*pools)
    assert met == set(distinct(space, rng(0), 30))


def test_a_pool_may_be_all_of_the_sample():
    space = small_space()
    pool = Guidance(Scorer(), warmup="all", among=30).pool(space, rng(7))
    assert set(pool.architectures) == set(distinct(space, rng(0), 30))


def test_what_is_too_large_to_list_is_refused():
    space = Choices(**{f"d{i}": range(9) for i in range(9)})
    guidance = Guidance(Scorer(), warmup="all")
    for searcher in (RandomSearch, Evolution, Reinforce, Predictor):
        with pytest.raises(UsageError, match="too many to take all"):
            searcher(space, guidance=guidance)


def test_more_than_there_are_cannot_be_drawn_from():
    guidance = Guidance(Scorer(), warmup=9, among=97)
    with pytest.raises(UsageError, match=r"among=97 exceeds the 96 architectures of choices"):
        guidance.pool(small_space(), rng())


def test_a_policy_draws_for_itself():
    with pytest.raises(UsageError, match=r"among is not for searcher=reinforce"):
        Reinforce(small_space(), guidance=Guidance(Scorer(), warmup=9, among=20))


def test_unscorable_architectures_come_last():
    scorer = Scorer(broken=lambda arch: arch[1] == 3)
    pool = Guidance(scorer, warmup="all").pool(small_space(), rng())
    assert all(arch[1] == 3 for arch in pool.architectures[-24:])


def test_goodness_that_is_not_a_number_ranks_last():
    def unknown(archs, names=("one",)):
        goodness = np.full((len(names), len(archs)), 2.0)
        goodness[:, 0] = np.nan
        return goodness if len(names) > 1 else goodness[0]

    unknown.seconds, unknown.seconds_per_score = (lambda names: 0.0), 0.0
    guidance = Guidance(unknown, move=2, epsilon=0, scores=unknown)
    assert guidance.choose([(0, 0, 0, 0), (1, 0, 0, 0)], rng()) == (1, 0, 0, 0)
    features = guidance.features([(0, 0, 0, 0), (1, 0, 0, 0)], ["one", "two"])
    assert features.tolist() == [[-np.inf, 2.0]] * 2


def test_move_limits_the_candidates():
    scorer = Scorer()
    guidance = Guidance(scorer, move=2, epsilon=0)
    assert guidance.choose([(0, 0, 0, 0), (1, 0, 0, 0), (3, 3, 2, 1)], rng()) == (1, 0, 0, 0)
    assert guidance.asked == 2


def test_epsilon_is_the_share_of_unguided_steps():
    guidance = Guidance(Scorer(), move="all", epsilon=0.25)
    generator = rng()
    picks = [guidance.choose([(0, 0, 0, 0), (3, 3, 2, 1)], generator) for _ in range(4000)]
    assert picks.count((0, 0, 0, 0)) / 4000 == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"warmup": -1}, "guidance.warmup.pool=-1"),
        ({"warmup": "some"}, "guidance.warmup.pool=some"),
        ({"move": -3}, "guidance.move.candidates=-3"),
        ({"epsilon": 1.5}, "guidance.move.epsilon=1.5"),
        ({"warmup": 9, "among": 8}, r"among=8 is less than .*pool=9"),
        ({"warmup": "all", "among": 0}, r"among=0 is less"),
        ({"scorer": None, "warmup": 9}, "needs a proxy"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Guidance(**{"scorer": Scorer()} | settings)
