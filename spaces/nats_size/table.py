"""The results of all 32,768 trained sizes; ``PROVENANCE.md`` says where each column is from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import unknown_name
from spaces.rows import check_epochs, find_rows, read_columns, unknown_times
from spaces.table import Table

if TYPE_CHECKING:
    from spaces.nats_size.space import NATSSize

FILE: Final = Path(__file__).with_name("table.npz")

EPOCHS: Final = 90

_COLUMNS: Final = ("test_90", "params")
_TARGETS: Final = {
    "cifar10": (92.5, 93.0, 93.3),
    "cifar100": (68.0, 69.5, 70.5),
    "ImageNet16-120": (42.5, 45.0, 46.0),
}


def load(space: NATSSize, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the test accuracy of one training of 90 epochs; there are no validation accuracies.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    check_epochs(epochs, EPOCHS)
    file = path or FILE
    test = f"{space.dataset}/test_90"
    columns = read_columns(file, space.size, {"channels": len(space.decisions), test: None})
    channels = columns["channels"].astype(np.float64)
    listed = np.where(channels % 8 == 0, channels // 8 - 1, -1).astype(np.int64)
    return Table(
        source=str(path) if path else space.name,
        epochs=EPOCHS,
        runs="one run",
        rows=find_rows(space, listed, file, "channels"),
        val=None,
        val_seeds=None,
        test=columns[test].astype(np.float32),
        train_seconds=unknown_times(space.size),
        targets=_TARGETS[space.dataset],
    )


def column(space: NATSSize, name: str, path: Path | None = None) -> NDArray[np.float64]:
    """Load one column, float64 [32768] in row order: ``test_90`` (percent) or ``params``.

    Raises :class:`UsageError` for another name, and where the file is not such a table.
    """
    if name not in _COLUMNS:
        raise unknown_name("column", name, _COLUMNS)
    key = f"{space.dataset}/{name}"
    return read_columns(path or FILE, space.size, {key: None})[key].astype(np.float64)
