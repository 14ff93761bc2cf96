"""Reads pictures: those that Assay ships, official copies of datasets, and arrays of one's own.

Official files are pickles; they are read by :mod:`proxies.unpickling`, which runs nothing that a
file names, so that no file needs to be trusted. Training files are read, never test files.
Whatever is missing, damaged or foreign raises :class:`UsageError` naming ``batch.path``.
"""

from __future__ import annotations

import math
import pickle
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from proxies import unpickling

if TYPE_CHECKING:
    from spaces.base import SearchSpace

SHIPPED: Final = Path(__file__).with_name("pictures") / "cifar10.npz"
"""Real CIFAR-10 pictures; see ``PROVENANCE.md`` beside them."""

CHANNELS: Final = 3


@dataclass(frozen=True)
class Dataset:
    """A dataset of pictures.

    Attributes:
        title: what papers call it.
        names: what spaces call it.
        classes: how many there are.
        side: height and width in pixels.
        mean: of each channel, of pixels from 0 to 1.
        std: the standard deviation by which the field normalises, likewise.
    """

    title: str
    names: tuple[str, ...]
    classes: int
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def is_of(self, space: SearchSpace) -> bool:
        """Whether the networks of ``space`` are meant for this dataset."""
        return space.dataset in self.names and space.classes == self.classes


CIFAR10: Final = Dataset(
    "CIFAR-10",
    ("cifar10", "cifar10-valid"),
    classes=10,
    side=32,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)
