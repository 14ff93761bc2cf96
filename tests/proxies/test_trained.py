from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from conf.errors import UsageError
from conf.schema import build
from proxies import ScoringService, registry, score_model
from proxies.batch import Minibatch, gaussian
from proxies.engine import ProxyEngine
from proxies.passes import Run
from proxies.passes import training as training_pass
from proxies.ranking import ProxyScorer
from proxies.stack import Single
from spaces.nasbench101 import NASBench101
from spaces.nasbench201 import NASBench201
from tests.proxies.conformance import Conformance
from tests.proxies.tiny_space import TinySpace


@pytest.fixture
def space():
    return NASBench201("cifar100")


def test_early_accuracy_is_that_of_the_table(space, tmp_path):
    service = ScoringService(space, store=tmp_path / "scores.sqlite")
    archs = space.sample(np.random.default_rng(0), 50)
    table = service.score(archs, ["early_accuracy"])
    early = space.table(epochs=12)
    assert table.values[:, 0].tolist() == early.val[early.rows(archs)].tolist()
    assert table.seconds[:, 0].tolist() == early.train_seconds[early.rows(archs)].tolist()
    assert service.values(archs, "early_accuracy").tolist() == table.values[:, 0].tolist()
    assert (service.table_hits, service.hits, service.computed) == (2 * len(archs), 0, 0)
    assert "100 from the table of nasbench201" in service.account()


def test_it_stands_beside_proxies_of_networks(space):
    service = ScoringService(space, store="memory")
    archs = [(3, 0, 0, 0, 0, 0), (0, 0, 0, 3, 0, 0)]
    table = service.score(archs, ["params", "early_accuracy"])
    assert table.column("params").tolist() == [322196, 322196]
    assert table.column("early_accuracy")[0] != table.column("early_accuracy")[1]


def test_a_search_is_charged_the_training(space):
    service = ScoringService(space, store="memory")
    scorer = ProxyScorer(service, "early_accuracy")
    archs = space.sample(np.random.default_rng(0), 50)
    scorer(archs)
    early = space.table(epochs=12)
    distinct = list(dict.fromkeys(archs))
    expected = early.train_seconds[early.rows(distinct)].mean()
    assert scorer.seconds_per_score == pytest.approx(float(expected), rel=1e-6)


def test_a_network_of_ones_own_has_no_table():
    with pytest.raises(UsageError, match="reads the benchmark table of a space"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=["early_accuracy"])


def test_a_space_without_a_table_is_refused():
    service = ScoringService(TinySpace(), store="memory")
    arch = next(iter(service.space.enumerate()))
    with pytest.raises(UsageError, match="has no benchmark table"):
        service.score([arch], ["early_accuracy"])


# -- training ---------------------------------------------------------------------------------


class TrainedConformance(Conformance):
    def test_does_not_depend_on_the_order_of_the_batch(self, golden):
        """The order decides what is held out, within each class, and nothing else."""
        model, inputs, targets = golden
        targets = targets % 2
        order = torch.arange(len(targets))
        for label in (0, 1):
            mine = order[targets == label]
            held_out = set(training_pass._split(targets)[1].tolist())
            free = [n for n in mine.tolist() if n not in held_out]
            order[free] = torch.tensor(free[::-1])
        assert (order != torch.arange(len(order))).any()
        assert self.score(model, inputs[order], targets) == pytest.approx(
            self.score(model, inputs, targets), rel=1e-4
        )


class TestReducedTraining(TrainedConformance):
    name = "reduced_training"


