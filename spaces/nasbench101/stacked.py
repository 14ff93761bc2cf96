"""Networks of NAS-Bench-101 whose operations a pass may exchange.

Synaptic flow then goes forwards only, in float32, which takes a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spaces.arithmetic import TRAINING, Arithmetic
from spaces.nasbench101.network import Cell


@dataclass
class _Current:
    """What the modules of one network compute with."""

    network: int
    arithmetic: Arithmetic = TRAINING


class StackedNetwork(nn.Module):
    """K networks: maps float images [K x n, 3, size, size] to logits [K x n, classes].

    The networks are :class:`~spaces.nasbench101.network.Network`, in training mode. They run one by
    one: no result depends on which others are there.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = len(networks)
        self._current = [_Current(number) for number in range(self.networks)]
        self.members = nn.ModuleList(map(_exchangeable, networks, self._current))

    def forward(self, images: Tensor, arithmetic: Arithmetic = TRAINING) -> Tensor:
        """Return the logits [K x n, classes] of ``images`` [K x n, 3, size, size]."""
        for current in self._current:
            current.arithmetic = arithmetic
        parts = images.chunk(self.networks)
        return torch.cat([run(part) for run, part in zip(self.members, parts, strict=True)])


def _exchangeable(module: nn.Module, current: _Current) -> nn.Module:
    """Exchange the operations inside ``module`` for those of the current arithmetic."""
    for name, part in module.named_children():
        if isinstance(part, nn.Conv2d | nn.Linear):
            setattr(module, name, _Layer(part, current))
        elif isinstance(part, nn.BatchNorm2d):
            setattr(module, name, _Norm(current))
        elif isinstance(part, nn.MaxPool2d):
            setattr(module, name, _Pool(part, current))
        else:
            _exchangeable(part, current)
            if isinstance(part, Cell):
                setattr(module, name, nn.Sequential(part, _End(current)))
    return module


class _Layer(nn.Module):
    def __init__(self, layer: nn.Conv2d | nn.Linear, current: _Current) -> None:
        super().__init__()
        self.weight, self.bias, self._current = layer.weight, layer.bias, current
        self._padding = 0 if isinstance(layer, nn.Linear) else layer.kernel_size[0] // 2

    def forward(self, features: Tensor) -> Tensor:
        layer = self._current.arithmetic.layer
        if features.dim() == 4:
            output: Tensor = layer(features, self.weight, self.bias, padding=self._padding)
            return output
        output = layer(features[:, :, None, None], self.weight[:, :, None, None], self.bias)
        return output.flatten(1)


class _Norm(nn.Module):
    def __init__(self, current: _Current) -> None:
        super().__init__()
        self._current = current

    def forward(self, features: Tensor) -> Tensor:
        return self._current.arithmetic.norm(features)


class _Pool(nn.Module):
    def __init__(self, pool: nn.MaxPool2d, current: _Current) -> None:
        super().__init__()
        self._geometry = pool.kernel_size, pool.stride, pool.padding
        self._current = current

    def forward(self, features: Tensor) -> Tensor:
        return self._current.arithmetic.pool(features, *self._geometry)


class _End(nn.Module):
    def __init__(self, current: _Current) -> None:
        super().__init__()
        self._current = current

    def forward(self, features: Tensor) -> Tensor:
        return self._current.arithmetic.end(self._current.network, features)
