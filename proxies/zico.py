"""ZiCo: gradients that are large and alike from one minibatch to the next.

Li et al. 2023, "ZiCo: Zero-shot NAS via Inverse Coefficient of Variation on Gradients".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes import Layer, Layers


@register("zico", reads="halves", paper="Li et al. 2023", needs_data=True, needs_labels=True)
def zico(record: tuple[Layers, ...]) -> Tensor:
    """Sum over layers of log of the sum over weights of mean |g| / deviation of g.

    Mean and (population) deviation are over minibatches; g is the gradient of the mean cross
    entropy with respect to a weight of a convolution or linear layer. Weights whose gradient does
    not vary are left out, and a layer in which none varies, as an unused one, counts 0.

    Deviation: (1) the two minibatches are the halves of the one given: 64 pictures are two
    minibatches of 32. BatchNorm uses the statistics of each.
    """
    import torch

    from proxies.passes import summed

    def term(layers: tuple[Layer, ...]) -> Tensor:
        gradients = torch.stack([layer.gradient.flatten(1) for layer in layers])
        deviation = gradients.std(0, correction=0)
        ratio = torch.where(deviation > 0, gradients.abs().mean(0) / deviation, 0)
        value = ratio.sum(1, dtype=torch.float64)
        return torch.where(value > 0, value.log(), 0)

    pairs = zip(*(part.layers for part in record), strict=True)
    return summed(record[0].size, ((layers[0].members, term(layers)) for layers in pairs))
