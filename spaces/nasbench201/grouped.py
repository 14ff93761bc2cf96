"""Networks of NAS-Bench-201 that run as one, in which every layer is one operation for all of them.

Made for GPUs, where one small operation takes as long as one on many networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spaces.base import Architecture, SearchSpace
from spaces.grouped import GroupedConv2d, GroupedReLU, Picked, Summed
from spaces.initial_weights import InitialWeights
from spaces.nasbench201.cell import (
    AVG_POOL,
    CONV_1X1,
    CONV_3X3,
    EDGE_NAMES,
    EDGES,
    NODES,
    NONE,
)
from spaces.nasbench201.stacked import drawn_by_path


class GroupedNetwork(nn.Module):
    """K networks: maps float images [K x n, 3, size, size] to logits [K x n, classes].

    Network k computes what :class:`~spaces.nasbench201.network.Network` does in training mode with
    the same ``weights``, without running statistics.
    """

    def __init__(
        self,
        space: SearchSpace,
        archs: Sequence[Architecture],
        weights: InitialWeights,
        classes: int,
        *,
        widths: Sequence[int],
        cells: int,
    ) -> None:
        super().__init__()
        self.networks = len(archs)
        layers = _Layers([drawn_by_path(space, a, weights, classes, widths, cells) for a in archs])
        everyone = range(self.networks)
        channels = widths[0]
        self.stem = nn.Sequential(
            layers.conv("stem.0", everyone, padding=1), layers.norm(everyone, channels)
        )
        self.blocks = nn.Sequential()
        for stage, width in enumerate(widths):
            first = 0
            if width != channels:
                self.blocks.append(_Reduction(layers, f"stages.{stage}.0", width))
                channels, first = width, 1
            for cell in range(first, first + cells):
                self.blocks.append(_Cell(layers, archs, f"stages.{stage}.{cell}", width))
        self.norm = layers.norm(everyone, channels)
        self.relu = GroupedReLU(everyone)
        self.classifier = layers.linear("head.4")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [K x n, classes] of ``images`` [K x n, 3, size, size]."""
        features = torch.unflatten(images, 0, (self.networks, -1)).transpose(0, 1).flatten(1, 2)
        features = self.relu(self.norm(self.blocks(self.stem(features))))
        logits = self.classifier(features.mean((2, 3), keepdim=True)).flatten(1)
        return torch.unflatten(logits, 1, (self.networks, -1)).transpose(0, 1).flatten(0, 1)


class _Layers:
    """Makes layers of the tensors that each network has drawn, by their path."""

    def __init__(self, drawn: Sequence[dict[str, list[Tensor]]]) -> None:
        self.drawn = drawn
        self.networks = len(drawn)

    def conv(
        self, path: str, members: Sequence[int], stride: int = 1, padding: int | None = None
    ) -> GroupedConv2d:
        kernels = torch.stack([self.drawn[k][path][0] for k in members])
        if padding is None:
            padding = kernels.shape[-1] // 2
        return GroupedConv2d(members, kernels, stride=stride, padding=padding)

    def linear(self, path: str) -> GroupedConv2d:
        """Make the classifiers of all networks, as convolutions of one pixel."""
        matrices, biases = (torch.stack([own[path][n] for own in self.drawn]) for n in (0, 1))
        return GroupedConv2d(range(self.networks), matrices[..., None, None], biases)

    def norm(self, members: Sequence[int], channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(len(members) * channels, affine=False, track_running_stats=False)

    def relu_conv_bn(
        self, path: str, members: Sequence[int], channels: int, stride: int = 1
    ) -> nn.Sequential:
        return nn.Sequential(
            GroupedReLU(members),
            self.conv(f"{path}.conv", members, stride),
            self.norm(members, channels),
        )


class _Edge(nn.Module):
    """One operation on one edge, of the networks that have it there."""

    def __init__(
        self, layers: _Layers, path: str, members: Sequence[int], operation: int, channels: int
    ) -> None:
        super().__init__()
        self.members, self.operation = members, operation
        self.picked = Picked(members, layers.networks)
        if operation in (CONV_1X1, CONV_3X3):
            self.convolution = layers.relu_conv_bn(path, members, channels)

    def forward(self, features: Tensor) -> Tensor:
        given = self.picked(features)
        if self.operation in (CONV_1X1, CONV_3X3):
            return self.convolution(given)  # type: ignore[no-any-return]
        if self.operation == AVG_POOL:
            return functional.avg_pool2d(given, 3, 1, 1, count_include_pad=False)
        return given  # type: ignore[no-any-return]


class _Cell(nn.Module):
    """The cells at one place of all networks."""

    def __init__(
        self, layers: _Layers, archs: Sequence[Architecture], path: str, channels: int
    ) -> None:
        super().__init__()
        self.edges = nn.ModuleList()
        self.sums = nn.ModuleList()
        self._brought: list[list[tuple[int, int]]] = []  # of each node: source and place of edges
        for node in range(1, NODES):
            brought = []
            for place, (target, source) in enumerate(EDGES):
                for operation in sorted({arch[place] for arch in archs} - {NONE}):
                    if target == node:
                        brought.append((source, len(self.edges)))
                        members = [k for k, arch in enumerate(archs) if arch[place] == operation]
                        where = f"{path}.operations.{EDGE_NAMES[place]}"
                        self.edges.append(_Edge(layers, where, members, operation, channels))
            members_of = [self.edges[edge].members for _, edge in brought]
            self.sums.append(Summed(members_of, layers.networks))  # type: ignore[arg-type]
            self._brought.append(brought)

    def forward(self, features: Tensor) -> Tensor:
        nodes = [features]
        for brought, total in zip(self._brought, self.sums, strict=True):
            parts = [self.edges[edge](nodes[source]) for source, edge in brought]
            nodes.append(total(parts) if parts else features * 0)
        return nodes[-1]


class _Reduction(nn.Module):
    """The residual blocks that halve the images of all networks."""

    def __init__(self, layers: _Layers, path: str, channels: int) -> None:
        super().__init__()
        everyone = range(layers.networks)
        self.residual = nn.Sequential(
            layers.relu_conv_bn(f"{path}.residual.0", everyone, channels, stride=2),
            layers.relu_conv_bn(f"{path}.residual.1", everyone, channels),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), layers.conv(f"{path}.shortcut.1", everyone)
        )

    def forward(self, features: Tensor) -> Tensor:
        total: Tensor = self.shortcut(features) + self.residual(features)
        return total
