"""Published points of search curves, to stand beside one's own runs.

``published.csv`` has a row for each: which search (space, dataset, epochs of the table, searcher,
such settings of the configuration as are known, guidance, size of the warmup pool, candidates of a
move, proxy), the number of trained models, the published value, in the unit of the benchmark, of
how many runs it is the average, and a word for where it stands. Empty cells hold for every search,
or are not known; several searchers with a space between them stand for one that the paper
describes. The values are averages of the best test value so far.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SOURCES: Final = {
    "figure": "Abdelfattah et al. 2021, figure 3 as in their README, read off to 0.05 points, "
    "mostly means of 10 runs",
    "notebook": "Abdelfattah et al. 2021, released notebook, means of 10 rounds",
    "issue": "Abdelfattah et al. 2021 and an author's reply in their issue 8; what one training of "
    "three says, not their mean",
    "npenas": "Wei et al. 2020, as listed by later papers",
}


@dataclass(frozen=True)
class Point:
    """What a search reached after ``models`` trained models, as published."""

    space: str
    dataset: str
    epochs: str
    searchers: tuple[str, ...]
    settings: Mapping[str, str] = field(hash=False)
    guidance: str
    pool: str
    candidates: str
    proxy: str
    models: int
    value: float
    runs: int | None
    source: str


@functools.cache
def points() -> tuple[Point, ...]:
    """Read all published points."""
    table = Path(__file__).with_name("published.csv").read_text(encoding="utf-8")
    return tuple(
        Point(
            searchers=tuple(row.pop("searcher").split()),
            settings=dict(word.split("=") for word in row.pop("settings").split()),
            models=int(row.pop("models")),
            value=float(row.pop("value")),
            runs=int(text) if (text := row.pop("runs")) else None,
            **row,
        )
        for row in csv.DictReader(table.splitlines())
    )
