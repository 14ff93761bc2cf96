"""What an importer hands over: the columns of a table, and how they compare with known facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conf.errors import UsageError


@dataclass(frozen=True)
class Agreement:
    """In how many architectures a column says what the shipped table says, of how many compared.

    ``tolerance`` is the difference that still counts as the same.
    """

    column: str
    same: int
    compared: int
    tolerance: float


@dataclass(frozen=True, eq=False)
class Imported:
    """A table of ``architectures`` architectures of ``space``, to be saved.

    ``columns`` are those that the space's table reader knows; ``agreements`` compare them with the
    shipped table; ``remarks`` are sentences on what the file lacks.
    """

    space: str
    architectures: int
    columns: Mapping[str, NDArray[Any]]
    agreements: tuple[Agreement, ...]
    remarks: tuple[str, ...] = ()

    def save(self, path: Path | str) -> None:
        """Write the table to ``path`` (``.npz``), atomically.

        Raises :class:`UsageError` for another ending, and where the file cannot be written.
        """
        from analysis.files import replacing

        path = checked_target(path)
        try:
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, **self.columns)  # type: ignore[arg-type]
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def checked_target(path: Path | str) -> Path:
    """Return ``path``; raises :class:`UsageError` where no table can be written there."""
    path = Path(path)
    if path.suffix != ".npz":
        raise UsageError(f"{path} is no name for a table; it must end in .npz.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give the name of a file (.npz).")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no folder {path.parent}.")
    return path


def agreement(column: str, ours: ArrayLike, shipped: ArrayLike, tolerance: float) -> Agreement:
    """Compare a column with the shipped one, row by row, where both have a value."""
    here, there = np.asarray(ours, np.float64), np.asarray(shipped, np.float64)
    known = ~(np.isnan(here) | np.isnan(there))
    same = np.abs(here[known] - there[known]) <= tolerance
    return Agreement(column, int(same.sum()), int(known.sum()), tolerance)
