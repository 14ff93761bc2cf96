"""The networks of TransNAS-Bench-101: a stem, modules of two cells each, and a linear head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from spaces.base import Architecture
from spaces.nasbench201.cell import CONV_1X1, CONV_3X3, EDGE_NAMES, EDGES, NODES, NONE
from spaces.nasbench201.network import ReLUConvBN

BASE_CHANNELS: Final = 64

CELLS_PER_MODULE: Final = 2

MakeCell = Callable[[int, int, int, bool], nn.Module]
"""Makes a cell from incoming channels, channels, stride and whether to keep running statistics."""


def draw_convolution(layer: nn.Conv2d) -> None:
    """Draw by the number of outputs (He et al. 2015, fan-out)."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class Network(nn.Module):
    """Maps float images [n, 3, size, size] to logits [n, classes].

    The stem divides the resolution by 4; each module does as its digit says (1 keeps the shape, 2
    doubles the channels, 3 halves the resolution, 4 does both), in the first of its two cells; the
    head is global average pooling and a linear layer. With ``tiles=9`` the image is cut into nine
    tiles, each is encoded by itself with the same weights, and the head reads all nine: the
    benchmark's network for jigsaw. Convolutions are drawn as by the benchmark (He et al., normal,
    fan out), the linear layer as torch draws it by default.

    Numbered deviations: (1) autoencoder, normal and segmentsemantic train a convolutional decoder
    behind the same encoder; here the head stands in for it, as proxies need logits.
    """

    def __init__(
        self,
        modules: Sequence[int],
        cell: MakeCell,
        classes: int,
        *,
        tiles: int = 1,
        running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.tiles_a_side = round(tiles**0.5)
        self.stem = nn.Sequential(
            nn.Conv2d(3, BASE_CHANNELS // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(BASE_CHANNELS // 2, track_running_stats=running_stats),
            ReLUConvBN(BASE_CHANNELS // 2, BASE_CHANNELS, 3, running_stats, stride=2),
        )
        self.body = nn.Sequential()
        channels = BASE_CHANNELS
        for digit in modules:
            incoming, stride = channels, 2 if digit in (3, 4) else 1
            channels *= 2 if digit in (2, 4) else 1
            self.body.append(cell(incoming, channels, stride, running_stats))
            for _ in range(CELLS_PER_MODULE - 1):
                self.body.append(cell(channels, channels, 1, running_stats))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(channels * tiles, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                draw_convolution(module)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        tiles = [
            tile
            for row in images.chunk(self.tiles_a_side, dim=2)
            for tile in row.chunk(self.tiles_a_side, dim=3)
        ]
        features = [self.pool(self.body(self.stem(tile))) for tile in tiles]
        logits: Tensor = self.head(torch.cat(features, dim=1))
        return logits

    def blocks(self) -> list[nn.Module]:
        """List the cells in order, for proxies that look between them."""
        return list(self.body)


class MicroCell(nn.Module):
    """One cell of the micro space: maps [n, incoming, h, w] to [n, channels, h/stride, w/stride].

    Edges out of the input change channels and resolution. Every operation of ``arch`` has its
    modules and runs, also where nothing comes of it, as in the benchmark.
    """

    def __init__(
        self,
        arch: Architecture,
        incoming: int,
        channels: int,
        stride: int = 1,
        running_stats: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.operations = nn.ModuleDict()
        self._inputs: list[list[tuple[int, str]]] = [[] for _ in range(NODES)]
        for operation, name, (target, source) in zip(arch, EDGE_NAMES, EDGES, strict=True):
            if operation != NONE:
                shape = (incoming, channels, stride) if source == 0 else (channels, channels, 1)
                self.operations[name] = _operation(operation, *shape, running_stats)
                self._inputs[target].append((source, name))

    def forward(self, features: Tensor) -> Tensor:
        """Sum, at each node, what its edges bring; a node without any is zero."""
        nodes = [features]
        for inputs in self._inputs[1:]:
            brought = [self.operations[name](nodes[source]) for source, name in inputs]
            nodes.append(sum(brought[1:], brought[0]) if brought else self._zero(features))
        return nodes[-1]

    def _zero(self, features: Tensor) -> Tensor:
        """Zeros of the output's shape that still depend on ``features``."""
        zero = features[:, :1, :: self.stride, :: self.stride] * 0
        return zero.expand(-1, self.channels, -1, -1)


class BasicBlock(nn.Module):
    """ResNet's block, ReLU first: maps [n, incoming, h, w] to [n, channels, h/stride, w/stride].

    A shortcut that changes the shape is a convolution and a BatchNorm whose epsilon and momentum
    are both 1: the benchmark's code hands its flags ``affine`` and ``track_running_stats`` over by
    position, where torch has these two.
    """

    def __init__(
        self, incoming: int, channels: int, stride: int = 1, running_stats: bool = True
    ) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ReLUConvBN(incoming, channels, 3, running_stats, stride),
            ReLUConvBN(channels, channels, 3, running_stats),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or incoming != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(incoming, channels, 1, stride, bias=False),
                nn.BatchNorm2d(channels, eps=1.0, momentum=1.0, track_running_stats=running_stats),
            )

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        output: Tensor = self.shortcut(features) + self.residual(features)
        return output


class FactorizedReduce(nn.Module):
    """A skip that changes the shape: half of the channels look one pixel further than the others.

    Maps [n, incoming, h, w] to [n, channels, h / stride, w / stride].
    """

    def __init__(self, incoming: int, channels: int, stride: int, running_stats: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(incoming, half, 1, stride, bias=False)
            for half in (channels // 2, channels - channels // 2)
        )
        self.bn = nn.BatchNorm2d(channels, track_running_stats=running_stats)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve the features, and the features shifted by a pixel up and left."""
        features = self.relu(features)
        shifted = functional.pad(features, (-1, 1, -1, 1))
        straight, further = self.convolutions
        output: Tensor = self.bn(torch.cat([straight(features), further(shifted)], dim=1))
        return output


def _operation(
    operation: int, incoming: int, channels: int, stride: int, running_stats: bool
) -> nn.Module:
    if operation in (CONV_1X1, CONV_3X3):
        kernel = 1 if operation == CONV_1X1 else 3
        return ReLUConvBN(incoming, channels, kernel, running_stats, stride)
    if stride == 1 and incoming == channels:
        return nn.Identity()
    return FactorizedReduce(incoming, channels, stride, running_stats)
