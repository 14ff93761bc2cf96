"""The size space of NATS-Bench (Dong, Liu, Musial and Gabrys, TPAMI 2021)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, Graph, SearchSpace
from spaces.nasbench201.datasets import DATASETS
from spaces.nats_size import table

if TYPE_CHECKING:
    from torch import nn

    from spaces.table import Table

CHANNELS: Final = tuple(range(8, 72, 8))
"""The choices of every decision."""

PLACES: Final = ("stage 1", "reduction 1", "stage 2", "reduction 2", "stage 3")

_PATTERN: Final = re.compile(":".join([r"(\d+)"] * len(PLACES)), re.ASCII)


class NATSSize(SearchSpace):
    """All 32,768 ways to give five places 8, 16, ... or 64 channels.

    Decisions are the blocks of :class:`spaces.nats_size.network.Network` in order; the first also
    sets the channels of the stem. Text is the benchmark's own, ``8:16:24:32:40``. No two
    architectures compute the same, so that each is its own canonical form.

    Args:
        dataset: cifar10, cifar100 or ImageNet16-120 (120 classes, 16x16 pixels); decides the
            classes and the image size of networks, and the columns of the table.

    Raises :class:`UsageError` for another dataset.
    """

    name = "nats_size"
    network_version = 2
    graph_operations: ClassVar[tuple[str, ...]] = tuple(map(str, CHANNELS))

    def __init__(self, dataset: str = "cifar10") -> None:
        if dataset not in DATASETS:
            raise unknown_name("space.dataset", dataset, DATASETS)
        self.decisions = tuple(Decision(place, tuple(map(str, CHANNELS))) for place in PLACES)
        self.dataset = dataset
        self.classes, self.image_size = DATASETS[dataset]

    def channels(self, arch: Architecture) -> tuple[int, ...]:
        """Return the number of channels at each place."""
        return tuple(CHANNELS[choice] for choice in arch)

    def format(self, arch: Architecture) -> str:
        """Write the benchmark's arch string."""
        return ":".join(map(str, self.channels(arch)))

    def parse(self, text: str) -> Architecture:
        """Read the benchmark's arch string; raises :class:`UsageError` on anything else."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"'{text}' is no architecture of {self.name}: write it as 8:16:24:32:40."
            )
        for word in match.groups():
            if word not in self.graph_operations:
                raise UsageError(
                    f"'{text}' is no architecture of {self.name}: channels can be "
                    f"{', '.join(self.graph_operations)}, not {word}."
                )
        return tuple(self.graph_operations.index(word) for word in match.groups())

    def graph(self, arch: Architecture) -> Graph:
        """Encode as a chain of five nodes, each labelled with its channels."""
        return Graph(np.eye(len(PLACES), k=1, dtype=np.bool_), np.array(arch, np.int64))

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network that the benchmark trains; see :mod:`spaces.nats_size.network`."""
        from spaces.nats_size.network import Network

        return Network(self.channels(arch), classes or self.classes, running_stats=running_stats)

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the test accuracies after 90 epochs on this dataset.

        Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a
        table.
        """
        return table.load(self, path, epochs)

    def column(self, name: str, path: Path | None = None) -> NDArray[np.float64]:
        """Load one column of the table; see :func:`spaces.nats_size.table.column`."""
        return table.column(self, name, path)
