"""Cells of a supernet in evaluation mode, where all but the ReLU is linear.

What leaves one node by convolutions is then one convolution of its ReLU: BatchNorm, the mean of a
mixture and the smaller kernel go into the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spaces.mixture import Branches, Mixture, alike
from spaces.nasbench201.cell import EDGES, NODES
from spaces.nasbench201.network import Cell, Network, ReLUConvBN, Zero

_KERNEL = 3


def fold(network: Network, branches: Branches) -> None:
    """Fold the cells of a supernet, but for mixtures that have ``branches``."""
    for stage in network.stages:
        assert isinstance(stage, nn.Sequential)
        for place, block in enumerate(stage):
            if isinstance(block, Cell):
                stage[place] = FoldedCell(block, branches)


class FoldedCell(nn.Module):
    """Computes what a :class:`~spaces.nasbench201.network.Cell` of mixtures does in evaluation mode.

    A BatchNorm without running statistics takes their initial values, mean 0 and variance 1. A ReLU
    that is shared counts in ``branches`` as often as the cell has it.
    """

    def __init__(self, cell: Cell, branches: Branches) -> None:
        super().__init__()
        self.branches = branches
        self.apart = nn.ModuleDict()
        self.kernels = nn.ParameterDict()
        self._targets: list[list[int]] = [[] for _ in range(NODES - 1)]
        self._relus = [0] * (NODES - 1)
        self._factors = [(0.0, 0.0)] * len(EDGES)  # of the input and of the pooled input
        convolved: list[list[Tensor]] = [[] for _ in range(NODES - 1)]
        for edge, ((target, source), mixture) in enumerate(
            zip(EDGES, cell.operations.values(), strict=True)
        ):
            assert isinstance(mixture, Mixture)
            if mixture.branched:
                self.apart[str(edge)] = mixture
                continue
            kernels, factors = [], [0.0, 0.0]
            for candidate in mixture.candidates:
                if isinstance(candidate, ReLUConvBN):
                    kernels.append(_kernel(candidate) / mixture.of)
                elif not isinstance(candidate, Zero):
                    factors[isinstance(candidate, nn.AvgPool2d)] += 1 / mixture.of
            self._factors[edge] = (factors[0], factors[1])
            if kernels:
                self._relus[source] += len(kernels)
                self._targets[source].append(target)
                convolved[source].append(torch.stack(kernels).sum(0))
        self._linear = [
            {f for f, (_, s) in zip(self._factors, EDGES, strict=True) if s == source and any(f)}
            for source in range(NODES - 1)
        ]
        for source, found in enumerate(convolved):
            if found:
                self.kernels[str(source)] = nn.Parameter(torch.cat(found).detach())

    def forward(self, features: Tensor) -> Tensor:
        """Go from node to node, bringing on what leaves each."""
        heard: list[list[Tensor]] = [[] for _ in range(NODES)]
        heard[0] = [features]
        for source in range(NODES - 1):
            value = _added(heard[source], features)
            if self._relus[source]:
                self.branches.having = self.branches.all * self._relus[source]
                positive = functional.relu(value)
                self.branches.having = self.branches.all
                outputs = functional.conv2d(positive, self.kernels[str(source)], padding=1)
                chunks = outputs.chunk(len(self._targets[source]), 1)
                for target, output in zip(self._targets[source], chunks, strict=True):
                    heard[target].append(output)
            linear = {factors: self._mixed(value, *factors) for factors in self._linear[source]}
            for edge, (target, start) in enumerate(EDGES):
                if start == source and str(edge) in self.apart:
                    heard[target].append(self.apart[str(edge)](value))
                elif start == source and any(self._factors[edge]):
                    heard[target].append(linear[self._factors[edge]])
        return _added(heard[-1], features)

    def _mixed(self, value: Tensor, skipped: float, pooled: float) -> Tensor:
        """Return the weighted sum of ``value`` and of its averages over 3x3 pixels.

        Adding up 3x3 pixels by a convolution is five times as fast as the pooling of torch.
        """
        if not pooled:
            return value if skipped == 1 else value * skipped
        channels = value.shape[1]
        ones = value.new_ones(channels, 1, _KERNEL, _KERNEL)
        sums = functional.conv2d(value, ones, padding=1, groups=channels)
        pixels = functional.conv2d(value.new_ones(1, 1, *value.shape[2:]), ones[:1], padding=1)
        return sums.mul_(pooled / pixels).add_(value, alpha=skipped)


def _added(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    """Add up; nothing at all is zero, in the shape of ``like``."""
    if not terms:
        return torch.zeros_like(like)
    first, *others = alike(terms)
    if not others:
        return first
    added = others[0] + first
    for term in others[1:]:
        added.add_(term)
    return added


def _kernel(operation: ReLUConvBN) -> Tensor:
    """Return the 3x3 kernel that convolves and normalises as ``operation`` does."""
    norm, weight = operation.bn, operation.conv.weight
    variance = torch.ones_like(norm.weight) if norm.running_var is None else norm.running_var
    scaled = weight * (norm.weight / (variance + norm.eps).sqrt())[:, None, None, None]
    return functional.pad(scaled, [(_KERNEL - weight.shape[-1]) // 2] * 4)
