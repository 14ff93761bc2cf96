"""The neural tangent kernel of a minibatch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from proxies.passes.run import Run, register_pass


@dataclass(frozen=True)
class Kernel:
    """Inner products of examples: ``matrix`` float64 [K, N, N]."""

    matrix: Tensor


@register_pass("tangent_kernel")
def tangent_kernel(run: Run) -> Kernel:
    """Multiply the gradients of each two examples' summed logits by the weights.

    In training mode, so that through BatchNorm each example's logits depend on all others. Takes
    one backward pass of the whole minibatch for each example, and memory for N gradients.
    """
    stack, pass_ = run.stack, run.record("forward")
    sums = pass_.logits.flatten(2).sum(2).sum(0)
    by_example = [
        torch.autograd.grad(value, pass_.leaves, retain_graph=True, materialize_grads=True)
        for value in sums
    ]
    examples = len(sums)
    matrix = torch.zeros((stack.size, examples, examples), dtype=torch.float64)
    for weight, *gradients in zip(pass_.weights, *by_example, strict=True):
        rows = torch.stack([stack.rows(weight, g).flatten(1) for g in gradients], 1)
        matrix.index_add_(0, weight.members, (rows @ rows.mT).double().cpu())
    return Kernel(matrix)
