from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import RandomSearch
from spaces import Choices
from tests.searchers.conformance import run, small_space


def test_without_repeats_the_last_of_many_is_found():
    space = Choices(a=range(20), b=range(20), c=range(10))
    searcher = RandomSearch(space, repeats=False)
    *most, last = space.enumerate()
    searcher.trained.update(most)
    assert searcher.ask() == [last]


def test_without_repeats_a_space_too_large_to_list_is_given_up():
    space = Choices(**{f"d{i}": range(9) for i in range(9)})
    searcher = RandomSearch(space, repeats=False)
    known = space.sample(np.random.default_rng(0), 1)
    searcher.trained.update(known)
    space.sample = lambda rng, n: known * n
    with pytest.raises(UsageError, match="leaves nothing to train"):
        searcher.ask()


def test_an_ask_that_failed_may_be_asked_again():
    searcher = RandomSearch(small_space(), repeats=False)
    asked = run(searcher, 96)
    for _ in range(2):
        with pytest.raises(UsageError, match="nothing to train: 96 architectures"):
            searcher.ask()
    searcher.trained.remove(asked[0])
    assert searcher.ask() == [asked[0]]


@pytest.mark.parametrize("seed", [-1, 1 << 128])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(UsageError, match=rf"seed={seed} must lie between 0 and 2\^128 - 1"):
        RandomSearch(small_space(), seed=seed)


def test_a_seed_may_be_any_whole_number():
    assert RandomSearch(small_space(), seed=np.int64(3)).ask(9) == (
        RandomSearch(small_space(), seed=3).ask(9)
    )
    assert len(RandomSearch(small_space(), seed=(1 << 128) - 1).ask(9)) == 9
