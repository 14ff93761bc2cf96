"""Random search, plain or in the order of zero-cost scores.

Abdelfattah et al. 2021, section 4: with warmup the pool is trained from the best score down; with
a move each step trains the best-scored of a few random architectures.

Deviations: (1) a pool that is used up is followed by unguided (or move-guided) draws.
"""

from __future__ import annotations

import numpy as np

from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace


class RandomSearch(Searcher):
    """Draws each architecture uniformly from the space."""

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        self._queue = self.fresh(self.guidance.pool(space, self.rng(0)).architectures)

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        if step < len(self._queue):
            return self._queue[step]
        drawn = self.draw(1, rng)
        if self.guidance.move:
            drawn += self.space.sample(rng, self.guidance.candidates(self.space, drawn[0]) - 1)
        return self.guidance.choose(self.fresh(drawn), rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        """Random search learns nothing."""
