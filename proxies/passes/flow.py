"""Synaptic flow: the gradient of a network without signs, on an input of ones."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from proxies.passes.modes import normalising_by_batch, training, without_batch_norm
from proxies.passes.run import Layer, Layers, Run, register_pass


@register_pass("synflow")
def synflow(run: Run) -> Layers:
    """Gradient of the synaptic flow R, in float64, with respect to the weights.

    Every parameter and buffer is replaced by its absolute value, BatchNorm by the identity; the
    input is one example of ones in the shape of the minibatch's; R is the sum of the outputs. A
    weight that R does not depend on has gradient 0.

    Deviations from the published code: (1) every BatchNorm is the identity, where the published
    NAS-Bench-201 network keeps four of 186; (2) the network is in evaluation mode, so that
    dropout takes no part; (3) layers are also Conv1d, Conv3d and transposed convolutions.
    """
    with training(run.stack, False):
        return _flow(run, without_batch_norm(run.stack))


@register_pass("synflow_bn")
def synflow_bn(run: Run) -> Layers:
    """As :func:`synflow`, with BatchNorm kept: it normalises by the one example of ones."""
    return _flow(run, normalising_by_batch(run.stack))


def _flow(run: Run, mode: AbstractContextManager[None]) -> Layers:
    stack, inputs = run.stack, run.batch.inputs
    weights = stack.weights()
    tensors = {
        name: tensor.abs() if tensor.is_floating_point() else tensor
        for name, tensor in run.tensors(torch.float64).items()
    }
    leaves = [tensors[weight.name].requires_grad_() for weight in weights]
    ones = torch.ones((1, *inputs.shape[1:]), dtype=torch.float64, device=inputs.device)
    with mode:
        flow = stack(tensors, ones).sum()
    if flow.requires_grad:
        gradients = torch.autograd.grad(flow, leaves, materialize_grads=True)
    else:
        gradients = tuple(map(torch.zeros_like, leaves))
    return Layers(
        stack.size,
        [
            Layer(w.name, stack.rows(w, leaf.detach()), stack.rows(w, gradient), w.members)
            for w, leaf, gradient in zip(weights, leaves, gradients, strict=True)
        ],
    )
