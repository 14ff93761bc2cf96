from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import RandomSearch
from tests.searchers.conformance import small_space


@pytest.mark.parametrize("seed", [-1, 1 << 128])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(UsageError, match=rf"seed={seed} must lie between 0 and 2\^128 - 1"):
        RandomSearch(small_space(), seed=seed)


def test_a_seed_may_be_any_whole_number():
    assert RandomSearch(small_space(), seed=np.int64(3)).ask(9) == (
        RandomSearch(small_space(), seed=3).ask(9)
    )
    assert len(RandomSearch(small_space(), seed=(1 << 128) - 1).ask(9)) == 9
