"""The NAS-Bench-201 network as the published code holds it, in our own few lines.

Each cell has the modules of all thirty operations, of which the six of an architecture run, dead
ones too; convolutions of cells have biases. A copy for a proxy is a network built anew that loads
the state of the first. :mod:`spaces.nasbench201.network` is what Assay scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from spaces.base import Architecture
from spaces.nasbench201.cell import AVG_POOL, CONV_1X1, CONV_3X3, EDGES, NODES, NONE, OPERATIONS
from spaces.nasbench201.network import CELLS_PER_STAGE, CHANNELS


class PublishedNetwork(nn.Module):
    """Maps images [n, 3, size, size] to logits [n, classes]; ``norm=False`` builds no BatchNorm."""

    def __init__(self, arch: Architecture, classes: int, norm: bool = True) -> None:
        super().__init__()
        self._arguments = arch, classes
        incoming = CHANNELS[0]
        stem = nn.Conv2d(3, incoming, 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem, _batch_norm(incoming, norm))
        self.blocks = nn.ModuleList()
        for channels in CHANNELS:
            if channels != incoming:
                self.blocks.append(PublishedReduction(incoming, channels, norm))
            self.blocks.extend(PublishedCell(arch, channels, norm) for _ in range(CELLS_PER_STAGE))
            incoming = channels
        self.last = nn.Sequential(_batch_norm(incoming, norm), nn.ReLU(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(incoming, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        features = self.stem(images)
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.classifier(self.pool(self.last(features)).flatten(1))
        return logits

    def copied(self, norm: bool = True) -> PublishedNetwork:
        """Build the network anew where this one is, with its weights, in training mode."""
        arch, classes = self._arguments
        other = PublishedNetwork(arch, classes, norm).to(self.classifier.weight.device)
        other.load_state_dict(self.state_dict(), strict=False)
        return other.train()


class PublishedCell(nn.Module):
    """All operations on all edges; ``arch`` says which of each edge runs."""

    def __init__(self, arch: Sequence[int], channels: int, norm: bool) -> None:
        super().__init__()
        self.arch = arch
        self.edges = nn.ModuleList(
            nn.ModuleList(_operation(o, channels, norm) for o in range(len(OPERATIONS)))
            for _ in EDGES
        )

    def forward(self, features: Tensor) -> Tensor:
        """Sum, at each node, what its edges bring."""
        nodes = [features]
        for target in range(1, NODES):
            brought = [
                edge[operation](nodes[source])  # type: ignore[index]
                for (t, source), edge, operation in zip(EDGES, self.edges, self.arch, strict=True)
                if t == target
            ]
            nodes.append(sum(brought[1:], brought[0]))
        return nodes[-1]


class PublishedReduction(nn.Module):
    """Residual block that halves the image."""

    def __init__(self, incoming: int, channels: int, norm: bool) -> None:
        super().__init__()
        self.first = _relu_conv_bn(incoming, channels, 3, norm, stride=2, bias=False)
        self.second = _relu_conv_bn(channels, channels, 3, norm, bias=False)
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, stride=2), nn.Conv2d(incoming, channels, 1, bias=False)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        output: Tensor = self.shortcut(features) + self.second(self.first(features))
        return output


class _Zero(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mul(0.0)


def _operation(operation: int, channels: int, norm: bool) -> nn.Module:
    if operation == NONE:
        return _Zero()
    if operation in (CONV_1X1, CONV_3X3):
        kernel = 1 if operation == CONV_1X1 else 3
        return _relu_conv_bn(channels, channels, kernel, norm, bias=True)
    if operation == AVG_POOL:
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Identity()


def _relu_conv_bn(
    incoming: int, channels: int, kernel: int, norm: bool, *, bias: bool, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(incoming, channels, kernel, stride, kernel // 2, bias=bias),
        _batch_norm(channels, norm, affine=not bias),
    )


def _batch_norm(channels: int, norm: bool, affine: bool = True) -> nn.Module:
    if not norm:
        return nn.Identity()
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=affine)
