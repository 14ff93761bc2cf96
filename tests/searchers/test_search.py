from __future__ import annotations

import pytest

from searchers import Evolution, RandomSearch, search
from tests.searchers.conformance import small_space, value


def test_finds_the_best_of_what_it_tried():
    found = search(RandomSearch(small_space(), seed=0), value, models=40)
    assert len(found.tried) == 40
    assert found.value == value(found.architecture) == max(v for _, v in found.tried)


def test_minimises_on_request():
    found = search(Evolution(small_space(), population=10, tournament=5), value, 80, maximise=False)
    assert found.value == min(v for _, v in found.tried) == 0


@pytest.mark.parametrize("maximise", [True, False])
def test_what_is_unknown_is_not_the_best(maximise):
    values = iter([float("nan"), 1.0, float("nan"), 3.0, 2.0])
    found = search(RandomSearch(small_space()), lambda arch: next(values), 5, maximise=maximise)
    assert found.value == (3.0 if maximise else 1.0)


def test_needs_a_budget():
    with pytest.raises(ValueError, match="at least 1"):
        search(RandomSearch(small_space()), value, models=0)


@pytest.mark.parametrize("given", [None, "good", [1, 2]])
def test_an_objective_that_gives_no_number_is_named(given):
    searcher = RandomSearch(small_space(), seed=0)
    with pytest.raises(TypeError, match="the objective must return a number, not"):
        search(searcher, lambda _: given, models=2)
