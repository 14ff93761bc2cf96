"""Sample efficiency: how good a search is after so many trained models, and how sure that is.

A *curve* is float64 [trials, steps]: the value of the incumbent of each trial after step 1, 2, …
trained models. Intervals of means are Student's of few trials, and percentile bootstraps of many,
seeded, hence reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MANY: Final = 30
"""Trials from which on a percentile bootstrap is not much too narrow."""


class Band(NamedTuple):
    """Mean and quartiles over trials, each float64 [steps]."""

    mean: Floats
    low: Floats
    high: Floats


class Interval(NamedTuple):
    """A mean and its interval; its ends are NaN where there is none."""

    mean: float
    low: float
    high: float

    def ends(self, number: Callable[[float], str]) -> str:
        """Write the interval in brackets, each end by ``number``, or a dash."""
        low, high = ("-" if np.isnan(end) else number(end) for end in (self.low, self.high))
        return f"[{low}, {high}]"


class Spread(NamedTuple):
    """How the trials' values are spread; ``std`` is that of the population (``numpy.std``)."""

    mean: float
    std: float
    median: float
    q25: float
    q75: float


class Ranks(NamedTuple):
    """Mean ranks of several searches over trials, 1 for the best.

    Two of them differ at 5 % if their mean ranks are ``distance`` apart; ``p`` is that of all being
    alike.
    """

    means: Floats
    distance: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """One search against another, trial by trial.

    Attributes:
        difference: mean of first - second, with its interval, in the metric's unit.
        wins: fraction of trials in which the first is better; a draw counts half.
        p: two-sided p of the Wilcoxon signed-rank test, corrected by Holm's method for all
            comparisons made together.
        trials: how many pairs of trials were compared.
    """

    difference: Interval
    wins: float
    p: float
    trials: int


def spread(values: Floats) -> Spread:
    """Summarise ``values`` float64 [trials]; NaN entries are left out, none left gives NaN."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Spread(*[float("nan")] * 5)
    q25, median, q75 = np.quantile(values, (0.25, 0.5, 0.75))
    return Spread(*(float(x) for x in (values.mean(), values.std(), median, q25, q75)))


def band(curve: Floats) -> Band:
    """Mean and interquartile band of a curve at each step; NaN entries are left out."""
    result = Band(*np.full((3, curve.shape[1]), np.nan))
    known = ~np.isnan(curve).all(axis=0)
    if known.any():
        result.mean[known] = np.nanmean(curve[:, known], axis=0)
        result.low[known], result.high[known] = np.nanquantile(
            curve[:, known], (0.25, 0.75), axis=0
        )
    return result


def models_to_target(
    curve: Floats, target: float, *, unsolved: int, higher_is_better: bool = True
) -> NDArray[np.int64]:
    """First step (1 = first model) at which each trial reaches ``target``, int64 [trials].

    A trial that never does counts as ``unsolved``, by custom its budget + 1.
    """
    reached = curve >= target if higher_is_better else curve <= target
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, unsolved).astype(np.int64)


def mean_interval(
    values: NDArray[np.generic],
    *,
    least: float = -np.inf,
    most: float = np.inf,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean of ``values`` [trials] with its interval, cut to what a mean can be.

    Student's where there are less than 30, else a percentile bootstrap. A single value has no
    interval, and none have no mean: NaN.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size < 2:
        return Interval(float(numbers.sum()) if numbers.size else np.nan, np.nan, np.nan)
    tail = (1 - confidence) / 2
    mean = numbers.mean()
    if numbers.size < _MANY:
        from scipy.stats import t

        error = numbers.std(ddof=1) / np.sqrt(numbers.size)
        ends = mean + t.ppf((tail, 1 - tail), numbers.size - 1) * error
    else:
        draws = np.random.default_rng(seed).integers(0, numbers.size, (samples, numbers.size))
        ends = np.quantile(numbers[draws].mean(axis=1), (tail, 1 - tail))
    low, high = np.clip(ends, least, most).tolist()
    return Interval(float(mean), low, high)


def share_reaching(
    values: Floats,
    goal: float,
    runs: int | None,
    *,
    higher_is_better: bool = True,
    samples: int = 2000,
    seed: int = 0,
) -> float:
    """Return how many means of ``runs`` of the ``values`` [trials] are as good as ``goal``.

    They are drawn with replacement; NaN where ``runs`` is None or there are no values.
    """
    if runs is None or not values.size:
        return float("nan")
    draws = np.random.default_rng(seed).integers(0, values.size, (samples, runs))
    means = values[draws].mean(axis=1)
    return float((means >= goal if higher_is_better else means <= goal).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for being many: Holm 1979, step-down; the order is kept."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return [float(x) for x in corrected]


def compare(
    pairs: Sequence[tuple[Floats, Floats]], *, higher_is_better: bool = True, seed: int = 0
) -> list[Comparison]:
    """Compare searches pairwise, and correct for the number of pairs.

    Each pair is (first, second), both float64 [trials], where trial i of both had the same seed;
    trials in which either is NaN are left out. Values count with seven significant digits, as
    files have them, so that equal differences of decimals tie. Two searches without any difference
    have p = 1.
    """
    measured = []
    for first, second in pairs:
        difference = _difference(first, second)
        gain = difference if higher_is_better else -difference
        wins = float((gain > 0).mean() + (gain == 0).mean() / 2) if gain.size else float("nan")
        measured.append((mean_interval(difference, seed=seed), wins, difference))
    p_values = holm([_wilcoxon(difference) for _, _, difference in measured])
    return [
        Comparison(interval, wins, p, difference.size)
        for (interval, wins, difference), p in zip(measured, p_values, strict=True)
    ]


def rank_trials(values: Floats, *, higher_is_better: bool = True) -> Ranks:
    """Rank searches within each trial: ``values`` float64 [searches, trials], of equal seeds.

    Ties share their mean rank; trials with a NaN are left out. The test is Friedman's, the critical
    distance Nemenyi's (Demsar 2006). NaN where less than three searches or two trials are left.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    known = values[:, ~np.isnan(values).any(axis=0)]
    searches, trials = known.shape
    if searches < 3 or trials < 2:
        return Ranks(np.full(searches, np.nan), float("nan"), float("nan"))
    ranks = rankdata(-known if higher_is_better else known, axis=0)
    quantile = float(studentized_range.ppf(0.95, searches, np.inf)) / np.sqrt(2)
    distance = quantile * float(np.sqrt(searches * (searches + 1) / (6 * trials)))
    alike = bool((ranks == ranks[0]).all())
    p = 1.0 if alike else float(friedmanchisquare(*ranks).pvalue)
    return Ranks(np.asarray(ranks.mean(axis=1), np.float64), distance, p)


def _difference(first: Floats, second: Floats) -> Floats:
    """Subtract where both are known, to the last of seven significant digits of the largest."""
    known = ~np.isnan(first - second)
    sizes = np.abs([first[known], second[known]])
    largest = sizes[np.isfinite(sizes)].max(initial=0)
    decimals = 6 - int(np.floor(np.log10(largest))) if largest else 0
    return np.round((first - second)[known], decimals)


def _wilcoxon(difference: Floats) -> float:
    from scipy.stats import wilcoxon

    if not difference.any():
        return 1.0
    return float(wilcoxon(difference).pvalue)
