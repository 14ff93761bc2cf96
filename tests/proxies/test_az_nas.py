import math

import numpy as np
import pytest
import torch
from torch import nn

from proxies import score_model
from proxies.batch import Minibatch
from proxies.passes import Run
from proxies.passes.blocks import blocks_of
from proxies.stack import Single
from spaces.nasbench201.network import Cell, Reduction
from spaces.nasbench201.space import NASBench201
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case

NAMES = ["az_expressivity", "az_progressivity", "az_trainability", "az_complexity"]


class TestExpressivity(Conformance):
    name = "az_expressivity"


class TestProgressivity(Conformance):
    name = "az_progressivity"


class TestTrainability(Conformance):
    name = "az_trainability"


class TestComplexity(Conformance):
    name = "az_complexity"


class Chain(nn.Module):
    """Blocks one after another, listed."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def blocks(self):
        return list(self.parts)

    def forward(self, images):
        features = 1 * images  # so that the first block is given features
        for part in self.parts:
            features = part(features)
        return features.flatten(1)


class Fixed(nn.Module):
    """A 1x1 convolution by a matrix that no pass draws; ``weight`` is there for its sake."""

    def __init__(self, matrix):
        super().__init__()
        self.register_buffer("matrix", torch.as_tensor(matrix, dtype=torch.float64))
        self.idle = nn.Linear(1, 1)

    def forward(self, features):
        return torch.einsum("oc,nchw->nohw", self.matrix.to(features), features)


def run(model, shape=(3, 8, 8)):
    torch.manual_seed(0)
    empty = torch.empty((0, *shape), dtype=torch.float64)
    return Run(Single(model), Minibatch(empty, None, "none"))


def entropies(model, **options):
    return run(model, **options).record("entropies").values[0].tolist()


def gains(model, **options):
    return run(model, **options).record("gains").values[0].tolist()


def scores(model, inputs=None):
    inputs = torch.randn(2, 3, 8, 8) if inputs is None else inputs
    return list(score_model(model, inputs, proxies=NAMES, dtype="float64").values())


# -- entropy --------------------------------------------------------------------------------------


def test_entropy_of_known_components():
    """White noise has components 1, 1, 1; diag(1, 2, 0) makes them 1, 4, 0."""
    white, skewed = entropies(Chain(Fixed(np.diag([1.0, 2.0, 0.0]))), shape=(3, 32, 32))
    assert white == pytest.approx(math.log(3), abs=1e-4)
    assert skewed == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8), abs=5e-3)


@pytest.mark.parametrize("channels", [2, 5, 16])
def test_entropy_is_at_most_the_log_of_the_channels(channels):
    found = entropies(Chain(nn.Conv2d(3, channels, 3), nn.ReLU(), nn.Conv2d(channels, 7, 1)))
    bounds = [3, channels, channels, min(channels, 7)]
    assert all(0 <= e <= math.log(b) + 1e-9 for e, b in zip(found, bounds, strict=True))


def test_expressivity_sums_and_progressivity_takes_the_least_increase():
    model = Chain(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU())
    found = np.array(entropies(model))
    expressivity, progressivity, _, _ = scores(model)
    assert expressivity == pytest.approx(found.sum())
    assert progressivity == pytest.approx(np.diff(found).min())
    assert progressivity < 0


def test_mixing_channels_by_a_rotation_leaves_the_entropy():
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    before, after = entropies(Chain(Fixed(3 * rotation)))
    assert after == pytest.approx(before, rel=1e-9)


# -- gain -----------------------------------------------------------------------------------------


def test_gain_of_a_known_matrix_is_its_largest_singular_value():
    matrix = np.random.default_rng(0).standard_normal((5, 3))
    (gain,) = gains(Chain(Fixed(matrix)), shape=(3, 64, 64))
    assert gain == pytest.approx(np.linalg.norm(matrix, 2), rel=0.02)


class Unshuffle(nn.Module):
    """Halves the image, all pixels kept: an isometry."""

    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(1, 1)

    def forward(self, features):
        return nn.functional.pixel_unshuffle(features, 2)


def test_gain_of_a_block_that_halves_the_image():
    (gain,) = gains(Chain(Unshuffle()), shape=(3, 64, 64))
    assert gain == pytest.approx(1, rel=0.03)
    # An average of four pixels: the row (1, 1, 1, 1) / 4 has norm 1 / 2.
    pooled = Chain(nn.AvgPool2d(2), Fixed(np.eye(3)))
    assert gains(pooled, shape=(3, 64, 64))[0] == pytest.approx(0.5, rel=0.03)


class Shrink(nn.Module):
    """Keeps the inner pixels, or every second one."""

    def __init__(self, step):
        super().__init__()
        self.idle = nn.Linear(1, 1)
        self.step = step

    def forward(self, features):
        return features[..., ::2, ::2] if self.step == 2 else features[..., 1:-1, 1:-1]


@pytest.mark.parametrize("step,size", [(1, 64), (2, 63)])
def test_gain_where_sizes_do_not_divide(step, size):
    """Each output is one input, which the cells must find although borders are missing."""
    (gain,) = gains(Chain(Shrink(step)), shape=(3, size, size))
    assert gain == pytest.approx(1, rel=0.03)


def test_a_block_that_enlarges_the_image_has_no_gain():
    assert math.isnan(gains(Chain(nn.Conv2d(3, 3, 1), nn.Upsample(scale_factor=2)))[1])


def test_trainability_is_greatest_for_gains_of_one():
    def trainability(gain):
        return scores(Chain(Fixed(gain * np.eye(3))), torch.randn(2, 3, 32, 32))[2]

    one = trainability(0.999)
    assert one == pytest.approx(0, abs=2e-3)
    assert one > trainability(2) > trainability(5)
    assert one > trainability(0.5) > trainability(0.2)
    assert trainability(2) == pytest.approx(2 - 2 - 1 / 2, abs=0.03)


def test_trainability_means_over_blocks():
    model = Chain(Fixed(2 * np.eye(3)), nn.AvgPool2d(2), Fixed(np.diag([1.0, 3.0, 1.0])))
    s = np.array(gains(model))
    assert scores(model)[2] == pytest.approx((2 - s - 1 / (s + 1e-6)).mean())


def test_the_graph_ends_at_the_block():
    """The gain of a block does not hold that of the one after it."""
    matrix = np.diag([1.0, 2.0, 3.0])
    once, twice = gains(Chain(Fixed(matrix), Fixed(matrix)), shape=(3, 64, 64))
    assert once == pytest.approx(twice, rel=0.02) == pytest.approx(3, rel=0.02)


# -- undefined values -----------------------------------------------------------------------------


def test_a_block_that_is_the_identity_has_no_trainability():
    model = Chain(nn.Conv2d(3, 4, 1), nn.Identity())
    with pytest.warns(
        UserWarning, match=r"az_trainability is NaN: the value is not finite \(nan\)"
    ):
        found = dict(zip(NAMES, scores(model), strict=True))
    assert math.isnan(found["az_trainability"])
    assert found["az_progressivity"] <= 0
    assert math.isfinite(found["az_expressivity"])


def test_dead_features_have_no_entropy_and_the_worst_gain():
    model = Chain(nn.Conv2d(3, 4, 1), Fixed(np.zeros((4, 4))))
    with pytest.warns(UserWarning, match="the value is not finite"):
        expressivity, progressivity, trainability, _ = scores(model)
    assert math.isnan(expressivity)
    assert math.isnan(progressivity)
    assert trainability < -1e5


def test_no_block_is_nan_with_its_reason():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.warns(UserWarning, match="no block that maps features to features"):
        found = scores(model, torch.randn(2, 3, 2, 2))
    assert all(math.isnan(value) for value in found[:3])
    assert found[3] == 24


# -- what takes part ------------------------------------------------------------------------------


def test_weights_and_inputs_take_no_part():
    model, inputs, _ = case("Residual", 1)
    before = scores(model, inputs)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    assert scores(model, torch.randn_like(inputs[:3])) == before


def test_complexity_is_flops():
    model, inputs, _ = case("Separable", 1)
    found = score_model(model, inputs, proxies=["flops", "az_complexity"])
    assert found["flops"] == found["az_complexity"] > 0


def test_in_place_activations_change_nothing():
    outside = Chain(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    inside = Chain(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1))
    assert scores(inside) == scores(outside)


def test_what_is_done_to_a_block_s_output_later_is_not_the_block_s():
    class Doubled(Chain):
        def forward(self, images):
            features = 1 * images
            for part in self.parts:
                features = part(features).mul_(3)
            return features.flatten(1)

    parts = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
    assert gains(Doubled(*parts)) == gains(Chain(*parts))


# -- the rule of blocks ---------------------------------------------------------------------------


def test_blocks_of_nasbench201_are_cells_and_reductions():
    network = NASBench201("cifar10").network((1, 2, 3, 4, 0, 1))
    listed = blocks_of(Single(network))
    assert [type(b) for b in listed] == [
        *[Cell] * 5,
        *([Reduction] + [Cell] * 5) * 2,
    ]
    found = run(network, shape=(3, 32, 32))
    assert found.record("entropies").values.shape == (1, 18)
    assert found.record("gains").values.shape == (1, 17)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, features):
        return self.conv(features)


class Staged(nn.Module):
    """Stem, stages of blocks, head: as most networks are written."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList([nn.Sequential(Body(), Body()), nn.Sequential(Body())])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))

    def forward(self, images):
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return self.head(features)


