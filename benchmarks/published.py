"""The published way of scoring, in our own few lines: a fresh copy and its own passes each.

Abdelfattah et al. 2021 score a network by copying it for every proxy, preparing the copy, and
running what that proxy needs. A network that can build itself anew is copied so, any other by a
deep copy whose BatchNorms do nothing if a proxy wants none. Only the way of working is reproduced
here, as the baseline of the speed measurements; the definitions are those of :mod:`proxies`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.published_network import PublishedNetwork

Published = Callable[[nn.Module, Tensor, Tensor], float]


def _layers(net: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def _sum(net: nn.Module, term: Callable[[Tensor, Tensor], Tensor]) -> float:
    """Sum ``term(weight, gradient)`` over the layers that have a gradient."""
    terms = [
        term(layer.weight.detach(), layer.weight.grad).sum()
        for layer in _layers(net)
        if layer.weight.grad is not None
    ]
    return float(sum(terms))


def _copy(network: nn.Module, norm: bool = True) -> nn.Module:
    if isinstance(network, PublishedNetwork):
        return network.copied(norm)
    net = copy.deepcopy(network)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and not norm:
            module.forward = lambda x: x  # type: ignore[method-assign, assignment]
    return net.train()


def _backward(network: nn.Module, inputs: Tensor, targets: Tensor) -> nn.Module:
    net = _copy(network)
    net.zero_grad()
    torch.autograd.backward(functional.cross_entropy(net(inputs), targets))
    return net


def grad_norm(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; one backward pass."""
    return _sum(_backward(network, inputs, targets), lambda w, g: g.norm())


def snip(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; one backward pass."""
    return _sum(_backward(network, inputs, targets), lambda w, g: (w * g).abs())


def plain(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; one backward pass."""
    return _sum(_backward(network, inputs, targets), lambda w, g: w * g)


def grasp(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; gradient, gradient with graph, backward of their product."""
    net = _copy(network)
    weights = [layer.weight for layer in _layers(net)]
    loss = functional.cross_entropy(net(inputs), targets)
    first = torch.autograd.grad(loss, weights, allow_unused=True)
    loss = functional.cross_entropy(net(inputs), targets)
    second = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
    inner = sum(
        ((a.detach() * b).sum() for a, b in zip(first, second, strict=True) if a is not None),
        torch.zeros((), device=inputs.device),
    )
    torch.autograd.backward(inner)
    return _sum(net, lambda w, product: -w * product)


def fisher(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; hooks on every layer; one backward pass."""
    net = _copy(network)
    terms: list[Tensor] = []

    def watch(layer: nn.Conv2d | nn.Linear, output: Tensor) -> None:
        activation = output.detach()  # a hook that held the output would keep the graph alive

        def saliency(gradient: Tensor) -> None:
            product = activation * gradient
            product = product.flatten(2).sum(2) if product.dim() > 2 else product
            copies = layer.weight[0].numel()
            terms.append(0.5 * product.square().mean(0).sum() * copies)

        if output.requires_grad:
            output.register_hook(saliency)  # type: ignore[no-untyped-call]

    for layer in _layers(net):
        layer.register_forward_hook(lambda layer, _, output: watch(layer, output))
    torch.autograd.backward(functional.cross_entropy(net(inputs), targets))
    return float(sum(terms))


def jacob_cov(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; backward of the sum of the logits to the inputs."""
    net = _copy(network)
    inputs = inputs.clone().requires_grad_()
    logits = net(inputs)
    logits.backward(torch.ones_like(logits))
    assert inputs.grad is not None
    eigenvalues = np.linalg.eig(np.corrcoef(inputs.grad.flatten(1).cpu().numpy()))[0] + 1e-5
    return -float(np.sum(np.log(eigenvalues) + 1 / eigenvalues).real)


def synflow(network: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    """Copy; absolute values of all tensors; float64; one backward pass from ones."""
    net = _copy(network, norm=False)
    for tensor in net.state_dict().values():
        tensor.abs_()
    net.zero_grad()
    net.double()
    ones = torch.ones([1, *inputs.shape[1:]], dtype=torch.float64, device=inputs.device)
    net(ones).sum().backward()
    return _sum(net, lambda w, g: (w * g).abs())


PROXIES: dict[str, Published] = {
    "grad_norm": grad_norm,
    "snip": snip,
    "grasp": grasp,
    "fisher": fisher,
    "plain": plain,
    "jacob_cov": jacob_cov,
    "synflow": synflow,
}
