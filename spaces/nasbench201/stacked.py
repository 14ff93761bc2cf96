"""Networks of NAS-Bench-201 in which nothing but the arithmetic takes time.

A module of each operation costs more than the operation where a network sees one or two small
images. Here the weights of a network are drawn at once, and its forward pass is plain code that
goes through the cells.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spaces.arithmetic import TRAINING, Arithmetic
from spaces.base import Architecture, SearchSpace
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

_KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}


class Layer(NamedTuple):
    """A layer: its path in the network, and tensors drawn from U(-b, b), b = 1 / sqrt(fan in)."""

    path: str
    shapes: tuple[tuple[int, ...], ...]
    fan_in: int


class StackedNetwork(nn.Module):
    """K networks: maps float images [K x n, 3, size, size] to logits [K x n, classes].

    Network k computes what :class:`~spaces.nasbench201.network.Network` does in training mode with
    the same ``weights``. The networks run one by one: no result depends on which others are there.
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
        self.networks, self.archs, self.widths, self.cells = len(archs), archs, widths, cells
        layers = [list(_layers(arch, classes, widths, cells)) for arch in archs]
        self._layers = layers
        self._shared = weights.init == "shared"
        if self._shared:
            distinct = dict.fromkeys(layer for network in layers for layer in network)
            drawn = {layer: list(_drawn_alike(weights, space, layer)) for layer in distinct}
            self.weights = nn.ParameterList(tensor for of in drawn.values() for tensor in of)
            places = itertools.count()
            self._places = {layer: [next(places) for _ in of] for layer, of in drawn.items()}
        else:
            seeds = [weights.seed_of(space, arch) for arch in archs]
            self.weights = nn.ParameterList(map(_draw, seeds, layers))

    def forward(self, images: Tensor, arithmetic: Arithmetic = TRAINING) -> Tensor:
        """Return the logits [K x n, classes] of ``images`` [K x n, 3, size, size]."""
        logits = []
        for network, given in enumerate(images.chunk(self.networks)):
            tensors = self._tensors(network)
            run = _Pass(arithmetic, network, tensors)
            features = run.norm(run.layer(given, next(tensors), padding=1))
            channels = self.widths[0]
            for width in self.widths:
                if width != channels:
                    features, channels = run.reduced(features), width
                for _ in range(self.cells):
                    features = run.cell(self.archs[network], features)
            means = run.relu(run.norm(features)).mean((2, 3), keepdim=True)
            classifier = next(tensors)[:, :, None, None]
            logits.append(run.layer(means, classifier, next(tensors)).flatten(1))
        return torch.cat(logits)

    def _tensors(self, network: int) -> Iterator[Tensor]:
        """Give the tensors of one network in the order of its layers."""
        if not self._shared:
            return map(_channels_last, _parted(self.weights[network], self._layers[network]))
        layers = self._layers[network]
        return (self.weights[place] for layer in layers for place in self._places[layer])


class _Pass:
    """The forward pass of one network, which takes its tensors one after the other."""

    def __init__(self, arithmetic: Arithmetic, network: int, tensors: Iterator[Tensor]) -> None:
        self.layer, self.norm, self.relu = arithmetic.layer, arithmetic.norm, arithmetic.relu
        self.end = functools.partial(arithmetic.end, network)
        self.tensors = tensors

    def cell(self, arch: Architecture, features: Tensor) -> Tensor:
        """Sum, at each node, what its edges bring; a node without any is zero."""
        nodes: list[Tensor | None] = [features, *[None] * (NODES - 1)]
        for (target, source), operation in zip(EDGES, arch, strict=True):
            if operation == NONE:
                continue
            given = nodes[source]
            brought = torch.zeros_like(features) if given is None else given
            if operation in _KERNELS:
                brought = self.relu_conv_bn(brought)
            elif operation == AVG_POOL:
                brought = functional.avg_pool2d(brought, 3, 1, 1, count_include_pad=False)
            before = nodes[target]
            nodes[target] = brought if before is None else before + brought
        output = nodes[-1]
        return self.end(torch.zeros_like(features) if output is None else output)

    def reduced(self, features: Tensor) -> Tensor:
        """Halve the image in a residual block."""
        residual = self.relu_conv_bn(self.relu_conv_bn(features, stride=2))
        shortcut = self.layer(functional.avg_pool2d(features, 2), next(self.tensors))
        return self.end(shortcut + residual)

    def relu_conv_bn(self, features: Tensor, stride: int = 1) -> Tensor:
        """ReLU, convolution without bias, BatchNorm."""
        kernels = next(self.tensors)
        padding = kernels.shape[-1] // 2
        return self.norm(self.layer(self.relu(features), kernels, stride=stride, padding=padding))


