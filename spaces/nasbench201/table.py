"""The results of all 15,625 trained cells; ``PROVENANCE.md`` says where each column is from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture
from spaces.nasbench201 import costs
from spaces.nasbench201.cell import EDGES, OPERATIONS
from spaces.rows import check_epochs
from spaces.table import Table, open_npz

FILE: Final = Path(__file__).with_name("table.npz")

_SIZE: Final = len(OPERATIONS) ** len(EDGES)
_PLACES: Final = len(OPERATIONS) ** np.arange(len(EDGES))[::-1]
_FULL_EPOCHS: Final = 200
_COLUMNS: Final = {
    200: ("val_200", "test_200", "val_200_seeds"),
    12: ("val_12", "test_12"),
}
_COSTS: Final = ("train_seconds", "latency_seconds", "flops_M", "params")
_OLD_SEEDS: Final = "test_200_seeds_v10"  # of cifar10 alone
_SEEDS: Final = ("val_200_seeds", _OLD_SEEDS)
_TARGETS: Final = {
    "cifar10": (93.5, 94.0, 94.3),
    "cifar100": (71.0, 72.0, 73.0, 73.5),
    "ImageNet16-120": (45.0, 46.0, 47.0),
}


def load(dataset: str, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the results on ``dataset`` after ``epochs`` (200 or 12), and nothing else.

    200 epochs: mean over 2 or 3 training seeds, and the validation accuracy of each seed; 12
    epochs: one run. Validation accuracy on cifar10 is of networks trained on half of its training
    images, test accuracy of networks trained on all of them. ``train_seconds`` at 12 epochs is
    12/200 of the time of 200.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    epochs = check_epochs(epochs, _COLUMNS)
    file = path or FILE
    columns = _read(file, dataset, ("ops", *_COLUMNS[epochs], "train_seconds"))
    return Table(
        source=str(path) if path else "nasbench201",
        epochs=epochs,
        runs="mean over seeds" if epochs == _FULL_EPOCHS else "one run",
        rows=functools.partial(_rows, _row_of(columns["ops"], file)),
        val=columns[f"val_{epochs}"],
        val_seeds=columns.get(f"val_{epochs}_seeds"),
        test=columns[f"test_{epochs}"],
        train_seconds=columns["train_seconds"] * np.float32(epochs / _FULL_EPOCHS),
        targets=_TARGETS[dataset],
        costs={
            "params": functools.partial(column, dataset, "params", path),
            "flops": functools.partial(_flops, dataset, path),
            **costs.measured(dataset, columns["ops"].astype(np.int64) @ _PLACES),
        },
    )


def column(dataset: str, name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 in row order: [15625], or [15625, seeds] for single seeds.

    Names: accuracies ``val_200``, ``test_200``, ``val_12``, ``test_12``, ``val_200_seeds`` and, on
    cifar10, ``test_200_seeds_v10`` (percent, NaN = no such seed); costs ``train_seconds``,
    ``latency_seconds``, ``flops_M`` (millions) and ``params``.

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    known = [*_COLUMNS[200], *_COLUMNS[12], *_COSTS]
    if dataset == "cifar10":
        known.append(_OLD_SEEDS)
    if name not in known:
        raise unknown_name("column", name, known)
    return _read(path or FILE, dataset, (name,))[name].astype(np.float64)


def _flops(dataset: str, path: Path | None) -> NDArray[np.float64]:
    return 1e6 * column(dataset, "flops_M", path)


def _read(file: Path, dataset: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read columns of ``dataset`` by their short names: checked, and as float32 but for ``ops``."""
    keys = {name: name if name == "ops" else f"{dataset}/{name}" for name in names}
    arrays = open_npz(file, list(keys.values()))
    columns: dict[str, NDArray[Any]] = {}
    for name, key in keys.items():
        array = arrays[key]
        two_dimensional = name == "ops" or name in _SEEDS
        real = not two_dimensional or (name in _SEEDS and array.dtype == np.float32)
        if array.shape[:1] != (_SIZE,) or array.ndim != 1 + two_dimensional:
            raise UsageError(f"{file} is not such a table: {key} has the shape {array.shape}.")
        if array.dtype.kind not in ("iuf" if real else "iu"):
            raise UsageError(f"{file} is not such a table: {key} is of type {array.dtype}.")
        if name in _SEEDS:
            columns[name] = _seeds(array)
        else:
            columns[name] = array if name == "ops" else array.astype(np.float32)
    return columns


def _seeds(array: NDArray[np.generic]) -> NDArray[np.float32]:
    """Turn whole hundredths of a percent, 0 for no such seed, into percent; float32 is percent."""
    values = array.astype(np.float32)
    if array.dtype.kind != "f":
        values /= np.float32(100)
        values[values == 0] = np.nan
    return values


def _row_of(operations: NDArray[Any], file: Path) -> NDArray[np.int64]:
    """Return the row of each cell, cells in lexicographic order."""
    if operations.shape == (_SIZE, len(EDGES)) and np.isin(operations, range(5)).all():
        cells = operations.astype(np.int64) @ _PLACES
        rows = np.full(_SIZE, -1)
        rows[cells] = np.arange(_SIZE)
        if (rows >= 0).all():
            return rows
    raise UsageError(f"{file} is not such a table: ops must list each of {_SIZE} cells once.")


def _rows(row_of: NDArray[np.int64], archs: Sequence[Architecture]) -> NDArray[np.int64]:
    """Find the rows of ``archs``: int64 [n]."""
    cells = np.asarray(archs, np.int64).reshape(-1, len(EDGES)) @ _PLACES
    rows: NDArray[np.int64] = row_of[cells]
    return rows
