"""Two objectives at once: a value and a cost, the smaller the better.

A model *dominates* another if it is no worse in both and better in one. The *front* of a set are
the models that none of it dominates; its *hypervolume* is the area between the front and a
reference point: value times cost, of all points that are no better than some model and no worse
than the reference (Zitzler and Thiele 1998). In two dimensions it is a sum of rectangles, exact.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.efficiency import Floats

_PRICES: Final = 200


@dataclass(frozen=True)
class Reference:
    """What a hypervolume is measured from: a value and a cost that no model is worse than.

    ``best`` is the hypervolume of all that could have been trained, where that is known.
    """

    value: float
    cost: float
    best: float | None = None


def front(values: Floats, costs: Floats, *, higher_is_better: bool = True) -> NDArray[np.int64]:
    """Return the places of the models that none dominates, the cheapest first.

    ``values`` and ``costs`` are float64 [n]. Of equal models the first counts; NaN never does.
    """
    gains = values if higher_is_better else -values
    known = np.flatnonzero(~(np.isnan(gains) | np.isnan(costs)))
    order = known[np.lexsort((known, -gains[known], costs[known]))]
    best = np.maximum.accumulate(gains[order])
    better = np.diff(best, prepend=-np.inf) > 0
    return np.asarray(order[better], np.int64)


def hypervolume(
    values: Floats,
    costs: Floats,
    reference: Reference,
    *,
    higher_is_better: bool = True,
) -> float:
    """Return the area that models dominate, down to ``reference``."""
    return float(
        hypervolumes(values[None], costs[None], reference, higher_is_better=higher_is_better)[0, -1]
    )


def hypervolumes(
    values: Floats,
    costs: Floats,
    reference: Reference,
    *,
    higher_is_better: bool = True,
) -> Floats:
    """Follow the hypervolume of trials, float64 [trials, steps], as models are added.

    ``values`` and ``costs`` are float64 [trials, steps]; NaN adds nothing.
    """
    sign = 1.0 if higher_is_better else -1.0
    grown = np.zeros(values.shape)
    for trial, points in enumerate(zip(sign * values, costs, strict=True)):
        growing = _Growing(sign * reference.value, reference.cost)
        for step, (gain, cost) in enumerate(zip(*(p.tolist() for p in points), strict=True)):
            grown[trial, step] = growing.add(gain, cost)
    return grown


def bought_by_cost(
    runs: Sequence[Sequence[tuple[Sequence[float], Sequence[float]]]],
    *,
    higher_is_better: bool = True,
) -> tuple[Floats, list[Floats]]:
    """Say which values which costs buy.

    ``runs`` has the values and costs of each trial of each run. Returns prices, float64 [p],
    ascending, and for each run the best value of each trial at no more than each price, float64
    [trials, p], NaN where nothing is so cheap.
    """
    every = np.array([c for run in runs for _, costs in run for c in costs], np.float64)
    every = np.unique(every[~np.isnan(every)])
    if len(every) > _PRICES:
        every = np.unique(np.quantile(every, np.linspace(0, 1, _PRICES)))
    bought = []
    for run in runs:
        table = np.full((len(run), len(every)), np.nan)
        for trial, (values, costs) in enumerate(run):
            value, cost = np.asarray(values, np.float64), np.asarray(costs, np.float64)
            chosen = front(value, cost, higher_is_better=higher_is_better)
            place = np.searchsorted(cost[chosen], every, side="right") - 1
            table[trial, place >= 0] = value[chosen][place[place >= 0]]
        bought.append(table)
    return every, bought


class _Growing:
    """The front of the models so far, cheapest first, hence worst first, and its hypervolume."""

    def __init__(self, floor: float, ceiling: float) -> None:
        self._floor, self._ceiling = floor, ceiling
        self._gains: list[float] = []
        self._costs: list[float] = []
        self._area = 0.0

    def add(self, gain: float, cost: float) -> float:
        """Add one model, the larger its gain the better; return the hypervolume with it."""
        if not (gain > self._floor and cost < self._ceiling):
            return self._area
        cheaper = bisect_right(self._costs, cost)  # as cheap, or cheaper
        if cheaper and self._gains[cheaper - 1] >= gain:
            return self._area
        first = bisect_left(self._costs, cost)  # what it dominates: as dear or dearer, and ...
        last = max(first, bisect_right(self._gains, gain))  # ... no better
        before = self._gains[first - 1] if first else self._floor
        edges = [cost, *self._costs[first:last]]
        edges.append(self._costs[last] if last < len(self._costs) else self._ceiling)
        heights = [before, *self._gains[first:last]]
        self._area += sum(
            (right - left) * (gain - height)
            for left, right, height in zip(edges, edges[1:], heights, strict=False)
        )
        self._gains[first:last], self._costs[first:last] = [gain], [cost]
        return self._area
