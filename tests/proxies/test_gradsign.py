import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from proxies import score_model
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case


def gradsign(model, inputs, targets, **options):
    return score_model(model, inputs, targets, ["gradsign"], **options)["gradsign"]


class TestGradSign(Conformance):
    name = "gradsign"


# Not "Residual": its last BatchNorm feeds a mean over positions, which is 0 for a single example,
# so that the gradients before it are rounding errors and have no sign.
@pytest.mark.parametrize("name", ["Plain", "Unused", "NoNorm"])
def test_is_the_published_formula(name):
    model, inputs, targets = (p.double() if i < 2 else p for i, p in enumerate(case(name, 2)))
    layers = [m for m in model.train().modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    sums = [torch.zeros_like(layer.weight) for layer in layers]
    for n in range(len(inputs)):
        model.zero_grad()
        functional.cross_entropy(model(inputs[n : n + 1]), targets[n : n + 1]).backward()
        for total, layer in zip(sums, layers, strict=True):
            if layer.weight.grad is not None:
                total.add_(layer.weight.grad.sign())
    expected = sum(total.abs().sum().item() for total in sums)
    assert gradsign(model, inputs, targets, dtype="float64") == expected


def test_by_hand():
    """Logits (w x, 0) at w = 0: the gradient of class 0 is -x / 2 for the first weight."""
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    inputs = torch.tensor([[1.0], [2.0], [3.0]])
    assert gradsign(model, inputs, torch.tensor([0, 0, 0])) == 2 * 3
    assert gradsign(model, inputs, torch.tensor([0, 1, 0])) == 2 * 1


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), examples=st.integers(1, 6))
def test_lies_between_zero_and_full_agreement(seed, examples):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    inputs, targets = torch.randn(examples, 4), torch.randint(0, 3, (examples,))
    score = gradsign(model, inputs, targets)
    assert 0 <= score <= examples * (24 + 18)
    # Each term is an integer of the parity of the number of examples.
    assert score % 2 == examples * (24 + 18) % 2
    once = gradsign(model, inputs[:1].repeat(examples, 1), targets[:1].repeat(examples))
    assert once == examples * (24 + 18)


def test_unused_layers_and_dead_networks_count_zero():
    model, inputs, targets = case("Unused", 1)
    score = gradsign(model, inputs, targets)
    nn.init.constant_(model.idle.weight, 1e3)
    assert gradsign(model, inputs, targets) == score
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert gradsign(model, inputs, targets) == 0
