import math

import pytest
import torch
from torch import nn

from proxies import score_model
from proxies.batch import Minibatch
from proxies.passes import Run
from proxies.stack import Single
from proxies.torch_state import own_chance
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case


def zen(model, inputs):
    return score_model(model, inputs, proxies=["zen"])["zen"]


def movement(model, shape=(3, 8, 8), dtype=torch.float64):
    torch.manual_seed(0)
    run = Run(Single(model), Minibatch(torch.empty((0, *shape), dtype=dtype), None, "none"))
    return run.record("movement")


class TestZen(Conformance):
    name = "zen"


class Watched(nn.Module):
    """Linear up to its features, which it hands to ``end``, and keeps."""

    def __init__(self, end, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = norm or nn.Identity()
        self.end = end
        self.seen = []

    def forward(self, images):
        features = self.norm(self.conv(images)).relu()
        self.seen.append(features.detach().clone())
        return self.end(features)


ENDS = {
    "adaptive": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    "mean": lambda features: features.mean((2, 3)),
    "kept": lambda features: features.mean((2, 3), keepdim=True).flatten(1),
    "max": lambda features: features.amax((2, 3)),
    "window": nn.Sequential(nn.AvgPool2d(8), nn.Flatten()),
    "flatten": nn.Sequential(nn.Flatten(), nn.Linear(256, 2)),
    "head of 1x1": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 2, 1), nn.Flatten()),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_features_are_what_pooling_or_flattening_is_given(end):
    model = Watched(end)
    found = movement(model)
    here, there = model.seen
    assert len(here) == 16
    expected = (here - there).abs().sum((1, 2, 3)).mean()
    assert found.distance.item() == pytest.approx(expected.item(), rel=1e-12)
    assert found.variances == []


def test_by_hand():
    """A convolution of one channel moves its features by 0.01 |w| |e|, and E |e| = sqrt(2 / pi)."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AvgPool2d(100), nn.Flatten())
    torch.manual_seed(0)
    run = Run(Single(model), Minibatch(torch.empty((0, 1, 100, 100)), None, "none"))
    drawn = run.record("movement").distance.item()
    with own_chance(torch.device("cpu")):
        weight = torch.randn(1).item()
    assert drawn == pytest.approx(0.01 * abs(weight) * math.sqrt(2 / math.pi) * 100**2, rel=0.01)


def test_adds_the_logs_of_deviations():
    norm = nn.BatchNorm2d(4)
    model = Watched(ENDS["mean"], norm)
    given = []
    norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach().clone()))
    score = score_model(model, torch.randn(2, 3, 8, 8), proxies=["zen"], dtype="float64")["zen"]
    here, there = model.seen[-2:]  # before them, score_model looks at what the network returns
    variance = given[-2].var((0, 2, 3), correction=0).mean()
    expected = (here - there).abs().sum((1, 2, 3)).mean().log() + variance.sqrt().log()
    assert score == pytest.approx(expected.item(), rel=1e-9)


def test_batch_norm_hides_a_gain_that_the_variance_gives_back():
    """An average pooling before BatchNorm shrinks its input; the score counts by how much."""
    plain = movement(Watched(ENDS["mean"], nn.BatchNorm2d(4)))
    doubled = movement(
        Watched(
            ENDS["mean"], nn.Sequential(nn.Upsample(scale_factor=1), Twice(), nn.BatchNorm2d(4))
        )
    )
    assert doubled.distance.item() == pytest.approx(plain.distance.item(), rel=1e-3)
    assert doubled.variances[0].item() == pytest.approx(4 * plain.variances[0].item(), rel=1e-9)


class Twice(nn.Module):
    def forward(self, inputs):
        return 2 * inputs


def test_weights_and_inputs_take_no_part():
    model, inputs, _ = case("Residual", 1)
    score = zen(model, inputs)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    assert zen(model, torch.randn_like(inputs[:3])) == score


def test_precision_changes_no_draw():
    model, inputs, _ = case("Plain", 1)
    double = score_model(model, inputs, proxies=["zen"], dtype="float64")["zen"]
    assert zen(model, inputs) == pytest.approx(double, rel=1e-4)


def test_wider_networks_move_further():
    scores = [zen(*case("Plain", 1, width=width)[:2]) for width in (4, 8, 16, 32)]
    assert scores == sorted(scores)


def test_a_dead_network_is_nan_with_its_reason():
    class Dead(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            return (0 * self.conv(images)).mean((2, 3))

    with pytest.warns(UserWarning, match=r"zen is NaN: the value is not finite \(-inf\)"):
        assert math.isnan(zen(Dead(), torch.randn(2, 3, 8, 8)))


def test_a_network_without_positions_is_nan_with_its_reason():
    with pytest.warns(UserWarning, match="zen is NaN: .*no features with positions"):
        assert math.isnan(zen(nn.Linear(3, 2), torch.randn(2, 3)))


@pytest.mark.parametrize("dimensions", [1, 3])
def test_other_dimensions(dimensions):
    conv, norm = ((nn.Conv1d, nn.BatchNorm1d), None, (nn.Conv3d, nn.BatchNorm3d))[dimensions - 1]
    model = nn.Sequential(conv(3, 4, 1), norm(4), nn.Flatten(), nn.Linear(4 * 4**dimensions, 2))
    assert math.isfinite(zen(model, torch.randn(2, 3, *[4] * dimensions)))
