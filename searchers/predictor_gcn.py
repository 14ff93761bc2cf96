"""Search by a graph-convolutional predictor of pairs: BRP-NAS, and its warmup by scores.

Dudziak et al. 2020, "BRP-NAS: Prediction-based NAS using GCNs"; with warmup, Abdelfattah et al.
2021, section 4: the predictor is first trained on the scores of the pool, then fine-tuned on
accuracies. The model and its deviations are in :mod:`searchers.gcn`, the rounds and theirs in
:mod:`searchers.ranking`.

Deviations: (1) 10 models a round rather than 20; (2) every round trains for the same number of
epochs on minibatches of the same size, where the published ones grow by a fifth each round;
(3) learning rate 1e-3 and 150 epochs rather than 3.5e-4 and 250, which reach the same on this
smaller network; (4) after warmup the network starts from the weights that the scores left, always:
the released options "simple", a first round in order of the scores themselves, and "augment", the
score beside the embedding, are left out; (5) the learning rate follows its schedule alone: the
released ``lr_patience`` of 10 epochs is left out.
"""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least, positive
from searchers.guidance import Guidance
from searchers.ranking import RankingSearcher, percentiles
from spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from searchers.gcn import Graphs, Ranker


class PredictorGCN(RankingSearcher):
    """Ranks by a pairwise graph-convolutional predictor; the space must have graphs.

    Args:
        batch: models per round.
        candidates: how many architectures are ranked at most.
        hidden: width of the network; the published one is 600.
        epochs: of training on accuracies, each round.
        warmup_epochs: of training on the scores of the pool.
        batch_size: architectures per minibatch, at least 2.
        learning_rate: of AdamW, positive.
        weight_decay: of AdamW.
        patience: epochs without a lower training loss after which training ends.
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
        hidden: int = 128,
        epochs: int = 150,
        warmup_epochs: int = 150,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        weight_decay: float = 5e-4,
        patience: int = 35,
    ) -> None:
        at_least(
            1,
            "searcher",
            hidden=hidden,
            epochs=epochs,
            warmup_epochs=warmup_epochs,
            patience=patience,
        )
        at_least(2, "searcher", batch_size=batch_size)
        positive("searcher", learning_rate=learning_rate)
        if weight_decay < 0:
            raise UsageError(f"searcher.weight_decay={weight_decay} must not be negative.")
        space.graph(space.sample(np.random.default_rng(0), 1)[0])
        super().__init__(
            space,
            guidance=guidance,
            seed=seed,
            repeats=repeats,
            batch=batch,
            candidates=candidates,
        )
        self.hidden = hidden
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self._training: dict[str, Any] = {
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "patience": patience,
        }

    def _encode(self, archs: list[Architecture]) -> Graphs:
        from searchers.gcn import stack

        return stack([self.space.graph(arch) for arch in archs], len(self.space.graph_operations))

    def _predict(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        encoded: Any,
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        from searchers.gcn import rate, reproducible

        warm = self._warm if self.pool.architectures else None
        with reproducible(int(rng.integers(2**31))):
            model = copy.deepcopy(warm) if warm is not None else self._new()
            if archs:
                self._train(model, archs, targets, self.epochs)
            return rate(model, encoded)

    @functools.cached_property
    def _warm(self) -> Ranker:
        """The model fitted to the scores of the warmup pool alone."""
        from searchers.gcn import reproducible

        targets = percentiles(self.pool.goodness)
        with reproducible(self._pool_seed):
            model = self._new()
            self._train(model, self.pool.architectures, targets, self.warmup_epochs)
        return model

    def _new(self) -> Ranker:
        from searchers.gcn import Ranker

        return Ranker(len(self.space.graph_operations), self.hidden)

    def _train(
        self, model: Ranker, archs: list[Architecture], targets: NDArray[np.float64], epochs: int
    ) -> None:
        from searchers.gcn import fit

        fit(model, self._encode(archs), targets, epochs=epochs, **self._training)
