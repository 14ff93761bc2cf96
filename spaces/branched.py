"""Supernets that differ in one place, run as one."""

from __future__ import annotations

from torch import Tensor, nn

from spaces.mixture import Branches


class Branched(nn.Module):
    """Maps inputs [N, ...] to logits [branches x N, classes], some mixtures of ``network`` parted."""

    def __init__(self, network: nn.Module, branches: Branches) -> None:
        super().__init__()
        self.network, self.branches = network, branches

    def forward(self, inputs: Tensor) -> Tensor:
        """Run every branch, all of them together from their place on."""
        self.branches.examples = len(inputs)
        logits: Tensor = self.network(inputs)
        if len(logits) == len(inputs):
            return logits.repeat(self.branches.count, 1)
        return logits
