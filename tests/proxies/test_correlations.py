import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from proxies import score_model
from proxies.correlations import epe_nas, meco
from proxies.passes.correlations import ClassJacobian, FeatureMaps
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case

K = 1e-5
HALF = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # correlation -1/2
SAME = [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]]  # correlation 1
ONE = math.log(1 + K)
S_HALF = 2 * ONE + 2 * math.log(0.5 + K)


class TestEPENAS(Conformance):
    name = "epe_nas"


class TestMeCo(Conformance):
    name = "meco"


class TestMeCo64(Conformance):
    name = "meco_64"


def score(name, model, inputs, targets=None):
    return score_model(model, inputs, targets, [name])[name]


def by_class(rows, targets, classes):
    record = ClassJacobian(torch.tensor([rows]), torch.tensor(targets), classes)
    return epe_nas(record).tolist()


def test_epe_nas_by_hand():
    rows, targets = [*HALF, *SAME, [5.0, 6.0, 8.0]], [7, 7, 2, 2, 0]
    assert by_class(rows, targets, 10) == pytest.approx([-S_HALF + 4 * ONE + ONE])


def test_epe_nas_by_hand_with_more_than_100_classes():
    rows, targets = [*HALF, *SAME, [5.0, 6.0, 8.0]], [110, 110, 2, 2, 0]
    assert by_class(rows, targets, 120) == pytest.approx([abs(S_HALF / 2 - 4 * ONE / 2)])


def test_epe_nas_of_many_classes_needs_a_pair():
    with pytest.raises(ValueError, match="two examples of one class"):
        by_class([*HALF, *SAME], [0, 1, 2, 3], 101)


@settings(max_examples=10, deadline=None)
@given(
    model=st.sampled_from(["Plain", "Residual", "NoNorm"]),
    scale=st.floats(0.01, 100),
    seed=st.integers(0, 99),
)
def test_epe_nas_of_a_network(model, scale, seed):
    """Against numpy, whatever the order of the examples and the scale of the logits."""
    network, inputs, targets = case(model, 1)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        network.head.weight.mul_(scale)
        network.head.bias.mul_(scale)
    images = inputs.clone().requires_grad_()
    network.train()(images).sum().backward()
    rows = images.grad.flatten(1).double().numpy()
    expected = 0
    for c in np.unique(targets):
        r = np.corrcoef(rows[targets.numpy() == c])
        expected += abs(np.log(np.abs(r) + K).sum())
    value = score("epe_nas", network, inputs[order], targets[order])
    assert value == pytest.approx(expected, rel=1e-3)


def test_epe_nas_sees_the_labels():
    network, inputs, targets = case("Residual", 1)
    assert score("epe_nas", network, inputs, targets) != score(
        "epe_nas", network, inputs, targets.roll(1)
    )


def test_epe_nas_of_a_network_whose_output_is_constant():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    nn.init.zeros_(network[1].weight)
    with pytest.warns(UserWarning, match="epe_nas is NaN: the value is not finite"):
        value = score("epe_nas", network, torch.randn(4, 3, 2, 2), torch.tensor([0, 0, 1, 1]))
    assert math.isnan(value)


# -- meco -----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(-50, 50).filter(lambda c: abs(c) > 0.1))
def test_meco_of_two_channels_is_one_less_their_correlation(seed, scale):
    """The eigenvalues of [[1, r], [r, 1]] are 1 - r and 1 + r; scale and shift take no part."""
    maps = torch.randn(2, 9, generator=torch.Generator().manual_seed(seed))
    r = np.corrcoef(maps.numpy())[0, 1]
    moved = torch.stack([maps[0] * scale + 3, maps[1]])
    for features in (maps, moved):
        assert meco(FeatureMaps([features])).item() == pytest.approx(1 - abs(r), abs=1e-4)


def test_meco_adds_modules_up_and_a_constant_channel_gives_0():
    uncorrelated = torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]])
    constant = torch.cat([uncorrelated, torch.ones(1, 4)])
    assert meco(FeatureMaps([uncorrelated])).item() == pytest.approx(1)
    assert meco(FeatureMaps([uncorrelated, constant, uncorrelated])).item() == pytest.approx(2)


def test_meco_of_more_channels_than_positions_is_0():
    assert meco(FeatureMaps([torch.randn(8, 5)])).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("model", ["Plain", "Residual", "Separable", "Unused", "NoNorm"])
def test_meco_reads_every_module(model):
    network, inputs, _ = case(model, 1)
    found = []

    def hook(_, __, output):
        if output.dim() == 4:
            matrix = np.corrcoef(output[0].detach().flatten(1).double().numpy())
            found.append(np.linalg.eigvalsh(np.nan_to_num(matrix)).min())

    state = torch.get_rng_state()
    torch.manual_seed(0)
    noise = torch.randn(1, *inputs.shape[1:])
    torch.set_rng_state(state)
    handles = [part.register_forward_hook(hook) for part in network.modules()]
    network.train()(noise)
    for handle in handles:
        handle.remove()
    assert len(found) > 1
    assert score("meco", network, inputs) == pytest.approx(sum(found), rel=1e-4, abs=1e-9)


def test_meco_64_is_meco_of_images_of_that_size():
    network, _, _ = case("Residual", 1)
    small, large = torch.zeros(2, 3, 16, 16), torch.zeros(2, 3, 64, 64)
    assert score("meco_64", network, small) == score("meco", network, large)
    assert score("meco_64", network, small) != score("meco", network, small)


def test_meco_64_of_a_network_for_one_size_is_nan_with_its_reason():
    network, inputs, _ = case("NoNorm", 1)
    with pytest.warns(UserWarning, match="meco_64 is NaN: RuntimeError"):
        assert math.isnan(score("meco_64", network, inputs))


def test_meco_sees_what_was_there_before_an_activation_overwrote_it():
    torch.manual_seed(0)
    outside = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    inside = nn.Sequential(outside[0], nn.ReLU(inplace=True), outside[2])
    images = torch.randn(2, 3, 9, 9)
    assert score("meco", inside, images) == score("meco", outside, images)


def test_meco_without_feature_maps_is_nan_with_its_reason():
    with pytest.warns(UserWarning, match="no module of the network returns feature maps"):
        assert math.isnan(score("meco", nn.Sequential(nn.Linear(3, 3)), torch.randn(2, 3)))
