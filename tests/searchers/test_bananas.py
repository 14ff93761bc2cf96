from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Bananas
from searchers.bananas import predictions
from spaces import Choices, Evaluation
from spaces.nasbench201.space import NASBench201
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    guidance,
    run,
    small_space,
    value,
)

QUICK = {"networks": 2, "epochs": 2}


def bananas(space, **settings):
    return Bananas(space, **QUICK | settings)


class TestBananas(SearcherConformance):
    models = 24

    @pytest.fixture
    def make(self):
        return bananas


def fit(targets, features, **changes):
    settings = {"networks": 5, "epochs": 150, "batch_size": 32, "learning_rate": 0.01, "seed": 0}
    return predictions(features, targets, features, **settings | changes)


def test_the_ensemble_learns_what_it_is_shown_and_disagrees():
    rng = np.random.default_rng(0)
    features = rng.integers(0, 2, (40, 12)).astype(np.float32)
    targets = features @ rng.normal(size=12)
    targets = (targets - targets.mean()) / targets.std()
    predicted = fit(targets, features)
    assert predicted.shape == (5, 40)
    assert np.corrcoef(predicted.mean(0), targets)[0, 1] > 0.95
    assert predicted.std(0).mean() > 0.01
    assert (fit(targets, features) == predicted).all()


def test_rounds_train_neighbours_of_the_best():
    space = small_space()
    asked = run(bananas(space, start=10, batch=5), 15)
    best = max(asked[:10], key=value)
    fresh = set(space.neighbours(best)) - set(asked[:10])
    assert len(fresh) >= 5
    assert set(asked[10:15]) <= fresh


def test_beats_chance_on_a_cell_space():
    space = NASBench201()
    weights = np.array([0.0, 2.0, 3.0, 4.0, 1.0])

    def best(searcher) -> float:
        for _ in range(40):
            (arch,) = searcher.ask()
            score = float(weights[list(arch)].sum())
            searcher.tell([arch], [Evaluation(score, score, score, 1.0)])
        return max(float(weights[list(a)].sum()) for a in searcher.trained)

    drawn = space.sample(np.random.default_rng(0), 40)
    chance = max(float(weights[list(a)].sum()) for a in drawn)
    assert best(Bananas(space, networks=3, epochs=50, seed=0)) > chance


def test_warmup_starts_from_the_best_of_the_pool():
    scorer = Scorer()
    asked = run(bananas(small_space(), guidance=guidance("warmup", scorer=scorer)), 10)
    ranked = sorted(dict.fromkeys(scorer.calls[0]), key=value, reverse=True)
    assert asked == ranked[:10]


def test_trains_every_architecture_once_while_others_are_left():
    space = Choices(a=range(4), b=range(5))
    asked = run(bananas(space, start=4, batch=3, repeats=False), space.size)
    assert len(set(asked)) == space.size


@pytest.mark.parametrize(
    "name", ["start", "batch", "candidates", "networks", "epochs", "batch_size", "learning_rate"]
)
def test_refuses_impossible_settings(name):
    with pytest.raises(UsageError, match=rf"searcher\.{name}="):
        Bananas(small_space(), **{name: 0})
