from __future__ import annotations

import pytest

from conf.errors import UsageError
from searchers import LocalSearch
from spaces import Evaluation
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    guidance,
    run,
    small_space,
    value,
)


def climb(space, *, step="best", start=1, **settings):
    return LocalSearch(space, step=step, start=start, **settings)


class TestFirst(SearcherConformance):
    @pytest.fixture
    def make(self):
        return LocalSearch


class TestBest(SearcherConformance):
    @pytest.fixture
    def make(self):
        return climb


def test_climbs_from_the_best_of_the_first():
    asked = run(LocalSearch(small_space(), seed=4), 11)
    assert asked[10] in small_space().neighbours(max(asked[:10], key=value))


def test_trains_the_whole_neighbourhood_then_moves_to_the_best():
    space = small_space()
    asked = run(climb(space, seed=1), 40)
    around = space.neighbours(asked[0])
    assert set(asked[1 : 1 + len(around)]) == set(around)
    best = max(around, key=value)
    assert value(best) > value(asked[0])
    left = set(space.neighbours(best)) - set(asked[: 1 + len(around)])
    assert set(asked[1 + len(around) :][: len(left)]) == left


def test_moves_on_to_the_first_better_neighbour():
    space = small_space()
    asked = run(climb(space, step="first", seed=1), 20)
    here = asked[0]
    for arch in asked[1:12]:
        assert arch in space.neighbours(here)
        if value(arch) > value(here):
            here = arch


@pytest.mark.parametrize("step", ["best", "first"])
def test_reaches_the_optimum_and_starts_anew(step):
    space = small_space()
    asked = run(climb(space, step=step, seed=2), 60)
    top = asked.index((3, 3, 2, 1))
    later = asked[top + 1 :]
    around = set(space.neighbours((3, 3, 2, 1)))
    assert any(arch not in around for arch in later)


def test_warmup_starts_from_the_best_of_the_pool():
    scorer = Scorer()
    (first,) = LocalSearch(small_space(), guidance=guidance("warmup", scorer=scorer)).ask()
    assert value(first) == max(map(value, scorer.calls[0]))


def test_failed_trainings_are_climbed_out_of():
    nan = float("nan")
    searcher = LocalSearch(small_space(), seed=3)
    for _ in range(40):
        (arch,) = searcher.ask()
        objective = nan if arch[0] == 0 else value(arch)
        searcher.tell([arch], [Evaluation(objective, nan, nan, nan)])
    assert max(searcher.trained, key=value)[0] == 3


@pytest.mark.parametrize("setting", [{"step": "second"}, {"start": 0}])
def test_refuses_impossible_settings(setting):
    with pytest.raises(UsageError, match=rf"searcher\.{next(iter(setting))}"):
        LocalSearch(small_space(), **setting)
