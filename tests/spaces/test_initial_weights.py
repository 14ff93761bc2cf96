"""Initial weights depend on the seed, and on the architecture or the place in the network."""

import numpy as np
import pytest
import torch
from torch import nn

from conf.errors import UsageError
from spaces.darts import DARTS
from spaces.initial_weights import InitialWeights
from spaces.mobilenet import MobileNet
from spaces.model_zoo import ModelZoo
from spaces.nasbench101 import NASBench101
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.nats_size import NATSSize
from spaces.transnas import TransNASMacro, TransNASMicro

SPACES = [
    NASBench201("cifar10", channels=4, cells=1),
    NASBench101(),
    NATSSize(),
    NASBenchMacro(),
    TransNASMicro(),
    TransNASMacro(),
    DARTS(),
    MobileNet(image_size=32),
]


def state(space, arch, **settings):
    return InitialWeights(**settings).network(space, arch).state_dict()


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_shared_weights_are_those_of_the_same_place(space):
    one, other = space.sample(np.random.default_rng(0), 2)
    first, second = (state(space, arch, init="shared") for arch in (one, other))
    weights = [k for k in first.keys() & second.keys() if first[k].dim() > 1]
    alike = [k for k in weights if first[k].shape == second[k].shape]
    assert alike or space.name in {"nats_size", "transnas_macro"}  # which differ in widths
    assert all(torch.equal(first[k], second[k]) for k in alike)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_independent_weights_are_an_architecture_s_own(space):
    one, other = space.sample(np.random.default_rng(0), 2)
    first, again, second = (state(space, arch) for arch in (one, one, other))
    assert all(torch.equal(first[k], again[k]) for k in first)
    kernels = [k for k in first.keys() & second.keys() if first[k].dim() == 4]
    kernels = [k for k in kernels if first[k].shape == second[k].shape]
    assert not any(torch.equal(first[k], second[k]) for k in kernels)


@pytest.mark.parametrize("init", ["independent", "shared"])
def test_another_seed_is_another_draw(init):
    arch = (1, 2, 3, 2, 3, 3)
    first, second = (state(SPACES[0], arch, init=init, seed=seed) for seed in (0, 1))
    assert not torch.equal(first["stem.0.weight"], second["stem.0.weight"])


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_both_inits_draw_from_the_same_distributions(space):
    (arch,) = space.sample(np.random.default_rng(1), 1)
    own, shared = state(space, arch), state(space, arch, init="shared")
    for name, tensor in own.items():
        if tensor.is_floating_point() and tensor.numel() >= 2000:
            assert shared[name].std() == pytest.approx(float(tensor.std()), rel=0.15), name
            assert abs(float(shared[name].mean() - tensor.mean())) < 0.15 * float(tensor.std())


def test_layers_at_different_places_differ():
    shared = state(SPACES[0], (3, 3, 3, 3, 3, 3), init="shared")
    kernels = [tensor for name, tensor in shared.items() if tensor.shape == (4, 4, 3, 3)]
    assert len(kernels) == 6
    assert len({kernel.sum().item() for kernel in kernels}) == 6


def test_drawing_leaves_torch_s_generator_and_precision_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        network = InitialWeights("shared").network(SPACES[0], (3,) * 6)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert torch.equal(torch.rand(3), expected)


def test_models_of_a_package_are_not_shared():
    pytest.importorskip("pytorchcv")
    with pytest.raises(UsageError, match=r"service.init=shared is not possible for model_zoo"):
        ModelZoo().draw(nn.Linear(1, 1))


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(UsageError, match=r"service.init=shared cannot draw a Odd of nasbench201"):
        SPACES[0].draw(Odd())
    with pytest.raises(UsageError, match=r"service\.init.*independent, shared"):
        InitialWeights("zeros")
