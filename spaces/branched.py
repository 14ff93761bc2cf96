"""Supernets that differ in one place, run as one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.mixture import Branches, Mixture


class Branched(nn.Module):
    """Maps inputs [N, ...] to logits [branches x N, classes].

    ``mixtures`` are those of the place, in ``network``; each branch has the candidates ``kept``,
    divided by ``of``.
    """

    def __init__(
        self,
        network: nn.Module,
        mixtures: Sequence[Mixture],
        kept: Sequence[Sequence[int]],
        of: Sequence[int],
    ) -> None:
        super().__init__()
        self.network = network
        self.branches = Branches(len(kept))
        for mixture in mixtures:
            mixture.part(self.branches, kept, of)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run every branch, all of them together from their place on."""
        self.branches.examples = len(inputs)
        logits: Tensor = self.network(inputs)
        if len(logits) == len(inputs):
            return logits.repeat(self.branches.count, 1)
        return logits
