"""Trains one network, an epoch at a time, in a way that a kill does not change."""

from __future__ import annotations

import contextlib
import math
import pickle
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from analysis.files import replacing
from conf.errors import UsageError
from spaces.training_data import Data, Part

if TYPE_CHECKING:
    from spaces.training import Recipe

MOMENTUM: Final = 0.9


class Pictures:
    """One part of the data on a device, given out in minibatches.

    Pictures become float32 [n, 3, side, side], normalised and, where theirs is another side,
    resized; a ``side`` of 0 leaves them as they are.
    """

    def __init__(self, part: Part, data: Data, side: int, device: torch.device) -> None:
        self.images = torch.from_numpy(np.ascontiguousarray(part.images)).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)
        self._mean, self._std = (
            torch.from_numpy(255 * each).to(device)[:, None, None] for each in (data.mean, data.std)
        )
        self._side = side

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor, augment: bool = False) -> tuple[Tensor, Tensor]:
        """Return inputs and targets; ``augment`` crops and flips by torch's generator."""
        rows = rows.to(self.labels.device)
        images = self.images[rows]
        if augment:
            images = _crop_and_flip(images)
        inputs = (images - self._mean) / self._std
        side = (self._side, self._side)
        if self._side and inputs.shape[2:] != side:
            inputs = functional.interpolate(inputs, side, mode="bilinear", antialias=True)
        return inputs, self.labels[rows]


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: its number from 0, its mean loss and its last learning rate."""

    number: int
    loss: float
    learning_rate: float


Watcher = Callable[[nn.Module, Epoch], None]
"""Called after each epoch; must leave the network as it was."""


def train(
    build: Callable[[], nn.Module],
    pictures: Pictures,
    recipe: Recipe,
    seed: int,
    checkpoint: Path,
    watcher: Watcher | None = None,
) -> tuple[nn.Module, float]:
    """Train what ``build`` makes, or go on from ``checkpoint``; return it and the seconds taken.

    ``checkpoint`` is replaced after each epoch; of a finished training it keeps the weights.
    ``seed`` decides the initial weights and, with the number of the epoch, all chance in it, so
    that an epoch is the same whether or not those before it ran in this process. Torch's own
    generator is left as it was. Raises :class:`UsageError` for a checkpoint of something else.
    """
    device = pictures.labels.device
    with reproducible(device):
        torch.manual_seed(seed)
        network = build().to(device)
        optimiser = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=MOMENTUM,
            weight_decay=recipe.weight_decay,
            nesterov=True,
        )
        done, seconds = _load(checkpoint, network, optimiser, recipe.epochs)
        for epoch in range(done, recipe.epochs):
            started = time.perf_counter()
            torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0]))
            outcome = _epoch(network, optimiser, pictures, recipe, epoch)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds += time.perf_counter() - started
            if watcher:
                watcher(network, outcome)
            _save(checkpoint, network, optimiser, epoch + 1, seconds, recipe.epochs)
    return network.eval(), seconds


def accuracy(network: nn.Module, pictures: Pictures, batch_size: int) -> float:
    """Return how many pictures ``network`` classifies rightly, in percent."""
    right = 0
    with torch.no_grad(), reproducible(pictures.labels.device):
        for rows in torch.split(torch.arange(len(pictures)), batch_size):
            inputs, targets = pictures.batch(rows)
            right += int((network(inputs).argmax(-1) == targets).sum())
    return 100 * right / len(pictures)


def _epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    pictures: Pictures,
    recipe: Recipe,
    epoch: int,
) -> Epoch:
    network.train()
    losses, rate = [], 0.0
    steps = math.ceil(len(pictures) / recipe.batch_size)
    for step, rows in enumerate(torch.randperm(len(pictures)).tensor_split(steps)):
        progress = (epoch + step / steps) / recipe.epochs
        rate = recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        inputs, targets = pictures.batch(rows, recipe.augment)
        loss = functional.cross_entropy(network(inputs), targets)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.detach())
    return Epoch(epoch, float(torch.stack(losses).mean()), rate)


def curves(folder: Path, notation: str, pictures: Pictures, batch_size: int) -> Watcher:
    """Return a watcher that writes TensorBoard curves of one training to ``folder``, by epoch.

    They are the mean training loss, the last learning rate and the accuracy on ``pictures``.
    """
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = None

    def watch(network: nn.Module, epoch: Epoch) -> None:
        nonlocal writer
        if writer is None:
            writer = SummaryWriter(str(folder), purge_step=epoch.number)
            writer.add_text("architecture", notation, epoch.number)
        network.eval()
        for name, value in (
            ("loss/train", epoch.loss),
            ("learning_rate", epoch.learning_rate),
            ("accuracy/validation", accuracy(network, pictures, batch_size)),
        ):
            writer.add_scalar(name, value, epoch.number)
        writer.flush()

    return watch


def _crop_and_flip(images: Tensor) -> Tensor:
    """Crop from a black border of an eighth of the side, flip half, each picture by itself."""
    n, _, height, width = images.shape
    down, right = height // 8, width // 8
    top = torch.randint(2 * down + 1, (n, 1))
    left = torch.randint(2 * right + 1, (n, 1))
    columns = torch.arange(width)
    columns = torch.where(torch.rand(n, 1) < 0.5, columns.flip(0), columns)
    y = (top + torch.arange(height)).to(images.device)[:, :, None]
    x = (left + columns).to(images.device)[:, None, :]
    padded = functional.pad(images, (right, right, down, down))
    each = torch.arange(n, device=images.device)[:, None, None]
    return padded[each, :, y, x].permute(0, 3, 1, 2)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Leave torch's generators as they were; run deterministic kernels where cuDNN has them."""
    devices = [device] if device.type == "cuda" else []
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with torch.random.fork_rng(devices), flags:
        yield


def _save(
    path: Path,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    epochs: int,
    seconds: float,
    last: int,
) -> None:
    content: dict[str, Any] = {
        "epochs": epochs,
        "seconds": seconds,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict() if epochs < last else None,
    }
    with replacing(path) as temporary:
        torch.save(content, temporary)


def _load(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, last: int
) -> tuple[int, float]:
    """Put the state at ``path`` into place; return its epochs and seconds."""
    if not path.exists():
        return 0, 0.0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(content["network"])
        epochs = int(content["epochs"])
        if epochs < last:
            optimiser.load_state_dict(content["optimiser"])
        return epochs, float(content["seconds"])
    except (
        AttributeError,
        EOFError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ):
        raise UsageError(
            f"{path} is no checkpoint of this training; remove it to train afresh."
        ) from None
