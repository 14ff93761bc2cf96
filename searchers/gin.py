"""A graph isomorphism network that predicts a number for each graph (Xu et al. 2019, GIN-0).

A layer passes the sum of a node's own features and of those that feed it through a perceptron;
ReLU and batch norm follow. The mean over nodes after the last layer goes through a hidden layer
with dropout to one number. Widths are those of NPENAS (Wei et al. 2020).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from searchers.gcn import Graphs

_LAYERS: Final = 3
_WIDTH: Final = 32
_HIDDEN: Final = 16
_DROPOUT: Final = 0.1


class GIN(nn.Module):
    """Predicts from :class:`searchers.gcn.Graphs`, whose global node it leaves out."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        widths = [vocabulary] + [_WIDTH] * _LAYERS
        self.perceptrons = nn.ModuleList(
            nn.Sequential(nn.Linear(before, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH))
            for before in widths[:-1]
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(_WIDTH) for _ in range(_LAYERS))
        self.hidden = nn.Linear(_WIDTH, _HIDDEN)
        self.head = nn.Linear(_HIDDEN, 1)

    def forward(self, graphs: Graphs) -> Tensor:
        """Return predictions, float32 [graphs]."""
        adjacency = graphs.adjacency[:, :-1, :-1]
        nodes = functional.one_hot(graphs.operations[:, :-1], self.vocabulary).float()
        for perceptron, norm in zip(self.perceptrons, self.norms, strict=True):
            passed = functional.relu(perceptron(adjacency @ nodes))
            nodes = norm(passed.flatten(0, 1)).view_as(passed)
        hidden = functional.relu(self.hidden(nodes.mean(1)))
        predicted: Tensor = self.head(functional.dropout(hidden, _DROPOUT, self.training))
        return predicted.squeeze(1)


def fit(
    model: GIN,
    graphs: Graphs,
    targets: NDArray[np.float64],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
) -> None:
    """Train ``model`` on ``targets`` [graphs] by squared error, Adam and a cosine schedule."""
    goal = torch.from_numpy(targets.astype(np.float32))
    optimiser = torch.optim.Adam(
        model.parameters(), learning_rate, weight_decay=weight_decay, foreach=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    model.train()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(goal)), batch_size):
            loss = functional.mse_loss(model(graphs.at(rows)), goal[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        schedule.step()


@torch.inference_mode()
def rate(model: GIN, graphs: Graphs) -> NDArray[np.float64]:
    """Return predictions, float64 [graphs]."""
    model.eval()
    return np.asarray(model(graphs).double().numpy(), np.float64)
