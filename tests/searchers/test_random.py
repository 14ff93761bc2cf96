from __future__ import annotations

import pytest

from searchers import RandomSearch
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    guidance,
    run,
    small_space,
    value,
)


class TestRandomSearch(SearcherConformance):
    @pytest.fixture
    def make(self):
        return RandomSearch


def test_warmup_trains_the_pool_in_order_of_score_then_goes_on_unguided():
    searcher = RandomSearch(small_space(), guidance=guidance("warmup"), seed=1)
    asked = run(searcher, 60)
    values = [value(a) for a in asked]
    assert values[:40] == sorted(values[:40], reverse=True)
    assert values[40:] != sorted(values[40:], reverse=True)
    assert searcher.guidance.asked == 40


def test_move_trains_the_best_scored_of_several():
    scorer = Scorer()
    searcher = RandomSearch(small_space(), guidance=guidance("move 3", scorer=scorer, epsilon=0))
    asked = run(searcher, 20)
    assert [max(call, key=value) for call in scorer.calls] == asked
    assert {len(call) for call in scorer.calls} == {3}


def test_sampling_is_uniform():
    counts: dict = {}
    for arch in run(RandomSearch(small_space(), seed=0), 9600):
        counts[arch] = counts.get(arch, 0) + 1
    expected = 9600 / 96
    chi_square = sum((n - expected) ** 2 / expected for n in counts.values())
    assert len(counts) == 96
    assert chi_square < 95 + 4 * (2 * 95) ** 0.5
