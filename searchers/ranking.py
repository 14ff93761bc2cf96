"""Search by a model that ranks what is left to train, refitted in rounds.

The scheme of BRP-NAS (Dudziak et al. 2020), as warmed up by zero-cost scores in Abdelfattah et
al. 2021, section 4: a round trains ``batch`` models and ends with a refit of the predictor; half
of a round are the architectures that the predictor ranks highest, the other half is drawn at random
from the best 1/2^i of its ranking in round i = 0, 1, ... The first round is random; with warmup
the predictor is first fitted to the scores of the pool, and the first round already is its choice.

The model of round i is a function of the seed and of the first ``i * batch`` results alone, and a
proposal a function of that model and of what is trained. So a searcher told a journal needs to fit
the model of its last round only.

Deviations: (1) targets are percentiles of what was told (ties share one), for the accuracies of
an untrained network and of a good one lie far apart, and only the order of good ones matters;
(2) each round is fitted from the start, or from the warmed-up model, not from the model of the
round before; (3) a space beyond ``candidates`` architectures is ranked in part: that many drawn at
random, and the neighbours of the best trained; (4) with move proposal, either half of a round
scores its candidates, the highest ranked or those drawn at random, and trains the best-scored;
where chance epsilon forgoes the scores, the first of them.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import at_least
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

_MODELS: Final = 1 << 32  # first random stream of the models; those below belong to the steps
_BEST: Final = 10  # trained architectures whose neighbours join the candidates


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value among the distinct ones, from 0 to 1."""
    levels, place = np.unique(np.asarray(values, np.float64), return_inverse=True)
    return np.asarray(place / max(len(levels) - 1, 1), np.float64)


class RankingSearcher(Searcher):
    """Proposes by the ranking of a predictor; a subclass is the predictor.

    No architecture is proposed twice while candidates are left. After that, with ``repeats``,
    proposals are random.

    Args:
        batch: models per round.
        candidates: how many architectures are ranked at most; a space that has no more is ranked
            as a whole.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        batch: int,
        candidates: int,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        at_least(1, "searcher", batch=batch, candidates=candidates)
        self.batch = batch
        self.candidates = candidates
        rng = self.rng(0)
        self.pool = self.guidance.pool(space, rng)
        self._pool_seed = int(rng.integers(2**31))
        self._archs: list[Architecture] = []
        self._objectives: list[float] = []
        self._ranked: tuple[int, list[Architecture]] | None = None
        self._whole: tuple[list[Architecture], Any] | None = None

    @abstractmethod
    def _encode(self, archs: list[Architecture]) -> Any:
        """Return what the model reads of ``archs``."""

    @abstractmethod
    def _predict(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        encoded: Any,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Rate the ``encoded`` candidates, the larger the better, shape [candidates].

        The model is fitted to the warmup pool, where there is one, and to ``archs`` with
        ``targets`` in [0, 1], where there are any; there is never neither.
        """

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        number, ranked = self._round()
        guided = self.guidance.move and ranked
        wanted = self.guidance.candidates(self.space, ranked[0]) if guided else 1
        taken = self.trained.union(self._pending or ())
        left = (arch for arch in ranked if arch not in taken)
        if step - number * self.batch < (self.batch + 1) // 2:
            found = list(itertools.islice(left, wanted))
        else:
            best = max(len(ranked) >> number, self.batch + wanted)
            found = [arch for arch in ranked[:best] if arch not in taken] or list(left)
            found = [found[i] for i in rng.permutation(len(found))[:wanted]]
        return self.guidance.choose(found or self.draw(1, rng), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._archs.append(arch)
        self._objectives.append(objective)

    def _round(self) -> tuple[int, list[Architecture]]:
        """Return the number of the present round and its ranking, best first."""
        number = self.told // self.batch
        if self._ranked is None or self._ranked[0] != number:
            self._ranked = number, self._rank(number)
        return self._ranked

    def _rank(self, number: int) -> list[Architecture]:
        """Sort what was not trained before round ``number`` by the model of that round."""
        rng = self.rng(_MODELS + number)
        told = number * self.batch
        archs, objectives = self._archs[:told], self._objectives[:told]
        candidates, encoded = self._candidates(archs, objectives, rng)
        order = rng.permutation(len(candidates))
        if archs or self.pool.architectures:
            rating = self._predict(archs, percentiles(objectives), encoded, rng)
            order = order[np.argsort(-rating[order], kind="stable")]
        before = set(archs)
        ranked = (candidates[i] for i in order.tolist())
        return [arch for arch in ranked if arch not in before]

    def _candidates(
        self, archs: list[Architecture], objectives: list[float], rng: np.random.Generator
    ) -> tuple[list[Architecture], Any]:
        if self.space.size <= self.candidates:
            if self._whole is None:
                everything = list(self.space.enumerate())
                self._whole = everything, self._encode(everything)
            return self._whole
        found = self.space.sample(rng, self.candidates)
        for i in np.argsort(-percentiles(objectives), kind="stable")[:_BEST]:
            found += self.space.neighbours(archs[i])
        found = list(dict.fromkeys(found))
        return found, self._encode(found)
