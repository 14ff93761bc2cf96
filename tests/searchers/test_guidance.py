from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from searchers import Guidance
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


def test_unscorable_architectures_come_last():
    scorer = Scorer(broken=lambda arch: arch[1] == 3)
    pool = Guidance(scorer, warmup="all").pool(small_space(), rng())
    assert all(arch[1] == 3 for arch in pool.architectures[-24:])


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
        ({"scorer": None, "warmup": 9}, "needs a proxy"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Guidance(**{"scorer": Scorer()} | settings)
