from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Guidance, RandomSearch
from searchers.predictor_gcn import PredictorGCN
from spaces import Choices, Graph
from tests.searchers import conformance
from tests.searchers.conformance import evaluate, run, value
from tests.searchers.test_predictor import RoundsConformance

torch = pytest.importorskip("torch")
gcn = pytest.importorskip("searchers.gcn")

QUICK = {"hidden": 8, "epochs": 3, "warmup_epochs": 3}
LEARNING = {"hidden": 32, "epochs": 60, "warmup_epochs": 30, "batch": 20}


class Chains(Choices):
    """A choice of operations along a chain from input to output."""

    graph_operations = ("input", *(f"op{i}" for i in range(4)), "output")

    def graph(self, arch):
        nodes = len(arch) + 2
        labels = np.array([0, *(1 + a for a in arch), 5], np.int64)
        return Graph(np.eye(nodes, k=1, dtype=bool), labels)


def small_chains() -> Chains:
    return Chains(a=range(4), b=range(4), c=range(3), d=range(2))


def long_chains() -> Chains:
    return Chains(**{f"d{i}": range(4) for i in range(6)})


def give_graphs(monkeypatch):
    """Let every space of choices be a chain of operations."""
    monkeypatch.setattr(Choices, "graph", Chains.graph)
    monkeypatch.setattr(Choices, "graph_operations", Chains.graph_operations)


class TestPredictorGCN(RoundsConformance):
    models = 48

    @pytest.fixture(autouse=True)
    def graphs(self, monkeypatch):
        """The conformance space and its like, but with graphs."""
        give_graphs(monkeypatch)

    @pytest.fixture
    def make(self):
        return lambda space, **settings: PredictorGCN(space, **{"batch": 20} | QUICK | settings)


