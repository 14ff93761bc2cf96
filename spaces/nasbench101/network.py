"""The network that NAS-Bench-101 trains: nine copies of one cell in three stacks."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from spaces.base import Architecture
from spaces.mixture import Mixture, alike, total
from spaces.nasbench101.cell import (
    CELLS_PER_STACK,
    CHANNELS,
    CONV_1X1,
    CONV_3X3,
    INNER,
    MAX_POOL,
    OPERATIONS,
    VERTICES,
    adjacency,
    channels,
    operations,
    pruned,
)

_KERNEL: Final = {CONV_3X3: 3, CONV_1X1: 1}
_OUTPUT: Final = VERTICES - 1


class Network(nn.Module):
    """Stem, three stacks of three cells with 2x2 max pooling between them, and head.

    Maps float images [n, 3, size, size] to logits [n, classes]. Dead vertices of ``arch`` are not
    built, as in the benchmark. With ``several`` it is a supernet: each vertex holds a mixture of
    all operations, each edge a mixture of itself alone, so that it can be cut; widths stay.

    BatchNorm has the benchmark's epsilon, 1e-5, and momentum, .997 (.003 in torch's terms).
    Weights are drawn as the code of Abdelfattah et al. 2021 draws them for this network:
    convolutions from N(0, 2 / (kernel area x output channels)), the linear layer from
    N(0, 0.01^2), its bias zero.

    Numbered deviations: (1) no ReLU works in place.
    """

    def __init__(
        self,
        arch: Architecture,
        classes: int,
        *,
        running_stats: bool = True,
        several: bool = False,
    ) -> None:
        super().__init__()
        self.stem = ConvBNReLU(3, CHANNELS[0], 3, running_stats)
        self.stacks = nn.ModuleList()
        incoming = CHANNELS[0]
        for width in CHANNELS:
            stack = nn.Sequential()
            if self.stacks:
                stack.append(nn.MaxPool2d(2))
            for _ in range(CELLS_PER_STACK):
                stack.append(Cell(arch, incoming, width, running_stats, several))
                incoming = width
            self.stacks.append(stack)
        classifier = nn.Linear(incoming, classes)
        draw(classifier)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        features: Tensor = self.stem(images)
        for stack in self.stacks:
            features = stack(features)
        logits: Tensor = self.head(features)
        return logits

    def blocks(self) -> list[nn.Module]:
        """List the cells in order, for proxies that look between them."""
        return [block for block in self.modules() if isinstance(block, Cell)]

    def mixtures(self) -> list[list[Mixture]]:
        """List the mixtures of a supernet: of each vertex, then of each edge, in every cell."""
        cells = [cell for cell in self.blocks() if isinstance(cell, Cell)]
        return [list(place) for place in zip(*(cell.mixtures() for cell in cells), strict=True)]


class Cell(nn.Module):
    """One cell: maps [n, incoming, h, w] to [n, width, h, w].

    A vertex sums what its sources bring: of an inner source the first channels, as many as the
    vertex has (:func:`spaces.nasbench101.cell.channels`), of the input a projection of its own.
    The output concatenates the inner vertices that feed it and adds the projected input where that
    does, too.
    """

    def __init__(
        self,
        arch: Architecture,
        incoming: int,
        width: int,
        running_stats: bool = True,
        several: bool = False,
    ) -> None:
        super().__init__()
        joined = pruned(adjacency(arch))
        self.channels = channels(joined, width)
        self.projections = nn.ModuleDict(
            {
                str(vertex): _held(
                    [ConvBNReLU(incoming, self.channels[vertex], 1, running_stats)], several
                )
                for vertex in (*INNER, _OUTPUT)
                if joined[0, vertex]
            }
        )
        self.operations = nn.ModuleDict(
            {
                str(vertex): _held(
                    [
                        _operation(each, self.channels[vertex], running_stats)
                        for each in (range(len(OPERATIONS)) if several else (operation,))
                    ],
                    several,
                )
                for vertex, operation in zip(INNER, operations(arch), strict=True)
                if joined[vertex].any()
            }
        )
        self._sources = {
            vertex: [source for source in INNER if joined[source, vertex]]
            for vertex in (*INNER, _OUTPUT)
        }

        self.joins = nn.ModuleDict(
            {
                f"{source} {vertex}": Mixture([nn.Identity()])
                for vertex, sources in self._sources.items()
                for source in sources
                if several
            }
        )

    def mixtures(self) -> list[Mixture]:
        """List the mixtures of a supernet: of each vertex, then of each edge, by where it ends."""
        found = [self.operations[name] for name in self.operations]
        for vertex, sources in self._sources.items():
            found += [self.projections[str(vertex)]] if str(vertex) in self.projections else []
            found += [self.joins[f"{source} {vertex}"] for source in sources]
        return [mixture for mixture in found if isinstance(mixture, Mixture)]

    def forward(self, features: Tensor) -> Tensor:
        """Run the vertices in order."""
        values: dict[int, Tensor] = {}
        for name, operation in self.operations.items():
            vertex = int(name)
            heard = [
                self._joined(source, vertex, values[source])[:, : self.channels[vertex]]
                for source in self._sources[vertex]
                if not self._cut(source, vertex)
            ]
            values[vertex] = operation(self._sum(name, heard, features))
        heard = [self._joined(source, _OUTPUT, values[source]) for source in self._sources[_OUTPUT]]
        joined = [torch.cat(alike(heard), dim=1)] if heard else []
        return self._sum(str(_OUTPUT), joined, features)

    def _sum(self, name: str, heard: list[Tensor], features: Tensor) -> Tensor:
        """Add up what a vertex hears, the projected input among it where the input feeds it."""
        if name in self.projections and not getattr(self.projections[name], "cut", False):
            heard = [*heard, self.projections[name](features)]
        return total(heard)

    def _joined(self, source: int, vertex: int, value: Tensor) -> Tensor:
        """Return what an edge brings: nothing where it is cut."""
        if not self.joins:
            return value
        if self._cut(source, vertex):
            return torch.zeros_like(value)
        brought: Tensor = self.joins[f"{source} {vertex}"](value)
        return brought

    def _cut(self, source: int, vertex: int) -> bool:
        return bool(self.joins) and bool(getattr(self.joins[f"{source} {vertex}"], "cut", False))


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, BatchNorm, ReLU: maps [n, incoming, h, w] to [n, width, h, w]."""

    def __init__(self, incoming: int, width: int, kernel: int, running_stats: bool) -> None:
        super().__init__(
            Convolution(incoming, width, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(width, eps=1e-5, momentum=0.003, track_running_stats=running_stats),
            nn.ReLU(),
        )


def draw(layer: nn.Module) -> None:
    """Draw a classifier from N(0, 0.01 squared), without bias; other layers draw themselves."""
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    else:
        layer.reset_parameters()  # type: ignore[operator]


class Convolution(nn.Conv2d):
    """A convolution that draws its weights by the number of outputs (He et al. 2015, fan-out)."""

    def reset_parameters(self) -> None:
        """Draw the weights from N(0, 2 / (kernel area x output channels))."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")


def _held(candidates: list[nn.Module], several: bool) -> nn.Module:
    return Mixture(candidates) if several else candidates[0]


def _operation(operation: int, width: int, running_stats: bool) -> nn.Module:
    if operation == MAX_POOL:
        return nn.MaxPool2d(3, stride=1, padding=1)
    return ConvBNReLU(width, width, _KERNEL[operation], running_stats)