CIFAR100: Final = Dataset(
    "CIFAR-100",
    ("cifar100",),
    classes=100,
    side=32,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
IMAGENET16: Final = Dataset(
    "ImageNet16-120",
    ("ImageNet16-120",),
    classes=120,
    side=16,
    mean=(122.68 / 255, 116.66 / 255, 104.01 / 255),
    std=(63.22 / 255, 61.26 / 255, 65.09 / 255),
)


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples to draw a minibatch from.

    Attributes:
        values: uint8 [N, 3, H, W] pixels, or float32 [N, ...] inputs that are ready for use.
        labels: int64 [N], from 0; None where there are none.
        dataset: what they are of; None for one's own.
        origin: where they were read, in words.
    """

    values: NDArray[Any]
    labels: NDArray[np.int64] | None
    dataset: Dataset | None
    origin: str


def read_shipped() -> Examples:
    """Read the 640 CIFAR-10 pictures that come with Assay, 64 of each class."""
    with np.load(SHIPPED, allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return Examples(images.transpose(0, 3, 1, 2), labels.astype(np.int64), CIFAR10, "shipped")


def read_cifar(folder: Path) -> Examples:
    """Read ``cifar-10-batches-py`` or ``cifar-100-python``, whichever ``folder`` is.

    The labels of CIFAR-100 are its fine ones.
    """
    _check_folder(folder)
    if (folder / "data_batch_1").exists():
        files = [folder / f"data_batch_{i}" for i in range(1, 6)]
        return _read_pickles(files, CIFAR10, "labels")
    if (folder / "train").exists():
        return _read_pickles([folder / "train"], CIFAR100, "fine_labels")
    raise _refused(
        folder, "holds neither data_batch_1 of cifar-10-batches-py nor train of cifar-100-python"
    )


def read_imagenet16(folder: Path) -> Examples:
    """Read the first 120 classes of ImageNet downsampled to 16x16 (Chrabaszcz et al. 2017).

    These are ImageNet16-120 of NAS-Bench-201: the files' labels 1 to 120 become 0 to 119. The
    files are ``train_data_batch_1`` to ``10``; where there is none of them, ``val_data``.
    """
    _check_folder(folder)
    files = [folder / f"train_data_batch_{i}" for i in range(1, 11)]
    if not any(file.exists() for file in files):
        files = [folder / "val_data"]
        if not files[0].exists():
            raise _refused(folder, "holds neither train_data_batch_1 to 10 nor val_data")
    return _read_pickles(files, IMAGENET16, "labels", first=1, highest=1000)


def read_npz(path: Path) -> Examples:
    """Read an archive of one's own.

    It holds either ``images``, uint8 [N, H, W, 3] or [N, 3, H, W], or ``inputs``, floating
    [N, ...], normalised already; and, if one has them, integer ``labels`` [N] from 0.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            wanted = {"images", "inputs", "labels"}.intersection(file)
            arrays: dict[str, NDArray[Any]] = {name: file[name] for name in wanted}
    except OSError as error:
        raise _unreadable(path, error) from None
    except (
        AttributeError,  # a single array is no archive
        EOFError,
        MemoryError,
        NotImplementedError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        raise _refused(path, "is no readable .npz archive of plain arrays") from None
    labels = arrays.pop("labels", None)
    if len(arrays) != 1:
        raise _refused(path, "must hold either images or inputs, and may hold labels")
    ((name, values),) = arrays.items()
    values = _pixels(values, path) if name == "images" else _floats(values, path)
    if not values.size:
        raise _refused(path, f"holds no {name}")
    if labels is not None:
        labels = _check_labels(labels, len(values), path)
    return Examples(values, labels, None, path.name)


def _read_pickles(
    files: Sequence[Path], dataset: Dataset, key: str, first: int = 0, highest: int | None = None
) -> Examples:
    """Read pictures and labels; ``first`` and ``highest`` are the labels that files may hold."""
    width = CHANNELS * dataset.side**2
    highest = first + dataset.classes - 1 if highest is None else highest
    images, labels = [], []
    for file in files:
        try:
            content = unpickling.load(file)
        except OSError as error:
            raise _unreadable(file, error) from None
        except pickle.UnpicklingError as error:
            raise _refused(file, f"cannot be read: {str(error).rstrip('.')}") from None
        rows = content.get("data")
        if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2:
            raise _refused(file, "holds no pictures: its data must be uint8 [N, pixels]")
        if rows.shape[1] != width:
            side = math.isqrt(rows.shape[1] // CHANNELS)
            what = f"{dataset.title}, whose pictures are {dataset.side}x{dataset.side}"
            raise _refused(file, f"holds pictures of {side}x{side} pixels, not of {what}")
        if key not in content:
            raise _refused(file, f"holds no {key}")
        found = _check_labels(content[key], len(rows), file, first, highest) - first
        kept = found < dataset.classes
        images.append(rows if kept.all() else rows[kept])
        labels.append(found[kept])
    pixels = np.concatenate(images).reshape(-1, CHANNELS, dataset.side, dataset.side)
    if not len(pixels):
        raise _refused(files[0].parent, f"holds no picture of {dataset.title}")
    origin = files[0].name if len(files) == 1 else f"{files[0].name} to {len(files)}"
    return Examples(pixels, np.concatenate(labels), dataset, origin)


def _check_labels(
    labels: Any, count: int, path: Path, first: int = 0, highest: int | None = None
) -> NDArray[np.int64]:
    """Return ``labels`` as int64 [count], if that is what they are."""
    try:
        found = np.asarray(labels)
    except ValueError:  # lists of unequal lengths
        found = np.empty(0, object)
    if found.dtype.kind not in "iu" or found.shape != (count,):
        raise _refused(path, f"must hold {count} whole numbers as labels, one for each example")
    low, high = int(found.min(initial=first)), int(found.max(initial=first))
    if low < first or (highest is not None and high > highest):
        legal = f"from {first}" + ("" if highest is None else f" to {highest}")
        raise _refused(path, f"holds labels from {low} to {high}; they must be {legal}")
    return found.astype(np.int64)


def _pixels(images: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Return pictures as [N, 3, H, W], whichever way round they are."""
    if images.dtype == np.uint8 and images.ndim == 4:
        if images.shape[3] == CHANNELS:
            return images.transpose(0, 3, 1, 2)
        if images.shape[1] == CHANNELS:
            return images
    shape = f"{images.dtype} {list(images.shape)}"
    raise _refused(path, f"must hold images uint8 [N, H, W, 3] or [N, 3, H, W], not {shape}")


def _floats(inputs: NDArray[Any], path: Path) -> NDArray[np.float32]:
    if inputs.dtype.kind != "f" or inputs.ndim < 2:
        shape = f"{inputs.dtype} {list(inputs.shape)}"
        raise _refused(path, f"must hold inputs of floating numbers [N, ...], not {shape}")
    if not np.isfinite(inputs).all():
        raise _refused(path, "holds inputs that are NaN or infinite")
    return inputs.astype(np.float32, copy=False)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise _refused(folder, "is no folder")


def _unreadable(path: Path, error: OSError) -> UsageError:
    return _refused(path, f"cannot be read: {error.strerror or error}")


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(f"batch.path={path} {why}.")
