"""The results of the trained cells; ``PROVENANCE.md`` says where each column is from."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture
from spaces.nasbench101.cell import (
    CELLS_PER_STACK,
    CHANNELS,
    CONV_1X1,
    CONV_3X3,
    INNER,
    OPERATIONS,
    Adjacency,
    adjacency,
    channels,
)
from spaces.nasbench101.index import Ints, index
from spaces.rows import check_epochs, read_columns, unknown_times
from spaces.table import Table, open_npz

FILE: Final = Path(__file__).with_name("table.npz")

Subset = Literal["all", "validated"]
"""All cells, or the 3,258 of which validation accuracies are known."""

SEEDS: Final = 3
"""Trainings of every cell."""

IMAGES: Final = 9984
"""Images of an accuracy, of 10,000: the benchmark's evaluation leaves an incomplete batch out."""

_EPOCHS: Final = 108
_TEST: Final = ("test_108_high", "test_108_low")  # bytes: they compress better apart
_NAME: Final = re.compile(r"(val|test|train_seconds)_(\d+)(_seeds)?")
_TARGETS: Final = {"all": (93.5, 94.0, 94.22), "validated": (93.0, 93.5, 93.8)}


def load(subset: Subset, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the results after ``epochs`` (default 108), means over three training seeds.

    The shipped table has 108 epochs alone, and no training times (NaN). Of all cells it has the
    test accuracy; of the validated ones also the validation accuracy, seed by seed. An imported
    table, whose ``validated`` are all cells, has both of all, and the epochs that were imported.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    contents = _contents(subset, path or FILE)
    epochs = check_epochs(epochs, contents.epochs)
    val = contents.seeds("val", epochs) if contents.seeded else None
    test = contents.test(epochs).astype(np.float32)
    timed = f"train_seconds_{epochs}" in contents.columns
    return Table(
        source=str(path) if path else "nasbench101",
        epochs=epochs,
        runs=f"mean over {SEEDS} seeds",
        rows=functools.partial(rows, contents.numbers),
        val=None if val is None else val.mean(axis=1).astype(np.float32),
        val_seeds=None if val is None else val.astype(np.float32),
        test=test,
        train_seconds=contents.seconds(epochs) if timed else unknown_times(len(test)),
        targets=_TARGETS[subset],
        costs={"params": functools.partial(column, subset, "params", path)},
    )


def column(subset: Subset, name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 in row order: [n], or [n, 3] for single seeds.

    Names: ``test_108`` (percent); of validated cells also ``val_108``, ``val_108_seeds`` and
    ``test_108_seeds``; in an imported table all of these for each of its epochs, and
    ``train_seconds_108``; ``params``, the trainable parameters, which are counted, not read.

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    contents = _contents(subset, path or FILE)
    if name not in contents.columns:
        raise unknown_name("column", name, contents.columns)
    if name == "params":
        counted = parameters().astype(np.float64)
        return counted if contents.numbers is None else counted[contents.numbers]
    which, number, *single = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]
    epochs = int(number)
    if which == "train_seconds":
        return contents.seconds(epochs).astype(np.float64)
    if which == "test" and not any(single):
        return contents.test(epochs)
    seeds = contents.seeds(which, epochs)
    return seeds if any(single) else np.asarray(seeds.mean(axis=1))


def members(subset: Subset, path: Path | None = None) -> Ints | None:
    """Return the numbers of a subset's cells in the index, int64, ascending; None is all.

    Raises :class:`UsageError` where the file is not such a table.
    """
    if subset == "all":
        return None
    file = path or FILE
    numbers = open_npz(file, ["validated"])["validated"]
    legal = numbers.ndim == 1 and len(numbers) > 0 and numbers.dtype.kind in "iu"
    if legal:
        found = numbers.astype(np.int64)
        if (np.diff(found) > 0).all() and found[0] >= 0 and found[-1] < len(index()):
            return found
    raise UsageError(
        f"{file} is not such a table: validated must hold numbers of cells from 0 to "
        f"{len(index()) - 1}, ascending."
    )


def find(numbers: Ints | None, archs: Sequence[Architecture]) -> Ints:
    """Find the rows of ``archs`` in a table of the cells ``numbers``: int64 [n], -1 for none."""
    found = index().numbers(archs)
    if numbers is None:
        return found
    place = np.searchsorted(numbers, found) % len(numbers)
    return np.where(numbers[place] == found, place, -1)


def rows(numbers: Ints | None, archs: Sequence[Architecture]) -> Ints:
    """Find the rows of ``archs``: int64 [n]; raises :class:`UsageError` where there is none."""
    found = find(numbers, archs)
    if (found < 0).any():
        raise UsageError(f"{archs[int(found.argmin())]} is not in the table.")
    return found


def parameters() -> Ints:
    """Count the trainable parameters of the network of every cell, int64 [423624].

    Counted from the cells; :class:`spaces.nasbench101.network.Network` has as many.
    """
    cells = index()
    costs = [_costs(adjacency(tuple(edges))) for edges in cells.edges.tolist()]
    fixed = np.array([common for common, _ in costs])[cells.topology]
    by_operation = np.stack([each for _, each in costs])
    chosen = by_operation[cells.topology[:, None], np.arange(len(INNER)), cells.operations]
    return np.asarray(fixed + chosen.sum(axis=1), np.int64)


def _costs(joined: Adjacency) -> tuple[int, Ints]:
    """Count the parameters of a topology, and those of each operation at each vertex [5, 3]."""
    widths = [width for width in CHANNELS for _ in range(CELLS_PER_STACK)]
    before = [CHANNELS[0], *widths[:-1]]
    fed = np.flatnonzero(joined[0])
    fixed = _convolution(9, 3, CHANNELS[0]) + (CHANNELS[-1] + 1) * 10
    each = np.zeros((len(INNER), len(OPERATIONS)), np.int64)
    for (incoming, width), cells in Counter(zip(before, widths, strict=True)).items():
        split = np.array(channels(joined, width))
        inner = split[list(INNER)]
        fixed += cells * int(_convolution(1, incoming, split[fed]).sum())
        each[:, CONV_3X3] += cells * _convolution(9, inner, inner)
        each[:, CONV_1X1] += cells * _convolution(1, inner, inner)
    return fixed, each


def _convolution(area: int, incoming: Any, outgoing: Any) -> Any:
    """Count the parameters of a convolution without bias and its BatchNorm."""
    return area * incoming * outgoing + 2 * outgoing


@dataclass(frozen=True, eq=False)
class _Contents:
    """What a table has of a subset.

    Attributes:
        file: the table.
        numbers: of its cells in the index, int64, ascending; None is all.
        size: how many cells these are.
        seeded: whether single seeds are known of them, of validation too.
        columns: the columns that can be loaded.
    """

    file: Path
    numbers: Ints | None
    size: int
    seeded: bool
    columns: tuple[str, ...]

    @property
    def epochs(self) -> set[int]:
        """The fidelities."""
        return {int(match[2]) for match in filter(None, map(_NAME.fullmatch, self.columns))}

    def seeds(self, which: str, epochs: int) -> NDArray[np.float64]:
        """Read accuracies seed by seed, percent [n, 3]."""
        name = f"{which}_{epochs}_seeds"
        return _percent(read_columns(self.file, self.size, {name: SEEDS})[name])

    def test(self, epochs: int) -> NDArray[np.float64]:
        """Read the mean test accuracy, percent [n]."""
        if self.seeded:
            return np.asarray(self.seeds("test", epochs).mean(axis=1))
        planes = read_columns(self.file, self.size, dict.fromkeys(_TEST)).values()
        high, low = (plane.astype(np.float64) for plane in planes)
        return _percent(256 * high + low) / SEEDS

    def seconds(self, epochs: int) -> NDArray[np.float32]:
        """Read the mean time of a training, seconds [n]."""
        name = f"train_seconds_{epochs}"
        return read_columns(self.file, self.size, {name: None})[name].astype(np.float32)


def _contents(subset: Subset, file: Path) -> _Contents:
    listed = members("validated", file)
    assert listed is not None
    whole = len(listed) == len(index())
    if subset == "all" and not whole:
        return _Contents(file, None, len(index()), False, (f"test_{_EPOCHS}", "params"))
    with np.load(file, allow_pickle=False) as arrays:
        names = set(arrays.files)
    columns = ["params"]
    for epochs in sorted({_EPOCHS, *map(int, re.findall(r"\bval_(\d+)_seeds\b", " ".join(names)))}):
        columns += [
            f"{which}_{epochs}{seeds}" for which in ("val", "test") for seeds in ("", "_seeds")
        ]
        columns += names & {f"train_seconds_{epochs}"}
    return _Contents(file, None if whole else listed, len(listed), True, tuple(columns))


def _percent(right: NDArray[Any]) -> NDArray[np.float64]:
    """Turn numbers of rightly classified images into percent."""
    return np.asarray(right / (IMAGES / 100), np.float64)
