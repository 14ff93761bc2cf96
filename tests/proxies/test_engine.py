import math
import time

import pytest
import torch
from torch import nn

from conf.errors import UsageError
from proxies import ProxyEngine, registry, score_model
from proxies.batch import Minibatch
from proxies.passes import PASSES, Layer, Layers
from proxies.stack import Single
from tests.proxies.conformance import of_networks
from tests.proxies.golden.networks import case


def test_each_pass_runs_once_for_all_that_read_it(monkeypatch):
    runs = []
    original = PASSES["synflow"]
    monkeypatch.setitem(PASSES, "synflow", lambda *a: runs.append(1) or original(*a))
    model, inputs, _ = case("Plain", 1)
    proxy = registry.get("synflow")
    batch = Minibatch(inputs, None, "test")
    scores = ProxyEngine().score(Single(model), batch, [proxy, registry.get("params"), proxy])
    assert runs == [1]
    assert scores.values.shape == scores.seconds.shape == (1, 3)
    assert scores.values[0, 0] == scores.values[0, 2]
    assert (scores.seconds > 0).all()
    assert scores.reasons == {}


@pytest.mark.parametrize("name", ["synflow", "fisher", "zico", "eznas_a", "eznas_enas"])
def test_a_score_takes_no_longer_than_computing_it(name):
    model, inputs, targets = case("Residual", 8)
    began = time.perf_counter()
    scores = ProxyEngine().score(
        Single(model), Minibatch(inputs, targets, "t"), [registry.get(name)]
    )
    assert 0 < scores.seconds[0, 0] <= time.perf_counter() - began


def test_layers_add_up_each_network_for_itself():
    ones = torch.ones(2, 3, 4)
    record = Layers(
        3,
        [
            Layer("a", ones, 2 * ones, torch.tensor([0, 2])),
            Layer("b", torch.ones(3, 5), torch.ones(3, 5), torch.tensor([0, 1, 2])),
            Layer("c", torch.ones(1, 1), torch.ones(1, 1), torch.tensor([2])),
        ],
    )
    total = record.total(lambda w, g: w * g)
    assert total.dtype == torch.float64
    assert total.tolist() == [24 + 5, 5, 24 + 5 + 1]
    norms = record.total(lambda w, g: g.flatten(1).norm(dim=1))
    assert norms.tolist() == pytest.approx([48**0.5 + 5**0.5, 5**0.5, 48**0.5 + 5**0.5 + 1])


def test_running_out_of_memory_is_a_reason(monkeypatch):
    def hungry(run):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setitem(PASSES, "synflow", hungry)
    with pytest.warns(UserWarning, match="synflow is NaN: out of memory"):
        assert math.isnan(score_model(nn.Linear(2, 2), torch.ones(1, 2))["synflow"])


def test_interruption_is_no_reason(monkeypatch):
    def interrupted(run):
        raise KeyboardInterrupt

    monkeypatch.setitem(PASSES, "synflow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_model(nn.Linear(2, 2), torch.ones(1, 2))


@pytest.mark.parametrize("answer", [dict, tuple])
def test_a_network_that_returns_no_tensor_needs_a_hook(answer):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, inputs):
            value = self.layer(inputs)
            return {"out": value} if answer is dict else (value, None)

    model, inputs = Odd(), torch.ones(2, 3)
    with pytest.raises(UsageError, match=f"returns a {answer.__name__}, .*output="):
        score_model(model, inputs)
    picked = score_model(model, inputs, output=lambda r: r["out" if answer is dict else 0])
    assert picked == score_model(nn.Sequential(model.layer), inputs)


@pytest.mark.parametrize(
    "inputs,message",
    [
        (torch.tensor([[1.0, math.nan]]), "NaN or infinity"),
        (torch.tensor([[1.0, -math.inf]]), "NaN or infinity"),
        (torch.ones(1, 2, dtype=torch.int64), "floating tensor .* not torch.int64"),
        (torch.ones(0, 2), r"must hold an example .* \(0, 2\)"),
        ([[1.0, 2.0]], "floating tensor .* not list"),
    ],
)
def test_inputs_that_make_no_sense_are_refused(inputs, message):
    with pytest.raises(UsageError, match=message):
        score_model(nn.Linear(2, 4), inputs)


