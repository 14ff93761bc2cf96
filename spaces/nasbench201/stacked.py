"""Networks of NAS-Bench-201 in which nothing but the arithmetic takes time.

A module of each operation costs more than the operation where a network sees one or two small
images. Here the weights of a network are one tensor, drawn at once, and its forward pass is plain
code that goes through the cells.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spaces.arithmetic import TRAINING, Arithmetic
from spaces.base import Architecture
from spaces.nasbench201.cell import AVG_POOL, CONV_1X1, CONV_3X3, EDGES, NODES, NONE

_KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}


class Layer(NamedTuple):
    """A tensor that a network draws from U(-b, b), b = 1 / sqrt(fan in)."""

    shape: tuple[int, ...]
    fan_in: int


class StackedNetwork(nn.Module):
    """K networks: maps float images [K x n, 3, size, size] to logits [K x n, classes].

    Network k computes what :class:`~spaces.nasbench201.network.Network` does in training mode with
    its weights drawn after ``torch.manual_seed(seeds[k])``; ``weights[k]`` has all of them, one
    after the other. The networks run one by one: no result depends on which others are there.
    """

    def __init__(
        self,
        archs: Sequence[Architecture],
        seeds: Sequence[int],
        classes: int,
        *,
        widths: Sequence[int],
        cells: int,
    ) -> None:
        super().__init__()
        self.networks, self.archs, self.widths, self.cells = len(archs), archs, widths, cells
        self._layers = [list(_layers(arch, classes, widths, cells)) for arch in archs]
        self.weights = nn.ParameterList(map(_draw, seeds, self._layers))

    def forward(self, images: Tensor, arithmetic: Arithmetic = TRAINING) -> Tensor:
        """Return the logits [K x n, classes] of ``images`` [K x n, 3, size, size]."""
        logits = []
        for network, given in enumerate(images.chunk(self.networks)):
            tensors = _parts(self.weights[network], self._layers[network])
            run = _Pass(arithmetic, network, tensors)
            features = run.norm(run.layer(given, next(tensors), padding=1))
            channels = self.widths[0]
            for width in self.widths:
                if width != channels:
                    features, channels = run.reduced(features), width
                for _ in range(self.cells):
                    features = run.cell(self.archs[network], features)
            means = functional.relu(run.norm(features)).mean((2, 3), keepdim=True)
            logits.append(run.layer(means, next(tensors), next(tensors)).flatten(1))
        return torch.cat(logits)


class _Pass:
    """The forward pass of one network, which takes its tensors one after the other."""

    def __init__(self, arithmetic: Arithmetic, network: int, tensors: Iterator[Tensor]) -> None:
        self.layer, self.norm = arithmetic.layer, arithmetic.norm
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
        return self.norm(
            self.layer(functional.relu(features), kernels, stride=stride, padding=padding)
        )


def _layers(arch: Architecture, classes: int, widths: Sequence[int], cells: int) -> Iterator[Layer]:
    """List what :class:`~spaces.nasbench201.network.Network` draws, in its order."""

    def conv(out: int, given: int, kernel: int) -> Layer:
        return Layer((out, given, kernel, kernel), given * kernel * kernel)

    channels = widths[0]
    yield conv(channels, 3, 3)
    for width in widths:
        if width != channels:
            yield from (conv(width, channels, 3), conv(width, width, 3), conv(width, channels, 1))
            channels = width
        cell = [conv(width, width, _KERNELS[o]) for o in arch if o in _KERNELS]
        for _ in range(cells):
            yield from cell
    yield conv(classes, channels, 1)
    yield Layer((classes,), channels)


def _draw(seed: int, layers: Sequence[Layer]) -> Tensor:
    """Draw all layers of a network at once: the same numbers as one after the other."""
    sizes = [math.prod(layer.shape) for layer in layers]
    numbers = torch.rand(sum(sizes), generator=torch.Generator().manual_seed(seed)).sub_(0.5)
    for part, layer in zip(torch.split(numbers, sizes), layers, strict=True):
        part.mul_(2 * layer.fan_in**-0.5)
    return numbers


def _parts(weights: Tensor, layers: Sequence[Layer]) -> Iterator[Tensor]:
    """Part the weights by layer, kernels channels-last."""
    sizes = [math.prod(layer.shape) for layer in layers]
    for part, layer in zip(torch.split(weights, sizes), layers, strict=True):
        tensor = part.view(layer.shape)
        if len(layer.shape) == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        yield tensor
