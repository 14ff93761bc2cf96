from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Guidance, Touchstone
from spaces import Choices, Evaluation
from spaces.nasbench201 import NASBench201
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    evaluate,
    run,
    small_space,
    value,
)


class Scores:
    """Three proxies: one that agrees with the objective, its opposite, and one of no meaning."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, archs, names) -> np.ndarray:
        self.calls.append(len(archs))
        good = np.array([value(a) for a in archs])
        noise = [np.random.default_rng(list(a)).normal() for a in archs]
        known = {"good": good, "bad": -good, "noise": noise}
        return np.array([known[name] for name in names])

    def seconds(self, names) -> float:
        return 0.25 * len(names)


def scored(space, *, features=("good", "noise"), guidance=None, **settings):
    guidance = guidance or Guidance()
    guidance.scores = Scores()
    return Touchstone(space, guidance=guidance, features=features, **settings)


def wide_space() -> Choices:
    """4096 architectures, of which one is best."""
    return Choices(**{f"d{i}": "abcd" for i in range(6)})


def models_to_best(searcher, limit: int = 60) -> int:
    best = sum(len(d.choices) - 1 for d in searcher.space.decisions)
    for model in range(1, limit + 1):
        (arch,) = searcher.ask()
        if sum(arch) == best:
            return model
        searcher.tell([arch], [Evaluation(float(sum(arch)), *3 * (float("nan"),))])
    return limit + 1


class QuickConformance(SearcherConformance):
    models = 24


class TestWithoutFeatures(QuickConformance):
    @pytest.fixture
    def make(self):
        return Touchstone


class TestWithFeatures(QuickConformance):
    @pytest.fixture
    def make(self):
        return scored


class TestPool(QuickConformance):
    """A space larger than ``candidates``: a pool that grows."""

    @pytest.fixture
    def make(self):
        return lambda space, **settings: scored(space, candidates=30, **settings)


@pytest.fixture
def short_lists(monkeypatch):
    monkeypatch.setattr("searchers.touchstone._SHORTLIST", 20)
    monkeypatch.setattr("searchers.touchstone._REVIEW", 4)


@pytest.mark.usefixtures("short_lists")
class TestShortlist(QuickConformance):
    """More candidates than are compared at every step."""

    @pytest.fixture
    def make(self):
        return scored


@pytest.mark.usefixtures("short_lists")
class TestShortlistOfPool(QuickConformance):
    """And a pool that grows beside."""

    @pytest.fixture
    def make(self):
        return lambda space, **settings: scored(space, candidates=30, **settings)


@pytest.mark.usefixtures("short_lists")
def test_a_shortlist_is_made_anew_every_few_models():
    searcher = Touchstone(wide_space(), seed=0)
    shortlists = []
    for _ in range(14):
        archs = searcher.ask()
        shortlists.append(searcher._review[1].tolist())
        searcher.tell(archs, evaluate(archs))
    assert [len(s) for s in shortlists] == [0] * 5 + [20] * 9
    assert shortlists[5] == shortlists[7] != shortlists[8] == shortlists[11] != shortlists[12]


@pytest.mark.usefixtures("short_lists")
def test_a_shortlist_reaches_the_best():
    found = [models_to_best(scored(wide_space(), seed=s)) for s in range(5)]
    assert max(found) < 30


def test_trains_no_architecture_twice_while_others_are_left():
    space = small_space()
    assert len(set(run(scored(space), space.size))) == space.size


def test_begins_with_the_best_scored():
    space = small_space()
    ranked = sorted(space.enumerate(), key=value, reverse=True)
    assert set(run(scored(space, features=["good"], share=0.1), 5)) <= set(ranked[:10])


def test_good_scores_find_the_best_sooner():
    blind = np.mean([models_to_best(Touchstone(wide_space(), seed=s)) for s in range(5)])
    helped = np.mean([models_to_best(scored(wide_space(), seed=s)) for s in range(5)])
    assert helped < 15
    assert helped < 0.8 * blind < 60


def test_numbers_are_known_to_be_ordered():
    numbers = Choices(**{f"d{i}": range(4) for i in range(6)})
    ordered = np.mean([models_to_best(Touchstone(numbers, seed=s)) for s in range(5)])
    words = np.mean([models_to_best(Touchstone(wide_space(), seed=s)) for s in range(5)])
    assert ordered < words


def test_learns_that_a_proxy_points_the_wrong_way():
    found = [models_to_best(scored(wide_space(), features=["bad"], seed=s)) for s in range(3)]
    assert max(found) < 30


def test_a_pool_reaches_what_was_not_drawn():
    found = [models_to_best(scored(wide_space(), candidates=200, seed=s)) for s in range(5)]
    assert max(found) < 60


def test_a_batch_is_spread():
    searcher = Touchstone(wide_space(), seed=1)
    run(searcher, 10)
    archs = searcher.ask(8)
    assert len(set(archs)) == 8
    searcher.tell(archs, evaluate(archs))


def test_counts_and_charges_the_scores_that_it_reads():
    searcher = scored(small_space())
    assert searcher.guidance.asked == 2 * small_space().size
    assert searcher.guidance.seconds == pytest.approx(0.5 * small_space().size)


def test_charges_scores_that_guide_at_their_own_rate():
    guidance = Guidance(Scorer(), warmup=40)
    searcher = scored(small_space(), guidance=guidance)
    expected = 0.5 * small_space().size + 40 * Scorer.seconds_per_score
    assert searcher.guidance.seconds == pytest.approx(expected)


def test_objectives_that_are_missing_do_no_harm():
    searcher = Touchstone(small_space(), seed=0)
    for model in range(20):
        (arch,) = searcher.ask()
        objective = float("nan") if model % 2 else value(arch)
        searcher.tell([arch], [Evaluation(objective, objective, objective, 1.0)])
    assert searcher.told == 20


def test_features_need_scores():
    with pytest.raises(UsageError, match=r"searcher\.features=\[synflow\]"):
        Touchstone(small_space(), features=["synflow"])


@pytest.mark.parametrize(
    ("setting", "wrong"), [("start", 0), ("candidates", 0), ("share", 0.0), ("share", 1.5)]
)
def test_refuses_impossible_settings(setting, wrong):
    with pytest.raises(UsageError, match=rf"searcher\.{setting}="):
        Touchstone(small_space(), **{setting: wrong})


@pytest.mark.parametrize("candidates", [20000, 50])
def test_nothing_is_trained_that_computes_the_same(candidates):
    space = NASBench201("cifar10")
    searcher = Touchstone(space, candidates=candidates, seed=1)
    forms = []
    for model in range(25):
        (arch,) = searcher.ask()
        forms.append(space.canonical(arch))
        searcher.tell([arch], [Evaluation(float(arch[0] + model % 3), *3 * (float("nan"),))])
    assert len(set(forms)) == 25
