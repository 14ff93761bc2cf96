"""Proxies that read weights and the gradient of the loss: saliencies of pruning, summed.

Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS", after the pruning criteria named
at each function. One forward and one backward pass serve them all (GraSP adds a backward of the
backward). L is the mean cross entropy of the minibatch, w a weight of a convolution or linear
layer, g = dL/dw; biases and BatchNorm take no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes import Layers
    from proxies.passes.loss import Channel, Curvature


@register(
    "grad_norm",
    reads="gradients",
    paper="Abdelfattah et al. 2021",
    needs_data=True,
    needs_labels=True,
)
def grad_norm(record: Layers) -> Tensor:
    """Sum over layers of the Frobenius norm of g: a sum of norms, not the norm of all gradients."""
    return record.total(lambda weight, gradient: gradient.flatten(1).norm(dim=1))


@register("snip", reads="gradients", paper="Lee et al. 2019", needs_data=True, needs_labels=True)
def snip(record: Layers) -> Tensor:
    """Sum of |w g|: how much the loss moves when connections are masked.

    The published code differentiates with respect to a mask of ones, which is the same product.
    """
    return record.total(lambda weight, gradient: (weight * gradient).abs())


@register(
    "plain",
    reads="gradients",
    paper="Mozer and Smolensky 1988",
    needs_data=True,
    needs_labels=True,
)
def plain(record: Layers) -> Tensor:
    """Sum of w g, signed."""
    return record.total(lambda weight, gradient: weight * gradient)


@register("grasp", reads="curvature", paper="Wang et al. 2020", needs_data=True, needs_labels=True)
def grasp(record: Curvature) -> Tensor:
    """Sum of -w (H g), signed: how much pruning would reduce the flow of gradient.

    H is the Hessian of L. Deviation: (1) H g is never formed: w (H g) is the second derivative of L
    along w and g.
    """
    return -record.values


@register(
    "fisher",
    reads="channels",
    paper="Theis et al. 2018; Turner et al. 2020",
    needs_data=True,
    needs_labels=True,
)
def fisher(record: list[list[Channel]]) -> Tensor:
    """Sum over channels of half the mean over examples of (a . dL/da)^2, once for each weight.

    a is what a convolution or linear layer returns for one example and channel, before BatchNorm
    and activation, and the product sums over positions. Each channel counts as often as it has
    weights, as in the published code, which spreads the channel's value over them.

    Deviation: (1) the calls of a layer that is used several times add up before they are squared.
    """
    import torch

    from proxies.passes import summed

    def value(calls: list[Channel]) -> Tensor:
        saliency = sum((c.output * c.gradient).sum(3) for c in calls)
        assert isinstance(saliency, torch.Tensor)
        return 0.5 * saliency.square().mean(1).sum(1, dtype=torch.float64) * calls[0].weights

    size = 1 + max(int(c.members.max()) for calls in record for c in calls)
    return summed(size, ((calls[0].members, value(calls)) for calls in record if calls))


@register("l2_norm", reads="weights", paper="White et al. 2021", level="architecture")
def l2_norm(record: Layers) -> Tensor:
    """Sum over layers of the Frobenius norm of w, unused layers included."""
    return record.total(lambda weight, _: weight.flatten(1).norm(dim=1))
