from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers.npenas import NPENAS
from spaces import Choices
from spaces.nasbench201.space import NASBench201
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    guidance,
    run,
    value,
)
from tests.searchers.test_predictor_gcn import (
    give_graphs,
    long_chains,
    small_chains,
    some_graphs,
)

torch = pytest.importorskip("torch")
gcn = pytest.importorskip("searchers.gcn")
gin = pytest.importorskip("searchers.gin")


def npenas(space, **settings):
    return NPENAS(space, **{"epochs": 2} | settings)


class TestNPENAS(SearcherConformance):
    models = 24

    @pytest.fixture(autouse=True)
    def graphs(self, monkeypatch):
        """The conformance space, but with graphs."""
        give_graphs(monkeypatch)

    @pytest.fixture
    def make(self):
        return npenas


def fitted(graphs, targets, epochs=300):
    with gcn.reproducible(0):
        model = gin.GIN(4)
        gin.fit(
            model,
            graphs,
            targets,
            epochs=epochs,
            batch_size=16,
            learning_rate=0.005,
            weight_decay=1e-4,
        )
        return model


def test_the_network_learns_what_it_is_shown():
    many = some_graphs(40)
    targets = np.array([(g.operations == 1).sum() - g.adjacency.sum() / 4 for g in many])
    targets = (targets - targets.mean()) / targets.std()
    graphs = gcn.stack(many, 4)
    assert np.corrcoef(gin.rate(fitted(graphs, targets), graphs), targets)[0, 1] > 0.95


def test_predictions_do_not_depend_on_the_order_of_the_nodes():
    graphs = some_graphs()
    order = np.random.default_rng(1).permutation(5)
    renamed = [type(g)(g.adjacency[np.ix_(order, order)], g.operations[order]) for g in graphs]
    model = fitted(gcn.stack(graphs, 4), np.arange(len(graphs)) / 5, epochs=3)
    before = gin.rate(model, gcn.stack(graphs, 4))
    assert gin.rate(model, gcn.stack(renamed, 4)) == pytest.approx(before, rel=1e-4, abs=1e-5)


def test_a_hundred_mutations_come_from_several_parents():
    space = NASBench201()
    searcher = npenas(space)
    run(searcher, 10)
    searcher._rank(0)
    archs = searcher._archs
    targets = np.array([value(arch) for arch in archs])
    found = searcher._candidates(archs, targets, np.random.default_rng(0))
    best = [archs[i] for i in np.argsort(-targets, kind="stable")]
    assert len(set(found)) == 100
    assert set(found[:24]) <= set(space.neighbours(best[0]))
    assert not set(found) & set(archs)
    near = set().union(*(space.neighbours(arch) for arch in best[:6]))
    assert set(found) <= near


def test_rounds_train_what_is_rated_highest():
    space = long_chains()
    found = run(NPENAS(space, epochs=60, seed=0), 40)
    assert np.mean([value(a) for a in found[20:]]) > np.mean([value(a) for a in found[:10]]) + 3


def test_warmup_starts_from_the_best_of_the_pool():
    scorer = Scorer()
    asked = run(npenas(small_chains(), guidance=guidance("warmup", scorer=scorer)), 10)
    ranked = sorted(dict.fromkeys(scorer.calls[0]), key=value, reverse=True)
    assert asked == ranked[:10]


@pytest.mark.parametrize(
    "name", ["start", "batch", "candidates", "epochs", "batch_size", "learning_rate"]
)
def test_refuses_impossible_settings(name):
    with pytest.raises(UsageError, match=rf"searcher\.{name}="):
        NPENAS(small_chains(), **{name: 0})


def test_refuses_a_space_without_graphs():
    with pytest.raises(UsageError, match="no graph encoding"):
        NPENAS(Choices(a=range(3), b=range(3)))
