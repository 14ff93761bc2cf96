"""The results on seven tasks; ``PROVENANCE.md`` says where they are from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from spaces.rows import check_epochs, find_rows, read_columns, unknown_times
from spaces.table import Table

if TYPE_CHECKING:
    from spaces.transnas.space import TransNAS

FILE: Final = Path(__file__).with_name("table.npz")

_LISTS: Final = {"transnas_micro": "micro/operations", "transnas_macro": "macro/modules"}


def load(space: TransNAS, path: Path | None = None, epochs: int | None = None) -> Table:
    """Load the validation metric of one training on the space's task; there are no test values.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    task = space.task
    check_epochs(epochs, [task.epochs])
    file = path or FILE
    listing = _LISTS[space.name]
    kind = listing.partition("/")[0]
    val = f"{kind}/{space.dataset}"
    columns = read_columns(file, space.size, {listing: len(space.decisions), val: None})
    listed = columns[listing].astype(np.int64)
    if kind == "macro":
        listed = (listed - 1) % 5  # digits from 1 to 4, 0 for an absent module
    return Table(
        source=str(path) if path else space.name,
        epochs=task.epochs,
        runs="one run",
        rows=find_rows(space, listed, file, listing),
        val=columns[val].astype(np.float32),
        val_seeds=None,
        test=None,
        train_seconds=unknown_times(space.size),
        metric=task.metric,
        unit=task.unit,
        targets=task.micro if kind == "micro" else task.macro,
    )
