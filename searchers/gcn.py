"""A graph-convolutional network that learns which of two architectures is the better one.

BRP-NAS (Dudziak et al. 2020): four graph convolutions, each followed by layer norm, ReLU and
dropout, over the graph with a global node, whose embedding stands for the architecture; a linear
layer on the embeddings of two architectures predicts which is better, trained by the KL divergence
from the softmax of their two targets.

Deviations: (1) the pair is decided by the difference of one linear rating, which is the published
layer on the concatenated embeddings averaged over both orders of the pair; so the comparison is
antisymmetric and transitive, and the rating alone ranks all candidates; (2) a minibatch is a number
of architectures, embedded once, and all pairs of them, not a number of pairs; (3) the softmax is of
targets in [0, 1] times ``SHARPNESS``; (4) convolutions after the first add to their input, without
which four layers generalise worse from 40 architectures; (5) float32, and a width of 128 rather
than 600 by default; (6) patience counts epochs without a lower training loss, for no trained
architecture is set aside for validation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from spaces.base import Graph

SHARPNESS: Final = 20.0
LAYERS: Final = 4
DROPOUT: Final = 0.2
_CHUNK: Final = 1024  # graphs rated at once


class Graphs(NamedTuple):
    """A batch of graphs, each with a global node that every node feeds, as its last node.

    ``adjacency`` is float32 [graphs, nodes, nodes], entry [g, i, j] set where j feeds i or is i;
    ``operations`` is int64 [graphs, nodes].
    """

    adjacency: Tensor
    operations: Tensor

    def at(self, rows: Tensor) -> Graphs:
        """Return the graphs of ``rows``."""
        return Graphs(self.adjacency[rows], self.operations[rows])


def stack(graphs: Sequence[Graph], vocabulary: int) -> Graphs:
    """Batch ``graphs`` of one space, which has ``vocabulary`` operations."""
    edges = np.stack([graph.adjacency for graph in graphs]).transpose(0, 2, 1)
    count, nodes, _ = edges.shape
    adjacency = np.zeros((count, nodes + 1, nodes + 1), np.float32)
    adjacency[:, :nodes, :nodes] = edges
    adjacency[:, nodes, :] = 1.0
    adjacency[:, range(nodes), range(nodes)] = 1.0
    operations = np.full((count, nodes + 1), vocabulary, np.int64)
    operations[:, :nodes] = [graph.operations for graph in graphs]
    return Graphs(torch.from_numpy(adjacency), torch.from_numpy(operations))


class Ranker(nn.Module):
    """Rates graphs: P(a is better than b) = sigmoid(rating of a - rating of b)."""

    def __init__(self, vocabulary: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary + 1, hidden)
        self.weights = nn.ModuleList(
            nn.Linear(hidden, hidden, bias=False) for _ in range(LAYERS - 1)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(LAYERS))
        self.dropout = nn.Dropout(DROPOUT)
        self.head = nn.Linear(hidden, 1, bias=False)

    def forward(self, graphs: Graphs) -> Tensor:
        """Return the ratings, float32 [graphs]."""
        nodes = self._convolve(graphs, self.embedding(graphs.operations), self.norms[0])
        for weight, norm in zip(self.weights, self.norms[1:], strict=True):
            nodes = nodes + self._convolve(graphs, weight(nodes), norm)
        rating: Tensor = self.head(nodes[:, -1])
        return rating.squeeze(1)

    def _convolve(self, graphs: Graphs, messages: Tensor, norm: nn.Module) -> Tensor:
        passed: Tensor = self.dropout(functional.relu(norm(graphs.adjacency @ messages)))
        return passed


def pair_loss(ratings: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of all ordered pairs; up to a constant, the KL divergence from the targets.

    Both are float32 [n]; the probability that the i-th of a pair is better is the softmax of the
    two targets times ``SHARPNESS``.
    """
    wanted = torch.sigmoid(SHARPNESS * (targets[:, None] - targets))
    return functional.binary_cross_entropy_with_logits(ratings[:, None] - ratings, wanted)


def fit(
    model: Ranker,
    graphs: Graphs,
    targets: NDArray[np.float64],
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    patience: int,
) -> None:
    """Train ``model`` on ``targets`` in [0, 1], shape [graphs], by AdamW with a cosine schedule."""
    goal = torch.from_numpy(targets.astype(np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    lowest, waited = float("inf"), 0
    model.train()
    for _ in range(epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(goal)), batch_size):
            loss = pair_loss(model(graphs.at(rows)), goal[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(rows)
        schedule.step()
        waited = 0 if total < lowest else waited + 1
        lowest = min(lowest, total)
        if waited >= patience:
            break


@torch.inference_mode()
def rate(model: Ranker, graphs: Graphs) -> NDArray[np.float64]:
    """Return the ratings of ``graphs``, float64 [graphs]."""
    model.eval()
    chunks = torch.split(torch.arange(len(graphs.operations)), _CHUNK)
    return torch.cat([model(graphs.at(rows)) for rows in chunks]).double().numpy()


@contextlib.contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from ``seed``, on one thread, and leave its state as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
