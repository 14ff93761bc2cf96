from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import WeakNAS
from tests.searchers.conformance import guidance, run, small_space, value
from tests.searchers.test_predictor import RoundsConformance, best, wide_space


def weaknas(space, **settings):
    return WeakNAS(space, **{"layers": [8], "epochs": 5, "batch": 10, "top": 20} | settings)


class TestWeakNAS(RoundsConformance):
    models = 24

    @pytest.fixture
    def make(self):
        return weaknas


def test_draws_from_the_top_of_the_ranking():
    searcher = weaknas(small_space(), layers=[50], epochs=300, seed=0)
    run(searcher, 30)
    ranked = searcher._round()[1]
    assert set(searcher.ask(10)) <= set(ranked[:29])
    assert np.mean([value(a) for a in ranked[:10]]) > np.mean([value(a) for a in ranked[-10:]])


def test_finds_better_than_chance():
    found = [best(WeakNAS(wide_space(), layers=[100], seed=s), 50) for s in range(2)]
    assert min(found) >= 16


def test_warmup_begins_where_the_pool_is_good():
    searcher = weaknas(small_space(), guidance=guidance("warmup all"), layers=[50], epochs=300)
    first = [value(arch) for arch in run(searcher, 10)]
    assert np.mean(first) > np.mean([value(arch) for arch in small_space().enumerate()])


@pytest.mark.parametrize(
    ("name", "wrong"), [("top", 0), ("epochs", 0), ("batch", 0), ("layers", []), ("layers", [0])]
)
def test_refuses_impossible_settings(name, wrong):
    with pytest.raises(UsageError, match=rf"searcher\.{name}="):
        WeakNAS(small_space(), **{name: wrong})
