"""The results of 5,125 trained networks; ``PROVENANCE.md`` says where they are from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture
from spaces.mobilenet.blocks import MNASNET, Ints
from spaces.rows import check_epochs, read_columns
from spaces.table import Table, open_npz

FILE: Final = Path(__file__).with_name("table.npz")

Subset = Literal["trained", "all"]
"""The architectures of which results are known, or all of the space."""

EPOCHS: Final = 16

_RUNS: Final = 2
_IMAGES: Final = 50_000
_ACCURACIES: Final = ("val_top1", "val_top5")
_COLUMNS: Final = (*_ACCURACIES, "train_seconds")
_WIDTHS: Final = tuple(width for stage in MNASNET.stages for width in (3, 2, stage.layers, 2))
_TARGETS: Final = (65.0, 66.0, 66.5)


def load(path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the top-1 validation accuracies; there are no test accuracies.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    check_epochs(epochs, [EPOCHS])
    return Table(
        source=str(path) if path else "mobilenet",
        epochs=EPOCHS,
        runs="one run; for 13 architectures the mean of two",
        rows=functools.partial(_rows, _numbers(path or FILE)),
        val=_mean("val_top1", path).astype(np.float32),
        val_seeds=None,
        test=None,
        train_seconds=_mean("train_seconds", path).astype(np.float32),
        targets=_TARGETS,
    )


def column(name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 [n, 2] in row order: a column a run, NaN where there was none.

    Names: ``val_top1`` and ``val_top5`` (percent), ``train_seconds``.

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    if name not in _COLUMNS:
        raise unknown_name("column", name, _COLUMNS)
    file = path or FILE
    stored = read_columns(file, len(_numbers(file)), {name: _RUNS})[name].astype(np.float64)
    stored[stored == 0] = np.nan
    return stored * (100 / _IMAGES) if name in _ACCURACIES else stored


def architectures(path: Path | None = None) -> list[Architecture]:
    """List the architectures in row order, which is lexicographic."""
    return [tuple(row) for row in _blocks(path or FILE).tolist()]


def _mean(name: str, path: Path | None) -> NDArray[Any]:
    """Average over the runs that there were: float64 [n]."""
    return np.asarray(np.nanmean(column(name, path), axis=1))


def _blocks(file: Path) -> Ints:
    """Read the architectures, int64 [n, 28], in ascending order."""
    blocks = open_npz(file, ["blocks"])["blocks"]
    if blocks.ndim == 2 and blocks.shape[1] == len(_WIDTHS) and blocks.dtype.kind in "iu":
        found = blocks.astype(np.int64)
        legal = ((found >= 0) & (found < _WIDTHS)).all()
        if legal and len(found) and (np.diff(_number(found)) > 0).all():
            return found
    raise UsageError(
        f"{file} is not such a table: blocks must hold architectures, {len(_WIDTHS)} choices each, "
        "ascending."
    )


def _numbers(file: Path) -> Ints:
    return _number(_blocks(file))


def _number(blocks: Ints) -> Ints:
    """Give architectures, [n, 28], their places in the whole space's order: int64 [n]."""
    return np.asarray(np.ravel_multi_index(tuple(blocks.T), _WIDTHS), np.int64)


def _rows(numbers: Ints, archs: Sequence[Architecture]) -> Ints:
    """Find the rows of ``archs``: int64 [n]; raises :class:`UsageError` where there is none."""
    wanted = _number(np.asarray(archs, np.int64).reshape(-1, len(_WIDTHS)))
    rows = np.searchsorted(numbers, wanted) % len(numbers)
    absent = numbers[rows] != wanted
    if absent.any():
        raise UsageError(f"{archs[int(absent.argmax())]} is not in the table.")
    return rows
