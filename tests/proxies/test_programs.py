"""Programs over the statistics of units: the statistics by definition, and the proxies."""

import gc
import math
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from conf.errors import UsageError
from proxies import ScoringService, programs, registry, score_model
from proxies.batch import Minibatch
from proxies.passes import Run
from proxies.stack import Single
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case
from tests.proxies.tiny_space import TinySpace


class TestProgram(Conformance):
    name = "program"

    def test_does_not_depend_on_the_order_of_the_batch(self, golden):
        """But for gradients so small that rounding decides their sign."""
        model, inputs, targets = golden
        score = self.score(model, inputs.flip(0), targets.flip(0))
        assert score == pytest.approx(self.score(*golden), rel=0.05)


class TestEznasA(TestProgram):
    name = "eznas_a"


class TestEznasAPaper(Conformance):
    name = "eznas_a_paper"


def statistics(model, inputs):
    run = Run(Single(model), Minibatch(inputs, None, "made"), {"statistics"})
    return run, run.record("statistics")


class Preactivated(nn.Module):
    """A stem and two units of ReLU, convolution and BatchNorm, the second depthwise first."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.first = nn.Sequential(
            nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        )
        self.second = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Conv2d(6, 6, 3, groups=6, bias=False),
            nn.Conv2d(6, 4, 1, bias=False),
            nn.BatchNorm2d(4),
        )
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        features = self.second(self.first(self.stem(images)))
        features += 1  # as residual networks do
        return self.head(torch.relu(features).mean((2, 3)))


class Postactivated(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.conv, self.norm = nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        # A hard tanh from zero is a ReLU: ReLU6.
        features = functional.relu6(self.norm(self.conv(self.stem(images) - 0.1)))
        return self.head(features.mean((2, 3)))


def watched(model, tensors, inputs, watch):
    """Values and gradients of what modules are given and return, by hooks, on other weights."""
    model.train()
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            tensor.copy_(tensors[name])
    kept = {}

    def keep(name, tensor):
        tensor.retain_grad()
        kept[name] = tensor

    for name, (part, which) in watch.items():
        if which == "given":
            part.register_forward_pre_hook(lambda _, given, name=name: keep(name, given[0]))
        else:
            part.register_forward_hook(lambda _, __, result, name=name: keep(name, result))
    model(inputs).sum().backward()
    return {name: (tensor.detach(), tensor.grad) for name, tensor in kept.items()}


@pytest.mark.parametrize("scenario", ["data", "noise", "perturbed"])
def test_statistics_of_a_preactivated_unit(scenario):
    torch.manual_seed(0)
    model, inputs = Preactivated(), torch.randn(4, 3, 8, 8)
    run, found = statistics(model, inputs)
    units = found.of(scenario)
    assert [tuple(unit.weight.shape) for unit in units] == [(6, 4, 3, 3), (4, 6, 1, 1)]
    draw = run.record("statistics_draw")
    relu, conv, norm = model.first
    expected = watched(
        model,
        draw.tensors,
        draw.inputs[scenario],
        {
            "input": (relu, "given"),
            "preactivation": (conv, "given"),
            "activation": (norm, "returned"),
        },
    )
    for kind, (value, gradient) in expected.items():
        torch.testing.assert_close(units[0].recorded[kind], value)
        torch.testing.assert_close(units[0].recorded[f"{kind}_gradient"], gradient)
    torch.testing.assert_close(units[0].recorded["weight_gradient"], conv.weight.grad)
    assert torch.equal(units[0].weight, draw.tensors["first.1.weight"])
    torch.testing.assert_close(units[1].recorded["weight_gradient"], model.second[2].weight.grad)
    # The unit's input is the ReLU's, though a depthwise convolution stands between.
    assert torch.equal(units[1].recorded["input"], units[0].recorded["activation"])
    assert units[1].recorded["preactivation"].shape[2:] == (6, 6)


def test_statistics_of_a_postactivated_unit():
    torch.manual_seed(0)
    model, inputs = Postactivated(), torch.randn(4, 3, 8, 8)
    run, found = statistics(model, inputs)
    (unit,) = found.of("data")
    draw = run.record("statistics_draw")
    expected = watched(
        model,
        draw.tensors,
        draw.inputs["data"],
        {"input": (model.conv, "given"), "preactivation": (model.norm, "given")},
    )
    for kind, (value, gradient) in expected.items():
        torch.testing.assert_close(unit.recorded[kind], value)
        torch.testing.assert_close(unit.recorded[f"{kind}_gradient"], gradient)
    assert float(unit.recorded["activation"].min()) == 0.0


def test_perturbed_statistics_are_differences_to_data():
    torch.manual_seed(0)
    run, found = statistics(Preactivated(), torch.randn(4, 3, 8, 8))
    (first, _) = found.groups()
    assert run.seconds("statistics_perturbed") == 0
    by_hand = [
        found.of("perturbed")[0].recorded[kind] - found.of("data")[0].recorded[kind]
        for kind in ("input", "weight_gradient")
    ]
    assert torch.equal(first.terminal("input_perturbed").data[0], by_hand[0])
    assert torch.equal(first.terminal("weight_gradient_perturbed").data[0], by_hand[1])
    assert 0 < float(by_hand[0].abs().mean()) < 1


def test_what_is_recorded_goes_with_its_run():
    """In a circle with it the features of hundreds of networks would wait for the collector."""
    run, found = statistics(Preactivated(), torch.randn(4, 3, 8, 8))
    (unit, _) = found.of("noise", gradients=False)
    assert set(unit.recorded) == {"input", "preactivation", "activation"}
    gone = weakref.ref(run)
    gc.disable()
    try:
        del run
        assert gone() is None
    finally:
        gc.enable()
    assert found.of("noise", gradients=False)[0] is unit
    with pytest.raises(ReferenceError):
        found.of("noise")


def test_a_unit_that_feeds_nothing_counts_zero():
    class Idle(Preactivated):
        def forward(self, images):
            self.second(self.first(self.stem(images)))
            return self.head(self.first(self.stem(images))[:, :4].mean((2, 3)))

    model, inputs = Idle(), torch.randn(4, 3, 8, 8)
    _, found = statistics(model, inputs)
    alive = [unit.alive for unit in found.of("noise", gradients=False)]
    assert alive == [True, False, True]  # the weights of the first are used twice
    (score,) = score_model(model, inputs, proxies=["program(formula='numel(weight)')"]).values()
    assert score == (216 + 0 + 216) / 3


def test_gradients_are_rounding_where_batch_norm_is_last():
    """The sum of the outputs is constant over positions and examples, which BatchNorm takes out."""
    torch.manual_seed(0)
    model = Preactivated()
    model.head = nn.Linear(4, 1)
    plain = nn.Sequential(
        model.stem, model.first, model.second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head
    )
    sizes = []
    for network in (plain, model):
        _, found = statistics(network, torch.randn(8, 3, 8, 8))
        sizes.append(float(found.of("noise")[0].recorded["weight_gradient"].norm()))
    assert sizes[0] < 1e-4 * sizes[1]


def test_a_network_without_units_has_no_score():
    with pytest.warns(UserWarning, match="no convolution that BatchNorm follows"):
        assert math.isnan(
            score_model(nn.Linear(2, 2), torch.randn(2, 2), proxies=["eznas_a"])["eznas_a"]
        )


MISFIT = "matmul(weight, input_noise)"


@pytest.mark.parametrize("formula", [MISFIT, f"sum_over_units({MISFIT})"])
def test_a_network_of_which_no_unit_fits_is_told(formula):
    name = f"program(formula='{formula}')"
    with pytest.warns(UserWarning, match="no unit of the network fits the formula"):
        score = score_model(Preactivated(), torch.randn(4, 3, 8, 8), proxies=[name])[name]
    assert math.isnan(score)


FROZEN = {
    "eznas_a": "frobenius(sigmoid(logdet(sign(input_gradient_data))))",
    "eznas_a_paper": "frobenius(sigmoid(logdet(sign(weight_gradient_noise))))",
    "eznas_top": "square(abs(frobenius(preactivation_noise)))",
    "eznas_enas": "invert(add(frobenius(activation_perturbed), "
    "exp(frobenius(log(sigmoid(log(sigmoid(activation_perturbed))))))))",
    "eznas_pnas": "kl(standardise(standardise(standardise(activation_gradient_perturbed))), "
    "positive(activation_gradient_data))",
    "eznas_nasnet": "frobenius(negative(log(add(log(activation_perturbed), input_noise))))",
    "eznas_wide": "sum_over_units(abslog(mean_abs(det(square(weight)))))",
}


def test_the_frozen_programs_are_their_formulas():
    model, inputs, _ = case("Residual", 1)
    formulas = [f"program(formula='{formula}')" for formula in FROZEN.values()]
    scores = score_model(model, inputs, proxies=[*FROZEN, *formulas])
    assert all(map(math.isfinite, scores.values()))
    values = list(scores.values())
    assert values[: len(FROZEN)] == values[len(FROZEN) :]


@pytest.mark.parametrize(
    ("name", "scenario", "kind"),
    [("eznas_a", "data", "input_gradient"), ("eznas_a_paper", "noise", "weight_gradient")],
)
def test_eznas_a_is_the_published_formula(name, scenario, kind):
    torch.manual_seed(0)
    model, inputs = Preactivated(), torch.randn(4, 3, 8, 8)
    _, found = statistics(model, inputs)
    total = 0.0
    for unit in found.of(scenario):
        logdet = torch.logdet(unit.recorded[kind].sign())
        logdet[logdet.isnan()] = 0
        total += float(logdet.sigmoid().norm())
    # Rounding decides the signs of the smallest gradients and of determinants that are 0.
    score = score_model(model, inputs, proxies=[name])[name]
    assert score == pytest.approx(total / 2, rel=0.02 if name == "eznas_a" else 1e-6)


@pytest.mark.parametrize("formula", ["invert(zeros(weight))", "exp(exp(exp(numel(weight))))"])
def test_a_program_that_divides_by_zero_or_overflows_is_invalid(formula):
    model, inputs, _ = case("Residual", 1)
    name = f"program(formula='{formula}')"
    with pytest.warns(UserWarning, match="the value is not finite"):
        assert math.isnan(score_model(model, inputs, proxies=[name])[name])


def test_equal_formulas_are_one_proxy():
    assert registry.get("program", formula=" sign( weight ) ") is registry.get(
        "program(formula='sign(weight)')"
    )


def test_a_malformed_formula_is_refused_before_anything_is_scored():
    with pytest.raises(UsageError, match="cannot be read at position 6"):
        registry.get("program(formula='sign(heavy)')")


def test_the_scorer_takes_a_formula_or_a_file(tmp_path):
    space = TinySpace()
    service = ScoringService(space, store="memory")
    archs = list(space.enumerate())[-3:]
    expected = service.values(archs, "program(formula='numel(weight)')").tolist()
    file = tmp_path / "formula.txt"
    file.write_text("# how large the kernels are\nnumel(\n  weight)\n")
    for scorer in (
        programs.scorer(service, formula="numel(weight)"),
        programs.scorer(service, file=str(file)),
    ):
        assert scorer(archs).tolist() == expected
    for settings in ({}, {"formula": "weight", "file": str(file)}):
        with pytest.raises(UsageError, match=r"either proxy\.formula"):
            programs.scorer(service, **settings)
    with pytest.raises(UsageError, match=r"proxy\.file=.* cannot be read"):
        programs.scorer(service, file=str(tmp_path / "missing.txt"))


def test_a_long_text_that_is_no_formula_is_cut_in_the_message():
    with pytest.raises(UsageError, match="cannot be read at position") as caught:
        registry.get("program", formula="# Assay " * 1000)
    assert len(str(caught.value)) < 400
