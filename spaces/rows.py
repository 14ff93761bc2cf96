"""Reads table files: columns of numbers, one entry for each architecture, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, SearchSpace
from spaces.table import open_npz


@dataclass(frozen=True, eq=False)
class Rows:
    """Finds the rows of architectures: ``rows(archs)`` is int64 [n].

    ``places`` is int64, shaped by the numbers of choices: the row of each product of choices.
    """

    places: NDArray[np.int64]

    def __call__(self, archs: Sequence[Architecture]) -> NDArray[np.int64]:
        """Return the row of each of ``archs``, which must be valid."""
        choices = np.asarray(archs, np.int64).reshape(-1, self.places.ndim)
        return self.places[tuple(choices.T)]


def find_rows(space: SearchSpace, listed: NDArray[np.int64], file: Path, name: str) -> Rows:
    """Index the architectures of a table, ``listed`` as int64 [rows, decisions], by their row.

    Raises :class:`UsageError` unless the column ``name``, of which ``listed`` is made, lists each
    architecture of ``space`` once.
    """
    every = np.array(list(space.enumerate()))
    widths = [len(d.choices) for d in space.decisions]
    if listed.shape == every.shape and ((listed >= 0) & (listed < widths)).all():
        places = np.full(widths, -1)
        places[tuple(listed.T)] = np.arange(len(listed))
        if (places[tuple(every.T)] >= 0).all():
            return Rows(places)
    raise UsageError(
        f"{file} is not such a table: {name} must list each of {len(every)} architectures once."
    )


def read_columns(
    file: Path, rows: int, columns: dict[str, int | None]
) -> dict[str, NDArray[np.generic]]:
    """Read columns of numbers, and only those: [rows], or [rows, width] where a width is given.

    Raises :class:`UsageError` where the file is damaged, or a column is absent, of another shape,
    or not of numbers.
    """
    arrays = open_npz(file, list(columns))
    for name, width in columns.items():
        array = arrays[name]
        if array.shape != ((rows,) if width is None else (rows, width)):
            raise UsageError(f"{file} is not such a table: {name} has the shape {array.shape}.")
        if array.dtype.kind not in "iuf":
            raise UsageError(f"{file} is not such a table: {name} is of type {array.dtype}.")
    return arrays


def check_epochs(epochs: int | None, known: Iterable[int]) -> int:
    """Return ``epochs``, by default the most that a table has.

    Raises :class:`UsageError` where they are not ``known``.
    """
    ordered = sorted(known)
    if epochs is None:
        return ordered[-1]
    if epochs not in ordered:
        choices = ", ".join(map(str, ordered))
        several = "one of: " if len(ordered) > 1 else ""
        raise UsageError(
            f"benchmark.epochs={epochs} is not in the table; choose {several}{choices}."
        )
    return epochs


def unknown_times(rows: int) -> NDArray[np.float32]:
    """Training times of a table that has none: NaN, float32 [rows]."""
    return np.full(rows, np.nan, np.float32)
