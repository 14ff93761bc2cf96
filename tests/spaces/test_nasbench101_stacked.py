"""Networks that run as one compute what each computes alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from proxies import registry
from proxies.batch import Minibatch
from proxies.engine import ProxyEngine
from proxies.stack import Single, Stacked
from spaces.initial_weights import INITS, InitialWeights
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench101 import NASBench101
from spaces.nasbench101.cell import architecture

SPACES = {"nasbench101": NASBench101(), "nasbench1shot1": NASBench1Shot1(2)}
POOLS = architecture(
    [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
    ["input", "maxpool3x3", "maxpool3x3", "output"],
)
STRAIGHT = architecture([[0, 1], [0, 0]], ["input", "output"])


def drawn(name, n=3):
    archs = SPACES[name].sample(np.random.default_rng(3), n)
    return [*archs, POOLS, STRAIGHT] if name == "nasbench101" else archs


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("name", SPACES)
def test_logits_are_those_of_each_network(name, init):
    space, archs, weights = SPACES[name], drawn(name), InitialWeights(init, 3)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    stack = space.stacked_network(archs, weights)
    together = stack(images.repeat(len(archs), 1, 1, 1)).unflatten(0, (len(archs), 2))
    for found, arch in zip(together, archs, strict=True):
        torch.testing.assert_close(found, weights.network(space, arch)(images))


@pytest.mark.parametrize("name", SPACES)
def test_synflow_is_that_of_each_network(name):
    space, archs, weights = SPACES[name], drawn(name), InitialWeights()
    batch, proxies = Minibatch.empty((3, 32, 32)), [registry.get("synflow")]
    engine = ProxyEngine("cpu")
    together = engine.score(Stacked(space.stacked_network(archs, weights)), batch, proxies)
    assert not together.reasons
    for found, arch in zip(together.values[:, 0], archs, strict=True):
        alone = engine.score(Single(weights.network(space, arch)), batch, proxies)
        assert found == pytest.approx(alone.values[0, 0], rel=1e-5)
