"""Layers of K networks that run as one, side by side in the channels.

Features are [n, m x c, height, width]: the c channels of the first of m networks, then those of the
second, and so on. Convolutions have a group for each network, so that a BatchNorm over all channels
normalises each network by itself. ``members`` [m] numbers, among 0..K-1, the networks that have a
layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class GroupedConv2d(nn.Module):
    """The convolutions of m networks: [n, m x in, h, w] to [n, m x out, h', w'].

    ``kernels`` is [m, out, in, k, k], ``bias`` [m, out].
    """

    def __init__(
        self,
        members: Sequence[int],
        kernels: Tensor,
        bias: Tensor | None = None,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        super().__init__()
        self.members, self.stride, self.padding = list(members), stride, padding
        self.weight = nn.Parameter(kernels.flatten(0, 1))
        self.bias = None if bias is None else nn.Parameter(bias.flatten())

    def forward(self, features: Tensor) -> Tensor:
        """Convolve each network's features with its kernels."""
        return functional.conv2d(
            features,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            groups=len(self.members),
        )


class GroupedReLU(nn.Module):
    """The ReLUs of m networks."""

    def __init__(self, members: Sequence[int]) -> None:
        super().__init__()
        self.members = list(members)

    def forward(self, features: Tensor) -> Tensor:
        """Rectify."""
        return functional.relu(features)


class Picked(nn.Module):
    """The features of some of K networks: [n, K x c, h, w] to [n, m x c, h, w]."""

    index: Tensor

    def __init__(self, members: Sequence[int], networks: int) -> None:
        super().__init__()
        self.networks = networks
        self.register_buffer("index", torch.tensor(members))

    def forward(self, features: Tensor) -> Tensor:
        """Pick."""
        if len(self.index) == self.networks:
            return features
        parted = torch.unflatten(features, 1, (self.networks, -1))
        return parted.index_select(1, self.index).flatten(1, 2)


class Summed(nn.Module):
    """What comes together at one node of K networks: several [n, m x c, h, w] to [n, K x c, h, w].

    ``members`` says of each whose features it has; a network that gets nothing is zero there.
    """

    index: Tensor

    def __init__(self, members: Sequence[Sequence[int]], networks: int) -> None:
        super().__init__()
        self.sizes, self.networks = [len(m) for m in members], networks
        self.register_buffer("index", torch.tensor([k for m in members for k in m]))

    def forward(self, brought: Sequence[Tensor]) -> Tensor:
        """Add up."""
        if self.sizes == [self.networks]:
            return brought[0]
        parts = [torch.unflatten(b, 1, (s, -1)) for b, s in zip(brought, self.sizes, strict=True)]
        examples, _, *rest = parts[0].shape
        nothing = parts[0].new_zeros((examples, self.networks, *rest))
        total: Tensor = nothing.index_add(1, self.index, torch.cat(parts, 1)).flatten(1, 2)
        return total
