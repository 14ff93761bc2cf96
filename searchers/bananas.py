"""BANANAS: an ensemble of neural predictors on the path encoding, by Thompson sampling.

White et al. 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
Search", with the settings of its released code: ten random models; then rounds of ten, chosen from
a hundred mutations of the best by independent Thompson sampling: each candidate is rated by a draw
from a normal with the mean and the deviation that the ensemble predicts for it. The ensemble is
five networks of ten layers of 20 units, trained by Adam for 150 epochs in minibatches of 32.

Deviations: (1) targets are standardised accuracies and the loss is the mean absolute error, where
the published loss is relative to a lower bound of the error, which has to be known; (2) paths are
counted rather than noted, and only those at hand have a column (:mod:`searchers.paths`); a space
whose architectures are chains, of one path each, or which has no graphs is encoded one-hot; (3)
where the best has too few untrained neighbours, the next best are mutated too, and random
architectures fill up what is missing; (4) with warmup the first models are the best of the pool;
with move proposal each model is the best-scored of those that are rated highest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import at_least, positive
from searchers.guidance import Guidance
from searchers.mutation import MutationSearcher
from searchers.paths import PathEncoder, some_branch
from spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor

Encoder = Callable[[Sequence[Architecture]], NDArray[np.float32]]

_LAYERS: Final = 10
_WIDTH: Final = 20


def predictions(
    features: NDArray[np.float32],
    targets: NDArray[np.float64],
    candidates: NDArray[np.float32],
    *,
    networks: int,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> NDArray[np.float64]:
    """Fit an ensemble to ``targets`` [n] at ``features`` [n, f]; return [networks, candidates]."""
    import torch
    from torch import nn

    from searchers.gcn import reproducible

    with reproducible(seed):
        widths = [features.shape[1], *[_WIDTH] * _LAYERS, 1]
        layers: list[tuple[Tensor, Tensor]] = []
        for before, after in itertools.pairwise(widths):
            weight = torch.empty(networks, before, after)
            for one in weight:
                nn.init.xavier_uniform_(one)
            layers.append((nn.Parameter(weight), nn.Parameter(torch.zeros(networks, 1, after))))

        def forward(inputs: Tensor) -> Tensor:
            hidden = inputs
            for weight, bias in layers[:-1]:
                hidden = torch.relu(torch.baddbmm(bias, hidden, weight))
            weight, bias = layers[-1]
            return torch.baddbmm(bias, hidden, weight)[:, :, 0]

        inputs = torch.from_numpy(features)
        goal = torch.from_numpy(targets.astype(np.float32))
        optimiser = torch.optim.Adam([p for layer in layers for p in layer], learning_rate)
        for _ in range(epochs):
            orders = torch.stack([torch.randperm(len(goal)) for _ in range(networks)])
            for rows in torch.split(orders, batch_size, dim=1):
                loss = (forward(inputs[rows]) - goal[rows]).abs().mean(1).sum()
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        with torch.inference_mode():
            asked = torch.from_numpy(candidates).expand(networks, -1, -1)
            return np.asarray(forward(asked).double().numpy(), np.float64)


class Bananas(MutationSearcher):
    """Mutates the best and trains what the ensemble rates highest, in rounds.

    Args:
        start: models before the first fit.
        batch: models per round.
        candidates: mutations of the best that are rated each round.
        networks: of the ensemble.
        epochs: of their training, each round.
        batch_size: of their training.
        learning_rate: of Adam.

    Raises :class:`UsageError` for settings that are not possible.
    """

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
        networks: int = 5,
        epochs: int = 150,
        batch_size: int = 32,
        learning_rate: float = 0.01,
    ) -> None:
        at_least(1, "searcher", networks=networks, epochs=epochs, batch_size=batch_size)
        positive("searcher", learning_rate=learning_rate)
        super().__init__(
            space,
            guidance=guidance,
            seed=seed,
            repeats=repeats,
            start=start,
            batch=batch,
            candidates=candidates,
            enough=batch,
        )
        self._networks, self._epochs = networks, epochs
        self._batch_size, self._learning_rate = batch_size, learning_rate

    def _rate(
        self,
        archs: list[Architecture],
        targets: NDArray[np.float64],
        candidates: list[Architecture],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        encode = self._encoder(archs + candidates)
        predicted = predictions(
            encode(archs),
            targets,
            encode(candidates),
            networks=self._networks,
            epochs=self._epochs,
            batch_size=self._batch_size,
            learning_rate=self._learning_rate,
            seed=int(rng.integers(2**31)),
        )
        return np.asarray(rng.normal(predicted.mean(0), predicted.std(0)), np.float64)

    def _encoder(self, archs: list[Architecture]) -> Encoder:
        return (
            PathEncoder(self.space, archs) if some_branch(self.space, archs) else self.space.one_hot
        )