def _layers(arch: Architecture, classes: int, widths: Sequence[int], cells: int) -> Iterator[Layer]:
    """List what :class:`~spaces.nasbench201.network.Network` draws, in its order."""

    def conv(path: str, out: int, given: int, kernel: int) -> Layer:
        return Layer(path, ((out, given, kernel, kernel),), given * kernel * kernel)

    channels = widths[0]
    yield conv("stem.0", channels, 3, 3)
    for stage, width in enumerate(widths):
        first = 0
        if width != channels:
            path = f"stages.{stage}.0"
            yield conv(f"{path}.residual.0.conv", width, channels, 3)
            yield conv(f"{path}.residual.1.conv", width, width, 3)
            yield conv(f"{path}.shortcut.1", width, channels, 1)
            channels, first = width, 1
        for cell in range(first, first + cells):
            for edge, operation in zip(EDGE_NAMES, arch, strict=True):
                if operation in _KERNELS:
                    path = f"stages.{stage}.{cell}.operations.{edge}.conv"
                    yield conv(path, width, width, _KERNELS[operation])
    yield Layer("head.4", ((classes, channels), (classes,)), channels)


def drawn_by_path(
    space: SearchSpace,
    arch: Architecture,
    weights: InitialWeights,
    classes: int,
    widths: Sequence[int],
    cells: int,
) -> dict[str, list[Tensor]]:
    """Draw the tensors of one network, by the path of their layer in it."""
    layers = list(_layers(arch, classes, widths, cells))
    if weights.init == "shared":
        return {layer.path: list(_drawn_alike(weights, space, layer)) for layer in layers}
    tensors = _parted(_draw(weights.seed_of(space, arch), layers), layers)
    return {layer.path: [next(tensors) for _ in layer.shapes] for layer in layers}


def _draw(seed: int, layers: Sequence[Layer]) -> Tensor:
    """Draw layers at once, flat [numbers]: the same numbers as one after the other."""
    sizes = [sum(map(math.prod, layer.shapes)) for layer in layers]
    numbers = torch.rand(sum(sizes), generator=torch.Generator().manual_seed(seed)).sub_(0.5)
    for part, layer in zip(torch.split(numbers, sizes), layers, strict=True):
        part.mul_(2 * layer.fan_in**-0.5)
    return numbers


@functools.lru_cache(maxsize=1024)
def _drawn_alike(weights: InitialWeights, space: SearchSpace, layer: Layer) -> tuple[Tensor, ...]:
    """Draw the tensors of a layer that is the same in all networks."""
    drawn = _draw(weights.seed_of_layer(space, layer.path, layer.shapes), [layer])
    return tuple(map(_channels_last, _parted(drawn, [layer])))


def _parted(weights: Tensor, layers: Sequence[Layer]) -> Iterator[Tensor]:
    """Part weights that lie one after the other."""
    shapes = [shape for layer in layers for shape in layer.shapes]
    for part, shape in zip(torch.split(weights, [*map(math.prod, shapes)]), shapes, strict=True):
        yield part.view(shape)


def _channels_last(tensor: Tensor) -> Tensor:
    """Lay out kernels as convolutions on a CPU read them."""
    if tensor.dim() != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)
