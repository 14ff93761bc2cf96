"""Minibatches: what a proxy that needs data is shown.

The functions below are the options of the group ``batch``. They share these settings:

- ``size``: how many examples.
- ``seed``: of the draw. Drawing is without replacement.
- ``sampling``: ``random``, or ``per_class``: equally many of each class, in the order of classes
  (the ``grasp`` mode of Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021).
- ``augment``: whether pictures are cropped at random from a black border of an eighth of the side
  (4 pixels of 32, 2 of 16), and flipped half of the time.

Pixels, from 0 to 1, are normalised by mean and standard deviation of each channel, then resized to
the space's images. Pictures of another dataset than the space's *stand in*: labels are drawn
uniformly from its classes, and ``stand_in`` says so.

Deviations from the paper's code: (1) it augments; here that is asked for, so that a minibatch
holds the pictures themselves; (2) it draws another minibatch for each network; here all networks
of a job see the same one, so that their scores can be compared.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least, unknown_name
from proxies import datasets
from proxies.datasets import CHANNELS, Examples

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from proxies.service import ScoringService
    from spaces.base import SearchSpace

Sampling = Literal["random", "per_class"]

_SAMPLINGS: Final = ("random", "per_class")


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
        """SHA-256 over types, shapes and values of inputs and targets, in hexadecimal."""
        digest = hashlib.sha256()
        for tensor in (self.inputs, self.targets):
            if tensor is None:
                digest.update(b"none")
            else:
                kind = str(tensor.dtype).removeprefix("torch.")
                digest.update(f"{kind}{tuple(tensor.shape)}".encode())
                digest.update(_bytes(tensor))
        return digest.hexdigest()

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Minibatch:
        """No example at all: the ``shape`` of one is all that data-free proxies need."""
        import torch

        return cls(torch.empty((0, *shape), dtype=torch.float32, device="cpu"), None, "none")

    @classmethod
    def gaussian(
        cls,
        shape: tuple[int, ...],
        classes: int,
        *,
        size: int = 64,
        seed: int = 0,
        sampling: Sampling = "random",
    ) -> Minibatch:
        """Draw ``size`` standard normal inputs of ``shape``, with labels drawn uniformly."""
        import torch

        _check(size, None, sampling)
        rng = _generator(seed)
        inputs = rng.standard_normal((size, *shape), dtype=np.float32)
        labels = _made_up(classes, size, sampling, rng)
        return cls(
            torch.from_numpy(inputs),
            torch.from_numpy(labels),
            f"{size} draws of Gaussian noise, {_words(seed, sampling)}",
            "Gaussian noise with random labels stands in for data",
        )

    def to(self, device: str | torch.device, dtype: torch.dtype) -> Minibatch:
        """Return the minibatch on ``device``, inputs as ``dtype``."""
        targets = None if self.targets is None else self.targets.to(device)
        return Minibatch(self.inputs.to(device, dtype), targets, self.source, self.stand_in)

    def describe(self) -> dict[str, Any]:
        """Say what the minibatch is, for a result file."""
        return {
            "source": self.source,
            "stand_in": self.stand_in,
            "fingerprint": self.fingerprint,
            "size": len(self.inputs),
        }


def _bytes(tensor: Tensor) -> bytes:
    """Return the bytes of all elements in order, of types that NumPy lacks, too."""
    import torch

    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


def input_shape(space: SearchSpace) -> tuple[int, int, int]:
    """Shape [channels, height, width] of one input of the networks of ``space``."""
    return (CHANNELS, space.image_size, space.image_size)


def shown(service: ScoringService) -> Minibatch | None:
    """Return the minibatch that ``service`` has shown to a proxy; None if none has read data."""
    return vars(service).get("batch")  # a cached property: it is there once it was needed


def gaussian(
    space: SearchSpace,
    *,
    size: int = 64,
    seed: int = 0,
    sampling: Sampling = "random",
    shape: list[int] | None = None,
    classes: int | None = None,
) -> Minibatch:
    """Gaussian noise; it needs no data at all.

    ``shape`` is that of one input, ``classes`` the number of labels: by default those of ``space``.
    """
    at_least(1, "batch", classes=classes)
    if shape is not None and not (shape and min(shape) >= 1):
        raise UsageError(f"batch.shape={shape} is not possible; give positive sizes, or null.")
    return Minibatch.gaussian(
        input_shape(space) if shape is None else tuple(shape),
        space.classes if classes is None else classes,
        size=size,
        seed=seed,
        sampling=sampling,
    )


def pictures(
    space: SearchSpace,
    *,
    size: int = 64,
    seed: int = 0,
    sampling: Sampling = "random",
    augment: bool = False,
) -> Minibatch:
    """Draw from the 640 CIFAR-10 pictures that come with Assay."""
    return _draw(space, datasets.read_shipped(), size, seed, sampling, augment)


def cifar(
    space: SearchSpace,
    *,
    path: str | None = None,
    size: int = 64,
    seed: int = 0,
    sampling: Sampling = "random",
    augment: bool = False,
) -> Minibatch:
    """Draw from one's own copy of CIFAR-10 or CIFAR-100: their training pictures.

    ``path`` is the official Python version, the folder ``cifar-10-batches-py`` or
    ``cifar-100-python``.
    """
    folder = _given(path, "the folder cifar-10-batches-py or cifar-100-python")
    return _draw(space, datasets.read_cifar(folder), size, seed, sampling, augment)


def imagenet16(
    space: SearchSpace,
    *,
    path: str | None = None,
    size: int = 64,
    seed: int = 0,
    sampling: Sampling = "random",
    augment: bool = False,
) -> Minibatch:
    """Draw from one's own copy of ImageNet16: pictures of its first 120 classes.

    ``path`` is the folder of the downsampled ImageNet's files at 16x16 pixels.
    """
    folder = _given(path, "the folder of ImageNet16's train_data_batch_1 to 10")
    return _draw(space, datasets.read_imagenet16(folder), size, seed, sampling, augment)


def npz(
    space: SearchSpace,
    *,
    path: str | None = None,
    size: int = 64,
    seed: int = 0,
    sampling: Sampling = "random",
    augment: bool = False,
) -> Minibatch:
    """Draw from an ``.npz`` archive of one's own.

    ``path`` is described by :func:`proxies.datasets.read_npz`. The examples count as the space's
    dataset. Pictures are normalised by their own mean and standard deviation and resized;
    floating inputs are taken as they are. Without labels, targets are None.
    """
    file = _given(path, "an .npz archive of images or inputs")
    return _draw(space, datasets.read_npz(file), size, seed, sampling, augment)


def _draw(
    space: SearchSpace, examples: Examples, size: int, seed: int, sampling: Sampling, augment: bool
) -> Minibatch:
    import torch

    _check(size, len(examples.values), sampling)
    rng = _generator(seed)
    order = rng.permutation(len(examples.values))
    dataset, labels, stand_in = examples.dataset, examples.labels, None
    targets: NDArray[np.int64] | None
    if dataset is not None and not dataset.is_of(space):
        meant = space.dataset or "the dataset"
        stand_in = f"{dataset.title} pictures with random labels stand in for {meant}"
        rows, targets = order[:size], _made_up(space.classes, size, sampling, rng)
    else:
        rows = order[:size] if sampling == "random" else _per_class(labels, order, size)
        targets = None if labels is None else labels[rows]
    if examples.values.dtype != np.uint8:
        if augment:
            raise UsageError("batch.augment=true needs images; give batch.augment=false.")
        inputs = torch.from_numpy(examples.values[rows])
    else:
        images = examples.values[rows]
        images = _crop_and_flip(images, rng) if augment else images
        inputs = _resized(_normalised(images, examples), space.image_size)
    title = dataset.title if dataset else "own"
    what = "pictures" if inputs.ndim == 4 else "inputs"
    extent = "x".join(map(str, inputs.shape[2:] if inputs.ndim == 4 else inputs.shape[1:]))
    source = f"{size} {title} {what} ({examples.origin}), {extent}, {_words(seed, sampling)}"
    return Minibatch(
        inputs,
        None if targets is None else torch.from_numpy(targets),
        source + ", cropped and flipped" * augment,
        stand_in,
    )


def _per_class(
    labels: NDArray[np.int64] | None, order: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """Return the rows that come first in ``order``, equally many of each class."""
    if labels is None:
        raise UsageError("batch.sampling=per_class needs labels, and batch.path holds none.")
    classes, counts = np.unique(labels, return_counts=True)
    each = _share(size, len(classes), int(counts.min()))
    return np.concatenate([order[labels[order] == c][:each] for c in classes])


def _made_up(
    classes: int, size: int, sampling: Sampling, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels of examples that have none of their own."""
    if sampling == "per_class":
        return np.repeat(np.arange(classes), _share(size, classes, None))
    return rng.integers(0, classes, size)


