"""Several operations in one place of a network: what makes a supernet of it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Mixture(nn.Module):
    """The mean of the outputs of several operations on one input."""

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)

    def forward(self, features: Tensor) -> Tensor:
        """Average, keeping the shape that the operations agree on."""
        outputs: list[Tensor] = [candidate(features) for candidate in self.candidates]
        return sum(outputs[1:], outputs[0]) / len(outputs)
