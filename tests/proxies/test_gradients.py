"""The proxies that read one forward pass: against the published values, by hand, and by law."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from benchmarks import published
from proxies import score_model
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import CASES, case

PUBLISHED = [
    "grad_norm",
    "snip",
    "grasp",
    "fisher",
    "jacob_cov",
    "plain",
    "synflow",
    "synflow_bn",
]


class TestGradNorm(Conformance):
    name = "grad_norm"


class TestSnip(Conformance):
    name = "snip"


class TestPlain(Conformance):
    name = "plain"


class TestGrasp(Conformance):
    name = "grasp"


class TestFisher(Conformance):
    name = "fisher"


class TestJacobCov(Conformance):
    name = "jacob_cov"


class TestSynflowBN(Conformance):
    name = "synflow_bn"


class TestL2Norm(Conformance):
    name = "l2_norm"
    fails_with_the_network = False


def build(golden):
    return case(**{k: v for k, v in golden.items() if k != "scores"})


@pytest.mark.parametrize("golden", CASES, ids=lambda c: f"{c['model']}-{c['seed']}-{c['batch']}")
class TestPublishedValues:
    def test_each_alone(self, golden):
        for name in PUBLISHED:
            found = score_model(*build(golden), proxies=[name])[name]
            assert found == pytest.approx(golden["scores"][name], rel=5e-5), name

    @pytest.mark.parametrize("order", [1, -1])
    def test_all_together_are_the_same_to_the_bit(self, golden, order):
        together = score_model(*build(golden), proxies=PUBLISHED[::order])
        for name in PUBLISHED:
            assert together[name] == score_model(*build(golden), proxies=[name])[name], name

    def test_in_double_precision_the_published_way_of_working_agrees(self, golden):
        model, inputs, targets = build(golden)
        ours = score_model(model, inputs, targets, proxies=PUBLISHED[:6], dtype="float64")
        model, inputs = model.double(), inputs.double()
        for name in PUBLISHED[:6]:
            theirs = published.PROXIES[name](model, inputs, targets)
            assert ours[name] == pytest.approx(theirs, rel=1e-6), name


def linear(weight):
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(weight))
    return model


def test_by_hand():
    """One example, one linear layer: with p the softmax, dL/dw = (p - y) x^T."""
    weight, x = [[1.0, 0.0], [0.0, 1.0]], torch.tensor([[1.0, 2.0]])
    target = torch.tensor([0])
    p = functional.softmax(torch.tensor([1.0, 2.0]), 0)
    delta = torch.stack([p[0] - 1, p[1]])
    g = delta[:, None] * x
    scores = score_model(linear(weight), x, target, ["grad_norm", "snip", "plain", "fisher"])
    assert scores["grad_norm"] == pytest.approx(float(g.norm()))
    assert scores["snip"] == pytest.approx(float(g[0, 0].abs() + g[1, 1].abs()))
    assert scores["plain"] == pytest.approx(float(g[0, 0] + g[1, 1]))
    saliency = torch.tensor([1.0, 2.0]) * delta
    assert scores["fisher"] == pytest.approx(float((saliency**2).sum() / 2 * 2))


def network(seed, norm=True, act=nn.ReLU):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        act(),
        nn.Conv2d(4, 6, 3, groups=2),
        act(),
        nn.Flatten(),
        nn.Linear(6 * 16, 5),
    )


def data(seed, n=8, size=6, classes=5):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, size, size, generator=generator)
    return images, torch.randint(0, classes, (n,), generator=generator)


@given(seed=st.integers(0, 999))
@settings(max_examples=15)
def test_the_order_of_the_examples_does_not_matter(seed):
    images, targets = data(seed)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
    names = PUBLISHED[:6]
    model = network(seed)
    first = score_model(model, images, targets, names, dtype="float64")
    again = score_model(model, images[order], targets[order], names, dtype="float64")
    for name in names:
        assert again[name] == pytest.approx(first[name], rel=1e-7), name


@given(seed=st.integers(0, 999))
@settings(max_examples=15)
def test_weights_before_a_batch_norm_have_gradients_across_them(seed):
    """A convolution without bias in front of BatchNorm is scale-invariant: sum of w g is 0."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-12), nn.ReLU(), nn.Flatten()
    )
    images, targets = data(seed, classes=64)
    scores = score_model(model, images, targets, ["plain", "snip"], dtype="float64")
    assert abs(scores["plain"]) < 1e-7 * scores["snip"]
    assert scores["snip"] > 1e-4


