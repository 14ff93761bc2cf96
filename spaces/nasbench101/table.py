"""The results of the trained cells; ``PROVENANCE.md`` says where each column is from."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
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

_EPOCHS: Final = 108
_SEEDS: Final = 3
_IMAGES: Final = 9984  # of 10,000: the benchmark's evaluation leaves an incomplete batch out
_TEST: Final = ("test_108_high", "test_108_low")  # bytes: they compress better apart
_COLUMNS: Final = {
    "all": ("test_108", "params"),
    "validated": ("val_108", "test_108", "val_108_seeds", "test_108_seeds", "params"),
}
_TARGETS: Final = {"all": (93.5, 94.0, 94.22), "validated": (93.0, 93.5, 93.8)}


def load(subset: Subset, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the results after 108 epochs, means over three training seeds.

    Of all cells only the test accuracy is known; of the validated ones also the validation
    accuracy, seed by seed. Training times are not known (NaN).

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    check_epochs(epochs, _EPOCHS)
    file = path or FILE
    val = None if subset == "all" else _percent(_seeds("val_108_seeds", file))
    test = _test(subset, file).astype(np.float32)
    return Table(
        source=str(path) if path else "nasbench101",
        epochs=_EPOCHS,
        runs=f"mean over {_SEEDS} seeds",
        rows=functools.partial(rows, members(subset, file)),
        val=None if val is None else val.mean(axis=1).astype(np.float32),
        val_seeds=None if val is None else val.astype(np.float32),
        test=test,
        train_seconds=unknown_times(len(test)),
        targets=_TARGETS[subset],
    )


def column(subset: Subset, name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 in row order: [n], or [n, 3] for single seeds.

    Names: ``test_108`` (percent); of validated cells also ``val_108``, ``val_108_seeds`` and
    ``test_108_seeds``; ``params``, the trainable parameters, which are counted, not read.

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    if name not in _COLUMNS[subset]:
        raise unknown_name("column", name, _COLUMNS[subset])
    file = path or FILE
    if name == "params":
        numbers = members(subset, file)
        counted = parameters().astype(np.float64)
        return counted if numbers is None else counted[numbers]
    if name == "test_108":
        return _test(subset, file)
    if name == "val_108":
        return np.asarray(_percent(_seeds("val_108_seeds", file)).mean(axis=1))
    return _percent(_seeds(name, file))


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


def _test(subset: Subset, file: Path) -> NDArray[np.float64]:
    """Read the mean test accuracy, percent, float64 [n]."""
    if subset == "validated":
        return np.asarray(_percent(_seeds("test_108_seeds", file)).mean(axis=1))
    planes = read_columns(file, len(index()), dict.fromkeys(_TEST)).values()
    high, low = (plane.astype(np.float64) for plane in planes)
    return _percent(256 * high + low) / _SEEDS


def _seeds(name: str, file: Path) -> NDArray[Any]:
    numbers = members("validated", file)
    assert numbers is not None
    return read_columns(file, len(numbers), {name: _SEEDS})[name]


def _percent(right: NDArray[Any]) -> NDArray[np.float64]:
    """Turn numbers of rightly classified images into percent."""
    return np.asarray(right / (_IMAGES / 100), np.float64)
