from __future__ import annotations

import builtins

import numpy as np
import pytest

from analysis.pareto import front
from conf.errors import UsageError
from searchers import NSGA2, RandomSearch
from searchers import nsga2 as module
from spaces import Evaluation
from tests.searchers.conformance import (
    GUIDANCE,
    Scorer,
    SearcherConformance,
    evaluate,
    guidance,
    run,
    small_space,
    value,
)


def price(archs):
    """Runs against the objective, but for the last decision, which is free."""
    return np.array([sum(arch[:3]) for arch in archs], np.float64)


def nsga2(space, **settings):
    return NSGA2(space, **{"population": 10, "cost": price} | settings)


class TestNSGA2(SearcherConformance):
    @pytest.fixture
    def make(self):
        return nsga2


def compromises(archs):
    """The front of ``archs``, as pairs of value and cost."""
    values, costs = np.array([value(a) for a in archs]), price(archs)
    return {(values[i], costs[i]) for i in front(values, costs)}


def test_it_finds_more_of_the_front_than_random_search():
    space = small_space()
    best = compromises(list(space.enumerate()))
    assert len(best) == 9
    found = [compromises(run(nsga2(space, seed=s), 60)) & best for s in range(20)]
    chance = [compromises(run(RandomSearch(space, seed=s), 60)) & best for s in range(20)]
    assert np.mean([len(f) for f in found]) > 1 + np.mean([len(f) for f in chance])


def test_a_generation_is_selected_as_deap_does():
    from deap import tools

    searcher = nsga2(small_space(), seed=1)
    asked = run(searcher, 10)
    assert sorted(m.arch for m in searcher._alive) == sorted(asked)
    children = searcher.ask(10)
    searcher.tell(children, evaluate(children))
    members = module._select([module._Member(a, value(a), float(price([a])[0])) for a in asked], 10)
    members += [module._Member(a, value(a), float(price([a])[0])) for a in children]
    for member in members:
        member.fitness = module._deap()[0]((member.objective, member.cost))
    expected = tools.selNSGA2(members, 10)
    assert sorted(m.arch for m in searcher._alive) == sorted(m.arch for m in expected)


def test_warmup_starts_from_good_and_cheap_ones():
    scorer = Scorer()
    searcher = nsga2(small_space(), guidance=guidance("warmup", scorer=scorer), seed=0)
    asked = run(searcher, 10)
    pool = scorer.calls[0]
    assert set(asked) <= set(pool)
    best = front(np.array([value(a) for a in pool]), price(pool))
    values = {(value(pool[i]), price([pool[i]])[0]) for i in best}
    assert values <= {(value(a), price([a])[0]) for a in asked}


def test_move_trains_the_best_scored_child():
    scorer = Scorer()
    searcher = nsga2(small_space(), guidance=guidance("move 3", scorer=scorer, epsilon=0))
    asked = run(searcher, 30)
    assert [max(call, key=value) for call in scorer.calls] == asked[10:]
    assert {len(call) for call in scorer.calls} == {3}


@pytest.mark.parametrize("kind", GUIDANCE)
def test_unknown_values_do_no_harm(kind):
    searcher = nsga2(
        small_space(),
        guidance=guidance(kind),
        cost=lambda archs: np.array([np.nan if a[0] == 1 else sum(a) for a in archs], float),
    )
    for _ in range(40):
        (arch,) = searcher.ask()
        objective = float("nan") if arch[1] == 0 else value(arch)
        searcher.tell([arch], [Evaluation(objective, objective, objective, 1.0)])
    assert searcher.told == 40


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cost": None}, "searcher=nsga2 needs a second objective; give cost=params"),
        ({"population": 1}, "searcher.population=1 must be at least 2"),
        ({"crossover": 1.5}, r"searcher.crossover=1.5 must lie in \[0, 1\]"),
        ({"population": 41, "guidance": guidance("warmup")}, "guidance.warmup.pool=40 is smaller"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        nsga2(small_space(), **settings)


def test_without_deap_it_says_what_to_install(monkeypatch):
    whole = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("deap"):
            raise ModuleNotFoundError(name)
        return whole(name, *arguments, **options)

    module._deap.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"run pip install 'assay\[gp\]'"):
        nsga2(small_space())
