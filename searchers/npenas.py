"""NPENAS-NP: evolution whose many children a graph predictor rates, of which a few are trained.

Wei et al. 2020, "NPENAS: Neural Predictor Guided Evolution for Neural Architecture Search", with
the settings of its released code: ten random models; then rounds of ten, those that the predictor
rates highest among a hundred edits of the best, parent by parent. The predictor is a graph
isomorphism network (Xu et al. 2019): three layers of width 32, mean over the nodes, a layer of 16;
trained on squared errors by Adam with a cosine schedule, 300 epochs in minibatches of 16.

Deviations: (1) targets are standardised accuracies, hopeless ones raised, and the output is linear,
where the published one is a sigmoid times ten; (2) edits of a parent are all its neighbours in
random order, where the published code draws a hundred with replacement and leaves out what it has;
(3) the variant NPENAS-BO, whose predictor has a deviation, is left out; (4) with warmup the first
models are the best of the pool; with move proposal each model is the best-scored of those that are
rated highest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import at_least, positive
from searchers.guidance import Guidance
from searchers.mutation import MutationSearcher
from spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from searchers.gcn import Graphs

_WEIGHT_DECAY: Final = 1e-4


class NPENAS(MutationSearcher):
    """Mutates the best and trains what a graph predictor rates highest; the space needs graphs.

    Args:
        start: models before the first fit.
        batch: models per round.
        candidates: mutations of the best that are rated each round.
        epochs: of the predictor's training, each round.
        batch_size: of its training, at least 2.
        learning_rate: of Adam.

    Raises :class:`UsageError` for settings that are not possible, and for a space without graphs.
    """

    edits = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        start: int = 10,
        batch: int = 10,
        candidates: int = 100,
        epochs: int = 300,
        batch_size: int = 16,
        learning_rate: float = 0.005,
    ) -> None:
        at_least(1, "searcher", epochs=epochs)
        at_least(2, "searcher", batch_size=batch_size)
        positive("searcher", learning_rate=learning_rate)
        space.graph(space.sample(np.random.default_rng(0), 1)[0])
        super().__init__(
            space,
            guidance=guidance,
            seed=seed,
            repeats=repeats,
            start=start,
            batch=batch,
            candidates=candidates,
            enough=candidates,
        )
        self._epochs, self._batch_size, self._learning_rate = epochs, batch_size, learning_rate

    def _rate(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        candidates: list[Architecture],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        from searchers.gcn import reproducible
        from searchers.gin import GIN, fit, rate

        with reproducible(int(rng.integers(2**31))):
            model = GIN(len(self.space.graph_operations))
            fit(
                model,
                self._graphs(archs),
                targets,
                epochs=self._epochs,
                batch_size=self._batch_size,
                learning_rate=self._learning_rate,
                weight_decay=_WEIGHT_DECAY,
            )
            return rate(model, self._graphs(candidates))

    def _graphs(self, archs: list[Architecture]) -> Graphs:
        from searchers.gcn import stack

        return stack([self.space.graph(arch) for arch in archs], len(self.space.graph_operations))
