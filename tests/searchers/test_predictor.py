from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Guidance, RandomSearch
from searchers.predictor import Predictor, resolve
from searchers.ranking import percentiles
from spaces import Choices, Evaluation
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    evaluate,
    guidance,
    run,
    small_space,
)

QUICK = {"trees": 10, "depth": 3, "learning_rate": 0.3}


def wide_space() -> Choices:
    """4096 architectures, of which one is best."""
    return Choices(**{f"d{i}": range(4) for i in range(6)})


def rugged(arch) -> float:
    """An objective with an interaction in it, at its best, 18, for the largest choices only."""
    return float(sum(arch) - 2 * (arch[0] != arch[1]) - 2 * (arch[2] != arch[3]))


def best(searcher, models: int) -> float:
    values = []
    for _ in range(models):
        (arch,) = searcher.ask()
        values.append(rugged(arch))
        searcher.tell([arch], [Evaluation(values[-1], values[-1], values[-1], 1.0)])
    return max(values)


class RoundsConformance(SearcherConformance):
    """What every searcher that ranks in rounds must do."""

    def test_no_architecture_comes_twice_while_others_are_left(self, make, kind):
        space = small_space()
        searcher = make(space, guidance=guidance(kind))
        asked = run(searcher, space.size)
        assert len(set(asked)) == space.size
        assert set(run(searcher, 3)) <= set(asked)

    def test_trains_a_space_smaller_than_a_round(self, make, kind):
        space = Choices(a=range(2), b=range(2))
        settings = {"move": 3} if kind == "move 3" else {}
        searcher = make(space, guidance=guidance(kind, **settings), batch=20, repeats=False)
        assert len(set(run(searcher, 4))) == 4
        with pytest.raises(UsageError, match=r"searcher\.repeats=false"):
            searcher.ask()

    def test_objectives_that_are_not_finite_do_no_harm(self, make):
        searcher = make(small_space(), batch=5)
        for bad in (float("nan"), -np.inf, np.inf, float("nan")):
            archs = searcher.ask(5)
            searcher.tell(archs, [Evaluation(bad, bad, bad, 1.0)] * 5)
        assert searcher.space.is_valid(searcher.ask()[0])

    def test_goodness_that_is_not_a_number_does_no_harm(self, make):
        class Broken(Scorer):
            def __call__(self, archs):
                goodness = super().__call__(archs)
                goodness[::2] = np.nan
                return goodness

        searcher = make(small_space(), guidance=Guidance(Broken(), warmup=30))
        assert len(set(run(searcher, 30))) == 30

    def test_telling_a_journal_asks_for_no_more_scores_than_the_pool(self, make):
        undisturbed = run(make(small_space(), guidance=guidance("warmup"), seed=1), 25)
        guided = guidance("warmup")
        resumed = make(small_space(), guidance=guided, seed=1)
        resumed.replay(undisturbed, evaluate(undisturbed))
        resumed.ask()
        assert guided.asked == 40

    def test_asking_does_not_touch_the_model(self, make):
        """Two searchers told the same agree, whatever either was asked before."""
        asked, told = make(small_space(), seed=2), make(small_space(), seed=2)
        trace = run(asked, 23)
        told.replay(trace, evaluate(trace))
        assert run(asked, 20) == run(told, 20)

    @pytest.mark.parametrize("name", ["batch", "candidates"])
    def test_empty_rounds_are_refused(self, make, name):
        with pytest.raises(UsageError, match=rf"searcher\.{name}=0 must be at least 1"):
            make(small_space(), **{name: 0})


class TestPredictor(RoundsConformance):
    @pytest.fixture
    def make(self):
        return lambda space, **settings: Predictor(space, **QUICK | settings)


def test_percentiles_share_ties():
    assert percentiles([3.0, 1.0, 3.0, 9.0]).tolist() == [0.5, 0.0, 0.5, 1.0]
    assert percentiles([-np.inf, 0.0, np.inf]).tolist() == [0.0, 0.5, 1.0]
    assert percentiles([7.0, 7.0]).tolist() == [0.0, 0.0]
    assert percentiles([]).tolist() == []


@pytest.mark.parametrize("model", ["xgboost", "sklearn"])
def test_learns(model):
    if model == "xgboost":
        pytest.importorskip("xgboost")
    seeds = range(4)
    space = wide_space()
    learned = [best(Predictor(space, seed=s, model=model), 60) for s in seeds]
    drawn = [best(RandomSearch(space, seed=s), 60) for s in seeds]
    assert np.mean(learned) > np.mean(drawn) + 2


