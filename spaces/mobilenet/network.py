"""The networks of the MobileNet-like spaces, with one or several operations in each layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from spaces.mixture import Mixture
from spaces.mobilenet.blocks import SEPARABLE, SKIP, SQUEEZE, Layer, Operation, Skeleton

_ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


def draw_convolution(layer: nn.Conv2d) -> None:
    """Draw by the number of outputs (He et al. 2015, fan-out), no bias."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Network(nn.Module):
    """Stem, layers and head; a supernet where operations are left open.

    Maps float images [n, 3, size, size] to logits [n, classes]. Convolutions are drawn from
    N(0, 2 / (kernel area x output channels)), their biases are zero; the linear layer is drawn as
    torch draws it by default.

    Args:
        skeleton: what is fixed.
        operations: the operations left in each layer; where there are several, the mean of their
            outputs is passed on.

    Raises ``ValueError`` where a layer that changes the shape is left to be skipped.

    Numbered deviations from the published networks: (1) no dropout and no stochastic depth; (2) no
    ReLU works in place; (3) the MnasNet-like ones draw the linear layer from
    U(-1/sqrt(classes), 1/sqrt(classes)); (4) the published 21-layer supernet sums the outputs of
    several operations.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        operations: Sequence[Sequence[Operation | None]],
        classes: int,
        *,
        running_stats: bool = True,
    ) -> None:
        super().__init__()
        build = _Builder(_ACTIVATIONS[skeleton.activation], running_stats)
        self.stem = nn.Sequential(*build.convolution(3, skeleton.stem, 3, 2))
        if skeleton.separable:
            layer = Layer(skeleton.stem, skeleton.separable, 1)
            self.stem.append(InvertedResidual(build, layer, SEPARABLE))
        self.body = nn.Sequential()
        for layer, left in zip(skeleton.layers, operations, strict=True):
            candidates = [build.operation(layer, operation) for operation in left]
            self.body.append(candidates[0] if len(candidates) == 1 else Mixture(candidates))
        self.head = nn.Sequential(
            *build.convolution(skeleton.stages[-1].channels, skeleton.head, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(skeleton.head, classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                draw_convolution(module)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        logits: Tensor = self.head(self.body(self.stem(images)))
        return logits

    def mixtures(self) -> list[list[Mixture]]:
        """List the mixture of each layer of a supernet."""
        return [[layer] for layer in self.body if isinstance(layer, Mixture)]

    def blocks(self) -> list[nn.Module]:
        """List the layers that do something, in order, for proxies that look between them."""
        return [layer for layer in self.body if not isinstance(layer, nn.Identity)]


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter by a depthwise, weigh the channels, project by a 1x1 convolution.

    Maps [n, incoming, h, w] to [n, channels, h / stride, w / stride]; the input is added where
    the layer keeps the shape. An expansion of 1 leaves the first convolution out.
    """

    def __init__(self, build: _Builder, layer: Layer, operation: Operation) -> None:
        super().__init__()
        incoming, hidden = layer.incoming, layer.incoming * operation.expansion
        self.layers = nn.Sequential()
        if operation.expansion > 1:
            self.layers.extend(build.convolution(incoming, hidden, 1))
        self.layers.extend(
            build.convolution(hidden, hidden, operation.kernel, layer.stride, groups=hidden)
        )
        if operation.squeeze:
            self.layers.append(SqueezeExcitation(build, hidden, incoming // SQUEEZE))
        self.layers.extend(build.convolution(hidden, layer.channels, 1)[:2])
        self.residual = layer.keeps_shape

    def forward(self, features: Tensor) -> Tensor:
        """Filter, and add the input where shapes agree."""
        output: Tensor = self.layers(features)
        return features + output if self.residual else output


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all channels are on average (Hu et al. 2018)."""

    def __init__(self, build: _Builder, channels: int, squeezed: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            build.activation(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Multiply by weights in (0, 1), keeping the shape."""
        weights: Tensor = self.gate(features)
        return features * weights


class _Builder:
    """Makes the parts of a network, all of one nonlinearity and one kind of BatchNorm."""

    def __init__(self, activation: type[nn.Module], running_stats: bool) -> None:
        self.activation = activation
        self.running_stats = running_stats

    def operation(self, layer: Layer, operation: Operation | None) -> nn.Module:
        if operation is not SKIP:
            return InvertedResidual(self, layer, operation)
        if not layer.keeps_shape:
            raise ValueError(f"{layer} changes the shape, so that it cannot be skipped")
        return nn.Identity()

    def convolution(
        self, incoming: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> list[nn.Module]:
        """Make a convolution, its BatchNorm and the nonlinearity."""
        return [
            nn.Conv2d(incoming, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(channels, track_running_stats=self.running_stats),
            self.activation(),
        ]
