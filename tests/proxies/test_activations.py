import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

from proxies import ScoringService, activations, registry, score_model
from proxies.batch import Minibatch
from proxies.passes import Run
from proxies.passes.activations import Patterns, Signs
from proxies.stack import Single
from spaces.nasbench201.space import NASBench201
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case

BY_HAND = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])


class TestNaswot(Conformance):
    name = "naswot"


class TestNaswotEval(Conformance):
    name = "naswot_eval"


class TestSwap(Conformance):
    name = "swap"


class TestRegSwap(Conformance):
    name = "reg_swap"


class TestLinearRegions(Conformance):
    name = "linear_regions"


def score(name, model, inputs):
    return score_model(model, inputs, proxies=[name])[name]


def identity_layer(width=2):
    layer = nn.Linear(width, width, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def numpy_naswot(signs):
    """The published formula, as published."""
    kernel = 0
    for x in (s.flatten(1).numpy().astype(float) for s in signs):
        kernel = kernel + x @ x.T + (1 - x) @ (1 - x.T)
    return np.linalg.slogdet(kernel)[1]


def hooked_signs(model, images):
    signs = []

    def hook(_, given, __):
        signs.append(given[0] > 0)

    relus = [part for part in model if "ReLU" in type(part).__name__]
    handles = [relu.register_forward_hook(hook) for relu in relus]
    model(images)
    for handle in handles:
        handle.remove()
    return signs


def fresh(model):
    for part in model:
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
    return model


@pytest.mark.parametrize("name", ["naswot", "naswot_eval", "nwot"])
def test_naswot_by_hand(name):
    # Agreeing units: [[2, 1, 0], [1, 2, 1], [0, 1, 2]], of determinant 4.
    model = nn.Sequential(identity_layer(), nn.ReLU())
    assert score(name, model, BY_HAND) == pytest.approx(math.log(4))


def test_units_that_are_missing_count_as_never_on():
    # [[2, 1, 0], [1, 2, 1], [0, 1, 2]] and 3 for each entry.
    model = nn.Sequential(identity_layer(), nn.ReLU())
    assert score("naswot_eval(units=5)", model, BY_HAND) == pytest.approx(math.log(16))
    for units in (0, 1, 2):
        name = f"naswot_eval(units={units})"
        assert score(name, model, BY_HAND) == score("naswot_eval", model, BY_HAND)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_naswot_is_the_published_formula(batch_norm):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d if batch_norm else nn.Identity
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3), norm(5), nn.ReLU(), nn.Conv2d(5, 7, 3), norm(7), nn.ReLU6(),
        nn.Flatten(), nn.Linear(112, 9), nn.LeakyReLU(), nn.Linear(9, 9), nn.PReLU(),
    )  # fmt: skip
    images = torch.randn(6, 3, 8, 8)
    expected = {
        "naswot": numpy_naswot(hooked_signs(model.train(), images)),
        "naswot_eval": numpy_naswot(hooked_signs(fresh(model).eval(), images)),
    }
    fresh(model)
    scores = score_model(model, images, proxies=list(expected))
    assert scores == pytest.approx(expected, rel=1e-6)
    assert (expected["naswot"] != expected["naswot_eval"]) == batch_norm


RELUS = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "functional": functional.relu,
    "functional in place": lambda x: functional.relu(x, inplace=True),
    "method": lambda x: x.relu(),
    "tensor in place": torch.relu_,
    "relu6": functional.relu6,
    "hardtanh in place": lambda x: functional.hardtanh(x, 0.0, 3.0, inplace=True),
    "leaky": functional.leaky_relu,
}


@pytest.mark.parametrize("name", ["naswot", "naswot_eval", "swap"])
@pytest.mark.parametrize("relu", RELUS.values(), ids=RELUS)
def test_every_way_to_write_a_relu(name, relu):
    class Model(nn.Module):
        def __init__(self, relu):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 4, 3), relu

        def forward(self, images):
            return self.relu(self.conv(images)).mean((2, 3))

    torch.manual_seed(0)
    model, plain = Model(relu), Model(nn.ReLU())
    plain.conv.load_state_dict(model.conv.state_dict())
    images = torch.randn(5, 3, 6, 6)
    assert score(name, model, images) == score(name, plain, images)


@pytest.mark.parametrize("other", [nn.Tanh(), nn.GELU(), nn.Hardtanh(), nn.Identity()])
@pytest.mark.parametrize("name", ["naswot", "naswot_eval", "swap", "reg_swap", "linear_regions"])
def test_without_relu_there_is_no_score(name, other):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), other, nn.Flatten(), nn.Linear(64, 2))
    with pytest.warns(UserWarning, match=f"{name} is NaN: ValueError: the network has no ReLU"):
        assert math.isnan(score(name, model, torch.randn(3, 3, 6, 6)))


