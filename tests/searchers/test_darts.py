from __future__ import annotations

import numpy as np
import pytest

import spaces.trained_supernet
from conf.errors import UsageError
from searchers import Darts, Guidance
from spaces import Choices, Evaluation
from spaces.darts import DARTS
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench201 import NASBench201
from spaces.supernets import Supernets

NOTHING = Evaluation(0.0, 0.0, 0.0, 0.0)
SMALL = {"steps": 2, "tuning": 1, "batch_size": 32, "validation": 32}


class Additive:
    """A supernet whose accuracy adds up from a number for each operation that it runs.

    The operations that are worth most have the smallest strength.
    """

    made: list[Additive]

    def __init__(self, space, data, recipe, seed, device):
        rng = np.random.default_rng(seed)
        supernets = Supernets(space)
        self.left = supernets.decode(supernets.whole)
        self.worth = [rng.permutation(place.of) + 0.5 * rng.random() for place in self.left]
        self.shares = [(1 + each.max() - each) / 100 for each in self.worth]
        self.trained, self.measured = [], []
        self.made.append(self)

    def train(self, steps):
        self.trained.append(steps)

    def decide(self, left):
        self.left = left

    def accuracy(self, supernet, pictures):
        self.measured.append(supernet)
        parts = zip(self.worth, supernet, strict=True)
        return sum(float(worth[list(place.operations)].sum()) for worth, place in parts)


@pytest.fixture
def additive(monkeypatch):
    monkeypatch.setattr(Additive, "made", [], raising=False)
    monkeypatch.setattr(spaces.trained_supernet, "TrainedSupernet", Additive)
    return Additive.made


@pytest.mark.parametrize("order", ["fixed", "reverse", "random"])
def test_what_is_missed_most_stays(additive, order):
    space = NASBench201()
    (arch,) = Darts(space, order=order, steps=7, tuning=3).ask()
    (supernet,) = additive
    assert arch == tuple(int(np.argmax(worth)) for worth in supernet.worth)
    assert supernet.trained == [7] + [3] * 5
    assert len(supernet.measured) == 30


def test_the_strongest_stays(additive):
    space = NASBench201()
    (arch,) = Darts(space, decide="strength").ask()
    (supernet,) = additive
    assert arch == tuple(int(np.argmax(shares)) for shares in supernet.shares)
    assert (len(supernet.trained), supernet.measured) == (1, [])


@pytest.mark.parametrize("decide", ["strength", "perturbation"])
def test_nodes_keep_the_inputs_of_most_worth(additive, decide):
    space = DARTS("s3", table="none")
    search = Darts(space, decide=decide)
    (arch,) = search.ask()
    assert space.is_valid(arch)
    (supernet,) = additive
    value = supernet.worth if decide == "perturbation" else supernet.shares
    kept = {place for place, _ in space.held(arch)}
    for junction in space.junctions:
        ranked = sorted(junction.places, key=lambda place: -max(value[place]))
        assert set(ranked[: junction.keep]) == kept & set(junction.places)


def test_inputs_alone_can_be_perturbed(additive):
    space = NASBench1Shot1(1)
    assert space.is_valid(Darts(space).ask()[0])


def small_space():
    space = NASBench201("cifar10", channels=4, cells=1)
    space.image_size = 8
    return space


@pytest.mark.parametrize("decide", ["strength", "perturbation"])
def test_a_real_supernet_decides(decide):
    space = small_space()
    search = Darts(space, decide=decide, **SMALL)
    (arch,) = search.ask()
    assert space.is_valid(arch)
    assert search.guidance.seconds > 0
    again = Darts(small_space(), decide=decide, **SMALL)
    assert again.ask() == [arch]
    if decide == "strength":
        assert arch == tuple(int(np.argmax(shares)) for shares in search.supernet.shares)


def test_only_the_first_model_is_derived(additive):
    search, resumed = (Darts(NASBench201(), seed=3) for _ in range(2))
    (first,) = search.ask()
    search.tell([first], [NOTHING])
    (second,) = search.ask()
    resumed.replay([first], [NOTHING])
    assert resumed.ask() == [second]
    assert len(additive) == 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, r"searcher\.steps=0 must be at least 1"),
        ({"tuning": -1}, r"searcher\.tuning=-1 must be at least 0"),
        ({"validation": 0}, r"searcher\.validation=0 must be at least 1"),
        ({"learning_rate": -1.0}, r"searcher\.learning_rate=-1\.0 must be 0 or more"),
        ({"decide": "chance"}, r"searcher\.decide=chance is unknown; choose one of"),
        ({"order": "shrink"}, r"searcher\.order=shrink is unknown; choose one of"),
        ({"held_out": 1.0}, r"searcher\.held_out=1\.0 must be between 0 and 1"),
        ({"data": "nowhere"}, r"searcher\.data=nowhere"),
        ({"device": "tpu"}, r"searcher\.device=tpu is unknown; choose one of"),
        ({"guidance": Guidance(lambda archs: archs, warmup=9)}, "give guidance=none"),
    ],
)
def test_mistakes(settings, sentence):
    with pytest.raises(UsageError, match=sentence):
        Darts(NASBench201(), **settings)


def test_spaces_that_cannot_be_decided_are_refused():
    with pytest.raises(UsageError, match="choices has no supernet"):
        Darts(Choices(depth=[1, 2]))
    with pytest.raises(UsageError, match=r"no strengths; choose searcher\.decide=perturbation"):
        Darts(NASBench1Shot1(1), decide="strength")
    with pytest.raises(UsageError, match=r"searcher\.data=null holds CIFAR-10"):
        Darts(NASBench201("cifar100"))
