"""Supernets that differ in one place, run as one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.base import SearchSpace
from spaces.mixture import Branches, mixtures_of


class Branched(nn.Module):
    """Maps inputs [N, ...] to logits [branches x N, classes], in evaluation mode.

    The supernets are arranged anew for each set of branches, and their weights stay.

    Args:
        space: whose supernet it is.
        network: the supernet that has every operation in every place.
    """

    def __init__(self, space: SearchSpace, network: nn.Module) -> None:
        super().__init__()
        self.network, self.branches = network, Branches()
        self._mixtures = mixtures_of(network)
        space.simplify(network, self.branches)

    @property
    def networks(self) -> int:
        """How many branches there are."""
        return self.branches.count

    def arrange(self, supernets: Sequence[Sequence[tuple[Sequence[int], int]]]) -> None:
        """Make branches of ``supernets``, of which each has, a place, what is kept and of how many.

        They differ in one place.
        """
        self.branches.grow(len(supernets))
        for mixtures, places in zip(self._mixtures, zip(*supernets, strict=True), strict=True):
            for mixture in mixtures:
                if len(set(places)) == 1:
                    mixture.keep(*places[0])
                else:
                    mixture.part(self.branches, *zip(*places, strict=True))

    def forward(self, inputs: Tensor) -> Tensor:
        """Run every branch, all of them together from their place on."""
        self.branches.examples = len(inputs)
        logits: Tensor = self.network(inputs)
        return self.branches.spread(logits)
