"""The network of DARTS for CIFAR, of cells with one or several operations on each edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from spaces.darts.cell import (
    AVG_POOL,
    DIL_CONV_3X3,
    DIL_CONV_5X5,
    INPUTS,
    MAX_POOL,
    NODES,
    NOISE,
    NONE,
    SEP_CONV_3X3,
    SEP_CONV_5X5,
    SKIP,
    Edge,
)
from spaces.mixture import Mixture, alike, total

STEM_MULTIPLIER: Final = 3
"""How often the stem has the channels of the first cell."""

_KERNEL: Final = {SEP_CONV_3X3: 3, SEP_CONV_5X5: 5, DIL_CONV_3X3: 3, DIL_CONV_5X5: 5}


class Network(nn.Module):
    """Stem, cells, two of them reductions, and head; a supernet where operations are left open.

    Maps float images [n, 3, size, size] to logits [n, classes]. The cells after a third and two
    thirds of all are reductions: they halve the image and double the channels. A cell puts out
    four times its channels. Every operation has its modules and runs, also where nothing comes of
    it. Weights are drawn as torch draws them by default.

    Args:
        normal: the edges of the normal cells, at least one to each node. Where an edge has several
            operations, the mean of their outputs is passed on; a node sums what its edges bring.
        reduce: the edges of the reduction cells.
        classes: width of the output.
        channels: of the first cells, an even number.
        layers: how many cells there are.
        running_stats: whether the BatchNorms keep running statistics.

    Numbered deviations: (1) no ReLU works in place; (2) no auxiliary head and no drop-path, which
    serve training alone; (3) a supernet is made of the same modules, where the search networks of
    DARTS have BatchNorms without scale and shift and one after each pooling, which is the same at
    initialisation but for the normalisation of pooled features in training mode.
    """

    def __init__(
        self,
        normal: Sequence[Edge],
        reduce: Sequence[Edge],
        classes: int,
        *,
        channels: int,
        layers: int,
        running_stats: bool = True,
    ) -> None:
        super().__init__()
        incoming = STEM_MULTIPLIER * channels
        self.stem = nn.Sequential(
            nn.Conv2d(3, incoming, 3, padding=1, bias=False),
            _batch_norm(incoming, running_stats),
        )
        self.cells = nn.ModuleList()
        before, halved = incoming, False
        for layer in range(layers):
            halves = layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if halves else 1
            cell = Cell(
                reduce if halves else normal,
                (before, incoming),
                channels,
                running_stats,
                halves=halves,
                halved=halved,
            )
            self.cells.append(cell)
            before, incoming, halved = incoming, len(NODES) * channels, halves
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(incoming, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        before = features = self.stem(images)
        for cell in self.cells:
            before, features = features, cell(before, features)
        logits: Tensor = self.head(features)
        return logits

    def mixtures(self) -> list[list[Mixture]]:
        """List the mixtures of each edge of a supernet: of the normal cells, of the reductions."""
        cells = [cell for cell in self.cells if isinstance(cell, Cell)]
        return [
            [operation for operation in edge if isinstance(operation, Mixture)]
            for halves in (False, True)
            for edge in zip(*(c.operations for c in cells if c.halves is halves), strict=True)
        ]

    def blocks(self) -> list[nn.Module]:
        """List the cells in order, for proxies that look between them."""
        return list(self.cells)


class Cell(nn.Module):
    """One cell: maps the outputs of the two cells before to [n, 4 x channels, h, w].

    ``halves`` says whether this cell halves the image, ``halved`` whether the one before did, so
    that the one before that must be made to fit.
    """

    def __init__(
        self,
        edges: Sequence[Edge],
        incoming: tuple[int, int],
        channels: int,
        running_stats: bool,
        *,
        halves: bool = False,
        halved: bool = False,
    ) -> None:
        super().__init__()
        self.halves = halves
        before, last = incoming
        self.preprocess = nn.ModuleList(
            [
                FactorizedReduce(before, channels, running_stats)
                if halved
                else ReLUConvBN(before, channels, running_stats),
                ReLUConvBN(last, channels, running_stats),
            ]
        )
        self.operations = nn.ModuleList()
        for edge in edges:
            stride = 2 if halves and edge.source < INPUTS else 1
            candidates = [_operation(o, channels, stride, running_stats) for o in edge.operations]
            self.operations.append(candidates[0] if len(candidates) == 1 else Mixture(candidates))
        self._inputs = [
            [(place, edge.source) for place, edge in enumerate(edges) if edge.target == node]
            for node in NODES
        ]

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """Run the nodes in order and concatenate them."""
        nodes = [self.preprocess[0](before), self.preprocess[1](last)]
        for inputs in self._inputs:
            brought = [
                self.operations[place](nodes[source])
                for place, source in inputs
                if not getattr(self.operations[place], "cut", False)
            ]
            nodes.append(total(brought))
        return torch.cat(alike(nodes[INPUTS:]), dim=1)


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, BatchNorm: maps [n, incoming, h, w] to [n, channels, h, w]."""

    def __init__(self, incoming: int, channels: int, running_stats: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(incoming, channels, 1, bias=False),
            _batch_norm(channels, running_stats),
        )


