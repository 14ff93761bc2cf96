"""What a network costs, used as a proxy: parameters and multiply-adds.

Both count the architecture as it would be trained, with all that it holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.costs import Count


@register(
    "params",
    reads="parameters",
    paper="model size as a baseline, White et al. 2021",
    level="architecture",
    needs_weights=False,
    dtype="float32",
    aliases=("parameters",),
)
def params(record: Count) -> Tensor:
    """Count trainable parameters, a shared one once."""
    return record.number


@register(
    "flops",
    reads="operations",
    paper="model cost as a baseline, White et al. 2021",
    level="architecture",
    needs_weights=False,
    dtype="float32",
    aliases=("macs",),
)
def flops(record: Count) -> Tensor:
    """Count the multiply-adds of one example, as NAS-Bench-201 does.

    :func:`proxies.passes.costs.operations` says what counts how much.
    """
    return record.number
