"""The results of all 32,768 trained sizes; ``PROVENANCE.md`` says where each column is from."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import unknown_name
from spaces.rows import check_epochs, find_rows, read_columns, unknown_times
from spaces.table import Table, open_npz

if TYPE_CHECKING:
    from spaces.nats_size.space import NATSSize

FILE: Final = Path(__file__).with_name("table.npz")

EPOCHS: Final = 90

_COLUMN: Final = re.compile(r"(val|test)_\d+|train_seconds|latency_seconds|flops_M|params")
_TARGETS: Final = {
    "cifar10": (92.5, 93.0, 93.3),
    "cifar100": (68.0, 69.5, 70.5),
    "ImageNet16-120": (42.5, 45.0, 46.0),
}


def load(space: NATSSize, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the accuracies after ``epochs`` (default 90).

    The shipped table has the test accuracy of one training of 90 epochs, no validation accuracies
    and no training times. An imported table has all of them, after 1, 12 and 90 epochs; the time of
    the smaller budgets is their share of the time of 90 epochs.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    file = path or FILE
    names = _names(space, file)
    known = {EPOCHS, *(int(name[5:]) for name in names if name.startswith("test_"))}
    epochs = check_epochs(epochs, known)
    key = {name: f"{space.dataset}/{name}" for name in (f"test_{epochs}", *names)}
    test, val, seconds = key[f"test_{epochs}"], key.get(f"val_{epochs}"), key.get("train_seconds")
    wanted = dict.fromkeys(name for name in (test, val, seconds) if name)
    columns = read_columns(file, space.size, {"channels": len(space.decisions), **wanted})
    channels = columns["channels"].astype(np.float64)
    listed = np.where(channels % 8 == 0, channels // 8 - 1, -1).astype(np.int64)
    return Table(
        source=str(path) if path else space.name,
        epochs=epochs,
        runs="mean over seeds" if val else "one run",
        rows=find_rows(space, listed, file, "channels"),
        val=columns[val].astype(np.float32) if val else None,
        val_seeds=None,
        test=columns[test].astype(np.float32),
        train_seconds=(
            columns[seconds].astype(np.float32) * np.float32(epochs / EPOCHS)
            if seconds
            else unknown_times(space.size)
        ),
        targets=_TARGETS[space.dataset],
        costs={
            name.removesuffix("_M"): functools.partial(_cost, space, name, path)
            for name in ("params", "flops_M")
            if name in key
        },
    )


def column(space: NATSSize, name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 [32768] in row order: ``test_90`` (percent) or ``params``.

    An imported table also has ``val_90``, both accuracies after 1 and 12 epochs, ``train_seconds``,
    ``latency_seconds`` and ``flops_M`` (millions).

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    file = path or FILE
    known = _names(space, file)
    if name not in known:
        raise unknown_name("column", name, known)
    key = f"{space.dataset}/{name}"
    return read_columns(file, space.size, {key: None})[key].astype(np.float64)


def _cost(space: NATSSize, name: str, path: Path | None) -> NDArray[np.float64]:
    """Read a column of costs, float64, millions as ones."""
    return column(space, name, path) * (1e6 if name.endswith("_M") else 1)


def _names(space: NATSSize, file: Path) -> list[str]:
    """List the columns of the space's dataset."""
    open_npz(file, ["channels"])
    with np.load(file, allow_pickle=False) as arrays:
        split = (name.split("/", 1) for name in arrays.files if "/" in name)
        found = {short for dataset, short in split if dataset == space.dataset}
    return sorted(name for name in found if _COLUMN.fullmatch(name))