@pytest.mark.parametrize(
    "targets,message",
    [
        (torch.tensor([0, 4]), "0 to 3, but they range from 0 to 4"),
        (torch.tensor([-1, 3]), "0 to 3, but they range from -1 to 3"),
        (torch.tensor([0]), r"one class index per input, \[2\], not shape \(1,\)"),
        (torch.tensor([0.0, 1.0]), "int64 tensor of class indices, not torch.float32"),
    ],
)
def test_targets_that_make_no_sense_are_refused(targets, message):
    with pytest.raises(UsageError, match=message):
        score_model(nn.Linear(2, 4), torch.ones(2, 2), targets)


def test_requests_that_make_no_sense_are_refused():
    with pytest.raises(UsageError, match="proxy=magic is unknown"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=["magic"])
    with pytest.raises(UsageError, match=r"service\.device=tpu is unknown; .* auto, cpu, cuda"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), device="tpu")
    with pytest.raises(UsageError, match="model must be"):
        score_model("resnet", torch.ones(1, 2))


@pytest.mark.parametrize("proxies", [None, 3, [3], ["synflow", None]])
def test_proxies_that_are_no_names_are_refused(proxies):
    with pytest.raises(UsageError, match="proxies must be names of proxies"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=proxies)


def test_an_output_that_picks_nothing_is_refused():
    with pytest.raises(UsageError, match=r"output must be a function .*, not 'a'"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), output="a")


@pytest.mark.parametrize(
    "name", [n for n in of_networks() if registry.get(n).needs_labels and n != "epe_nas"]
)
def test_a_loss_of_one_class_is_nan_with_its_reason(name):
    model, inputs, targets = case("Residual", 1)
    model = nn.Sequential(model, nn.Linear(10, 1))
    with pytest.warns(UserWarning, match=f"{name} is NaN: .*single class is always 0"):
        assert math.isnan(score_model(model, inputs, 0 * targets, [name])[name])


def test_results_are_named_as_asked():
    scores = score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=["macs", "synaptic_flow"])
    assert list(scores) == ["macs", "synaptic_flow"]
    assert scores["macs"] == 4


IN_TRAINING = {
    *("activations", "activations_and_parameters", "channels", "class_jacobian", "curvature"),
    *("gradients", "halves", "jacobian", "signs", "tangent_kernel", "training"),
}
"""Passes that run the minibatch with dropout, seeded."""


@pytest.mark.parametrize(
    "name", [name for name in of_networks() if registry.get(name).reads not in IN_TRAINING]
)
def test_dropout_takes_no_part(name):
    def network(chance):
        torch.manual_seed(0)
        layers = []
        for channels in (3, 4, 4):
            block = nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
            layers += [nn.Sequential(*block), nn.Dropout(chance)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    inputs = case("Plain", 1)[1]
    expected, found = (score_model(network(p), inputs, proxies=[name])[name] for p in (0.0, 0.5))
    assert found == expected


DRAWN = {"blocks", "entropies", "gains", "movement", "statistics"}
"""Passes that draw weights of their own."""

COUNTED = {"operations", "parameters"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "name", [name for name in of_networks() if registry.get(name).reads not in DRAWN | COUNTED]
)
def test_weights_that_are_not_finite_are_nan_with_their_reason(name, value):
    model, inputs, targets = case("Residual", 1)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = value
    with pytest.warns(UserWarning, match=f"{name} is NaN: .* finite"):
        assert math.isnan(score_model(model, inputs, targets, [name])[name])


@pytest.mark.parametrize(
    "name",
    [n for n in of_networks() if registry.get(n).reads not in {*COUNTED, "weights", "movement"}],
)
def test_networks_that_return_nan_have_no_score(name):
    class Undefined(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images) * math.nan

    model, inputs, targets = case("Residual", 1)
    with pytest.warns(UserWarning, match=f"{name} is NaN: .* finite"):
        assert math.isnan(score_model(Undefined(model), inputs, targets, [name])[name])


@pytest.mark.parametrize("fused", [True, False])
def test_fused_attention_comes_back_as_it_was(fused):
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fused)
    try:
        with ProxyEngine().session():
            assert not torch.backends.mha.get_fastpath_enabled()
        assert torch.backends.mha.get_fastpath_enabled() == fused
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_cuda_gives_the_same_scores():
    model, inputs, targets = case("Separable", 1)
    amplify_rounding = {"gradsign", "reduced_training", "tse"}
    names = [name for name in of_networks() if name not in amplify_rounding]
    on_cpu = score_model(model, inputs, targets, names, device="cpu")
    on_cuda = score_model(model, inputs, targets, names, device="cuda")
    assert on_cuda == pytest.approx(on_cpu, rel=1e-3)
    assert next(model.parameters()).device.type == "cpu"
