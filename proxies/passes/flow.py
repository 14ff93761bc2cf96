"""Synaptic flow: the sum over weights of |w dR/dw| in a network without signs, on ones.

R is the sum of the outputs. Every parameter and buffer is replaced by its absolute value; the input
is one example of ones in the shape of the minibatch's. A weight that R does not depend on adds 0.

R reaches 1e61: a module runs in float64, forwards and back. Networks that run as one go forwards
only. So prepared, R is a sum over paths from the input to the output, and the sum over weights of
w dR/dw counts each path as often as it has layers. It runs beside R as a second example: each layer
adds what it gives the first to what it gives the second, the bias of the last layer counting
nothing; max pooling takes of the second what it takes of the first. Both are scaled behind each
block, so that float32 is enough.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from proxies.passes.modes import normalising_by_batch, training, without_batch_norm
from proxies.passes.run import Layer, Layers, Run, register_pass
from proxies.stack import Stacked
from spaces.arithmetic import Arithmetic


@dataclass(frozen=True)
class Flow:
    """The sum over all weights of |w dR/dw|: float64 [K]."""

    values: Tensor


@register_pass("synflow", stacking=True)
def synflow(run: Run) -> Flow:
    """Measure the flow with every BatchNorm the identity.

    Deviations from the published code: (1) every BatchNorm is the identity, where the published
    NAS-Bench-201 network keeps four of 186; (2) the network is in evaluation mode, so that
    dropout takes no part; (3) layers are also Conv1d, Conv3d and transposed convolutions.
    """
    if isinstance(run.stack, Stacked):
        return _forwards(run, run.stack)
    with training(run.stack, False):
        return _backwards(run, without_batch_norm(run.stack))


@register_pass("synflow_bn")
def synflow_bn(run: Run) -> Flow:
    """Measure the flow with BatchNorm kept: it normalises by the one example of ones."""
    return _backwards(run, normalising_by_batch(run.stack))


def _forwards(run: Run, stack: Stacked) -> Flow:
    inputs = run.batch.inputs
    tensors = {
        name: tensor.to(inputs.device, torch.float32).abs()
        for name, tensor in stack.tensors().items()
    }
    scales = [0.0] * stack.size

    def layer(features: Tensor, weight: Tensor, *_: Tensor, **geometry: int) -> Tensor:
        output = functional.conv2d(features, weight, None, **geometry)
        output[1].add_(output[0])
        return output

    def pool(features: Tensor, size: int, stride: int, padding: int) -> Tensor:
        geometry = [size], [stride], [padding]
        first, places = functional.max_pool2d_with_indices(features[:1], *geometry)
        flat = features[1].permute(1, 2, 0).flatten(0, 1)
        taken = flat.gather(0, places[0].permute(1, 2, 0).flatten(0, 1))
        second = taken.reshape(*first.shape[2:], -1).permute(2, 0, 1)
        return run.laid_out(torch.stack([first[0], second]))

    def end(network: int, features: Tensor) -> Tensor:
        largest = float(features[0].amax())
        if largest == 0:
            return features
        scales[network] += math.log(largest)
        return features.div_(largest)

    example = inputs.new_ones((1, *inputs.shape[1:]), dtype=torch.float32)
    examples = run.laid_out(torch.cat([example, torch.zeros_like(example)] * stack.size))
    # Nothing is negative: a ReLU does nothing.
    arithmetic = Arithmetic(layer, norm=_identity, end=end, pool=pool, relu=_identity)
    with torch.no_grad():
        outputs = stack(tensors, examples, arithmetic)
    flows = outputs[:, 1].sum(1, dtype=torch.float64).cpu()
    return Flow(flows * torch.tensor(scales, dtype=torch.float64).exp())


def _identity(features: Tensor) -> Tensor:
    return features


def _backwards(run: Run, mode: AbstractContextManager[None]) -> Flow:
    stack, inputs = run.stack, run.batch.inputs
    weights = stack.weights()
    tensors = {
        name: tensor.abs_() if tensor.is_floating_point() else tensor
        for name, tensor in run.tensors(torch.float64).items()
    }
    leaves = [tensors[weight.name].requires_grad_() for weight in weights]
    shape = (stack.size, *inputs.shape[1:])
    ones = torch.ones(shape, dtype=torch.float64, device=inputs.device)
    with mode:
        flow = stack(tensors, ones).sum()
    if flow.requires_grad:
        gradients = torch.autograd.grad(flow, leaves, materialize_grads=True)
    else:
        gradients = tuple(map(torch.zeros_like, leaves))
    layers = [
        Layer(w.name, stack.rows(w, leaf.detach()), stack.rows(w, gradient), w.members)
        for w, leaf, gradient in zip(weights, leaves, gradients, strict=True)
    ]
    return Flow(Layers(stack.size, layers).total(lambda weight, g: (weight * g).abs()))
