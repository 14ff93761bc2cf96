"""Proxies that read the neural tangent kernel: how evenly a network can be trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.kernels import Kernel


@register(
    "ntk",
    reads="tangent_kernel",
    paper="Chen et al. 2021",
    higher_is_better=False,
    needs_data=True,
)
def ntk(record: Kernel) -> Tensor:
    """Condition number of the neural tangent kernel: its largest eigenvalue over its smallest.

    Entry (i, j) multiplies the gradients of the summed logits of examples i and j with respect to
    the weights of convolutions and linear layers. Values of different N cannot be compared. A
    singular kernel gives infinity, hence NaN.

    Chen et al. 2021, "Neural Architecture Search on ImageNet in Four GPU Hours: A Theoretically
    Inspired Perspective" (TE-NAS). Deviations: (1) the scales of BatchNorm, which the published
    code counts among the weights, take no part; (2) a singular kernel is NaN instead of 100,000
    or a rounding error.
    """
    import torch

    eigenvalues = torch.linalg.eigvalsh(record.matrix)
    smallest, largest = eigenvalues[:, 0], eigenvalues[:, -1]
    rounding = record.matrix.shape[-1] * torch.finfo(torch.float32).eps
    score: Tensor = torch.where(smallest > rounding * largest, largest / smallest, torch.inf)
    return score
