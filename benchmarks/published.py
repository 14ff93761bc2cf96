"""The published way of scoring, in our own few lines: a fresh copy and its own passes each.

Abdelfattah et al. 2021 score a network by copying it for every proxy, preparing the copy, and
running what that proxy needs. Only the way of working is reproduced here, as the baseline of the
speed measurements; the definitions are those of :mod:`proxies`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def synflow(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; absolute values of all tensors; float64; one backward pass from ones."""
    net = copy.deepcopy(network)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x: x  # type: ignore[method-assign, assignment]
    for tensor in net.state_dict().values():
        tensor.abs_()
    net.zero_grad()
    net.double()
    net(torch.ones([1, *inputs.shape[1:]], dtype=torch.float64)).sum().backward()
    return sum(
        float((layer.weight.detach() * layer.weight.grad).abs().sum())
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.grad is not None
    )


PROXIES: dict[str, Callable[[nn.Module, Tensor, Tensor], float]] = {"synflow": synflow}
