"""Ensembles: several proxies that together rank a set of architectures.

Each function takes the goodness that p members give n architectures, float64 [p, n], larger the
better, -inf where a member has no score, and returns the goodness of the ensemble, float64 [n].
It depends on the set, and on the order alone that each member puts the set in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from proxies.registry import register_ensemble

_BLOCK: Final = 1 << 18
"""Pairs compared at a time: few enough for the processor's cache."""


def majority(goodness: NDArray[np.float64]) -> Iterator[NDArray[np.int8]]:
    """Judge every ordered pair by a majority of the members, as many rows at a time as fit.

    Abdelfattah et al. 2021: i is voted above j if at least half of the members put it strictly
    above. i is preferred to j if it is voted above j and j is not voted above i.

    Yields int8 [b, n], rows in order: 1 where the row's architecture is preferred, -1 where the
    column's is, 0 where the vote, asked in both orders, contradicts itself.
    """
    members, n = goodness.shape
    others = goodness[:, None, :]
    for start in range(0, n, rows := max(1, _BLOCK // max(1, n))):
        own = goodness[:, start : start + rows, None]
        above = np.greater(own, others).view(np.int8).sum(0, dtype=np.int8)
        below = np.less(own, others).view(np.int8).sum(0, dtype=np.int8)
        half = (members + 1) // 2
        yield (above >= half).view(np.int8) - (below >= half).view(np.int8)


@register_ensemble(
    "vote",
    members=("synflow", "jacob_cov", "snip"),
    paper="Abdelfattah et al. 2021",
    pairwise=majority,
)
def vote(goodness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Others of the set that a majority of the members ranks lower, a tie counting half.

    Deviation: (1) the paper only judges pairs; the count of won pairs (Copeland's rule), from 0 to
    n - 1, makes a ranking of them, also where the majority goes in circles.
    """
    n = goodness.shape[1]
    margins = [block.sum(1, dtype=np.float64) for block in majority(goodness)]
    won: NDArray[np.float64] = (n - 1 + np.concatenate([np.empty(0), *margins])) / 2
    return won


@register_ensemble(
    "rank_average", members=("synflow", "jacob_cov", "snip", "naswot"), paper="Borda 1781"
)
def rank_average(goodness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the ranks that the members give, 1 the worst."""
    mean: NDArray[np.float64] = ranks(goodness).mean(0)
    return mean


@register_ensemble(
    "az_nas",
    members=("az_expressivity", "az_progressivity", "az_trainability", "az_complexity"),
    paper="Lee and Ham 2024",
)
def az_nas(goodness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the members of log(rank / n), rank 1 the worst: one low rank costs the most."""
    total: NDArray[np.float64] = np.log(ranks(goodness) / goodness.shape[1]).sum(0)
    return total


def ranks(goodness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank each row of [p, n] from 1, the worst, to n; ties share the mean of their ranks."""
    ranked = np.empty_like(goodness)
    for row, own in enumerate(goodness):
        ordered = np.sort(own)
        below, upto = ordered.searchsorted(own), ordered.searchsorted(own, "right")
        ranked[row] = (below + upto + 1) / 2
    return ranked
