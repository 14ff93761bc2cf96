"""The published way of working, which speed is measured against, computes the same."""

import pytest
import torch
from torch import nn

from benchmarks import published
from benchmarks.published_network import PublishedNetwork
from benchmarks.simulated_device import DEVICE, simulated_device
from proxies import score_model
from spaces.nasbench201 import NASBench201
from spaces.nasbench201.cell import EDGE_NAMES

ARCH = (3, 2, 4, 1, 3, 2)
SPACE = NASBench201("cifar10")


def both():
    """Build the published network, and ours with the same weights."""
    torch.manual_seed(0)
    theirs, ours = PublishedNetwork(ARCH, 10), SPACE.network(ARCH, running_stats=False)
    convolutions = [m for m in theirs.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions:
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    blocks = [block for stage in ours.stages for block in stage]
    ours.stem[0].weight = theirs.stem[0].weight
    ours.head[-1].load_state_dict(theirs.classifier.state_dict())
    for block, other in zip(blocks, theirs.blocks, strict=True):
        if hasattr(block, "residual"):
            block.residual[0].conv.weight = other.first[1].weight
            block.residual[1].conv.weight = other.second[1].weight
            block.shortcut[1].weight = other.shortcut[1].weight
            continue
        for place, name in enumerate(EDGE_NAMES):
            if name in block.operations and hasattr(block.operations[name], "conv"):
                chosen = other.edges[place][ARCH[place]]
                block.operations[name].conv.weight = chosen[1].weight
    return theirs.train(), ours.train()


def test_it_holds_all_operations():
    layers = [m for m in PublishedNetwork(ARCH, 10).modules() if isinstance(m, nn.Conv2d)]
    assert len(layers) + 1 == 188  # and the classifier


def test_it_computes_what_ours_does():
    theirs, ours = both()
    images = torch.randn(4, 3, 32, 32)
    assert torch.allclose(theirs(images), ours(images), atol=1e-4)
    assert torch.allclose(theirs.copied()(images), ours(images), atol=1e-4)


@pytest.mark.parametrize("name", sorted(published.PROXIES))
def test_its_scores_are_ours(name):
    theirs, ours = both()
    inputs, targets = torch.randn(8, 3, 32, 32), torch.arange(8)
    absolute = 5e-4 if name == "plain" else 0  # which cancels
    expected = pytest.approx(score_model(ours, inputs, targets, [name])[name], 2e-3, absolute)
    assert published.PROXIES[name](ours, inputs, targets) == expected
    assert published.PROXIES[name](theirs, inputs, targets) == expected


@pytest.mark.parametrize("name", sorted(published.PROXIES))
def test_it_runs_on_a_device(name):
    theirs, _ = both()
    inputs, targets = torch.randn(2, 3, 32, 32), torch.arange(2)
    expected = published.PROXIES[name](theirs, inputs, targets)
    with simulated_device() as calls:
        there = theirs.to(DEVICE), inputs.to(DEVICE), targets.to(DEVICE)
        assert published.PROXIES[name](*there) == pytest.approx(expected, 1e-3)
        assert calls.waits.total() == 1
