"""Networks that run layer by layer have the scores that each has alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import UsageError
from proxies import registry
from proxies.batch import gaussian
from proxies.engine import ProxyEngine
from proxies.service import ScoringService
from proxies.stack import Grouped, Single
from spaces.initial_weights import INITS, InitialWeights
from spaces.nasbench201.space import NASBench201

SPACE = NASBench201("cifar10", channels=4, cells=1)
BATCH = gaussian(SPACE, size=8)
EVERY = (
    *("grad_norm", "snip", "plain", "fisher", "grasp", "jacob_cov", "synflow", "synflow_bn"),
    *("naswot", "naswot_eval", "swap", "epe_nas", "l2_norm", "zico", "gradsign"),
)
AMPLIFY_ROUNDING = ("zico", "gradsign")  # gradients near zero, their deviation or their sign

cells = st.tuples(*[st.integers(0, 4)] * 6)
weights = st.builds(InitialWeights, st.sampled_from(INITS), st.integers(0, 999))
devices = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def both(archs, weights, names, dtype, device):
    engine, proxies = ProxyEngine(device, dtype=dtype), [registry.get(name) for name in names]
    grouped = Grouped(SPACE.grouped_network(archs, weights))
    together = engine.score(grouped, BATCH, proxies).values
    networks = [weights.network(SPACE, arch, running_stats=False) for arch in archs]
    alone = [engine.score(Single(network), BATCH, proxies).values[0] for network in networks]
    return together, np.array(alone)


def check_device(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@given(archs=st.lists(cells, min_size=1, max_size=4), weights=weights)
@settings(max_examples=15, deadline=None)
def test_scores_are_those_of_each_network(archs, weights):
    together, alone = both(archs, weights, EVERY, "float64", "cpu")
    tight = [EVERY.index(name) for name in EVERY if name not in AMPLIFY_ROUNDING]
    assert np.allclose(together[:, tight], alone[:, tight], rtol=1e-6, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize("size", [1, 16, 64])
def test_float32_scores_agree_within_1e_4(device, size):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    archs = SPACE.sample(np.random.default_rng(size), size)
    names = [name for name in EVERY if name not in AMPLIFY_ROUNDING]
    together, alone = both(archs, InitialWeights(), names, "float32", device)
    assert np.array_equal(np.isnan(together), np.isnan(alone))
    close = np.isclose(together, alone, rtol=1e-4, atol=1e-5, equal_nan=True).all(1)
    # Where a ReLU is given zero but for rounding it may switch: then all gradients move a little.
    assert close.mean() >= 0.95
    assert np.allclose(together, alone, rtol=2e-2, atol=1e-4, equal_nan=True)


def test_zico_agrees_where_no_gradient_is_rounding_alone():
    archs = [(3, 3, 3, 3, 3, 3), (2, 3, 1, 3, 2, 3), (3, 1, 3, 1, 2, 2)]
    together, alone = both(archs, InitialWeights(), ["zico"], "float64", "cpu")
    assert np.allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize("init", INITS)
def test_the_service_scores_alike_in_stacks_and_one_by_one(init):
    names = ["snip", "naswot", "synflow", "grasp", "flops", "az_expressivity"]
    archs = SPACE.sample(np.random.default_rng(0), 12)
    tables = []
    for stack in (1, 5):
        service = ScoringService(
            SPACE, batch=BATCH, store="memory", device="cpu", stack=stack, init=init
        )
        tables.append(service.score(archs, names))
    one, five = tables
    assert np.allclose(one.values, five.values, rtol=1e-4, equal_nan=True)
    assert one.reasons.keys() == five.reasons.keys()
    assert (five.seconds > 0).all()


def test_impossible_stacks_are_refused():
    with pytest.raises(UsageError, match=r"service.stack=0 must be at least 1."):
        ScoringService(SPACE, store="memory", stack=0)
