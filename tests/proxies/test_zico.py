import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from proxies import score_model
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case


def zico(model, inputs, targets, **options):
    return score_model(model, inputs, targets, ["zico"], **options)["zico"]


class TestZico(Conformance):
    name = "zico"

    def test_does_not_depend_on_the_order_of_the_batch(self, golden):
        """The order decides which half an example is in, and nothing else."""
        model, inputs, targets = golden
        n = len(inputs) // 2
        generator = torch.Generator().manual_seed(0)
        order = torch.cat([torch.randperm(n, generator=generator) + n * half for half in (1, 0)])
        assert self.score(model, inputs[order], targets[order]) == pytest.approx(
            self.score(*golden),
            rel=1e-3,  # rounding shows where the halves nearly agree
        )


def by_definition(model, halves):
    """The definition, layer by layer in numpy, from backward() of each half."""
    gradients = []
    for inputs, targets in halves:
        model.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        gradients.append(
            [
                m.weight.grad.numpy().copy()
                for m in model.modules()
                if isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.grad is not None
            ]
        )
    total = 0.0
    for both in zip(*gradients, strict=True):
        stacked = np.stack(both)
        deviation = stacked.std(0)
        varies = deviation > 0
        if varies.any():
            total += np.log((np.abs(stacked).mean(0)[varies] / deviation[varies]).sum())
    return total


@pytest.mark.parametrize("name", ["Plain", "Residual", "Separable", "Unused", "NoNorm"])
def test_is_the_published_formula(name):
    model, inputs, targets = (
        part.double() if i < 2 else part for i, part in enumerate(case(name, 2))
    )
    expected = by_definition(model.train(), [(inputs[:8], targets[:8]), (inputs[8:], targets[8:])])
    assert zico(model, inputs, targets, dtype="float64") == pytest.approx(expected, rel=1e-9)


def test_by_hand():
    """One weight row each: logits (w x, 0), at w = 0 the gradient is -x / 2 and x / 2."""
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    # |g| of the two halves is 0.5 and 1.5 with one sign: mean 1, deviation 0.5, for both weights.
    score = zico(model, torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]))
    assert score == pytest.approx(math.log(2 * (1 / 0.5)))


def test_gradients_that_do_not_vary_are_left_out():
    model = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(model.weight)
    inputs = torch.tensor([[1.0, 2.0], [3.0, 2.0]])
    assert zico(model, inputs, torch.tensor([0, 0])) == pytest.approx(math.log(4))


def test_equal_halves_leave_nothing():
    model, inputs, targets = case("Residual", 1)
    assert zico(model, inputs[:4].repeat(2, 1, 1, 1), targets[:4].repeat(2)) == 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_each_ratio_of_two_minibatches_is_at_least_one(seed):
    """(|a| + |b|) / |a - b| >= 1, so that a layer counts at least log of its varying weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    score = zico(model, torch.randn(6, 4), torch.randint(0, 3, (6,)))
    assert score >= math.log(24) + math.log(18)


def test_unused_layers_and_dead_networks_count_zero():
    model, inputs, targets = case("Unused", 1)
    score = zico(model, inputs, targets)
    nn.init.constant_(model.idle.weight, 1e3)
    assert zico(model, inputs, targets) == score
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    assert zico(model, inputs, targets) == 0


def test_one_example_is_no_two_minibatches():
    model, inputs, targets = case("NoNorm", 1)
    with pytest.warns(UserWarning, match="zico is NaN: .*one example cannot be halved"):
        assert math.isnan(zico(model, inputs[:1], targets[:1]))


def test_an_odd_example_goes_to_the_second_half():
    model, inputs, targets = (p.double() if i < 2 else p for i, p in enumerate(case("NoNorm", 3)))
    halves = [(inputs[:2], targets[:2]), (inputs[2:5], targets[2:5])]
    expected = by_definition(model, halves)
    score = zico(model, inputs[:5], targets[:5], dtype="float64")
    assert score == pytest.approx(expected, rel=1e-9)