def test_first_proposals_after_warmup_follow_the_scores():
    class Informed:
        seconds_per_score = 0.0

        def __call__(self, archs):
            return np.array([rugged(a) for a in archs])

    space, seeds = wide_space(), range(4)
    warm = [
        best(Predictor(space, seed=s, guidance=Guidance(Informed(), warmup=300)), 3) for s in seeds
    ]
    cold = [best(Predictor(space, seed=s), 3) for s in seeds]
    assert np.mean(warm) > np.mean(cold) + 4


def test_warmup_against_the_objective_is_overcome():
    """A model of accuracy that could not unlearn its prior would stay with the worst."""

    class Misled:
        seconds_per_score = 0.0

        def __call__(self, archs):
            return np.array([-rugged(a) for a in archs])

    searcher = Predictor(wide_space(), guidance=Guidance(Misled(), warmup=300))
    assert best(searcher, 80) > best(RandomSearch(wide_space()), 80)


def test_moves_train_the_best_scored_of_the_best_predicted():
    space, scorer = small_space(), Scorer()
    searcher = Predictor(space, guidance=Guidance(scorer, move=5, epsilon=0.0), **QUICK)
    for _ in range(30):
        (arch,) = searcher.ask()
        assert len(scorer.calls[-1]) == 5
        assert arch == scorer.calls[-1][int(np.argmax(scorer(scorer.calls[-1])))]
        searcher.tell([arch], evaluate([arch]))


def test_a_large_space_is_ranked_in_part():
    space = Choices(**{f"d{i}": range(5) for i in range(30)})
    searcher = Predictor(space, candidates=100, batch=6, **QUICK)
    assert len(set(run(searcher, 30))) == 30
    number, ranked = searcher._ranked
    neighbours = 10 * len(space.neighbours(ranked[0]))
    assert number == 4
    assert len(ranked) <= 100 + neighbours
    (best_trained,) = sorted(searcher.trained, key=lambda a: sum(a) + 0.1 * a[0])[-1:]
    assert set(ranked) & set(space.neighbours(best_trained))


def test_each_round_is_fitted_once_and_to_full_rounds_alone(monkeypatch):
    fitted = []

    def spy(self, archs, targets, encoded, rng):
        fitted.append(len(archs))
        return np.zeros(len(encoded))

    monkeypatch.setattr(Predictor, "_predict", spy)
    run(Predictor(small_space(), batch=10), 40)
    assert fitted == [10, 20, 30]


def test_half_of_a_round_are_the_highest_ranked(monkeypatch):
    """With a model that knows the truth, the second round starts with the best left in order."""
    truth = {arch: float(sum(arch) + 0.1 * arch[0]) for arch in small_space().enumerate()}
    monkeypatch.setattr(Predictor, "_encode", lambda self, archs: archs)
    monkeypatch.setattr(
        Predictor, "_predict", lambda self, a, t, encoded, r: np.array([truth[x] for x in encoded])
    )
    asked = run(Predictor(small_space(), batch=10), 20)
    left = sorted((truth[a] for a in truth if a not in asked[:10]), reverse=True)
    assert [truth[a] for a in asked[10:15]] == left[:5]
    upper = left[: len(left) // 2]
    explored = [truth[a] for a in asked[15:]]
    assert all(value in upper for value in explored)
    assert explored != left[5:10]


def test_without_xgboost_sklearn_stands_in(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "xgboost" else find_spec(name)
    )
    monkeypatch.setitem(sys.modules, "xgboost", None)
    searcher = Predictor(small_space(), **QUICK)
    assert searcher.model == "sklearn"
    assert len(set(run(searcher, 30))) == 30
    with pytest.raises(UsageError, match=r"assay\[xgboost-cpu\]"):
        Predictor(small_space(), model="xgboost")


def test_xgboost_comes_first():
    pytest.importorskip("xgboost")
    assert resolve("auto") == "xgboost"
    assert resolve("sklearn") == "sklearn"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "forest"}, r"searcher\.model=forest is unknown; .*auto, sklearn, xgboost"),
        ({"trees": 0}, r"searcher\.trees=0"),
        ({"depth": 0}, r"searcher\.depth=0"),
        ({"learning_rate": 0.0}, r"searcher\.learning_rate=0\.0"),
        ({"columns": 1.5}, r"searcher\.columns=1\.5"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Predictor(small_space(), **settings)
