"""AZ-NAS: four views of a network that agree little with each other, to be joined by rank.

Lee and Ham 2024, "AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search". Weights
and inputs are random, drawn by :func:`proxies.passes.blocks.blocks`, which also defines the
blocks. The paper's score of one network among m is the sum over the four proxies of
log(rank / m), rank 1 being the lowest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.blocks import PerBlock
    from proxies.passes.costs import Count

_PAPER: Final = "Lee and Ham 2024"
_SMALL: Final = 1e-6


@register("az_expressivity", reads="entropies", paper=_PAPER, needs_weights=False)
def expressivity(record: PerBlock) -> Tensor:
    """Sum of the entropies of the features of the blocks: how evenly they use their channels."""
    return record.values.sum(1)


@register("az_progressivity", reads="entropies", paper=_PAPER, needs_weights=False)
def progressivity(record: PerBlock) -> Tensor:
    """Smallest increase of entropy from one block to the next."""
    return record.values.diff(dim=1).amin(1)


@register("az_trainability", reads="gains", paper=_PAPER, needs_weights=False)
def trainability(record: PerBlock) -> Tensor:
    """Mean over blocks of 2 - s - 1 / (s + 1e-6): how near gains s are to 1, which gives 0."""
    return (2 - record.values - 1 / (record.values + _SMALL)).mean(1)


@register(
    "az_complexity",
    reads="operations",
    paper=_PAPER,
    level="architecture",
    needs_weights=False,
    dtype="float32",
)
def complexity(record: Count) -> Tensor:
    """Count the multiply-adds of one example: the same as flops."""
    return record.number
