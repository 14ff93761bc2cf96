"""The results of all 6,561 sequences of blocks; ``PROVENANCE.md`` says where they are from."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import unknown_name
from spaces.rows import check_epochs, find_rows, read_columns, unknown_times
from spaces.table import Table

if TYPE_CHECKING:
    from spaces.nasbench_macro.space import NASBenchMacro

FILE: Final = Path(__file__).with_name("table.npz")

EPOCHS: Final = 50

_SEEDS: Final = 3
_COLUMNS: Final = {"test_seeds": _SEEDS, "params": None, "flops": None}
_TARGETS: Final = (92.5, 92.8, 93.0)


def load(space: NASBenchMacro, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the test accuracy, mean of three seeds; there are no validation accuracies.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    check_epochs(epochs, [EPOCHS])
    file = path or FILE
    columns = read_columns(file, space.size, {"blocks": len(space.decisions), "test_seeds": _SEEDS})
    return Table(
        source=str(path) if path else space.name,
        epochs=EPOCHS,
        runs="mean over seeds",
        rows=find_rows(space, columns["blocks"].astype(np.int64), file, "blocks"),
        val=None,
        val_seeds=None,
        test=_percent(columns["test_seeds"]).mean(axis=1).astype(np.float32),
        train_seconds=unknown_times(space.size),
        targets=_TARGETS,
        costs={name: functools.partial(column, space, name, path) for name in ("params", "flops")},
    )


def column(space: NASBenchMacro, name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 in row order.

    Names: ``test_seeds`` [6561, 3] in percent, ``params`` [6561], and ``flops`` [6561], which
    counts multiply-adds.

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    if name not in _COLUMNS:
        raise unknown_name("column", name, _COLUMNS)
    found = read_columns(path or FILE, space.size, {name: _COLUMNS[name]})[name]
    return _percent(found) if name == "test_seeds" else found.astype(np.float64)


def _percent(hundredths: NDArray[np.generic]) -> NDArray[np.float64]:
    return hundredths.astype(np.float64) / 100
