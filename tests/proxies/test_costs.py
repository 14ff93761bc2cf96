import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from proxies import score_model
from spaces.nasbench201.space import NASBench201
from tests.proxies.conformance import Conformance


class TestParams(Conformance):
    name = "params"
    fails_with_the_network = False


class TestFlops(Conformance):
    name = "flops"


def costs(model, *shape):
    return score_model(model, torch.ones(2, *shape), proxies=["params", "flops"])


def test_a_network_counted_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=4, bias=False),
        nn.ReLU6(inplace=True),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    expected = (
        3 * 9 * 8 * 64  # convolution, 8x8
        + 2 * 8 * 64  # BatchNorm
        + 8 * 64  # ReLU
        + 4 * 8 * 16  # maxima over 2x2
        + 2 * 9 * 16 * 4  # two channels a group, 2x2
        + 16 * 4  # ReLU6
        + 9 * 16 * 4  # means over 3x3
        + 16 * 4  # mean over 2x2
        + 160
    )
    params = 3 * 9 * 8 + 8 + 16 + 2 * 9 * 16 + 170
    assert costs(model, 3, 8, 8) == {"params": params, "flops": expected}


@pytest.mark.parametrize(
    "layer,shape,expected",
    [
        (nn.Conv1d(2, 3, 5), (2, 9), 2 * 5 * 3 * 5),
        (nn.Conv3d(2, 3, 2), (2, 3, 3, 3), 2 * 8 * 3 * 8),
        (nn.ConvTranspose2d(2, 3, 3, stride=2), (2, 4, 4), 2 * 9 * 3 * 16),
        (nn.ConvTranspose2d(4, 8, 3, groups=2), (4, 4, 4), 4 * 9 * 4 * 16),
        (nn.Linear(7, 5), (6, 7), 6 * 7 * 5),
        (nn.MaxPool1d(3), (2, 9), 3 * 2 * 3),
        (nn.AvgPool1d(3), (2, 9), 3 * 2 * 3),
        (nn.AvgPool3d(2), (2, 4, 4, 4), 8 * 2 * 8),
        (nn.LayerNorm(7), (6, 7), 2 * 42),
        (nn.GELU(), (6, 7), 42),
    ],
    ids=str,
)
def test_every_kind_of_layer(layer, shape, expected):
    assert costs(layer, *shape)["flops"] == expected


def test_functional_code_counts():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.matrix = nn.Parameter(torch.randn(4, 2))

        def forward(self, images):
            features = functional.relu(functional.conv2d(images, self.kernel, padding=1))
            return features.amax((2, 3)) @ self.matrix

    assert costs(Functional(), 3, 4, 4)["flops"] == 27 * 4 * 16 + 64 + 8


def test_shared_parameters_count_once_and_frozen_ones_never():
    layer = nn.Linear(3, 3, bias=False)
    frozen = nn.Linear(3, 3).requires_grad_(False)
    assert costs(nn.Sequential(layer, layer, frozen), 3) == {"params": 9, "flops": 27}


def test_does_not_depend_on_the_batch():
    model = nn.Linear(3, 3)
    for n in (1, 5):
        assert score_model(model, torch.ones(n, 3), proxies=["flops"])["flops"] == 9


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "ImageNet16-120"])
def test_nasbench201_agrees_with_its_table(dataset):
    """The benchmark's table: base and cost of each operation, and of each operation's weights."""
    space = NASBench201(dataset)
    smaller = (32 / space.image_size) ** 2
    for arch in [(0,) * 6, (3, 0, 2, 0, 4, 0), *space.sample(np.random.default_rng(0), 12)]:
        score = costs(space.network(arch), 3, space.image_size, space.image_size)
        pools, conv1, conv3 = (
            sum(space.decisions[0].choices[a] == name for a in arch)
            for name in ("avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3")
        )
        table = (7.943872 + 35.8195 * conv3 + 4.36224 * conv1 + 1.29024 * pools) / smaller
        base = {"cifar10": 73306, "cifar100": 79156, "ImageNet16-120": 80456}[dataset]
        assert score["flops"] / 1e6 == pytest.approx(table, rel=0.01)
        assert score["params"] == base + 243040 * conv3 + 28000 * conv1


class First(nn.Module):
    """Gives the first of what a layer returns."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, inputs):
        return self.layer(inputs)[0]


@pytest.mark.parametrize(
    "layer,products,activations",
    [
        (nn.LSTM(6, 4), 4 * 4 * (6 + 4), 5 * 4),
        (nn.LSTM(6, 4, bias=False, bidirectional=True), 2 * 4 * 4 * (6 + 4), 2 * 5 * 4),
        (nn.LSTM(6, 4, num_layers=2), 4 * 4 * (6 + 4 + 4 + 4), 2 * 5 * 4),
        (nn.LSTM(6, 4, proj_size=3), 4 * 4 * (6 + 3) + 4 * 3, 5 * 4),
        (nn.GRU(6, 4), 3 * 4 * (6 + 4), 3 * 4),
        (nn.GRU(6, 4, num_layers=2, bidirectional=True), 6 * 4 * (6 + 4 + 8 + 4), 4 * 3 * 4),
        (nn.RNN(6, 4), 4 * (6 + 4), 4),
        (nn.RNN(6, 4, nonlinearity="relu", bias=False), 4 * (6 + 4), 4),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_recurrent_layers_count_each_step(layer, products, activations):
    layer.batch_first = True
    assert costs(First(layer), 9, 6)["flops"] == 9 * (products + activations)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_count_alike_on_cuda(kind):
    model, inputs = First(kind(6, 4, 2, batch_first=True, bidirectional=True)), torch.ones(1, 9, 6)
    on_cpu, on_cuda = (
        score_model(model, inputs, proxies=["flops"], device=device) for device in ("cpu", "cuda")
    )
    assert on_cuda == on_cpu


def test_transformers_count():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    tokens = 7
    expected = (
        tokens * 32 * (3 * 32 + 32 + 2 * 64)  # projections and the two linear layers
        + 2 * tokens * tokens * 32  # products of queries with keys, and of chances with values
        + tokens * 64  # ReLU
        + 2 * 2 * tokens * 32  # LayerNorm
    )
    assert costs(layer, tokens, 32)["flops"] == expected
    assert costs(nn.TransformerEncoder(layer, 2), tokens, 32)["flops"] == 2 * expected


def test_products_with_vectors_count():
    class Vectors(nn.Module):
        def forward(self, inputs):
            scores = torch.mv(inputs[0], inputs[0, 0])
            return torch.addmv(scores, inputs[0], inputs[0, 1]) + torch.dot(scores, scores)

    assert costs(Vectors(), 3, 5)["flops"] == 15 + 15 + 3


def test_what_cannot_be_counted_is_nan_with_its_reason():
    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Bilinear(3, 3, 2)

        def forward(self, inputs):
            return self.layer(inputs, inputs)

    with pytest.warns(UserWarning, match="flops is NaN: .*aten._trilinear cannot be counted"):
        assert math.isnan(score_model(Bilinear(), torch.ones(1, 3), proxies=["flops"])["flops"])


def test_operators_of_other_libraries_are_nan_with_their_reason():
    @torch.library.custom_op("assay_tests::double", mutates_args=())
    def double(inputs: torch.Tensor) -> torch.Tensor:
        return 2 * inputs

    class Foreign(nn.Module):
        def forward(self, inputs):
            return double(inputs)

    with pytest.warns(UserWarning, match="flops is NaN: .*assay_tests.double cannot be counted"):
        assert math.isnan(score_model(Foreign(), torch.ones(1, 3), proxies=["flops"])["flops"])
