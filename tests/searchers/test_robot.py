from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Guidance, RoBoT
from searchers.robot import promising, scaled
from spaces import Choices, Evaluation
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    evaluate,
    guidance,
    run,
    small_space,
    value,
)

FEATURES = ("a", "b")


class Views:
    """Two scores, of which the difference is the objective."""

    def __call__(self, archs, names):
        noise = [np.random.default_rng(sum(arch)).uniform(0, 40) for arch in archs]
        rows = {"a": np.add([value(arch) for arch in archs], noise), "b": np.array(noise)}
        return np.array([rows[name] for name in names], np.float64)

    def seconds(self, names) -> float:
        return 1.0


def robot(space, *, guidance=None, **settings):
    guidance = guidance or Guidance()
    guidance.scores = Views()
    return RoBoT(space, guidance=guidance, **{"features": FEATURES, "rounds": 5} | settings)


class TestRoBoT(SearcherConformance):
    models = 24

    @pytest.fixture
    def make(self):
        return robot


def test_learns_which_weights_are_good():
    space = Choices(**{f"d{i}": range(4) for i in range(6)})
    searcher = robot(space, rounds=15, seed=0)
    asked = run(searcher, 40)
    assert max(map(value, asked)) > np.quantile([value(a) for a in space.enumerate()], 0.995)
    first, second = searcher._leading
    assert first > 0 > second


def test_weights_that_choose_what_is_trained_cost_nothing():
    searcher = robot(small_space(), rounds=12, seed=1)
    asked = run(searcher, 12)
    assert len(set(asked)) == 12
    searcher.ask()
    assert len(searcher._worth) == 12 == len(searcher._weights)


def test_after_the_rounds_the_best_weights_are_followed_down():
    searcher = robot(small_space(), rounds=3, seed=0)
    asked = run(searcher, 3)
    searcher._explore()
    order = np.argsort(-(searcher._leading @ searcher._scores), kind="stable")
    ranked = [searcher._candidates[i] for i in order]
    left = [arch for arch in ranked if arch not in asked]
    assert run(searcher, 5) == left[:5]


def test_scaling_puts_what_is_not_finite_last():
    rows = np.array([[1.0, 3.0, -np.inf, 2.0], [5.0, 5.0, 5.0, 5.0]])
    assert scaled(rows).tolist() == [[0.0, 1.0, 0.0, 0.5], [0.0] * 4]


def test_promising_weights_are_near_good_ones():
    weights = np.random.default_rng(0).uniform(-1, 1, (25, 2))
    worth = [-float(np.square(w - 0.5).sum()) for w in weights]
    found = promising(weights, worth, np.random.default_rng(1))
    assert np.abs(found - 0.5).max() < 0.3


def test_objectives_that_are_not_finite_do_no_harm():
    searcher = robot(small_space())
    for bad in (float("nan"), -np.inf, float("nan")):
        archs = searcher.ask()
        searcher.tell(archs, [Evaluation(bad, bad, bad, 1.0)])
    assert len(run(searcher, 5)) == 5


def test_warmup_starts_with_the_best_of_the_pool():
    scorer = Scorer()
    asked = run(robot(small_space(), guidance=guidance("warmup", scorer=scorer)), 1)
    assert asked == [max(scorer.calls[0], key=value)]


def test_resuming_amid_a_batch_keeps_the_weights():
    undisturbed = run(robot(small_space(), seed=3), 20, batch=4)
    resumed = robot(small_space(), seed=3)
    resumed.replay(undisturbed[:12], evaluate(undisturbed[:12]))
    assert run(resumed, 8, batch=4) == undisturbed[12:]


@pytest.mark.parametrize(("name", "wrong"), [("features", []), ("rounds", 0), ("candidates", 0)])
def test_refuses_impossible_settings(name, wrong):
    with pytest.raises(UsageError, match=rf"searcher\.{name}="):
        robot(small_space(), **{name: wrong})


def test_needs_scores():
    with pytest.raises(UsageError, match=r"Guidance\(scores"):
        RoBoT(small_space())
