"""Synaptic flow: how much each weight carries from input to output in a network without signs.

Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic
flow"; as a proxy, Abdelfattah et al. 2021, "Zero-Cost Proxies for Lightweight NAS".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.flow import Flow


@register(
    "synflow",
    reads="synflow",
    paper="Tanaka et al. 2020",
    dtype="float64",
    aliases=("synaptic_flow",),
)
def synflow(record: Flow) -> Tensor:
    """Sum of |w dR/dw| over all weights, R the output of the sign-free network on ones.

    :func:`proxies.passes.flow.synflow` defines R and numbers the deviations. Values reach 1e61.
    """
    return record.values


@register("synflow_bn", reads="synflow_bn", paper="Abdelfattah et al. 2021", dtype="float64")
def synflow_bn(record: Flow) -> Tensor:
    """Sum of |w dR/dw| over all weights, with BatchNorm kept in the sign-free network."""
    return record.values