def test_containers_are_opened_down_to_what_has_parts():
    model = Staged()
    bodies = [body for stage in model.stages for body in stage]
    # Stem and head have parts, too, but no call of theirs maps features to features.
    assert blocks_of(Single(model)) == [model.stem, *bodies, model.head]


def test_stem_and_head_are_no_calls():
    assert len(run(Staged()).record("blocks")) == 3


def test_a_network_of_plain_layers_has_its_layers_as_blocks():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(144, 2)
    )
    assert blocks_of(Single(model)) == [model[0], model[2], model[4]]
    assert len(run(model).record("blocks")) == 1


def test_a_block_called_twice_counts_twice():
    body = Body()
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(body, body), nn.Flatten())
    assert len(run(model).record("blocks")) == 2


# -- the published facts --------------------------------------------------------------------------


def test_a_good_cell_is_above_a_poor_one():
    """All convolutions of 3x3 against a lone average pooling."""
    space = NASBench201("ImageNet16-120")
    inputs = torch.zeros(1, 3, 16, 16)
    good = score_model(space.network((3, 3, 3, 3, 3, 3)), inputs, proxies=NAMES)
    poor = score_model(space.network((0, 0, 0, 4, 0, 0)), inputs, proxies=NAMES)
    assert all(good[name] > poor[name] for name in NAMES)
