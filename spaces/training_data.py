"""The pictures that networks are trained, validated and tested on."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from proxies import datasets
from proxies.datasets import Examples
from spaces.base import SearchSpace

_TEST_FILES = {
    datasets.CIFAR10: ("test_batch", "labels"),
    datasets.CIFAR100: ("test", "fine_labels"),
}


@dataclass(frozen=True, eq=False)
class Part:
    """Pictures, uint8 [n, 3, height, width], and their labels, int64 [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Data:
    """Pictures in three parts.

    Attributes:
        train: what weights are fitted to.
        validation: what searches steer by.
        test: what nothing is chosen by.
        classes: how many there are.
        mean: of each channel, [3], of pixels from 0 to 1.
        std: the standard deviation, likewise.
        source: what the pictures are, in words.
    """

    train: Part
    validation: Part
    test: Part
    classes: int
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    source: str

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the pictures and labels of all parts, in hexadecimal."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            digest.update(f"{part.images.shape}".encode())
            digest.update(np.ascontiguousarray(part.images).data)
            digest.update(part.labels.data)
        return digest.hexdigest()


def read(path: str | None, held_out: float, space: SearchSpace, group: str = "benchmark") -> Data:
    """Read and divide pictures for the networks of ``space``.

    ``path`` is the folder ``cifar-10-batches-py`` or ``cifar-100-python``, an ``.npz`` archive
    (:func:`proxies.datasets.read_npz`) with images and labels, or None for the pictures that come
    with Assay. Of each class a share ``held_out`` is not trained on: it validates, if the folder
    has a test file, which then is the test part; else half of it validates and half tests. The
    division is drawn once for all: it depends on the pictures alone.

    CIFAR is normalised by the field's statistics, other pictures by those of the training part.
    ``group`` is where the settings are in the configuration.
    Raises :class:`UsageError` for what cannot be read or divided, and for a known dataset that is
    not the one of ``space``; an archive of one's own may have any classes.
    """
    if not 0 < held_out < 1:
        raise UsageError(f"{group}.held_out={held_out} must be between 0 and 1.")
    try:
        examples, test = _read(path)
    except UsageError as error:
        raise UsageError(str(error).replace("batch.path=", f"{group}.data=", 1)) from None
    dataset, labels = examples.dataset, examples.labels
    if dataset is not None and not dataset.is_of(space):
        raise UsageError(
            f"{group}.data={path or 'null'} holds {dataset.title}, and networks of {space.name} "
            f"are for space.dataset={space.dataset}; give pictures of that."
        )
    if labels is None or examples.values.dtype != np.uint8:
        raise UsageError(f"{group}.data={path} must hold images and labels.")
    everything = Part(examples.values, labels)
    train, validation, rest = _divide(everything, held_out, test is None, path, group)
    mean, std = (dataset.mean, dataset.std) if dataset else _statistics(train.images)
    return Data(
        train,
        validation,
        rest if test is None else test,
        dataset.classes if dataset else int(labels.max()) + 1,
        np.array(mean, np.float32),
        np.array(std, np.float32),
        f"{dataset.title} ({examples.origin})" if dataset else examples.origin,
    )


def _read(path: str | None) -> tuple[Examples, Part | None]:
    """Return the pictures to divide, and those of a test file if there is one."""
    if path is None:
        return datasets.read_shipped(), None
    place = Path(path).expanduser()
    if not place.is_dir():
        return datasets.read_npz(place), None
    examples = datasets.read_cifar(place)
    assert examples.dataset is not None
    name, key = _TEST_FILES[examples.dataset]
    if not (place / name).exists():
        return examples, None
    test = datasets._read_pickles([place / name], examples.dataset, key)
    assert test.labels is not None
    return examples, Part(test.values, test.labels)


def _divide(
    whole: Part, held_out: float, thirds: bool, path: str | None, group: str
) -> tuple[Part, ...]:
    """Divide each class alike into training, validation and, with ``thirds``, test."""
    order = np.random.default_rng(0).permutation(len(whole))
    rows: tuple[list[NDArray[np.int64]], ...] = ([], [], [])
    for label in np.unique(whole.labels):
        ours = order[whole.labels[order] == label]
        held = round(held_out * len(ours))
        validated = held // 2 if thirds else held
        pieces = np.split(ours, [validated, held])
        needed = (0, 1, 2) if thirds else (0, 2)
        if not all(len(pieces[i]) for i in needed):
            raise UsageError(
                f"{group}.held_out={held_out} leaves a part without any of the {len(ours)} "
                f"pictures of class {label} in {group}.data={path or 'null'}; give more "
                f"pictures or another share."
            )
        for part, piece in zip(rows, (pieces[2], pieces[0], pieces[1]), strict=True):
            part.append(piece)
    parts = (np.sort(np.concatenate(part)) for part in rows)
    return tuple(Part(whole.images[chosen], whole.labels[chosen]) for chosen in parts)


def _statistics(images: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel of pixels from 0 to 1; std is never 0."""
    channels = [images[:, channel] for channel in range(images.shape[1])]
    mean = np.array([channel.mean() for channel in channels])
    std = np.array([channel.std() for channel in channels])
    return mean / 255, np.maximum(std, 1) / 255