def test_a_network_that_is_always_off():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    nn.init.constant_(model[0].bias, -1e6)
    images = torch.randn(3, 3, 6, 6)
    for name in ("naswot", "naswot_eval"):
        with pytest.warns(UserWarning, match="linearly dependent: det K = 0"):
            assert math.isnan(score(name, model, images))
    assert score("swap", model, images) == 1
    assert score("linear_regions", model, images) == 1


def test_examples_that_are_alike_have_no_determinant():
    model, inputs, _ = case("NoNorm", 1)
    with pytest.warns(UserWarning, match="linearly dependent"):
        assert math.isnan(score("naswot", model, inputs[[0, 1, 2, 1]]))


@settings(max_examples=10, deadline=None)
@given(
    model=st.sampled_from(["Plain", "Residual", "Separable", "NoNorm"]),
    seed=st.integers(0, 99),
    exponent=st.integers(-6, 6),
)
def test_order_of_the_batch_and_scale_take_no_part(model, seed, exponent):
    """Signs survive scaling of a network without BatchNorm and biases by a power of two."""
    network, inputs, _ = case(model, 1)
    names = ["naswot", "naswot_eval", "swap"]
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))
    expected = score_model(network, inputs, proxies=names)
    assert score_model(network, inputs[order], proxies=names) == pytest.approx(expected, rel=1e-3)
    bare = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 3, bias=False))
    bare.append(nn.ReLU())
    expected = score_model(bare, inputs, proxies=names)
    with torch.no_grad():
        bare[0].weight.mul_(2.0**exponent)
    assert score_model(bare, inputs, proxies=names) == expected


def test_a_relu_on_a_relu_doubles_the_kernel_and_adds_no_pattern():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    images = torch.randn(6, 3, 8, 8)
    names = ["naswot", "naswot_eval", "swap"]
    once = score_model(nn.Sequential(conv, nn.ReLU()), images, proxies=names)
    twice = score_model(nn.Sequential(conv, nn.ReLU(), nn.ReLU()), images, proxies=names)
    assert twice["swap"] == once["swap"]
    for name in ("naswot", "naswot_eval"):
        assert twice[name] == pytest.approx(once[name] + 6 * math.log(2))


def test_dead_branches_count():
    """What runs is seen, whether or not anything comes of it; spaces leave dead branches out."""

    class Model(nn.Module):
        def __init__(self, dead):
            super().__init__()
            self.conv, self.dead = nn.Conv2d(3, 4, 3), dead

        def forward(self, images):
            features = self.conv(images)
            waste = torch.relu(-features) if self.dead else 0
            return torch.relu(features) + 0 * waste

    torch.manual_seed(0)
    alive, dead, images = Model(False), Model(True), torch.randn(5, 3, 6, 6)
    dead.load_state_dict(alive.state_dict())
    assert score("naswot", dead, images) == pytest.approx(
        score("naswot", alive, images) + 5 * math.log(2)
    )


# -- evaluation mode ------------------------------------------------------------------------------


def test_transformers_show_their_relus():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True)
    scores = score_model(layer, torch.randn(4, 5, 8), proxies=["naswot", "naswot_eval"])
    assert math.isfinite(scores["naswot"])
    assert scores["naswot_eval"] == scores["naswot"]


def test_fresh_batch_norms_are_alike_with_and_without_running_statistics():
    def model(running):
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=running), nn.ReLU()
        flat = nn.Linear(64, 5), nn.BatchNorm1d(5, track_running_stats=running), nn.ReLU()
        network = nn.Sequential(*layers, nn.Flatten(), *flat)
        for norm in (network[1], network[5]):
            nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
        return network

    images = 3 + torch.randn(6, 3, 6, 6)
    assert score("naswot_eval", model(False), images) == score("naswot_eval", model(True), images)


def test_evaluation_uses_the_running_statistics_that_there_are():
    model = nn.Sequential(identity_layer(), nn.BatchNorm1d(2), nn.ReLU())
    shifted = BY_HAND + torch.tensor([100.0, -50.0])
    model[1].running_mean.copy_(torch.tensor([100.0, -50.0]))
    assert score("naswot_eval", model, shifted) == pytest.approx(math.log(4))


@pytest.mark.slow
def test_ranks_cells_of_nasbench201_by_accuracy(tmp_path):
    """Published over all cells: Kendall .557 for naswot; 60 random cells vary around it."""
    space = NASBench201()
    archs = space.sample(np.random.default_rng(1), 60)
    service = ScoringService(space, store=tmp_path / "scores.sqlite")
    names = ["naswot", "naswot_eval", "swap", "reg_swap"]
    scores = service.score(archs, names)
    table = space.table()
    accuracy = table.test[table.rows(archs)]
    for name in names:
        assert spearmanr(scores.column(name), accuracy).statistic > 0.6


