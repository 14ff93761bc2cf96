"""The network that NAS-Bench-Macro trains, with one or several operations at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from spaces.mixture import Mixture
from spaces.nasbench_macro.blocks import IDENTITY, MB3_K3, MB6_K5, STAGES

STEM_CHANNELS: Final = 32
"""Doubled by each stage."""

HEAD_CHANNELS: Final = 1280

_KERNEL_AND_EXPANSION: Final = {MB3_K3: (3, 3), MB6_K5: (5, 6)}


class Network(nn.Module):
    """Stem, eight blocks in three stages, and head; a supernet where operations are left open.

    Maps float images [n, 3, size, size] to logits [n, classes]. Weights are drawn as torch draws
    them by default.

    Args:
        operations: the indices of the operations left at each position; where there are several,
            the mean of their outputs is passed on.

    Numbered deviations: (1) no ReLU works in place.
    """

    def __init__(
        self, operations: Sequence[Sequence[int]], classes: int, *, running_stats: bool = True
    ) -> None:
        super().__init__()
        self.stem = _conv_bn_relu(3, STEM_CHANNELS, 3, running_stats)
        self.body = nn.Sequential()
        channels, left = STEM_CHANNELS, iter(operations)
        for length in STAGES:
            for stride in (2, *[1] * (length - 1)):
                outgoing = channels * stride
                candidates = [
                    _operation(operation, channels, outgoing, stride, running_stats)
                    for operation in next(left)
                ]
                self.body.append(candidates[0] if len(candidates) == 1 else Mixture(candidates))
                channels = outgoing
        self.head = nn.Sequential(
            _conv_bn_relu(channels, HEAD_CHANNELS, 1, running_stats),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(HEAD_CHANNELS, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [n, classes] of ``images`` [n, 3, size, size]."""
        logits: Tensor = self.head(self.body(self.stem(images)))
        return logits

    def mixtures(self) -> list[list[Mixture]]:
        """List the mixture of each position of a supernet."""
        return [[block] for block in self.body if isinstance(block, Mixture)]

    def blocks(self) -> list[nn.Module]:
        """List the blocks that do something, in order, for proxies that look between them."""
        return [block for block in self.body if not isinstance(block, nn.Identity)]


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand by a 1x1, filter by a depthwise, project by a 1x1 convolution.

    Maps [n, incoming, h, w] to [n, channels, h / stride, w / stride]; the input is added where
    shapes agree.
    """

    def __init__(
        self,
        incoming: int,
        channels: int,
        stride: int,
        kernel: int,
        expansion: int,
        running_stats: bool,
    ) -> None:
        super().__init__()
        hidden = incoming * expansion
        self.convolutions = nn.Sequential(
            *_conv_bn_relu(incoming, hidden, 1, running_stats),
            *_conv_bn_relu(hidden, hidden, kernel, running_stats, stride, groups=hidden),
            *_conv_bn(hidden, channels, running_stats),
        )
        self.residual = stride == 1 and incoming == channels

    def forward(self, features: Tensor) -> Tensor:
        """Filter, and add the input where shapes agree."""
        output: Tensor = self.convolutions(features)
        return features + output if self.residual else output


def _operation(
    operation: int, incoming: int, channels: int, stride: int, running_stats: bool
) -> nn.Module:
    if operation != IDENTITY:
        kernel, expansion = _KERNEL_AND_EXPANSION[operation]
        return InvertedResidual(incoming, channels, stride, kernel, expansion, running_stats)
    if stride == 1:
        return nn.Identity()
    return _conv_bn(incoming, channels, running_stats, stride)


def _conv_bn(incoming: int, channels: int, running_stats: bool, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, channels, 1, stride, bias=False),
        nn.BatchNorm2d(channels, track_running_stats=running_stats),
    )


def _conv_bn_relu(
    incoming: int, channels: int, kernel: int, running_stats: bool, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels, track_running_stats=running_stats),
        nn.ReLU(),
    )
