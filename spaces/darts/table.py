"""The results of the cells that are known; ``PROVENANCE.md`` says where they are from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture
from spaces.darts.cell import INPUTS, KINDS, NODES, NOISE, Cell, Input
from spaces.rows import check_epochs, unknown_times
from spaces.table import Table, open_npz

FILE: Final = Path(__file__).with_name("table.npz")

Source = Literal["trained", "surrogate"]
"""The 1,000 genotypes that were trained, or the 1,218 that a surrogate model predicts."""


@dataclass(frozen=True)
class _Results:
    cells: int
    epochs: int
    runs: str
    unit: float
    targets: tuple[float, ...]


_SOURCES: Final[dict[str, _Results]] = {
    "trained": _Results(1, 200, "one run", 0.01, (84.0, 85.0, 86.0)),
    "surrogate": _Results(2, 100, "predicted by a surrogate model", 1.0, (94.0, 94.2, 94.4)),
}


@dataclass(frozen=True, eq=False)
class Rows:
    """Finds the rows of architectures: ``rows(archs)`` is int64 [n]."""

    places: dict[Architecture, int]

    def __call__(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        """Return the row of each of ``archs``; raises :class:`UsageError` where there is none."""
        for arch in archs:
            if arch not in self.places:
                raise UsageError(f"{arch} is not in the table.")
        return np.array([self.places[arch] for arch in archs], np.int64)


def load(
    source: Source,
    members: Sequence[Architecture],
    path: Path | None = None,
    epochs: int | None = None,
) -> Table:
    """Load the validation accuracies of one source; there are no test accuracies.

    ``members`` are the architectures of the rows, as :func:`genotypes` orders them.

    Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a table.
    """
    results = _SOURCES[source]
    check_epochs(epochs, [results.epochs])
    file = path or FILE
    name = f"{source}_val"
    values = open_npz(file, [name])[name]
    if values.shape != (len(members),) or values.dtype.kind not in "iuf":
        raise UsageError(f"{file} is not such a table: {name} must hold {len(members)} numbers.")
    return Table(
        source=str(path) if path else f"darts {source}",
        epochs=results.epochs,
        runs=results.runs,
        rows=Rows({arch: row for row, arch in enumerate(members)}),
        val=(values.astype(np.float64) * results.unit).astype(np.float32),
        val_seeds=None,
        test=None,
        train_seconds=unknown_times(len(members)),
        targets=results.targets,
    )


def genotypes(source: Source, path: Path | None = None) -> list[tuple[Cell, Cell]]:
    """Read the normal and reduction cells of one source, in the order of the rows.

    Raises :class:`UsageError` where the file is not such a table.
    """
    file = path or FILE
    cells = open_npz(file, [source])[source]
    inputs = INPUTS * len(NODES)
    shape = (inputs, 2) if _SOURCES[source].cells == 1 else (len(KINDS), inputs, 2)
    targets = np.repeat(NODES, INPUTS)
    legal = cells.shape[1:] == shape and len(cells) > 0 and cells.dtype.kind in "iu"
    if legal:
        found = np.broadcast_to(
            cells.reshape(len(cells), -1, inputs, 2), (len(cells), len(KINDS), inputs, 2)
        ).astype(np.int64)
        operations, sources = found[..., 0], found[..., 1]
        if (found >= 0).all() and (operations < NOISE).all() and (sources < targets).all():
            return [
                (tuple(Input(*each) for each in normal), tuple(Input(*each) for each in reduce))
                for normal, reduce in found.tolist()
            ]
    raise UsageError(
        f"{file} is not such a table: {source} must hold operations from 0 to {NOISE - 1}, each "
        f"with an earlier node."
    )
