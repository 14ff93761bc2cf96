"""Cells of supernets in evaluation mode, where all but the ReLU is linear.

What leaves a node by convolutions is then one convolution of its ReLU: BatchNorm, the mean of a
mixture and the smaller kernel go into the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from spaces.mixture import Branches, Mixture, alike
from spaces.nasbench201.cell import (
    AVG_POOL,
    CONV_1X1,
    CONV_3X3,
    EDGES,
    NODES,
    SKIP,
)
from spaces.nasbench201.network import Cell, Network, ReLUConvBN

_KERNELS: Final = {CONV_1X1: 1, CONV_3X3: 3}


def fold(network: Network, branches: Branches) -> None:
    """Fold the cells of a supernet that has every operation on each edge."""
    for stage in network.stages:
        assert isinstance(stage, nn.Sequential)
        for place, block in enumerate(stage):
            if isinstance(block, Cell):
                stage[place] = FoldedCell(block, branches)


class FoldedCell(nn.Module):
    """Computes what a :class:`~spaces.nasbench201.network.Cell` of mixtures does in evaluation.

    It keeps to what the mixtures of the cell are told to keep, and to their branches. A BatchNorm
    without running statistics takes their initial values, mean 0 and variance 1. A ReLU that
    several operations share counts in ``branches`` once for each.
    """

    def __init__(self, cell: Cell, branches: Branches) -> None:
        super().__init__()
        self.branches = branches
        self.kernels = nn.ParameterDict()
        self._mixtures: list[Mixture] = []
        for edge, mixture in enumerate(cell.operations.values()):
            assert isinstance(mixture, Mixture)
            self._mixtures.append(mixture)
            for operation, size in _KERNELS.items():
                candidate = mixture.candidates[operation]
                assert isinstance(candidate, ReLUConvBN)
                self.kernels[f"{edge} {size}"] = nn.Parameter(_folded(candidate).detach())

    def forward(self, features: Tensor) -> Tensor:
        """Go from node to node, bringing on what leaves each."""
        heard: list[list[Tensor]] = [[] for _ in range(NODES)]
        heard[0] = [features]
        for source in range(NODES - 1):
            value = _added(heard[source], features)
            leaving = [edge for edge, (_, start) in enumerate(EDGES) if start == source]
            for edge, brought in self._brought(value, leaving):
                heard[EDGES[edge][0]].append(brought)
        return _added(heard[-1], features)

    def _brought(self, value: Tensor, leaving: list[int]) -> list[tuple[int, Tensor]]:
        """Return what edges bring on of their node's value, [N, ...] or [branches x N, ...]."""
        weights = {edge: self._mixtures[edge].weights for edge in leaving}
        plain = [edge for edge in leaving if not self._mixtures[edge].branched]
        found: list[tuple[int, Tensor]] = []
        positive = self._relu(value, weights)
        convolving = [edge for edge in plain if any(weights[edge][o][0] for o in _KERNELS)]
        if convolving:
            kernels = torch.cat([self._kernel(edge, weights[edge]) for edge in convolving])
            outputs = functional.conv2d(positive, kernels, padding=1)
            found += zip(convolving, outputs.chunk(len(convolving), 1), strict=True)
        means = _means(value) if any(any(weights[edge][AVG_POOL]) for edge in leaving) else value
        linear: dict[tuple[float, float], Tensor] = {}
        for edge in plain:
            own, pooled = weights[edge][SKIP][0], weights[edge][AVG_POOL][0]
            if (own, pooled) not in linear:
                linear[own, pooled] = _combined(value, means, own, pooled)
            if own or pooled:
                found.append((edge, linear[own, pooled]))
        for edge in leaving:
            if edge not in plain:
                brought = {SKIP: value, AVG_POOL: means}
                for operation, size in _KERNELS.items():
                    kernel = self.kernels[f"{edge} {size}"]
                    brought[operation] = functional.conv2d(positive, kernel, padding=size // 2)
                found.append((edge, self._weighed(brought, weights[edge])))
        return found

    def _relu(self, value: Tensor, weights: dict[int, list[list[float]]]) -> Tensor:
        """Count the ReLUs of all convolutions that leave a node as one."""
        self.branches.having = [
            sum(each[o][branch % len(each[o])] > 0 for each in weights.values() for o in _KERNELS)
            for branch in range(self.branches.count)
        ]
        positive = functional.relu(value) if any(self.branches.having) else value
        self.branches.having = self.branches.all
        return positive

    def _kernel(self, edge: int, weights: list[list[float]]) -> Tensor:
        """Add up the kernels of an edge: [channels, channels, 3, 3]."""
        three = self.kernels[f"{edge} 3"] * weights[CONV_3X3][0]
        three[:, :, 1:2, 1:2] += self.kernels[f"{edge} 1"] * weights[CONV_1X1][0]
        summed: Tensor = three
        return summed

    def _weighed(self, outputs: dict[int, Tensor], weights: list[list[float]]) -> Tensor:
        """Add up for each branch by itself, by weights [operations][branches]."""
        total: Tensor | None = None
        for operation, output in outputs.items():
            if any(weights[operation]):
                spread = self.branches.spread(output)
                each = self.branches.column(weights[operation], spread)
                total = spread * each if total is None else total.addcmul_(spread, each)
        return torch.zeros_like(self.branches.spread(outputs[SKIP])) if total is None else total


def _means(value: Tensor) -> Tensor:
    """Average over 3x3 pixels; by a convolution it is five times as fast as torch's pooling."""
    ones = value.new_ones(value.shape[1], 1, 3, 3)
    sums = functional.conv2d(value, ones, padding=1, groups=len(ones))
    pixels = functional.conv2d(value.new_ones(1, 1, *value.shape[2:]), ones[:1], padding=1)
    return sums.mul_(1 / pixels)


def _combined(value: Tensor, means: Tensor, own: float, pooled: float) -> Tensor:
    """Return own x value + pooled x means."""
    if not pooled:
        return value if own == 1 else value * own
    scaled = means if pooled == 1 else means * pooled
    return torch.add(scaled, value, alpha=own) if own else scaled


def _added(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    """Add up; nothing at all is zero, in the shape of ``like``."""
    if not terms:
        return torch.zeros_like(like)
    first, *others = alike(terms)
    if not others:
        return first
    added = others[-1] + first
    for term in others[:-1]:
        added.add_(term)
    return added


def _folded(operation: ReLUConvBN) -> Tensor:
    """Return the kernel that convolves and normalises as ``operation`` does."""
    norm = operation.bn
    variance = torch.ones_like(norm.weight) if norm.running_var is None else norm.running_var
    factors = norm.weight / (variance + norm.eps).sqrt()
    return operation.conv.weight * factors[:, None, None, None]