def some_graphs(n: int = 12, nodes: int = 5, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [
        Graph(np.triu(rng.random((nodes, nodes)) < 0.5, 1), rng.integers(0, 4, nodes))
        for _ in range(n)
    ]


def model(seed: int = 0, vocabulary: int = 4, hidden: int = 16):
    with gcn.reproducible(seed):
        return gcn.Ranker(vocabulary, hidden)


def test_stacking_adds_loops_and_a_global_node():
    edges = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
    graphs = gcn.stack([Graph(edges, np.array([0, 2, 1]))], vocabulary=3)
    assert graphs.operations.tolist() == [[0, 2, 1, 3]]
    assert graphs.adjacency.tolist() == [[[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]]]


def test_rating_does_not_depend_on_the_order_of_the_nodes():
    graphs = some_graphs()
    order = np.random.default_rng(1).permutation(5)
    renamed = [Graph(g.adjacency[np.ix_(order, order)], g.operations[order]) for g in graphs]
    network = model()
    rated = gcn.rate(network, gcn.stack(graphs, 4))
    assert np.allclose(rated, gcn.rate(network, gcn.stack(renamed, 4)), atol=1e-5)
    assert len(np.unique(rated.round(6))) > 6


def test_rating_sees_the_direction_of_edges():
    graphs = some_graphs()
    turned = [Graph(g.adjacency.T, g.operations) for g in graphs]
    network = model()
    rated = gcn.rate(network, gcn.stack(graphs, 4))
    assert not np.allclose(rated, gcn.rate(network, gcn.stack(turned, 4)), atol=1e-3)


def test_rating_does_not_depend_on_the_company():
    graphs, network = some_graphs(), model()
    together = gcn.rate(network, gcn.stack(graphs, 4))
    alone = [gcn.rate(network, gcn.stack([g], 4))[0] for g in graphs]
    assert np.allclose(together, alone, atol=1e-5)


def test_pair_loss_is_the_divergence_of_the_published_pairs():
    """KL(softmax of targets || softmax of ratings) summed over the pairs, up to a constant."""
    rng = np.random.default_rng(0)
    targets = torch.tensor(rng.random(6))
    first, second = (torch.tensor(rng.normal(size=6)) for _ in range(2))

    def published(ratings):
        pairs = torch.stack(torch.broadcast_tensors(ratings[:, None], ratings), 2)
        wanted = torch.stack(torch.broadcast_tensors(targets[:, None], targets), 2)
        wanted = torch.softmax(gcn.SHARPNESS * wanted, 2)
        log_p = torch.log_softmax(pairs, 2)
        return torch.nn.functional.kl_div(log_p, wanted, reduction="sum") / 36

    ours = gcn.pair_loss(first, targets) - gcn.pair_loss(second, targets)
    assert torch.allclose(ours, published(first) - published(second))
    assert gcn.pair_loss(50 * targets, targets) < gcn.pair_loss(-50 * targets, targets)


def test_pair_loss_is_least_where_ratings_are_the_targets():
    targets = torch.tensor([0.0, 0.3, 0.9])
    ratings = (gcn.SHARPNESS * targets + 5.0).requires_grad_()
    gcn.pair_loss(ratings, targets).backward()
    assert torch.allclose(ratings.grad, torch.zeros(3), atol=1e-6)


def test_training_orders_what_it_was_shown():
    space = long_chains()
    archs = space.sample(np.random.default_rng(0), 40)
    targets = np.array([value(a) for a in archs]) / 20
    graphs = gcn.stack([space.graph(a) for a in archs], len(space.graph_operations))
    network = model(vocabulary=6, hidden=32)
    settings = {"batch_size": 64, "learning_rate": 1e-3, "weight_decay": 5e-4, "patience": 35}
    with gcn.reproducible(0):
        gcn.fit(network, graphs, targets, epochs=100, **settings)
    rated = gcn.rate(network, graphs)
    assert np.corrcoef(rated.argsort().argsort(), targets.argsort().argsort())[0, 1] > 0.9


def test_patience_ends_training(monkeypatch):
    epochs = []
    monkeypatch.setattr(gcn, "pair_loss", lambda r, t: epochs.append(1) or 0 * r.sum() + 1)
    settings = {"batch_size": 64, "learning_rate": 1e-3, "weight_decay": 0.0, "patience": 4}
    gcn.fit(model(), gcn.stack(some_graphs(), 4), np.arange(12.0), epochs=100, **settings)
    assert len(epochs) == 5


def test_global_state_of_torch_is_left_alone():
    before = torch.get_rng_state(), torch.get_num_threads()
    run(PredictorGCN(small_chains(), batch=5, **QUICK), 12)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == torch.get_num_threads()


def test_search_does_not_depend_on_the_global_state_of_torch():
    traces = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        traces.append(run(PredictorGCN(small_chains(), batch=5, **QUICK), 25))
    assert traces[0] == traces[1]


def test_learns():
    space = long_chains()
    learned = [max(map(value, run(PredictorGCN(space, seed=s, **LEARNING), 60))) for s in (0, 1)]
    drawn = [max(map(value, run(RandomSearch(space, seed=s), 60))) for s in (0, 1)]
    assert np.mean(learned) > np.mean(drawn) + 1


def test_first_proposals_after_warmup_follow_the_scores():
    guided = Guidance(conformance.Scorer(), warmup=200)
    warm = run(PredictorGCN(long_chains(), guidance=guided, **LEARNING), 5)
    cold = run(PredictorGCN(long_chains(), **LEARNING), 5)
    assert np.mean([value(a) for a in warm]) > np.mean([value(a) for a in cold]) + 4


def test_accuracies_fine_tune_the_warmed_up_model():
    guided = Guidance(conformance.Scorer(), warmup=50)
    searcher = PredictorGCN(small_chains(), guidance=guided, **QUICK)
    trace = run(searcher, 5)
    kept = {k: v.clone() for k, v in searcher._warm.state_dict().items()}
    searcher.replay(trace, evaluate(trace))
    searcher.ask()
    assert all(torch.equal(v, kept[k]) for k, v in searcher._warm.state_dict().items())


def test_space_without_graphs_is_refused():
    with pytest.raises(UsageError, match="no graph encoding"):
        PredictorGCN(Choices(a=range(3)))


def test_naming_the_searcher_loads_no_torch():
    code = "import sys, searchers.predictor_gcn, searchers.predictor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": 0},
        {"epochs": 0},
        {"warmup_epochs": 0},
        {"patience": 0},
        {"batch_size": 1},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
    ],
)
def test_impossible_settings_are_refused(settings):
    (name,) = settings
    with pytest.raises(UsageError, match=rf"searcher\.{name}="):
        PredictorGCN(small_chains(), **settings)