@given(seed=st.integers(0, 999), scale=st.floats(0.1, 10))
@settings(max_examples=15)
def test_saliencies_do_not_see_how_scale_is_split_between_layers(seed, scale):
    """ReLU is homogeneous: c in one layer and 1/c in the next leaves w g, and so snip, alone."""
    model = network(seed, norm=False)
    images, targets = data(seed)
    names = ["snip", "plain", "fisher"]
    first = score_model(model, images, targets, names, dtype="float64")
    with torch.no_grad():
        for parameter in (model[3].weight, model[3].bias):
            parameter.mul_(scale)
        model[6].weight.div_(scale)
    again = score_model(model, images, targets, names, dtype="float64")
    for name in names:  # plain is what is left of terms as large as those of snip
        close = pytest.approx(first[name], rel=1e-5, abs=1e-6 * first["snip"])
        assert again[name] == close, name


def test_activations_that_work_in_place_change_nothing():
    class InPlace(nn.ReLU):
        def __init__(self):
            super().__init__(inplace=True)

    images, targets = data(0)
    for norm in (True, False):
        plain = score_model(network(1, norm), images, targets, PUBLISHED)
        eager = network(1, norm, InPlace)
        assert score_model(eager, images, targets, PUBLISHED) == plain
        assert all(m.inplace for m in eager if isinstance(m, nn.ReLU))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 4, 3, bias=False), (3, 9)),
        (nn.Conv3d(3, 4, 2), (3, 5, 5, 5)),
        (nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 4, 4)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), (4, 5)),
        (nn.Conv2d(4, 8, 3, dilation=2, groups=4), (4, 7, 7)),
        (nn.Linear(6, 4), (5, 6)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_every_kind_of_layer(layer, shape):
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = layer, nn.GroupNorm(1, 4)
            self.head = nn.LazyLinear(3)

        def forward(self, x):
            return self.head(torch.relu(self.layer(x)).flatten(1))

    model, x = Net(), torch.randn(5, *shape)
    model(x)
    scores = score_model(model, x, torch.arange(5) % 3, PUBLISHED)
    assert all(math.isfinite(v) for v in scores.values())

    # Fisher's saliency sums to w g over the weights of a channel, plus the bias's share.
    model.zero_grad()
    functional.cross_entropy(model(x), torch.arange(5) % 3).backward()
    snip = sum(
        float((part.weight.detach() * part.weight.grad).abs().sum())
        for part in (model.layer, model.head)
    )
    assert scores["snip"] == pytest.approx(snip, rel=1e-5)


def test_a_layer_used_twice_is_one_layer():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(torch.relu(self.layer(torch.relu(self.layer(x)))))

    torch.manual_seed(0)
    model, x, y = Twice(), torch.randn(6, 4), torch.arange(6) % 3
    functional.cross_entropy(model(x), y).backward()
    expected = sum(float(m.weight.grad.norm()) for m in (model.layer, model.head))
    assert score_model(model, x, y, ["grad_norm"])["grad_norm"] == pytest.approx(expected)
    assert math.isfinite(score_model(model, x, y, ["fisher"])["fisher"])


def test_grasp_is_the_hessian_times_the_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = torch.randn(7, 3, dtype=torch.float64), torch.arange(7) % 3
    weights = [model[0].weight, model[2].weight]

    def loss(*tensors):
        hidden = torch.tanh(functional.linear(x, tensors[0], model[0].bias))
        return functional.cross_entropy(functional.linear(hidden, tensors[1], model[2].bias), y)

    gradient = torch.autograd.grad(loss(*weights), weights)
    hessian = torch.autograd.functional.hessian(loss, tuple(weights))
    product = [
        sum(torch.einsum("abcd,cd->ab", hessian[i][j], gradient[j]) for j in range(2))
        for i in range(2)
    ]
    expected = -sum(float((w * p).sum()) for w, p in zip(weights, product, strict=True))
    found = score_model(model, x, y, ["grasp"], dtype="float64")["grasp"]
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_dead_network_has_no_jacobian_to_correlate():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, x):
            return self.head(x * 0)

    x, y = torch.randn(6, 3), torch.arange(6) % 4
    with pytest.warns(UserWarning, match="jacob_cov is NaN"):
        scores = score_model(Dead(), x, y, PUBLISHED)
    assert math.isnan(scores["jacob_cov"])
    assert scores["grad_norm"] == scores["snip"] == scores["grasp"] == 0


def test_one_example_has_none_to_correlate_with():
    with pytest.warns(UserWarning, match="jacob_cov is NaN: .*give two or more"):
        scores = score_model(nn.Linear(3, 4), torch.randn(1, 3), proxies=["jacob_cov"])
    assert math.isnan(scores["jacob_cov"])


def test_logits_of_another_shape_have_no_loss():
    model = nn.Conv2d(3, 4, 3)
    with pytest.warns(UserWarning, match="one row of class logits per input"):
        assert math.isnan(
            score_model(model, torch.randn(2, 3, 5, 5), torch.tensor([0, 1]), ["snip"])["snip"]
        )
