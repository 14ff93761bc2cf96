import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from proxies import score_model
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import CASES, case


def synflow(model, shape):
    return score_model(model, torch.randn(2, *shape), proxies=["synflow"])["synflow"]


class TestSynflow(Conformance):
    name = "synflow"


@pytest.mark.parametrize("golden", CASES, ids=lambda c: f"{c['model']}-{c['seed']}-{c['batch']}")
def test_equals_the_published_code(golden):
    expected = golden["scores"]["synflow"]
    settings = {k: v for k, v in golden.items() if k != "scores"}
    model, inputs, _ = case(**settings)
    assert score_model(model, inputs)["synflow"] == pytest.approx(expected, rel=1e-6)


def test_by_hand():
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[-2.0, 3.0]]))
        model[1].weight.fill_(-5.0)
    # R = 5 (2 + 3) = 25, and each of the two layers carries all of it.
    assert synflow(model, (2,)) == 50


@settings(max_examples=25, deadline=None)
@given(
    scales=st.lists(st.floats(-8, 8).filter(lambda c: abs(c) > 0.1), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
def test_each_layer_carries_the_whole_flow(scales, seed):
    """Without biases, scaling layers by c1, c2, ... scales synflow by |c1 c2 ...|, and it is the
    number of layers times the flow."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.ReLU(),
        nn.Conv2d(4, 5, 1, bias=False),
        nn.Flatten(),
        nn.Linear(5 * 16, 3, bias=False),
    )
    layers = [m for m in model if hasattr(m, "weight") and not isinstance(m, nn.BatchNorm2d)]
    before = synflow(model, (3, 6, 6))
    with torch.no_grad():
        flow = torch.ones(1, 3, 6, 6, dtype=torch.float64)
        for part in model:
            if isinstance(part, nn.Conv2d):
                flow = nn.functional.conv2d(
                    flow, part.weight.double().abs(), None, 1, part.padding, 1, part.groups
                )
            elif isinstance(part, nn.Linear):
                flow = flow @ part.weight.double().abs().T
            elif isinstance(part, nn.Flatten):
                flow = flow.flatten(1)
        for layer, scale in zip(layers, scales, strict=True):
            layer.weight.mul_(scale)
    assert before == pytest.approx(4 * flow.sum().item(), rel=1e-9)
    assert synflow(model, (3, 6, 6)) == pytest.approx(before * abs(math.prod(scales)), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_signs_do_not_matter(seed):
    model, inputs, _ = case("Residual", 1)
    score = score_model(model, inputs)["synflow"]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2 * torch.randint(0, 2, parameter.shape, generator=generator) - 1)
    assert score_model(model, inputs)["synflow"] == score


def test_a_layer_used_twice_counts_once_with_both_its_uses():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3, bias=False)
    tied = nn.Sequential(layer, layer)
    twins = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    for twin in twins:
        twin.load_state_dict(layer.state_dict())
    assert synflow(tied, (3,)) == pytest.approx(synflow(twins, (3,)))


def test_a_weight_shared_by_two_layers_counts_once_with_both_its_uses():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    twins = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    for twin in twins:
        twin.load_state_dict(model[0].state_dict())
    assert synflow(model, (3,)) == pytest.approx(synflow(twins, (3,)))


def test_batch_norm_is_off_however_deep_and_of_any_kind():
    class Nested(nn.Module):
        def __init__(self, norms):
            super().__init__()
            self.parts = nn.ModuleList(
                [nn.Conv2d(3, 4, 3, bias=False), *([nn.ModuleList([nn.BatchNorm2d(4)])] * norms)]
            )
            self.flat = nn.BatchNorm1d(4) if norms else None
            self.head = nn.Linear(4, 2)

        def forward(self, images):
            features = self.parts[0](images)
            for part in self.parts[1:]:
                features = part[0](features)
            features = features.mean((2, 3))
            return self.head(self.flat(features) if self.flat else features)

    with_norms, without = Nested(2), Nested(0)
    without.load_state_dict(with_norms.state_dict(), strict=False)
    for norm in (m for m in with_norms.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.constant_(norm.weight, 7)
    assert synflow(with_norms, (3, 6, 6)) == synflow(without, (3, 6, 6))


def test_an_activation_in_place_after_batch_norm_leaves_the_shortcut_alone():
    class Block(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.stem, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
            self.act, self.conv = nn.ReLU6(inplace=inplace), nn.Conv2d(4, 4, 1)

        def forward(self, images):
            features = 100 * self.stem(images)
            return features + self.conv(self.act(self.norm(features)))

    inside, outside = Block(inplace=True), Block(inplace=False)
    outside.load_state_dict(inside.state_dict())
    assert synflow(inside, (3, 4, 4)) == synflow(outside, (3, 4, 4))


LAYERS = {
    "Conv1d": (nn.Conv1d(3, 4, 3), (3, 9)),
    "Conv3d": (nn.Conv3d(3, 4, 2), (3, 4, 4, 4)),
    "ConvTranspose1d": (nn.ConvTranspose1d(3, 4, 3), (3, 9)),
    "ConvTranspose2d": (nn.ConvTranspose2d(3, 4, 3, stride=2), (3, 5, 5)),
    "ConvTranspose3d": (nn.ConvTranspose3d(3, 4, 2), (3, 4, 4, 4)),
    "grouped": (nn.Conv2d(4, 8, 3, groups=4), (4, 5, 5)),
    "Linear": (nn.Linear(3, 4), (3,)),
}


@pytest.mark.parametrize("layer,shape", LAYERS.values(), ids=LAYERS)
def test_every_kind_of_layer(layer, shape):
    """R is linear in the weight of one layer, so synflow is R without the bias."""
    flow = type(layer).forward.__get__(layer)
    with torch.no_grad():
        weight = layer.weight.clone()
        layer.weight.abs_()
        expected = (flow(torch.ones(1, *shape)) - flow(torch.zeros(1, *shape))).sum().item()
        layer.weight.copy_(weight)
    assert synflow(layer, shape) == pytest.approx(expected, rel=1e-5)


def test_unused_layers_count_zero():
    used, inputs, _ = case("Unused", 1)
    score = score_model(used, inputs)["synflow"]
    nn.init.constant_(used.idle.weight, 1e3)
    assert score_model(used, inputs)["synflow"] == score


def test_a_network_whose_output_reads_no_weight_scores_zero():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, inputs):
            return inputs * 2

    assert synflow(Idle(), (3,)) == 0


def test_a_network_without_layers_has_no_score():
    with pytest.warns(UserWarning, match="no convolution and no linear layer"):
        assert math.isnan(synflow(nn.ReLU(), (3,)))


def test_overflow_is_nan_with_its_reason():
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5))).double()
    for layer in deep:
        nn.init.constant_(layer.weight, 1e80)
    with pytest.warns(UserWarning, match=r"synflow is NaN: the value is not finite \(inf\)"):
        assert math.isnan(synflow(deep, (4,)))


def test_float64_carries_what_float32_cannot():
    deep = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(10)))
    for layer in deep:
        nn.init.constant_(layer.weight, 1e6)
    assert synflow(deep, (4,)) == pytest.approx(10 * 4 * (4e6) ** 10, rel=1e-6)


def test_computed_weights_are_refused_with_a_reason():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.warns(UserWarning, match="layer '0' is no plain parameter"):
        assert math.isnan(synflow(model, (3,)))