class FactorizedReduce(nn.Module):
    """Two 1x1 convolutions of stride 2, one a pixel off: [n, incoming, h, w] to half the size.

    Each makes half of ``channels``; height and width must be even.
    """

    def __init__(self, incoming: int, channels: int, running_stats: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(incoming, channels // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(incoming, channels // 2, 1, stride=2, bias=False)
        self.bn = _batch_norm(channels, running_stats)

    def forward(self, features: Tensor) -> Tensor:
        """Convolve every other pixel, from the first and from the second on."""
        features = self.relu(features)
        halves = [self.even(features), self.odd(features[:, :, 1:, 1:])]
        output: Tensor = self.bn(torch.cat(halves, dim=1))
        return output


class Zero(nn.Module):
    """Nothing, in the shape of something."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Return zeros [n, channels, h / stride, w / stride]."""
        return features[:, :, :: self.stride, :: self.stride] * 0


class Noise(nn.Module):
    """Gaussian noise in the shape of the features, drawn anew in every pass."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        """Draw [n, channels, h / stride, w / stride] from N(0, 1), torch's global generator."""
        return torch.randn_like(features[:, :, :: self.stride, :: self.stride])


def _operation(operation: int, channels: int, stride: int, running_stats: bool) -> nn.Module:
    if operation in (SEP_CONV_3X3, SEP_CONV_5X5):
        kernel = _KERNEL[operation]
        return nn.Sequential(
            *_depthwise(channels, kernel, stride, kernel // 2, 1, running_stats),
            *_depthwise(channels, kernel, 1, kernel // 2, 1, running_stats),
        )
    if operation in (DIL_CONV_3X3, DIL_CONV_5X5):
        kernel = _KERNEL[operation]
        return nn.Sequential(*_depthwise(channels, kernel, stride, kernel - 1, 2, running_stats))
    if operation == SKIP and stride > 1:
        return FactorizedReduce(channels, channels, running_stats)
    fixed: dict[int, nn.Module] = {
        NONE: Zero(stride),
        NOISE: Noise(stride),
        SKIP: nn.Identity(),
        MAX_POOL: nn.MaxPool2d(3, stride, padding=1),
        AVG_POOL: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
    }
    return fixed[operation]


def _depthwise(
    channels: int, kernel: int, stride: int, padding: int, dilation: int, running_stats: bool
) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1x1 convolution, BatchNorm."""
    return [
        nn.ReLU(),
        nn.Conv2d(
            channels,
            channels,
            kernel,
            stride,
            padding,
            dilation,
            groups=channels,
            bias=False,
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        _batch_norm(channels, running_stats),
    ]


def _batch_norm(channels: int, running_stats: bool) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=running_stats)
