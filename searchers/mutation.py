"""Search by a model that rates mutations of the best, refitted in rounds.

The scheme of BANANAS (White et al. 2021) and NPENAS (Wei et al. 2020): some random models; then
rounds, each trained in the order in which a model, fitted to everything trained before the round,
rates edits of the best.

The ranking of a round is a function of the seed and of the results before it alone, so that a
searcher told a journal needs to fit the model of its last round only.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import at_least
from searchers.base import Searcher
from searchers.gaussian_process import standardised
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

_ROUNDS: Final = 1 << 32  # first random stream of the rounds; those below belong to the steps


class MutationSearcher(Searcher):
    """Trains what a model rates highest among mutations of the best; a subclass is the model.

    With warmup the first models are the best of the pool; with move proposal each model is the
    best-scored of those that are rated highest. No architecture is proposed twice while mutations
    are left; then proposals are random.

    Args:
        start: models before the first fit.
        batch: models per round.
        candidates: mutations rated each round at most.
        enough: mutations that make the next best parent unnecessary.

    Raises :class:`UsageError` for settings that are not possible.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        start: int,
        batch: int,
        candidates: int,
        enough: int,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        at_least(1, "searcher", start=start, batch=batch, candidates=candidates)
        self.start, self.batch, self.candidates = start, batch, candidates
        self._enough = enough
        warm = self.guidance.pool(space, self.rng(0)).architectures
        self._warm = list(dict.fromkeys(warm))[:start]
        self._archs: list[Architecture] = []
        self._objectives: list[float] = []
        self._ranked: tuple[int, list[Architecture]] | None = None

    @abstractmethod
    def _rate(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        candidates: list[Architecture],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Rate ``candidates``, the larger the better, by a model of ``archs`` and ``targets``.

        ``targets`` are standardised objectives, float64 [archs]; ratings are float64 [candidates].
        """

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        taken = self.trained.union(self._pending or ())
        if len(self._archs) < self.start:
            left = self._warm or self.draw(1, rng)
        else:
            number = (len(self._archs) - self.start) // self.batch
            if self._ranked is None or self._ranked[0] != number:
                self._ranked = number, self._rank(number)
            left = self._ranked[1]
        found = [arch for arch in left if arch not in taken] or self.draw(1, rng)
        return self.guidance.choose(found, rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        self._archs.append(arch)
        self._objectives.append(objective)

    def _rank(self, number: int) -> list[Architecture]:
        """Sort the candidates of a round, best first."""
        rng = self.rng(_ROUNDS + number)
        told = self.start + number * self.batch
        archs = self._archs[:told]
        targets = standardised(np.array(self._objectives[:told]))
        candidates = self._candidates(archs, targets, rng)
        if not candidates:
            return []
        rating = self._rate(archs, targets, candidates, rng)
        return [candidates[i] for i in np.argsort(-rating, kind="stable").tolist()]

    def _candidates(
        self, archs: list[Architecture], targets: NDArray[np.float64], rng: np.random.Generator
    ) -> list[Architecture]:
        trained = set(archs)
        found: dict[Architecture, None] = {}
        for i in np.argsort(-targets, kind="stable"):
            edits = [a for a in self.space.neighbours(archs[i]) if a not in trained]
            found.update((edits[j], None) for j in rng.permutation(len(edits)))
            if len(found) >= self._enough:
                break
        drawn = self.space.sample(rng, max(self.batch - len(found), 0))
        found.update((arch, None) for arch in drawn if arch not in trained)
        return list(found)[: self.candidates]
