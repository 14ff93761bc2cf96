from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.simulated_device import DEVICE, simulated_device
from spaces.mixture import Mixture
from spaces.nasbench201 import NASBench201
from spaces.supernets import Place
from spaces.trained_supernet import Recipe, TrainedSupernet
from spaces.training_data import read

CPU = torch.device("cpu")
RECIPE = Recipe(batch_size=32, learning_rate=0.1, strength_rate=0.1, augment=False)


@pytest.fixture(scope="module")
def space():
    space = NASBench201("cifar10", channels=4, cells=1)
    space.image_size = 8
    return space


@pytest.fixture(scope="module")
def data(space):
    return read(None, 0.5, space, "searcher")


def made(space, data, seed=0, steps=4, recipe=RECIPE, device=CPU):
    supernet = TrainedSupernet(space, data, recipe, seed, device)
    supernet.train(steps)
    return supernet


def test_a_mixture_weighs_by_shares_until_one_is_alone():
    mixture = Mixture([nn.Identity(), nn.Flatten(0), nn.Identity()])
    mixture.shares = torch.tensor([0.5, 0.3, 0.2])
    features = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(mixture(features), features)
    mixture.keep((0, 2), 3)
    torch.testing.assert_close(mixture(features), 0.7 * features)
    mixture.keep((1,), 1)
    torch.testing.assert_close(mixture(features), features)
    mixture.shares = None
    mixture.keep((0, 2), 3)
    torch.testing.assert_close(mixture(features), features * 2 / 3)


def test_strengths_are_nearly_equal_at_first_and_are_trained(space, data):
    fresh = TrainedSupernet(space, data, RECIPE, 0, CPU)
    assert [len(shares) for shares in fresh.shares] == [5] * 6
    np.testing.assert_allclose(fresh.shares, 0.2, atol=2e-3)
    trained = made(space, data)
    np.testing.assert_allclose(np.sum(trained.shares, axis=1), 1)
    assert np.ptp(trained.shares) > 0.05
    fixed = made(space, data, recipe=Recipe(batch_size=32, strength_rate=0))
    np.testing.assert_array_equal(fixed.shares, fresh.shares)


def test_weights_are_fitted(space, data):
    supernet = made(space, data, steps=60)
    assert supernet.accuracy(supernet.left) > 15


def test_same_seed_same_supernet(space, data):
    state = torch.random.get_rng_state()
    first, second, other = (made(space, data, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    np.testing.assert_array_equal(first.shares, second.shares)
    assert first.accuracy(first.left) == second.accuracy(second.left)
    assert not np.array_equal(first.shares, other.shares)


def test_on_a_device_it_is_the_same(space, data):
    here = made(space, data)
    with simulated_device() as calls:
        there = made(space, data, device=DEVICE)
        assert calls.launches
        np.testing.assert_allclose(there.shares, here.shares, rtol=1e-5)
        assert there.accuracy(there.left) == here.accuracy(here.left)


def test_a_removal_counts_for_one_measurement_and_a_decision_stays(space, data):
    supernet = made(space, data)
    whole = supernet.accuracy(supernet.left)
    output = ((0,), (0,), (0,))
    cut = [*supernet.left[:3], *(Place(only, 1) for only in output)]
    assert supernet.accuracy(tuple(cut)) <= 15  # zeros: nothing is told apart
    assert supernet.accuracy(supernet.left) == whole
    before = supernet.shares
    supernet.decide((Place((3,), 1), *supernet.left[1:]))
    supernet.train(2)
    np.testing.assert_array_equal(supernet.shares[0], before[0])
    assert not np.array_equal(supernet.shares[1], before[1])


def test_accuracies_of_fewer_pictures(space, data):
    supernet = made(space, data)
    assert supernet.accuracy(supernet.left, 10) in set(range(0, 101, 10))
    assert supernet.accuracy(supernet.left, 10**6) == supernet.accuracy(supernet.left)
