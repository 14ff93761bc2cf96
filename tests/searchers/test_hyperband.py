from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from proxies import ProxyScores, ScoringService
from searchers import Guidance, Hyperband
from spaces import TableBenchmark
from spaces.nasbench201.space import NASBench201
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    evaluate,
    run,
    small_space,
    value,
)


class Cheap:
    """A cheap training that agrees with the full one; keeps what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[list] = []

    def __call__(self, archs, names):
        assert list(names) == ["early_accuracy"]
        if archs:
            self.calls.append(list(archs))
        return np.array([[value(arch) for arch in archs]])

    def seconds(self, names) -> float:
        return 12.0


def hyperband(space, *, guidance=None, scores=None, **settings):
    guidance = guidance or Guidance()
    guidance.scores = scores or Cheap()
    return Hyperband(space, guidance=guidance, **settings)


class TestHyperband(SearcherConformance):
    @pytest.fixture
    def make(self):
        return hyperband


class TestSuccessiveHalving(SearcherConformance):
    @pytest.fixture
    def make(self):
        return lambda space, **settings: hyperband(space, brackets="halving", **settings)


def test_a_bracket_trains_the_best_of_seventeen():
    cheap = Cheap()
    asked = run(hyperband(small_space(), scores=cheap, brackets="halving"), 3)
    assert [len(set(call)) for call in cheap.calls] == [17] * 3
    assert asked == [max(call, key=value) for call in cheap.calls]


def test_hyperband_takes_turns_with_full_trainings():
    cheap = Cheap()
    asked = run(hyperband(small_space(), scores=cheap), 7)
    assert [asked[0], asked[3], asked[6]] == [max(call, key=value) for call in cheap.calls]
    assert len(cheap.calls) == 3


def test_cheap_trainings_are_paid_for():
    guided = Guidance()
    searcher = hyperband(small_space(), guidance=guided, brackets="halving")
    run(searcher, 2)
    assert (guided.asked, guided.seconds) == (34, 34 * 12.0)


def test_a_resumed_search_has_paid_as_much():
    undisturbed = Guidance()
    asked = run(hyperband(small_space(), guidance=undisturbed, seed=1), 9)
    for cut in range(9):
        guided = Guidance()
        resumed = hyperband(small_space(), guidance=guided, seed=1)
        resumed.replay(asked[:cut], evaluate(asked[:cut]))
        run(resumed, 9 - cut)
        assert (guided.asked, guided.seconds) == (undisturbed.asked, undisturbed.seconds)


def test_warmup_fills_brackets_from_the_pool_best_first():
    scorer, cheap = Scorer(), Cheap()
    guided = Guidance(scorer, warmup=60)
    run(hyperband(small_space(), guidance=guided, scores=cheap, brackets="halving"), 1)
    ranked = sorted(dict.fromkeys(scorer.calls[0]), key=value, reverse=True)
    assert cheap.calls[0] == ranked[:17]


def test_twelve_epochs_of_the_table_cost_twelve_two_hundredths():
    space = NASBench201("cifar100")
    service = ScoringService(space, store="memory")
    guided = Guidance(scores=ProxyScores(service))
    searcher = Hyperband(space, guidance=guided, brackets="halving", seed=0)
    searcher.ask()
    seen = list(service._columns["early_accuracy"].values)
    benchmark, rng = TableBenchmark(space), np.random.default_rng(0)
    full = sum(benchmark.evaluate(arch, rng).train_seconds for arch in seen)
    assert len(seen) == guided.asked == 17
    assert guided.seconds == pytest.approx(full * 12 / 200, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"ratio": 1.5}, r"searcher\.ratio=1\.5"), ({"brackets": "asha"}, r"searcher\.brackets=asha")],
)
def test_refuses_impossible_settings(settings, words):
    with pytest.raises(UsageError, match=words):
        hyperband(small_space(), **settings)


def test_needs_scores():
    with pytest.raises(UsageError, match=r"Guidance\(scores"):
        Hyperband(small_space())
