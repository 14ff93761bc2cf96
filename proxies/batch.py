"""Minibatches: what a proxy that needs data is shown."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from spaces.base import SearchSpace

PICTURES: Final = Path(__file__).with_name("pictures") / "cifar10.npz"
"""Real CIFAR-10 pictures; see ``PROVENANCE.md`` beside them."""

CHANNELS: Final = 3

_MEAN: Final = np.array([0.4914, 0.4822, 0.4465], np.float32)
_STD: Final = np.array([0.2023, 0.1994, 0.2010], np.float32)
_REAL: Final = ("cifar10", "cifar10-valid")


@dataclass(frozen=True, eq=False)
class Minibatch:
    """Inputs and targets, and where they come from.

    Attributes:
        inputs: floating, [N, ...]; N = 0 where only the shape matters.
        targets: int64 [N], or None.
        source: what the inputs are, in words.
        stand_in: how they differ from the dataset that is meant, or None.
    """

    inputs: Tensor
    targets: Tensor | None
    source: str
    stand_in: str | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over shapes, types and values of inputs and targets, in hexadecimal."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            if tensor is None:
                digest.update(b"none")
            else:
                array = tensor.detach().cpu().contiguous().numpy()
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(array.tobytes())
        return digest.hexdigest()

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Minibatch:
        """No example at all: the ``shape`` of one is all that data-free proxies need."""
        import torch

        return cls(torch.empty((0, *shape)), None, "none")

    @classmethod
    def gaussian(
        cls, shape: tuple[int, ...], classes: int, *, size: int = 64, seed: int = 0
    ) -> Minibatch:
        """Draw ``size`` standard normal inputs of ``shape``, with labels drawn uniformly."""
        import torch

        _check_size(size, None)
        rng = np.random.default_rng(seed)
        inputs = rng.standard_normal((size, *shape), dtype=np.float32)
        labels = rng.integers(0, classes, size)
        return cls(
            torch.from_numpy(inputs),
            torch.from_numpy(labels),
            "gaussian noise",
            "Gaussian noise with random labels",
        )

    @classmethod
    def pictures(
        cls, dataset: str, classes: int, image_size: int, *, size: int = 64, seed: int = 0
    ) -> Minibatch:
        """Draw ``size`` of the shipped CIFAR-10 pictures, without replacement, resized.

        Pixels are normalised by CIFAR-10's mean and standard deviation. For any other dataset the
        pictures stand in, with labels drawn uniformly from its ``classes``.

        Raises :class:`UsageError` for more pictures than there are.
        """
        import torch
        from torch.nn import functional

        pixels, labels = _load_pictures()
        _check_size(size, len(labels))
        rng = np.random.default_rng(seed)
        rows = rng.permutation(len(labels))[:size]
        images = (pixels[rows].astype(np.float32) / np.float32(255) - _MEAN) / _STD
        inputs = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        if image_size != inputs.shape[-1]:
            side = (image_size, image_size)
            inputs = functional.interpolate(inputs, side, mode="bilinear", antialias=True)
        source = f"{size} CIFAR-10 pictures, {image_size}x{image_size}, seed {seed}"
        if dataset in _REAL and classes == 10:
            return cls(inputs, torch.from_numpy(labels[rows].astype(np.int64)), source)
        return cls(
            inputs,
            torch.from_numpy(rng.integers(0, classes, size)),
            source,
            f"CIFAR-10 pictures with random labels stand in for {dataset or 'the dataset'}",
        )

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Minibatch:
        """Return the minibatch on ``device``, inputs as ``dtype``."""
        targets = None if self.targets is None else self.targets.to(device)
        return Minibatch(self.inputs.to(device, dtype), targets, self.source, self.stand_in)


def input_shape(space: SearchSpace) -> tuple[int, int, int]:
    """Shape [channels, height, width] of one input of the networks of ``space``."""
    return (CHANNELS, space.image_size, space.image_size)


def gaussian(space: SearchSpace, *, size: int = 64, seed: int = 0) -> Minibatch:
    """Gaussian noise in the shape of the inputs of ``space``."""
    return Minibatch.gaussian(input_shape(space), space.classes, size=size, seed=seed)


def pictures(space: SearchSpace, *, size: int = 64, seed: int = 0) -> Minibatch:
    """Pictures in the size, and labels in the number of classes, of ``space``."""
    return Minibatch.pictures(space.dataset, space.classes, space.image_size, size=size, seed=seed)


def _load_pictures() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    with np.load(PICTURES, allow_pickle=False) as file:
        return file["images"], file["labels"]


def _check_size(size: int, most: int | None) -> None:
    if size < 1 or (most is not None and size > most):
        legal = "a positive number" if most is None else f"a number from 1 to {most}"
        raise UsageError(f"batch.size={size} is not possible; give {legal}.")
