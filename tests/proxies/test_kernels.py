import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from proxies import registry, score_model
from proxies.batch import Minibatch
from proxies.passes import Run
from proxies.stack import Single
from tests.proxies.conformance import Conformance
from tests.proxies.golden.networks import case


class TestNTK(Conformance):
    name = "ntk"


def ntk(model, inputs):
    return score_model(model, inputs, proxies=["ntk"])["ntk"]


def kernel(model, inputs):
    run = Run(Single(model), Minibatch(inputs, None, "test"))
    return run.record("tangent_kernel").matrix[0]


def test_smaller_is_better():
    assert not registry.get("ntk").higher_is_better


def test_by_hand():
    # Every one of 5 logits has the gradient x: the kernel is 5 x x', here diag(5, 45).
    inputs = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    model = nn.Linear(2, 5)
    assert kernel(model, inputs).tolist() == [[5, 0], [0, 45]]
    assert ntk(model, inputs) == pytest.approx(9)


@pytest.mark.parametrize("model", ["Plain", "Residual", "Separable", "Unused", "NoNorm"])
def test_kernel_is_of_gradients_example_by_example(model):
    network, inputs, _ = case(model, 1, batch=4)
    network.train().double()
    inputs = inputs.double()
    layers = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    rows = []
    for n in range(len(inputs)):
        total = network(inputs)[n].sum()
        gradients = torch.autograd.grad(total, layers, materialize_grads=True, allow_unused=True)
        rows.append(torch.cat([g.flatten() for g in gradients]))
    expected = torch.stack(rows) @ torch.stack(rows).T
    assert torch.allclose(kernel(network, inputs), expected, rtol=1e-9)


@settings(max_examples=10, deadline=None)
@given(scale=st.sampled_from([1e-3, 0.1, 7.0, 1e3]), seed=st.integers(0, 99))
def test_scale_of_the_inputs_of_one_layer_takes_no_part(scale, seed):
    torch.manual_seed(seed)
    model, inputs = nn.Linear(20, 3), torch.randn(5, 20)
    assert ntk(model, scale * inputs) == pytest.approx(ntk(model, inputs), rel=1e-4)


def test_at_least_one():
    assert ntk(nn.Linear(3, 2), torch.eye(3)) == pytest.approx(1)
    model, inputs, _ = case("Residual", 1)
    assert ntk(model, inputs) > 1


@pytest.mark.parametrize(
    "rows", [[[1.0, 2.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[0.0, 0.0]] * 2]
)
def test_a_singular_kernel_is_nan_with_its_reason(rows):
    with pytest.warns(UserWarning, match=r"ntk is NaN: the value is not finite \(inf\)"):
        assert math.isnan(ntk(nn.Linear(2, 3), torch.tensor(rows)))
