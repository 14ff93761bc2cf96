"""Scores do not depend on what the caller has set for the whole of torch, and leave it alone."""

import contextlib
import math

import pytest
import torch

from proxies import ScoringService, registry, score_model
from proxies.torch_state import own_chance, usual_defaults
from tests.proxies.golden.networks import case
from tests.proxies.tiny_space import TinySpace


@contextlib.contextmanager
def double():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def coarse():
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


@contextlib.contextmanager
def elsewhere():
    with torch.device("meta"):
        yield


def state():
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_float32_matmul_precision(),
    )


@pytest.mark.parametrize("setting", [double, coarse, elsewhere])
def test_scores_do_not_depend_on_it(setting):
    names = [name for name in registry.names() if registry.get(name).epochs is None]
    model, inputs, targets = case("Residual", 8)
    usual = score_model(model, inputs, targets, names)
    assert not any(map(math.isnan, usual.values()))
    with setting():
        before = state()
        assert score_model(model, inputs, targets, names) == usual
        assert state() == before


@pytest.mark.parametrize("setting", [double, coarse, elsewhere])
def test_nor_do_those_of_a_service(setting):
    space, archs = TinySpace(), [(3, 3, 3), (3, 2, 1)]
    names = ["zen", "meco", "flops", "params", "synflow", "naswot"]

    def scores():
        return ScoringService(space, store="memory").score(archs, names).values.tolist()

    usual = scores()
    with setting():
        assert scores() == usual


def test_settings_are_restored_after_an_error():
    with double(), coarse(), elsewhere():
        before = state()
        with pytest.raises(KeyError), usual_defaults():
            assert torch.empty(1).device.type == "cpu"
            assert torch.empty(1).dtype == torch.float32
            raise KeyError
        assert state() == before
    assert state() == (torch.float32, torch.device("cpu"), "highest")


def test_the_generators_of_gpus_are_left_alone(monkeypatch):
    """A GPU that is not computed on would otherwise be seeded as soon as it is first used."""
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    model, inputs, _ = case("Plain", 1)
    score_model(model, inputs, proxies=["synflow", "zen"], device="cpu")
    assert seeded == []


def test_chance_is_alike_each_time_and_the_callers_goes_on():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    drawn = []
    for _ in range(2):
        with own_chance(torch.device("cpu")):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.rand(2), expected)
