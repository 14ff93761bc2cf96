"""Networks that run as one compute what each computes alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from proxies import registry
from proxies.batch import Minibatch
from proxies.engine import ProxyEngine
from proxies.service import ScoringService
from proxies.stack import Single, Stacked
from spaces.initial_weights import INITS, InitialWeights
from spaces.nasbench201.space import NASBench201

cells = st.tuples(*[st.integers(0, 4)] * 6)
SPACE = NASBench201("cifar100", channels=4, cells=2)


weights = st.builds(InitialWeights, st.sampled_from(INITS), st.integers(0, 999))


@given(archs=st.lists(cells, min_size=1, max_size=5), weights=weights)
@settings(max_examples=25)
def test_logits_are_those_of_each_network(archs, weights):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    stack = SPACE.stacked_network(archs, weights)
    together = stack(images.repeat(len(archs), 1, 1, 1)).unflatten(0, (len(archs), 3))
    for found, arch in zip(together, archs, strict=True):
        assert torch.allclose(found, weights.network(SPACE, arch)(images), atol=1e-5)


def synflow(stack, batch):
    scores = ProxyEngine("cpu").score(stack, batch, [registry.get("synflow")])
    assert not scores.reasons
    return scores.values[:, 0]


@given(archs=st.lists(cells, min_size=1, max_size=64), weights=weights)
@settings(max_examples=15)
def test_synflow_is_that_of_each_network(archs, weights):
    batch = Minibatch.empty((3, 32, 32))
    together = synflow(Stacked(SPACE.stacked_network(archs, weights)), batch)
    for found, arch in zip(together[:8], archs, strict=False):
        alone = synflow(Single(weights.network(SPACE, arch)), batch)[0]
        assert found == pytest.approx(alone, rel=1e-5)


def test_synflow_of_full_networks():
    space, rng = NASBench201("cifar10"), np.random.default_rng(0)
    archs, batch = space.sample(rng, 6), Minibatch.empty((3, 32, 32))
    together = synflow(Stacked(space.stacked_network(archs, InitialWeights())), batch)
    for found, arch in zip(together, archs, strict=True):
        alone = synflow(Single(InitialWeights().network(space, arch)), batch)[0]
        assert found == pytest.approx(alone, rel=1e-5)


def test_scores_do_not_depend_on_which_networks_run_together():
    space = NASBench201("cifar10", cells=1)
    archs = space.sample(np.random.default_rng(0), 20)
    together = ScoringService(space, store="memory").score(archs, ["synflow"]).values
    other = ScoringService(space, store="memory")
    alone = np.concatenate([other.score([arch], ["synflow"]).values for arch in archs])
    assert np.array_equal(together, alone)


def test_to_ask_for_a_layer_is_an_error():
    stack = Stacked(SPACE.stacked_network([(1, 2, 3, 4, 0, 1)], InitialWeights()))
    with pytest.raises(ValueError, match="no single layers"):
        stack.weights()