class TestTse(TrainedConformance):
    name = "tse"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def colours(n: int = 40, side: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy pictures whose class is their colour."""
    torch.manual_seed(1)
    targets = torch.arange(n) % 2
    pictures = torch.randn(n, 3, side, side)
    pictures[:, 0] += 2.0 * targets[:, None, None] - 1
    return pictures, targets


def trained(model, inputs, targets, **settings):
    run = Run(Single(model), Minibatch(inputs, targets, "the test's"), {"training"})
    usual = {"epochs": 4, "resolution": None, "batch_size": 8}
    torch.manual_seed(0)
    return run.record("training")(**{**usual, **settings})


def by_hand(model, inputs, targets, epochs, batch_size):
    """The recipe in formulas: SGD with Nesterov momentum and a cosine, on a deep copy."""
    model = copy.deepcopy(model).train()
    by_class = sorted(range(len(targets)), key=lambda n: (int(targets[n]), n))
    held_out, seen = by_class[::5], [n for k, n in enumerate(by_class) if k % 5]
    steps = math.ceil(len(seen) / batch_size)
    sizes = [len(seen) // steps + (k < len(seen) % steps) for k in range(steps)]
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    losses, step = [], 0
    torch.manual_seed(0)
    for _ in range(epochs):
        order = [seen[k] for k in torch.randperm(len(seen)).tolist()]
        total = 0.0
        for size in sizes:
            chosen, order = order[:size], order[size:]
            loss = functional.cross_entropy(model(inputs[chosen]), targets[chosen])
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            rate = 0.05 * (1 + math.cos(math.pi * step / (epochs * steps)))
            with torch.no_grad():
                for p, g, v in zip(model.parameters(), gradients, velocity, strict=True):
                    decayed = g + 5e-4 * p
                    v.mul_(0.9).add_(decayed)
                    p.sub_(rate * (decayed + 0.9 * v))
            total += loss.item() * size / len(seen)
            step += 1
        losses.append(total)
    with torch.no_grad():
        right = model.eval()(inputs[held_out]).argmax(1) == targets[held_out]
    return losses, 100 * float(right.double().mean())


@pytest.mark.parametrize("batch_size", [8, 12, 100])
def test_it_is_the_recipe(batch_size):
    model, (inputs, targets) = network().double(), colours()
    inputs = inputs.double()
    found = trained(model, inputs, targets, batch_size=batch_size)
    losses, accuracy = by_hand(model, inputs, targets, 4, batch_size)
    assert found.losses[0].tolist() == pytest.approx(losses, rel=1e-9)
    assert found.accuracy.item() == pytest.approx(accuracy)


def test_training_learns_what_can_be_learnt():
    found = trained(network(), *colours())
    assert found.losses[0, 0] > found.losses[0, -1]
    assert found.accuracy.item() == 100


def test_what_cannot_be_learnt_stays_near_chance():
    torch.manual_seed(0)
    pictures, targets = torch.randn(200, 3, 8, 8), torch.randint(0, 2, (200,))
    assert 20 < trained(network(), pictures, targets).accuracy.item() < 80


def test_proxies_are_what_the_training_came_to():
    model, (inputs, targets) = network(), colours()
    found = trained(model, inputs, targets)
    ways = "epochs=4,batch_size=8"
    names = [f"reduced_training({ways})", f"tse({ways})", f"tse({ways},last=1)"]
    scores = score_model(model, inputs, targets, names)
    expected = [found.accuracy[0], found.losses.sum(), found.losses[0, -1]]
    assert list(scores.values()) == pytest.approx([x.item() for x in expected], rel=1e-5)
    assert not registry.get(names[1]).higher_is_better
    assert registry.get(names[0]).higher_is_better


def test_pictures_are_reduced_to_means_of_areas():
    model, (inputs, targets) = network(), colours()
    ours = trained(model, inputs, targets, resolution=4)
    pooled = trained(model, functional.avg_pool2d(inputs, 2), targets)
    assert torch.allclose(ours.losses, pooled.losses, rtol=1e-5)
    assert not torch.allclose(ours.losses, trained(model, inputs, targets).losses, rtol=1e-5)


def test_small_pictures_and_what_is_no_picture_stay_as_they_are():
    model, (inputs, targets) = network(), colours()
    plain = trained(model, inputs, targets).losses
    assert torch.equal(trained(model, inputs, targets, resolution=9).losses, plain)
    linear, rows = nn.Linear(3, 2), inputs.mean((2, 3))
    plain = trained(linear, rows, targets).losses
    assert torch.equal(trained(linear, rows, targets, resolution=1).losses, plain)


def test_both_proxies_read_one_training(monkeypatch):
    calls = []
    real = training_pass._train
    monkeypatch.setattr(
        training_pass, "_train", lambda run, *way: calls.append(way) or real(run, *way)
    )
    names = ["tse(epochs=2)", "reduced_training(epochs=2)", "tse(epochs=2,last=1)", "tse(epochs=1)"]
    score_model(network(), *colours(), names)
    assert [epochs for epochs, *_ in calls] == [2, 1]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60))
def test_what_is_held_out_is_balanced(labels):
    seen, held_out = training_pass._split(torch.tensor(labels))
    assert sorted(seen.tolist() + held_out.tolist()) == list(range(len(labels)))
    for label in set(labels):
        mine = sum(labels[n] == label for n in held_out.tolist())
        assert abs(mine - labels.count(label) / 5) < 1


def test_one_example_cannot_be_divided():
    inputs, targets = colours(2)
    with pytest.warns(UserWarning, match="one example cannot be divided"):
        score = score_model(network(), inputs[:1], targets[:1], ["reduced_training"])
    assert math.isnan(score["reduced_training"])


def test_a_training_that_diverges_has_no_accuracy():
    model, (inputs, targets) = nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), colours()
    with pytest.warns(UserWarning, match="is not finite"):
        scores = score_model(model, 1e30 * inputs, targets, ["reduced_training", "tse"])
    assert all(math.isnan(score) for score in scores.values())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("reduced_training(epochs=0)", "proxy.epochs=0 is not possible"),
        ("tse(resolution=0)", "proxy.resolution=0 is not possible"),
        ("tse(batch_size=-1)", "proxy.batch_size=-1 is not possible"),
        ("tse(epochs=3,last=4)", "proxy.last=4 must lie between 1 and the 3 epochs"),
        ("tse(last=0)", "proxy.last=0 must lie between"),
        ("tse(epochs='3')", "proxy.epochs=3 must be a whole number"),
    ],
)
def test_impossible_settings_are_told(name, sentence):
    with pytest.raises(UsageError, match=sentence.replace("(", r"\(")):
        score_model(network(), *colours(), [name])


def test_settings_are_part_of_the_key():
    service = ScoringService(TinySpace(), batch=gaussian, store="memory")
    keys = [
        service.key(registry.get(name))
        for name in ("tse", "tse(epochs=3)", "tse(epochs=3,last=1)", "tse(epochs=10)")
    ]
    assert keys[0] == keys[3]
    assert keys[0]["settings"] == {
        "epochs": 10,
        "resolution": None,
        "batch_size": 64,
        "last": None,
    }
    assert len({str(key) for key in keys}) == 3
    assert "settings" not in service.key(registry.get("synflow"))


def test_a_search_is_guided_by_a_variant():
    service = ScoringService(TinySpace(), batch=gaussian, store="memory")
    node = {"_target_": "proxies.ranking.ProxyScorer", "name": "tse", "epochs": 2, "last": 1}
    scorer = build(node, "proxy", service=service)
    archs = [(1, 1, 1), (3, 2, 1), (0, 0, 0)]
    values = service.values(archs, "tse(epochs=2,last=1)")
    assert scorer(archs).tolist() == (-values).tolist()
    assert len(set(values.tolist())) == 3
    assert service.computed == 3
    assert scorer.seconds_per_score > 0


def test_a_variant_in_workers_is_the_same():
    space, archs = TinySpace(), [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    names = ["reduced_training(epochs=1)", "tse(epochs=1)"]
    one, other = (
        ScoringService(space, batch=gaussian, store="memory", workers=workers, processes=2)
        for workers in ("inline", "processes")
    )
    values = [service.score(archs, names).values for service in (one, other)]
    assert np.array_equal(*values)


def test_each_of_two_readers_of_one_training_is_charged_all_of_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    images, targets = torch.randn(200, 3, 12, 12), torch.arange(200) % 4
    model(images[:1])
    proxies = [registry.get("reduced_training"), registry.get("tse")]
    scores = ProxyEngine("cpu").score(Single(model), Minibatch(images, targets, "noise"), proxies)
    first, second = scores.seconds[0]
    assert second == pytest.approx(first, rel=0.2)


def test_a_table_without_12_epochs_has_no_early_accuracy():
    space = NASBench101()
    service = ScoringService(space, store="memory")
    archs = space.sample(np.random.default_rng(0), 2)
    with pytest.raises(UsageError, match=r"early_accuracy needs results after 12 epochs: .*108"):
        service.score(archs, ["early_accuracy"])
