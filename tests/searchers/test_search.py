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


def test_needs_a_budget():
    with pytest.raises(ValueError, match="at least 1"):
        search(RandomSearch(small_space()), value, models=0)
