"""Search by gradient-boosted trees on the one-hot encoding of architectures.

Tree ensembles are among the best predictors at small budgets (White et al. 2021, "How Powerful are
Performance Predictors in Neural Architecture Search?"); rounds and warmup are those of
:mod:`searchers.ranking`. The warmed-up model is an ensemble fitted to the scores of the pool; what
it predicts is one more feature of the model of accuracy.

Deviations, from the settings of the survey (xgboost, squared error, depth 6, learning rate 0.3,
500 rounds) and of the paper (20 models a round): (1) depth 4, learning rate 0.2, 50 rounds, and
30 % of the features at each split: several times faster, and no worse; (2) 5 models a round, for
trees are fitted in milliseconds and each result then counts at once; (3) without xgboost,
scikit-learn's histogram booster stands in, and results differ a little.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least, unknown_name
from searchers.guidance import Guidance
from searchers.ranking import RankingSearcher, percentiles
from spaces.base import Architecture, SearchSpace

Features = NDArray[np.float32]
Model = Callable[[Features], NDArray[np.float64]]


def resolve(model: str) -> str:
    """Return the library behind ``model``: ``auto`` is xgboost where it is installed.

    Raises :class:`UsageError` for an unknown name, and for xgboost where it is missing.
    """
    installed = importlib.util.find_spec("xgboost") is not None
    if model == "auto":
        return "xgboost" if installed else "sklearn"
    if model not in ("xgboost", "sklearn"):
        raise unknown_name("searcher.model", model, ("auto", "xgboost", "sklearn"))
    if model == "xgboost" and not installed:
        raise UsageError(
            "searcher.model=xgboost needs xgboost: install assay[xgboost] or assay[xgboost-cpu], "
            "or choose searcher.model=sklearn."
        )
    return model


def fit(
    model: str,
    features: Features,
    targets: NDArray[np.float64],
    *,
    trees: int,
    depth: int,
    learning_rate: float,
    columns: float,
    seed: int,
) -> Model:
    """Fit boosted trees to ``targets`` [n] at ``features`` [n, f] by squared error, on one thread.

    ``columns`` is the share of features that a split may choose from.
    """
    if model == "xgboost":
        from xgboost import XGBRegressor

        booster = XGBRegressor(
            n_estimators=trees,
            max_depth=depth,
            learning_rate=learning_rate,
            colsample_bynode=columns,
            tree_method="hist",
            n_jobs=1,
            random_state=seed,
        )
        return booster.fit(features, targets).predict

    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    histogram = HistGradientBoostingRegressor(
        max_iter=trees,
        max_depth=depth,
        learning_rate=learning_rate,
        max_features=columns,
        min_samples_leaf=2,
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):
        return histogram.fit(features, targets).predict  # type: ignore[no-any-return]


class Predictor(RankingSearcher):
    """Ranks by boosted trees.

    Args:
        batch: models per round.
        candidates: how many architectures are ranked at most.
        model: ``xgboost``, ``sklearn``, or ``auto``: the first that is installed.
        trees: boosting rounds.
        depth: of each tree.
        learning_rate: of boosting, in (0, 1].
        columns: share of the features that a split may choose from, in (0, 1].
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        batch: int = 5,
        candidates: int = 20000,
        model: Literal["auto", "xgboost", "sklearn"] = "auto",
        trees: int = 50,
        depth: int = 4,
        learning_rate: float = 0.2,
        columns: float = 0.3,
    ) -> None:
        self.model = resolve(model)
        at_least(1, "searcher", trees=trees, depth=depth)
        for name, share in (("learning_rate", learning_rate), ("columns", columns)):
            if not 0 < share <= 1:
                raise UsageError(f"searcher.{name}={share} must lie in (0, 1].")
        self._settings: dict[str, Any] = {
            "trees": trees,
            "depth": depth,
            "learning_rate": learning_rate,
            "columns": columns,
        }
        super().__init__(
            space,
            guidance=guidance,
            seed=seed,
            repeats=repeats,
            batch=batch,
            candidates=candidates,
        )

    def _encode(self, archs: list[Architecture]) -> Features:
        """Return one-hot choices and, with warmup, the predicted score, float32 [n, features]."""
        features = self.space.one_hot(archs)
        if not self.pool.architectures:
            return features
        return np.column_stack((features, self._prior(features))).astype(np.float32)

    def _predict(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        encoded: Any,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        if not archs:
            return np.asarray(encoded[:, -1])
        return self._fit(self._encode(archs), targets, int(rng.integers(2**31)))(encoded)

    @functools.cached_property
    def _prior(self) -> Model:
        features = self.space.one_hot(self.pool.architectures)
        return self._fit(features, percentiles(self.pool.goodness), self._pool_seed)

    def _fit(self, features: Features, targets: NDArray[np.float64], seed: int) -> Model:
        return fit(self.model, features, targets, seed=seed, **self._settings)
