"""A supernet whose weights and mixtures are trained in turn: what DARTS searches by.

Liu et al. 2019, "DARTS: Differentiable Architecture Search", first order: a minibatch of the
validation part moves the *strengths* of the operations, one of the training part the weights. On
each place the operations are mixed by the softmax of their strengths.

Numbered deviations: (1) training counts steps, not epochs; (2) the learning rate falls to 0, not to
a 25th of its start; (3) BatchNorm always uses the minibatch, also where accuracies are measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spaces.base import SearchSpace
from spaces.mixture import mixtures_of
from spaces.supernets import Supernet, Supernets
from spaces.training_loop import MOMENTUM, Pictures, reproducible

if TYPE_CHECKING:
    from spaces.training_data import Data

_BETAS: Final = (0.5, 0.999)
_DECAY: Final = 1e-3
_CLIP: Final = 5.0
_SPREAD: Final = 1e-3


@dataclass(frozen=True)
class Recipe:
    """How a supernet is trained.

    Attributes:
        batch_size: pictures of one step of the weights, and of one of the strengths.
        learning_rate: of the weights at the first step of a training (SGD with momentum .9,
            gradients clipped to 5), from which it falls to 0 along a cosine.
        weight_decay: of the weights.
        strength_rate: learning rate of the strengths (Adam, weight decay .001); 0: they stay as
            they are drawn, nearly equal.
        augment: whether the pictures are cropped and flipped.
    """

    batch_size: int = 64
    learning_rate: float = 0.025
    weight_decay: float = 3e-4
    strength_rate: float = 3e-4
    augment: bool = True


class TrainedSupernet:
    """The supernet of ``space`` on the pictures of ``data``; ``seed`` decides all that chance does.

    Same seed and same calls, same supernet: bit for bit on a CPU with the same number of threads.
    Torch's own generator is left as it was.
    """

    def __init__(
        self, space: SearchSpace, data: Data, recipe: Recipe, seed: int, device: torch.device
    ) -> None:
        self.recipe, self.seed, self.device = recipe, seed, device
        supernets = Supernets(space)
        self.left: Supernet = supernets.decode(supernets.whole)
        self._train, self._validation = (
            Pictures(part, data, space.image_size, device) for part in (data.train, data.validation)
        )
        self._trainings = 0
        with reproducible(device):
            torch.manual_seed(self._chance())
            network = space.supernet(classes=data.classes, running_stats=False)
            self._network = network.to(device)
            self._strengths = [
                (_SPREAD * torch.randn(place.of)).to(device).requires_grad_() for place in self.left
            ]
        self._mixtures = mixtures_of(self._network)

    @property
    def shares(self) -> list[NDArray[np.float64]]:
        """What the operations of each place weigh, [operations]; they add up to 1."""
        return [torch.softmax(each.detach().double(), 0).cpu().numpy() for each in self._strengths]

    def decide(self, left: Supernet) -> None:
        """Leave ``left`` in the places from now on."""
        self.left = left

    def train(self, steps: int) -> None:
        """Train strengths and weights in turn, so many steps of each."""
        recipe, network = self.recipe, self._network.train()
        self._keep(self.left)
        moved = [
            strengths
            for strengths, place in zip(self._strengths, self.left, strict=True)
            if place.of > 1
        ]
        weights = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=MOMENTUM,
            weight_decay=recipe.weight_decay,
        )
        strengths = (
            torch.optim.Adam(moved, lr=recipe.strength_rate, betas=_BETAS, weight_decay=_DECAY)
            if moved and recipe.strength_rate
            else None
        )
        self._trainings += 1
        with reproducible(self.device):
            torch.manual_seed(self._chance())
            fitted, held = self._minibatches(self._train), self._minibatches(self._validation)
            for step in range(steps):
                if strengths:
                    self._loss(*next(held), strengths)
                    strengths.step()
                for group in weights.param_groups:
                    group["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
                self._loss(*next(fitted), weights)
                nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
                weights.step()

    def accuracy(self, supernet: Supernet, pictures: int | None = None) -> float:
        """Return how many of the first validation ``pictures`` are classified rightly, in percent.

        ``supernet`` says what is in the places, by the weights that they have.
        """
        self._keep(supernet)
        self._network.eval()
        count = min(pictures or len(self._validation), len(self._validation))
        right = 0
        with torch.no_grad(), reproducible(self.device):
            chosen = _shuffled(len(self._validation))[:count]
            for rows in torch.split(chosen, self.recipe.batch_size):
                inputs, targets = self._validation.batch(rows)
                right += int((self._network(inputs).argmax(-1) == targets).sum())
        return 100 * right / count

    def _loss(self, inputs: Tensor, targets: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Give the tensors of ``optimiser`` their gradients."""
        self._share()
        optimiser.zero_grad()
        loss = functional.cross_entropy(self._network(inputs), targets)
        tensors = [t for group in optimiser.param_groups for t in group["params"]]
        gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
        for tensor, gradient in zip(tensors, gradients, strict=True):
            tensor.grad = gradient

    def _keep(self, supernet: Supernet) -> None:
        """Leave ``supernet`` in the network, mixed by the strengths."""
        for mixtures, place in zip(self._mixtures, supernet, strict=True):
            for mixture in mixtures:
                mixture.keep(*place)
        self._share()

    def _share(self) -> None:
        for mixtures, strengths in zip(self._mixtures, self._strengths, strict=True):
            shares = torch.softmax(strengths, 0)
            for mixture in mixtures:
                mixture.shares = shares

    def _minibatches(self, pictures: Pictures) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the pictures again and again, each time in another order."""
        while True:
            for rows in torch.split(torch.randperm(len(pictures)), self.recipe.batch_size):
                yield pictures.batch(rows, self.recipe.augment)

    def _chance(self) -> int:
        sequence = np.random.SeedSequence([self.seed, self._trainings])
        return int(sequence.generate_state(1)[0])


def _shuffled(count: int) -> Tensor:
    """Order pictures at random, in one way for all: parts are sorted by nothing but their file."""
    return torch.from_numpy(np.random.default_rng(0).permutation(count))
