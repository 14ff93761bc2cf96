"""WeakNAS: a weak predictor, refitted in rounds, narrows down where to draw from.

Wu et al. 2021, "Stronger NAS with Weaker Predictors", with the settings of its released commands
for NAS-Bench-201: ten random models; then rounds of ten, drawn uniformly from the hundred that a
perceptron ranks highest. It reads one-hot choices, has four layers of 1,000 units, and is fitted
for 100 epochs to everything trained.

Deviations: (1) accuracies are centred and scaled by what was trained, where the released code uses
the mean and the deviation of the whole table; (2) the hundred are of what is not trained yet, where
the released code draws what is not trained from the hundred; (3) a space beyond ``candidates``
architectures is ranked in part, see :mod:`searchers.ranking`; (4) with warmup the first round is
drawn from what a perceptron fitted to the scores of the pool ranks highest; with move proposal
several are drawn, and the best-scored is trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least
from searchers.gaussian_process import standardised
from searchers.guidance import Guidance
from searchers.ranking import RankingSearcher, percentiles
from spaces.base import Architecture, SearchSpace


class WeakNAS(RankingSearcher):
    """Draws from what a perceptron ranks highest.

    Args:
        batch: models per round.
        candidates: how many architectures are ranked at most.
        top: how many of the ranking a round draws from.
        layers: units of each hidden layer of the perceptron.
        epochs: of its training.

    Raises :class:`UsageError` for settings that are not possible.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        batch: int = 10,
        candidates: int = 20000,
        top: int = 100,
        layers: Sequence[int] = (1000, 1000, 1000, 1000),
        epochs: int = 100,
    ) -> None:
        at_least(1, "searcher", top=top, epochs=epochs)
        if not layers or min(layers) < 1:
            raise UsageError(
                f"searcher.layers={list(layers)} must list at least one layer, each of at least "
                "one unit."
            )
        self.top, self.layers, self.epochs = top, tuple(layers), epochs
        super().__init__(
            space,
            guidance=guidance,
            seed=seed,
            repeats=repeats,
            batch=batch,
            candidates=candidates,
        )

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        ranked = self._round()[1]
        taken = self.trained.union(self._pending or ())
        left = [arch for arch in ranked if arch not in taken][: self.top]
        wanted = 1
        if self.guidance.move and left:
            wanted = self.guidance.candidates(self.space, left[0])
        found = [left[i] for i in rng.permutation(len(left))[:wanted]]
        return self.guidance.choose(found or self.draw(1, rng), rng)

    def _encode(self, archs: list[Architecture]) -> NDArray[np.float32]:
        return self.space.one_hot(archs)

    def _predict(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        encoded: Any,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        goal = standardised(np.array(self._objectives[: len(archs)]))
        if not archs:
            archs = self.pool.architectures
            goal = standardised(percentiles(self.pool.goodness))
        seed = int(rng.integers(2**31))
        model = MLPRegressor(
            hidden_layer_sizes=self.layers, max_iter=self.epochs, random_state=seed
        )
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(self._encode(archs), goal.astype(np.float32))
            return np.asarray(model.predict(encoded), np.float64)
