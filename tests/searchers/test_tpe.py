from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import RandomSearch
from searchers.tpe import TPE
from spaces.nasbench101.space import NASBench101
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    evaluate,
    guidance,
    run,
    small_space,
    value,
)
from tests.searchers.test_predictor import best, wide_space

MISSING = importlib.util.find_spec("optuna") is None
needs_optuna = pytest.mark.skipif(MISSING, reason="needs the extra optuna")


@needs_optuna
class TestTPE(SearcherConformance):
    models = 24

    @pytest.fixture
    def make(self):
        return TPE

    @pytest.fixture(params=["none", "warmup_move"])
    def kind(self, request) -> str:
        """Fewer than all, for estimates take milliseconds."""
        return request.param


@needs_optuna
def test_finds_better_than_chance():
    found = [best(TPE(wide_space(), seed=s), 80) for s in range(4)]
    drawn = [best(RandomSearch(wide_space(), seed=s), 80) for s in range(4)]
    assert np.mean(found) > np.mean(drawn)


@needs_optuna
def test_objectives_that_are_not_finite_do_no_harm():
    searcher = TPE(small_space(), start=2)
    for bad in (float("nan"), -np.inf, np.inf, float("nan")):
        archs = searcher.ask()
        searcher.tell(archs, [type(evaluate(archs)[0])(bad, bad, bad, 1.0)])
    assert searcher.space.is_valid(searcher.ask()[0])


@needs_optuna
def test_what_was_asked_before_leaves_no_trace():
    asked, told = TPE(small_space(), seed=2), TPE(small_space(), seed=2)
    trace = run(asked, 20)
    told.replay(trace, evaluate(trace))
    assert run(asked, 20) == run(told, 20)


@needs_optuna
def test_what_was_asked_before_does_not_pile_up():
    searcher = TPE(small_space(), guidance=guidance("move 3"), start=2)
    run(searcher, 40)
    assert len(searcher._study.trials) <= 2 * 40 + 3 + 10


@needs_optuna
def test_proposes_cells_of_a_space_in_which_most_products_are_none():
    space = NASBench101()
    searcher = TPE(space, start=5)
    for _ in range(8):
        (arch,) = searcher.ask()
        assert space.is_valid(arch)
        searcher.tell([arch], evaluate([arch]))


@needs_optuna
def test_warmup_starts_from_the_best_of_the_pool():
    scorer = Scorer()
    asked = run(TPE(small_space(), guidance=guidance("warmup", scorer=scorer)), 10)
    ranked = sorted(dict.fromkeys(scorer.calls[0]), key=value, reverse=True)
    assert asked == ranked[:10]


@needs_optuna
@pytest.mark.parametrize("name", ["start", "draws"])
def test_refuses_impossible_settings(name):
    with pytest.raises(UsageError, match=rf"searcher\.{name}=0 must be at least 1"):
        TPE(small_space(), **{name: 0})


def test_says_which_extra_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"install assay\[optuna\]"):
        TPE(small_space())
