"""How well a score ranks architectures.

Correlations keep the sign that the score has: a proxy that is better when smaller correlates
negatively. *Concordance* and *overlap* ask whether the proxy orders rightly, and so know which way
it is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from analysis.efficiency import Interval

Floats = NDArray[np.float64]


def correlations(
    scores: Floats,
    accuracy: Floats,
    *,
    higher_is_better: bool = True,
    higher_accuracy_is_better: bool = True,
) -> dict[str, float | int]:
    """Return every rank statistic of ``scores`` against ``accuracy``, both float64 [n].

    Architectures whose score or accuracy is NaN are left out. Spearman and Kendall are of the
    values as they are; what the larger is the better of, the other statistics heed.

    Returns:
        - ``spearman``, ``kendall`` (tau-b): NaN where scores or accuracies do not vary
        - ``spearman_low``, ``spearman_high``: 95 % interval, see :func:`spearman_interval`
        - ``concordance``: fraction of the pairs of different accuracy that the score orders
          rightly; a tied score counts half (0.5 is chance)
        - ``spearman_top10``: Spearman within the 10 % best by accuracy
        - ``overlap_top10``: share of the 10 % best by score among the 10 % best by accuracy;
          where ties cross the 10 %, the expectation over ways to break them (0.1 is chance)
        - ``n``: architectures counted; ``nan``: scores that were NaN
    """
    scores, accuracy = np.asarray(scores, np.float64), np.asarray(accuracy, np.float64)
    known = ~(np.isnan(scores) | np.isnan(accuracy))
    missing = int(np.isnan(scores).sum())
    scores, accuracy = scores[known], accuracy[known]
    goodness = scores if higher_is_better else -scores
    merit = accuracy if higher_accuracy_is_better else -accuracy
    best = _top_tenth(merit) > 0
    interval = spearman_interval(scores, accuracy)
    return {
        "spearman": interval.mean,
        "spearman_low": interval.low,
        "spearman_high": interval.high,
        "kendall": kendall(scores, accuracy),
        "concordance": concordance(goodness, merit),
        "spearman_top10": spearman(scores[best], accuracy[best]),
        "overlap_top10": _overlap(goodness, merit),
        "n": int(known.sum()),
        "nan": missing,
    }


def spearman(scores: Floats, accuracy: Floats) -> float:
    """Spearman's rank correlation; NaN where either does not vary."""
    from scipy.stats import spearmanr

    if not (_varies(scores) and _varies(accuracy)):
        return math.nan
    return float(spearmanr(scores, accuracy).statistic)


def kendall(scores: Floats, accuracy: Floats) -> float:
    """Kendall's tau-b; NaN where either does not vary."""
    from scipy.stats import kendalltau

    if not (_varies(scores) and _varies(accuracy)):
        return math.nan
    return float(kendalltau(scores, accuracy).statistic)


def concordance(goodness: Floats, accuracy: Floats) -> float:
    """Fraction of the pairs of different accuracy that ``goodness`` orders rightly, ties half.

    With C concordant and D discordant pairs and N pairs of different accuracy this is
    1/2 + (C - D) / 2N, and C - D is the numerator of tau-b, so it takes O(n log n).
    """
    pairs = math.comb(accuracy.size, 2)
    different = pairs - _tied_pairs(accuracy)
    if not different:
        return math.nan
    if not _varies(goodness):
        return 0.5
    tau = kendall(goodness, accuracy)
    excess = round(tau * math.sqrt(different) * math.sqrt(pairs - _tied_pairs(goodness)))
    return 0.5 + excess / (2 * different)


def pairwise_concordance(verdicts: Iterable[NDArray[np.int8]], accuracy: Floats) -> float:
    """Fraction of the pairs of different accuracy that are ordered rightly, undecided ones half.

    For what judges pair by pair, and so may go in circles; for verdicts that follow a score this
    is :func:`concordance`. ``verdicts`` are blocks of consecutive rows of the antisymmetric int8
    matrix [n, n]: 1 where the row is preferred, -1 where the column is, else 0. A pair with an
    accuracy that is NaN is left out.
    """
    start = excess = different = 0
    for block in verdicts:
        own = accuracy[start : start + len(block), None]
        truth = np.greater(own, accuracy).view(np.int8) - np.less(own, accuracy).view(np.int8)
        excess += int((block * truth).sum(dtype=np.int64))
        different += int(np.count_nonzero(truth))
        start += len(block)
    return 0.5 + excess / (2 * different) if different else math.nan


def spearman_interval(
    scores: Floats,
    accuracy: Floats,
    *,
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Spearman's correlation with a percentile bootstrap interval over architectures.

    The first value of the result is the correlation itself, not a bootstrap mean; all three are
    NaN where it is.
    """
    known = ~(np.isnan(scores) | np.isnan(accuracy))
    scores, accuracy = scores[known], accuracy[known]
    correlation = spearman(scores, accuracy)
    if math.isnan(correlation):
        return Interval(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(seed)
    x, y = (np.unique(values, return_inverse=True)[1] for values in (scores, accuracy))
    drawn = [_resampled_spearman(x, y, rng) for _ in range(samples)]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(drawn, (tail, 1 - tail))
    return Interval(correlation, float(low), float(high))


def _resampled_spearman(
    x: NDArray[np.int64], y: NDArray[np.int64], rng: np.random.Generator
) -> float:
    """Spearman of one bootstrap sample of dense ranks: counting gives its ranks, no sorting."""
    rows = rng.integers(0, x.size, x.size)
    centred = []
    for ranks in (x[rows], y[rows]):
        counts = np.bincount(ranks)
        middle = np.cumsum(counts) - (counts + x.size) / 2
        centred.append(middle[ranks])
    first, second = centred
    scale = math.sqrt((first * first).sum() * (second * second).sum())
    return float((first * second).sum()) / scale if scale else math.nan


def _varies(values: Floats) -> bool:
    return values.size > 1 and bool((values != values[0]).any())


def _tied_pairs(values: Floats) -> int:
    counts = np.unique(values, return_counts=True)[1]
    return int((counts * (counts - 1) // 2).sum())


def _top_tenth(values: Floats) -> Floats:
    """Chance of each entry to be among the largest tenth when ties are broken at random."""
    size = max(1, values.size // 10)
    if not values.size:
        return np.empty(0)
    threshold = np.partition(values, -size)[-size]
    above, tied = values > threshold, values == threshold
    membership: Floats = above + tied * ((size - above.sum()) / tied.sum())
    return membership


def _overlap(goodness: Floats, accuracy: Floats) -> float:
    if not goodness.size:
        return math.nan
    size = max(1, goodness.size // 10)
    return float((_top_tenth(goodness) * _top_tenth(accuracy)).sum()) / size
