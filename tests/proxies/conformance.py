"""What holds for every proxy: a test class inherits :class:`Conformance` and names its proxy."""

import contextlib
import copy
import math

import pytest
import torch
from torch import nn

from proxies import registry, score_model
from proxies.passes import PASSES
from tests.proxies.golden.networks import case


class Stateful(nn.Module):
    """BatchNorm, dropout, a shared layer, an unused one, an integer buffer and a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.unused = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, images):
        self.calls += 1
        features = torch.relu(self.norm(self.stem(images)))
        features = self.shared(self.shared(features))
        return self.head(self.drop(features.mean((2, 3))))


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, images):
        raise RuntimeError("this network does not run")


def _attributes(model):
    """Everything each part holds: parameters, buffers and hooks by identity, flags by value."""
    return [
        {k: dict(v) if isinstance(v, dict) else v for k, v in vars(part).items()}
        for part in model.modules()
    ]


def of_networks():
    """Every proxy that scores networks, not what a table has of them."""
    return [name for name in registry.names() if registry.get(name).epochs is None]


def _hook(module, inputs, output):
    return None


class Conformance:
    name: str
    fails_with_the_network = True
    """Whether the proxy runs the network at all."""

    def score(self, model, inputs, targets=None):
        return score_model(model, inputs, targets, [self.name])[self.name]

    @pytest.fixture
    def golden(self):
        return case("Residual", 1)

    def test_its_pass_exists(self):
        assert registry.get(self.name).reads in PASSES

    def test_same_model_same_score(self, golden):
        first, again = self.score(*golden), self.score(*golden)
        assert first == again
        assert math.isfinite(first)

    def test_chance_takes_no_part(self):
        torch.manual_seed(0)
        model, images = Stateful().train(), torch.randn(4, 3, 8, 8)
        state = torch.get_rng_state()
        first = self.score(model, images, torch.arange(4))
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(1)
        assert self.score(model, images, torch.arange(4)) == first

    def test_module_comes_back_as_it_was(self):
        torch.manual_seed(0)
        model, images = Stateful(), torch.randn(4, 3, 8, 8)
        model.norm.eval()
        model.stem.weight.requires_grad_(False)
        model.norm.register_forward_hook(_hook)
        model(images).sum().backward()
        flags = [m.training for m in model.modules()]
        attributes = _attributes(model)
        tensors = list(model.state_dict(keep_vars=True).values())
        before = [(t.detach().clone(), t.requires_grad, copy.deepcopy(t.grad)) for t in tensors]
        self.score(model, images, torch.arange(4))
        for tensor, (value, leaf, grad) in zip(tensors, before, strict=True):
            assert torch.equal(tensor, value)
            assert tensor.requires_grad == leaf
            assert (tensor.grad is None) == (grad is None)
            assert grad is None or torch.equal(tensor.grad, grad)
        now = list(model.state_dict(keep_vars=True).values())
        assert all(a is b for a, b in zip(tensors, now, strict=True))
        assert _attributes(model) == attributes
        assert [m.training for m in model.modules()] == flags

    def test_comes_back_even_after_a_failure(self):
        model = nn.Sequential(nn.BatchNorm2d(3), Broken()).train()
        attributes = _attributes(model)
        with pytest.warns() if self.fails_with_the_network else contextlib.nullcontext():
            self.score(model, torch.randn(2, 3, 4, 4), torch.tensor([0, 1]))
        assert _attributes(model) == attributes

    def test_a_failing_network_is_nan_with_its_reason(self):
        if not self.fails_with_the_network:
            pytest.skip("this proxy does not run the network")
        with pytest.warns(UserWarning, match=f"{self.name} is NaN: RuntimeError: this network"):
            score = self.score(Broken(), torch.randn(2, 3, 4, 4), torch.tensor([0, 1]))
        assert math.isnan(score)

    def test_does_not_depend_on_what_else_is_scored(self, golden):
        alone = self.score(*golden)
        for names in (of_networks(), of_networks()[::-1]):
            assert score_model(*golden, proxies=names)[self.name] == alone

    def test_does_not_depend_on_the_order_of_the_batch(self, golden):
        model, inputs, targets = golden
        order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))
        assert self.score(model, inputs[order], targets[order]) == pytest.approx(
            self.score(*golden), rel=1e-4
        )

    def test_callers_modes_take_no_part(self, golden):
        score = self.score(*golden)
        threads = torch.get_num_threads()
        for mode in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu")):
            with mode:
                assert self.score(*golden) == score
        assert torch.get_num_threads() == threads
