"""The network that NAS-Bench-201 trains: copies of one cell in three stages, 15 as benchmarked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from spaces.mixture import Mixture, total
from spaces.nasbench201.cell import (
    AVG_POOL,
    CONV_1X1,
    CONV_3X3,
    EDGE_NAMES,
    EDGES,
    NODES,
    NONE,
)

CHANNELS: Final = (16, 32, 64)
"""Channels of each stage, as benchmarked."""

CELLS_PER_STAGE: Final = 5
"""As benchmarked."""


Edges = Sequence[int | tuple[int, ...]]
"""The operation of each edge, or several."""


class Network(nn.Module):
    """Stem, three stages of cells with a reduction before the second and third, and head.

    Maps float images [n, 3, size, size] to logits [n, classes]. Every operation of ``arch`` has
    its modules and runs, also where nothing comes of it, as in the benchmark; a canonical
    architecture has no such operations. Weights are drawn as torch draws them by default.

    ``widths`` are the channels of the stages, ``cells`` how many cells each has. An edge of
    ``arch`` that has a tuple of operations is a mixture of them: a supernet.

    Numbered deviations: (1) no ReLU works in place.
    """

    def __init__(
        self,
        arch: Edges,
        classes: int,
        *,
        widths: Sequence[int] = CHANNELS,
        cells: int = CELLS_PER_STAGE,
        running_stats: bool = True,
    ) -> None:
        super().__init__()
        incoming = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, incoming, 3, padding=1, bias=False),
            _batch_norm(incoming, running_stats),
        )
        self.stages = nn.ModuleList()
        for channels in widths:
            stage = nn.Sequential()
            if channels != incoming:
                stage.append(Reduction(incoming, channels, running_stats))
            stage.extend(Cell(arch, channels, running_stats) for _ in range(cells))
            self.stages.append(stage)
            incoming = channels
        self.head = nn.Sequential(
            _batch_norm(incoming, running_stats),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(incoming, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        features: Tensor = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        logits: Tensor = self.head(features)
        return logits

    def blocks(self) -> list[nn.Module]:
        """List cells and reductions in order, for proxies that look between them."""
        return [block for stage in self.stages for block in stage.children()]

    def mixtures(self) -> list[list[Mixture]]:
        """List the mixtures of each edge of a supernet, cell by cell."""
        cells = [block for block in self.blocks() if isinstance(block, Cell)]
        found: list[list[Mixture]] = [[] for _ in EDGES]
        for cell in cells:
            for place, operation in zip(found, cell.operations.values(), strict=True):
                assert isinstance(operation, Mixture)
                place.append(operation)
        return found


class Cell(nn.Module):
    """One cell: maps [n, channels, h, w] to the same shape."""

    def __init__(self, arch: Edges, channels: int, running_stats: bool = True) -> None:
        super().__init__()
        self.operations = nn.ModuleDict(
            {
                name: _operation(operation, channels, running_stats)
                for name, operation in zip(EDGE_NAMES, arch, strict=True)
                if operation != NONE
            }
        )
        self._inputs = [
            [
                (s, name)
                for (t, s), name in zip(EDGES, EDGE_NAMES, strict=True)
                if t == target and name in self.operations
            ]
            for target in range(1, NODES)
        ]

    def forward(self, features: Tensor) -> Tensor:
        """Sum, at each node, what its edges bring; a node without any is zero."""
        nodes: list[Tensor | None] = [features]
        for inputs in self._inputs:
            brought = []
            for source, name in inputs:
                given = nodes[source]
                brought.append(self.operations[name](features * 0 if given is None else given))
            nodes.append(total(brought) if brought else None)
        return features * 0 if nodes[-1] is None else nodes[-1]


class ReLUConvBN(nn.Module):
    """ReLU, convolution without bias, BatchNorm."""

    def __init__(
        self, incoming: int, channels: int, kernel: int, running_stats: bool, stride: int = 1
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(incoming, channels, kernel, stride, kernel // 2, bias=False)
        self.bn = _batch_norm(channels, running_stats)

    def forward(self, features: Tensor) -> Tensor:
        """Return [n, channels, h / stride, w / stride]."""
        output: Tensor = self.bn(self.conv(self.relu(features)))
        return output


class Reduction(nn.Module):
    """Residual block that halves the image: maps [n, c, h, w] to [n, channels, h/2, w/2]."""

    def __init__(self, incoming: int, channels: int, running_stats: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ReLUConvBN(incoming, channels, 3, running_stats, stride=2),
            ReLUConvBN(channels, channels, 3, running_stats),
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(incoming, channels, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        output: Tensor = self.shortcut(features) + self.residual(features)
        return output


class Zero(nn.Module):
    """The operation ``none`` of a mixture: nothing, in the shape of something."""

    def forward(self, features: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(features)


def _operation(operation: int | tuple[int, ...], channels: int, running_stats: bool) -> nn.Module:
    if isinstance(operation, tuple):
        return Mixture([_operation(each, channels, running_stats) for each in operation])
    if operation == CONV_1X1:
        return ReLUConvBN(channels, channels, 1, running_stats)
    if operation == CONV_3X3:
        return ReLUConvBN(channels, channels, 3, running_stats)
    if operation == AVG_POOL:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return Zero() if operation == NONE else nn.Identity()


def _batch_norm(channels: int, running_stats: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=running_stats)