def _share(size: int, classes: int, most: int | None) -> int:
    """How many examples each class gets."""
    each, rest = divmod(size, classes)
    if rest or (most is not None and each > most):
        legal = f"a multiple of {classes}" + ("" if most is None else f" up to {classes * most}")
        raise UsageError(
            f"batch.size={size} is not possible with batch.sampling=per_class; give {legal}."
        )
    return each


def _crop_and_flip(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Augment uint8 [n, 3, H, W], each picture by itself."""
    n, sides = len(images), images.shape[2:]
    pads = [side // 8 for side in sides]
    padded = np.pad(images, [(0, 0), (0, 0), *((pad, pad) for pad in pads)])
    crops = np.lib.stride_tricks.sliding_window_view(padded, sides, axis=(2, 3))
    top, left = (rng.integers(0, 2 * pad + 1, n) for pad in pads)
    images = crops[np.arange(n), :, top, left]
    flipped = rng.random(n) < 0.5
    return np.where(flipped[:, None, None, None], images[..., ::-1], images)


def _normalised(images: NDArray[np.uint8], examples: Examples) -> Tensor:
    """Map pixels to float32 by the dataset's statistics, or by those of all the examples."""
    import torch

    if examples.dataset:
        statistics = np.array([examples.dataset.mean, examples.dataset.std])
    else:
        statistics = _statistics(examples.values)
    mean, std = statistics.astype(np.float32)[:, :, None, None]
    values = (images.astype(np.float32) / np.float32(255) - mean) / std
    return torch.from_numpy(np.ascontiguousarray(values))


def _statistics(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and standard deviation of each channel, [2, 3], without a copy of all pictures."""
    mean = images.mean((0, 2, 3))
    square = np.einsum("nchw,nchw->c", images, images, dtype=np.float64)
    variance = square * len(mean) / images.size - mean**2
    return np.stack([mean, np.sqrt(np.maximum(variance, 1))]) / 255


def _resized(inputs: Tensor, side: int) -> Tensor:
    from torch.nn import functional

    if inputs.shape[2:] == (side, side):
        return inputs
    return functional.interpolate(inputs, (side, side), mode="bilinear", antialias=True)


def _given(path: str | None, what: str) -> Path:
    if path is None:
        raise UsageError(f"batch.path is missing; give {what}.")
    return Path(path).expanduser()


def _check(size: int, most: int | None, sampling: str) -> None:
    if size < 1 or (most is not None and size > most):
        legal = "a positive number" if most is None else f"a number from 1 to {most}"
        raise UsageError(f"batch.size={size} is not possible; give {legal}.")
    if sampling not in _SAMPLINGS:
        raise unknown_name("batch.sampling", sampling, _SAMPLINGS)


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise UsageError(f"batch.seed={seed} must not be negative.")
    return np.random.default_rng(seed)


def _words(seed: int, sampling: Sampling) -> str:
    return f"seed {seed}" + ", class by class" * (sampling == "per_class")
