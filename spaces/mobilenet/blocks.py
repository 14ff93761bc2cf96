"""The skeletons of the MobileNet-like spaces, what their layers may hold, and what that costs."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

SQUEEZE: Final = 4
"""Squeeze-and-excitation has a quarter as many hidden channels as the layer has inputs."""


class Operation(NamedTuple):
    """An inverted residual: its expansion, its kernel, and whether it squeezes and excites."""

    expansion: int
    kernel: int
    squeeze: bool = False

    def __str__(self) -> str:
        return f"MB{self.expansion}_K{self.kernel}" + ("_SE" if self.squeeze else "")


SKIP: Final = None
"""The operation that passes its input on."""


class Layer(NamedTuple):
    """A place for an operation: channels in and out, and stride."""

    incoming: int
    channels: int
    stride: int

    @property
    def keeps_shape(self) -> bool:
        """Whether what comes out has the shape of what goes in, so that the layer may be skipped.

        In such a layer an inverted residual adds its input.
        """
        return self.stride == 1 and self.incoming == self.channels


class Stage(NamedTuple):
    """Layers of equally many channels, of which the first has the stride and may widen."""

    channels: int
    layers: int
    stride: int


@dataclass(frozen=True)
class Skeleton:
    """What is fixed: conv3x3 of stride 2, stages of layers, conv1x1, pooling, linear.

    Attributes:
        stem: channels of the first convolution.
        separable: channels of a depthwise separable convolution that follows it, if any.
        stages: the searched layers.
        head: channels of the last convolution.
        activation: the nonlinearity.
    """

    stem: int
    separable: int | None
    stages: tuple[Stage, ...]
    head: int
    activation: Literal["relu", "relu6"]

    @property
    def layers(self) -> list[Layer]:
        """List the searched layers in order."""
        found: list[Layer] = []
        incoming = self.separable or self.stem
        for channels, count, stride in self.stages:
            found += [
                Layer(incoming, channels, stride),
                *[Layer(channels, channels, 1)] * (count - 1),
            ]
            incoming = channels
        return found


MNASNET: Final = Skeleton(
    stem=32,
    separable=None,
    stages=(
        Stage(16, 3, 1),
        Stage(24, 3, 2),
        Stage(40, 3, 2),
        Stage(80, 3, 2),
        Stage(112, 3, 1),
        Stage(192, 4, 2),
        Stage(320, 3, 1),
    ),
    head=1280,
    activation="relu",
)
"""EfficientNet-B0's channels and strides, at full depth."""

PROXYLESS: Final = Skeleton(
    stem=40,
    separable=24,
    stages=(
        Stage(32, 4, 2),
        Stage(56, 4, 2),
        Stage(112, 4, 2),
        Stage(128, 4, 1),
        Stage(256, 4, 2),
        Stage(432, 1, 1),
    ),
    head=1728,
    activation="relu6",
)
"""ProxylessNAS's network for GPUs."""

SEPARABLE: Final = Operation(1, 3)


class Costs(NamedTuple):
    """What networks cost, for one image: int64, all of one shape.

    Attributes:
        params: learnable parameters.
        macs: multiply-adds of convolutions and of the classifier.
        normalised: numbers that BatchNorms are given.
        pooled: numbers that global average poolings are given and return.
    """

    params: Any
    macs: Any
    normalised: Any
    pooled: Any

    def __add__(self, other: object) -> Costs:
        """Add cost by cost."""
        assert isinstance(other, Costs)
        return Costs(*(one + more for one, more in zip(self, other, strict=True)))


NOTHING: Final = Costs(0, 0, 0, 0)


def costs(
    skeleton: Skeleton,
    operations: tuple[Operation | None, ...],
    chosen: Ints,
    image_size: int,
    classes: int,
) -> Costs:
    """Count what networks cost, from ``chosen``, int64 [n, layers]: each [n].

    ``chosen`` are indices into ``operations``.
    """
    fixed, searched = _tables(skeleton, operations, image_size, classes)
    layers = np.arange(chosen.shape[1])
    return fixed + Costs(*(each[layers, chosen].sum(axis=1) for each in searched))


@functools.cache
def _tables(
    skeleton: Skeleton, operations: tuple[Operation | None, ...], image_size: int, classes: int
) -> tuple[Costs, Costs]:
    """Count what is fixed, and each operation in each layer, each [layers, operations]."""
    side = _halved(image_size, 2)
    fixed = _convolution(3, skeleton.stem, 3, side)
    if skeleton.separable:
        fixed += _operation(Layer(skeleton.stem, skeleton.separable, 1), SEPARABLE, side)
    searched = []
    for layer in skeleton.layers:
        searched.append([_operation(layer, operation, side) for operation in operations])
        side = _halved(side, layer.stride)
    fixed += _convolution(skeleton.stages[-1].channels, skeleton.head, 1, side)
    weights = skeleton.head * classes
    fixed += Costs(weights + classes, weights, 0, skeleton.head * (side**2 + 1))
    return fixed, Costs(*np.moveaxis(np.array(searched, np.int64), 2, 0))


def _operation(layer: Layer, operation: Operation | None, side: int) -> Costs:
    if operation is SKIP:
        return NOTHING
    hidden = layer.incoming * operation.expansion
    total = NOTHING
    if operation.expansion > 1:
        total += _convolution(layer.incoming, hidden, 1, side)
    side = _halved(side, layer.stride)
    total += _convolution(1, hidden, operation.kernel, side)
    if operation.squeeze:
        squeezed = layer.incoming // SQUEEZE
        weights = 2 * hidden * squeezed
        total += Costs(weights + squeezed + hidden, weights, 0, hidden * (side**2 + 1))
    return total + _convolution(hidden, layer.channels, 1, side)


def _convolution(incoming: int, channels: int, kernel: int, side: int) -> Costs:
    """Count a convolution and its BatchNorm; ``incoming`` is of a group, ``side`` of the output."""
    weights, pixels = kernel**2 * incoming * channels, side**2
    return Costs(weights + 2 * channels, weights * pixels, channels * pixels, 0)


def _halved(side: int, stride: int) -> int:
    return -(-side // stride)
