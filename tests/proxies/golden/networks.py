"""Five small networks whose weights numpy draws, so that anyone can rebuild them exactly.

``golden.json`` beside this file holds the scores that the code published with "Zero-Cost Proxies
for Lightweight NAS" (release 1.0.0) gives them: float32 on a CPU, one minibatch, mean cross
entropy.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

CASES = json.loads(Path(__file__).with_name("golden.json").read_text())


def _unit(incoming: int, outgoing: int, kernel: int = 3, **options) -> nn.Sequential:
    conv = nn.Conv2d(incoming, outgoing, kernel, padding=kernel // 2, **({"bias": False} | options))
    return nn.Sequential(conv, nn.BatchNorm2d(outgoing))


def _pooled(features: Tensor) -> Tensor:
    return features.mean(dim=(2, 3))


class Plain(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        wide = 2 * width
        units = _unit(3, width), _unit(width, wide, stride=2), _unit(wide, wide, kernel=1)
        self.body = nn.Sequential(*(part for unit in units for part in (unit, nn.ReLU())))
        self.head = nn.Linear(wide, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(_pooled(self.body(images)))


class Residual(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = _unit(3, width)
        self.first = nn.Sequential(
            _unit(width, width, bias=True), nn.ReLU(), _unit(width, width, bias=True)
        )
        self.second = nn.Sequential(
            nn.ReLU(), _unit(width, width, kernel=1), nn.ReLU(), _unit(width, width)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = functional.relu(features + self.first(features))
        return self.head(_pooled(functional.avg_pool2d(features + self.second(features), 2)))


class Separable(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        wide = 2 * width
        units = (
            _unit(3, width),
            _unit(width, width, groups=width),
            _unit(width, wide, kernel=1),
            _unit(wide, wide, stride=2, groups=4),
        )
        self.body = nn.Sequential(*(part for unit in units for part in (unit, nn.ReLU6())))
        self.hidden = nn.Linear(wide, 3 * width)
        self.head = nn.Linear(3 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(functional.relu(self.hidden(_pooled(self.body(images)))))


class Unused(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.stem = _unit(3, width)
        self.idle = nn.Conv2d(width, width, 3, padding=1)
        self.middle = _unit(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(_pooled(functional.relu(self.middle(functional.relu(self.stem(images))))))


class NoNorm(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 5, padding=2)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.head = nn.Linear(32 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = functional.max_pool2d(functional.relu(self.first(images)), 2)
        return self.head(
            functional.max_pool2d(functional.relu(self.second(features)), 2).flatten(1)
        )


def case(
    model: str, seed: int, width: int = 8, classes: int = 10, batch: int = 16, size: int = 16
) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the network, inputs [batch, 3, size, size] and targets [batch] of one case.

    Parameters are drawn in their order: matrices from N(0, 1 / fan in), BatchNorm weights from
    N(1, 0.01), the others from N(0, 0.01); then the inputs and targets.
    """
    rng = np.random.default_rng(seed)
    network = globals()[model](width, classes)
    for name, parameter in network.named_parameters():
        drawn = rng.standard_normal(tuple(parameter.shape))
        if parameter.dim() > 1:
            drawn /= math.sqrt(parameter[0].numel())
        else:
            drawn = 0.1 * drawn + (1 if name.endswith("weight") else 0)
        parameter.data = torch.from_numpy(drawn).to(parameter.dtype)
    inputs = torch.from_numpy(rng.standard_normal((batch, 3, size, size))).float()
    return network, inputs, torch.from_numpy(rng.integers(0, classes, batch))