# -- swap -----------------------------------------------------------------------------------------


def test_swap_by_hand():
    # One image per example of two pixels; two channels, the second the first's negative.
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    images = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [1.0, 3.0]]).view(3, 1, 1, 2)
    assert score("swap", model, images) == 2  # 101 and 010, each twice
    images[0, 0, 0, 1] = -2
    assert score("swap", model, images) == 4  # 101, 010, 001, 110


@settings(max_examples=40, deadline=None)
@given(
    examples=st.sampled_from([1, 2, 7, 8, 63, 64, 65, 128, 130]),
    density=st.sampled_from([0.0, 0.02, 0.5]),
    seed=st.integers(0, 999),
)
def test_swap_counts_distinct_columns(examples, density, seed):
    generator = torch.Generator().manual_seed(seed)
    calls = [
        torch.rand((examples, *shape), generator=generator) < density
        for shape in ((3, 5, 5), (4, 2, 2), (30,), (2, 40))
    ]
    columns = torch.cat([c.flatten(1) for c in calls if c.dim() > 2], 1).T.numpy()
    signs = [Signs(call.unsqueeze(0), torch.zeros(1, dtype=torch.int64)) for call in calls]
    assert activations.swap(Patterns(signs)).tolist() == [len(np.unique(columns, axis=0))]


def test_swap_is_at_most_the_number_of_units_and_of_patterns():
    model, inputs, _ = case("Residual", 1)
    assert score("swap", model, inputs[:3]) == 2**3
    assert score("swap", model, inputs) <= 4 * 8 * 16 * 16


def test_swap_of_vectors_alone_is_nan_with_its_reason():
    model = nn.Sequential(identity_layer(), nn.ReLU())
    with pytest.warns(UserWarning, match="no ReLU on feature maps"):
        assert math.isnan(score("swap", model, BY_HAND))


def test_reg_swap_damps_by_parameters():
    model, inputs, _ = case("Residual", 1)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    scores = score_model(model, inputs, proxies=["swap", "reg_swap"])
    factor = math.exp(-((millions - 1.5) ** 2) / 1.5)
    assert scores["reg_swap"] == pytest.approx(scores["swap"] * factor)


def test_regularised_takes_other_constants():
    model, inputs, _ = case("Residual", 1)
    run = Run(Single(model), Minibatch(inputs, None, "test"), {"activations_and_parameters"})
    record = run.record("activations_and_parameters")
    undamped = activations.regularised(record, float(record.parameters) / 1e6, 1)
    assert undamped.item() == activations.swap(record.patterns).item()


# -- linear regions -------------------------------------------------------------------------------


@pytest.mark.parametrize("units,regions", [(1, 2), (2, 4), (3, 6)])
def test_lines_through_the_origin_of_a_plane(units, regions):
    """``units`` lines cut a plane into twice as many regions, and 3,000 points find them all."""
    model = nn.Sequential(nn.Linear(2, units, bias=False), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[:units])
    assert score("linear_regions", model, torch.randn(1, 2)) == regions


def test_a_wide_network_keeps_every_input_apart():
    model, inputs, _ = case("Plain", 1)
    assert score("linear_regions", model, inputs) == 3000


@pytest.mark.parametrize("arch", [(3, 3, 3, 3, 3, 3), (4, 4, 4, 4, 4, 4), (4, 3, 2, 1, 1, 0)])
def test_so_do_cells_of_nasbench201(arch):
    space = NASBench201()
    network = space.network(arch, running_stats=False)
    assert score("linear_regions", network, torch.zeros(1, 3, 32, 32)) == 3000


@pytest.mark.parametrize(
    "model,units",
    [
        (nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU()), 1),
        (nn.Sequential(nn.Conv2d(3, 1, 5), nn.ReLU()), 4 * 4),
        (nn.Sequential(nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(100, 2)), 100),
    ],
    ids=["3x3", "8x8", "its own 10x10"],
)
def test_inputs_are_as_small_as_the_network_takes(model, units):
    run = Run(Single(model), Minibatch.empty((3, 10, 10)), {"regions"})
    assert run.record("regions").codes.shape == (3000, math.ceil(units / 8))


@pytest.mark.parametrize("name", ["linear_regions", "meco"])
def test_what_reads_no_data_sees_only_the_shape(name):
    model, inputs, _ = case("Residual", 1)
    assert not registry.get(name).needs_data
    assert score(name, model, inputs) == score(name, model, 3 + torch.zeros_like(inputs))
