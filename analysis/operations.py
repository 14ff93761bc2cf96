"""How far the scores of operations agree with what can be reached with them.

Of an operation in one place of a space, the *best* achievable accuracy is the highest of all
architectures that have it there, and the *average* their mean (Xiang et al. 2023, section 3). Once
places are decided, only architectures that agree with what was decided count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.ranks import spearman
from conf.errors import UsageError
from searchers.perturbation import Perturbation, Proposal
from spaces.base import Architecture, SearchSpace

Floats = NDArray[np.float64]

_RUNS = ("test_200_seeds_v10", "test_seeds")
"""Columns that hold test accuracies of single trainings."""


@dataclass(frozen=True)
class Agreement:
    """One place at one iteration of one draw.

    ``merits``, ``best`` and ``average`` are of its operations; ``of_best`` and ``of_average`` the
    Spearman correlations of the merits with the other two, NaN where all are equal.
    """

    draw: int
    iteration: int
    place: str
    operations: tuple[str, ...]
    merits: tuple[float, ...]
    best: tuple[float, ...]
    average: tuple[float, ...]
    of_best: float
    of_average: float


@dataclass(frozen=True)
class Choice:
    """The architecture of the best operation of each place, each scored in the whole supernet.

    ``test`` is its mean test accuracy, ``rank`` its place among all architectures, from 1.
    """

    draw: int
    architecture: str
    test: float
    rank: int


class Achievable:
    """Accuracies by operation and place, of a space whose table has all its architectures.

    ``of_runs`` says whether the best is of single trainings, rather than of means over them.

    Raises :class:`UsageError` for a space without such a table or without supernets.
    """

    def __init__(self, space: SearchSpace) -> None:
        if not space.places:
            space.supernet()
        archs = list(space.enumerate())
        table = space.table()
        if table.test is None:
            raise UsageError(f"{space.name} has no test accuracies to compare operations with.")
        rows = table.rows(archs)
        self.space = space
        self.test = np.asarray(table.test, np.float64)[rows]
        runs = _single_runs(space)
        self.of_runs = runs is not None
        self.highest = self.test if runs is None else np.nanmax(runs[rows], axis=1)
        self._held = np.full((len(archs), len(space.places)), -1)
        for row, arch in enumerate(archs):
            for place, operation in space.held(arch):
                self._held[row, place] = operation

    def of(self, place: int, fixed: dict[int, int]) -> tuple[Floats, Floats]:
        """Return best and average of each operation of ``place``, some other places ``fixed``."""
        agree = np.ones(len(self.test), np.bool_)
        for other, operation in fixed.items():
            agree &= self._held[:, other] == operation
        having = [
            agree & (self._held[:, place] == operation)
            for operation in range(len(self.space.places[place].choices))
        ]
        best = np.array([self.highest[rows].max() for rows in having])
        return best, np.array([self.test[rows].mean() for rows in having])

    def rank(self, arch: Architecture) -> tuple[float, int]:
        """Return the mean test accuracy of an architecture, and its rank from 1."""
        table = self.space.table()
        assert table.test is not None
        test = float(table.test[table.rows([arch])[0]])
        return test, 1 + int((self.test > test + 1e-9).sum())


def study(
    search: Perturbation, achievable: Achievable, *, draws: int, iterations: int | None = 1
) -> tuple[list[Agreement], list[Choice]]:
    """Score the operations of every place ``draws`` times, each time with other weights and data.

    After each iteration the first open place is decided by its scores, until ``iterations`` are
    over; None goes on to the last place. Choices are those of the first iteration, in spaces
    whose architectures are decided by operations alone.

    Raises :class:`UsageError` for more iterations than there are places to decide.
    """
    space = search.space
    places = [place for place, found in enumerate(space.places) if len(found.choices) > 1]
    if iterations is not None and iterations > len(places):
        raise UsageError(
            f"iterations={iterations} exceeds the {len(places)} places of {space.name} to decide; "
            "lower it, or give null for all."
        )
    agreements, choices = [], []
    for draw in range(draws):
        proposal = Proposal(search, search.rng(draw))
        fixed: dict[int, int] = {}
        for iteration in range(len(places) if iterations is None else iterations):
            merits = {p: _merits(proposal, p) for p in places if p not in fixed}
            for place, found in merits.items():
                best, average = achievable.of(place, fixed)
                agreements.append(
                    Agreement(
                        draw,
                        iteration,
                        space.places[place].name,
                        space.places[place].choices,
                        tuple(found),
                        tuple(best.tolist()),
                        tuple(average.tolist()),
                        spearman(np.array(found), best),
                        spearman(np.array(found), average),
                    )
                )
            if iteration == 0 and not space.junctions:
                arch = tuple(int(np.argmax(merits.get(p, [0]))) for p in range(len(space.places)))
                test, rank = achievable.rank(arch)
                choices.append(Choice(draw, space.format(arch), test, rank))
            place = next(iter(merits))
            fixed[place] = int(np.argmax(merits[place]))
            proposal.left = (
                *proposal.left[:place],
                (fixed[place],),
                *proposal.left[place + 1 :],
            )
    return agreements, choices


def averages(agreements: Sequence[Agreement], iteration: int = 0) -> tuple[float, float]:
    """Average the correlations of one iteration over places and draws: with best, with average."""
    found = [a for a in agreements if a.iteration == iteration]
    return (
        float(np.nanmean([a.of_best for a in found])),
        float(np.nanmean([a.of_average for a in found])),
    )


def pooled(agreements: Sequence[Agreement]) -> tuple[float, float]:
    """Average over places the correlations of merits that are means over draws.

    With best, with average; of the first iteration.
    """
    first = [a for a in agreements if a.iteration == 0]
    pairs = []
    for place in dict.fromkeys(a.place for a in first):
        draws = [a for a in first if a.place == place]
        merits = np.mean([a.merits for a in draws], axis=0)
        pairs.append([spearman(merits, np.array(v)) for v in (draws[0].best, draws[0].average)])
    best, average = np.nanmean(pairs, axis=0).tolist()
    return best, average


def _merits(proposal: Proposal, place: int) -> list[float]:
    pairs = [(place, operation) for operation in proposal.left[place]]
    return list(proposal.merits(pairs).values())


def _single_runs(space: SearchSpace) -> Floats | None:
    if not hasattr(space, "column"):
        return None
    for name in _RUNS:
        try:
            found: Floats = space.column(name)
        except UsageError:
            continue
        return found
    return None
