"""The NAS-Bench-201 search space (Dong and Yang, ICLR 2020), also NATS-Bench's topology space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, Graph, SearchSpace
from spaces.nasbench201 import table
from spaces.nasbench201.cell import EDGE_NAMES, EDGES, NODES, OPERATIONS, representatives
from spaces.nasbench201.datasets import DATASETS

if TYPE_CHECKING:
    from torch import nn

    from spaces.initial_weights import InitialWeights
    from spaces.mixture import Branches
    from spaces.nasbench201.network import Edges
    from spaces.table import Table

_CHANNELS: Final = 16
_CELLS: Final = 5

_FORM: Final = "+".join(
    "|" + "".join(f"op~{source}|" for source in range(target)) for target in range(1, NODES)
)
_TEMPLATE: Final = _FORM.replace("op", "{}")
_PATTERN: Final = re.compile(re.escape(_FORM).replace("op\\~", "([^|~+]*)\\~"))


def _adjacency() -> NDArray[np.bool_]:
    """Join the input, the six operations and the output: an operation feeds those of its target."""
    last = len(EDGES) + 1
    joined = np.zeros((last + 1, last + 1), np.bool_)
    for node, (target, source) in enumerate(EDGES, start=1):
        joined[0, node] = source == 0
        joined[node, last] = target == NODES - 1
        for later, (_, its_source) in enumerate(EDGES, start=1):
            joined[node, later] = its_source == target
    joined.flags.writeable = False
    return joined


_ADJACENCY: Final = _adjacency()


class NASBench201(SearchSpace):
    """All 15,625 cells of four nodes with one of five operations on each of six edges.

    Decisions are named ``target<-source`` and ordered as in the benchmark's arch strings,
    ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``.

    Args:
        dataset: cifar10, cifar100 or ImageNet16-120 (120 classes, 16x16 pixels); decides the
            classes and the image size of networks, and the columns of the table.
        channels: of the first stage of networks; each later stage has twice as many.
        cells: of each stage of networks.

    The benchmark trained networks of 16 channels and 5 cells, and its table is of those whatever
    the networks here; thinner ones serve proxies. Raises :class:`UsageError` for another dataset,
    and for settings that are not possible.
    """

    name = "nasbench201"
    graph_operations: ClassVar[tuple[str, ...]] = ("input", *OPERATIONS, "output")

    def __init__(
        self, dataset: str = "cifar10", channels: int = _CHANNELS, cells: int = _CELLS
    ) -> None:
        if dataset not in DATASETS:
            raise unknown_name("space.dataset", dataset, DATASETS)
        for name, value in (("channels", channels), ("cells", cells)):
            if value < 1:
                raise UsageError(f"space.{name}={value} is not possible; give 1 or more.")
        self.decisions = tuple(Decision(edge, OPERATIONS) for edge in EDGE_NAMES)
        self.dataset = dataset
        self.classes, self.image_size = DATASETS[dataset]
        self.channels, self.cells = channels, cells

    def format(self, arch: Architecture) -> str:
        """Write the benchmark's arch string."""
        return _TEMPLATE.format(*(OPERATIONS[operation] for operation in arch))

    def parse(self, text: str) -> Architecture:
        """Read the benchmark's arch string; raises :class:`UsageError` on anything else."""
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise UsageError(f"'{text}' is no architecture of {self.name}: write it as {_FORM}.")
        for word, edge in zip(match.groups(), EDGE_NAMES, strict=True):
            if word not in OPERATIONS:
                raise UsageError(
                    f"'{text}' is no architecture of {self.name}: {edge} can be "
                    f"{', '.join(OPERATIONS)}, not '{word}'."
                )
        return tuple(OPERATIONS.index(word) for word in match.groups())

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the cheapest cell of the same family, of which there are 5,044.

        :mod:`spaces.nasbench201.canonical` says when two cells are of one family.
        """
        return representatives()[arch]

    def graph(self, arch: Architecture) -> Graph:
        """Encode with operations as nodes: input, the six operations in order, output.

        An operation feeds those that start where it ends. ``none`` stays, as a label, so that all
        graphs share one adjacency (read-only) [8, 8].
        """
        labels = np.array([0, *(1 + a for a in arch), len(self.graph_operations) - 1], np.int64)
        return Graph(_ADJACENCY, labels)

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network, by default as benchmarked; see :mod:`spaces.nasbench201.network`."""
        return self._network(arch, classes, running_stats)

    @property
    def places(self) -> tuple[Decision, ...]:
        """The edges, which are the decisions."""
        return self.decisions

    def supernet(self, classes: int | None = None, *, running_stats: bool = True) -> nn.Module:
        """Build the network that has all five operations on each edge."""
        return self._network([tuple(range(len(OPERATIONS)))] * len(EDGES), classes, running_stats)

    def simplify(self, supernet: nn.Module, branches: Branches) -> None:
        """Fold the cells; see :mod:`spaces.nasbench201.folded`."""
        from spaces.nasbench201.folded import fold
        from spaces.nasbench201.network import Network

        assert isinstance(supernet, Network)
        fold(supernet, branches)

    def _network(self, arch: Edges, classes: int | None, running_stats: bool) -> nn.Module:
        from spaces.nasbench201.network import Network

        return Network(
            arch,
            classes or self.classes,
            widths=self.widths,
            cells=self.cells,
            running_stats=running_stats,
        )

    def stacked_network(self, archs: Sequence[Architecture], weights: InitialWeights) -> nn.Module:
        """Build networks that run one by one; see :mod:`spaces.nasbench201.stacked`."""
        from spaces.nasbench201.stacked import StackedNetwork

        return StackedNetwork(
            self, archs, weights, self.classes, widths=self.widths, cells=self.cells
        )

    def grouped_network(self, archs: Sequence[Architecture], weights: InitialWeights) -> nn.Module:
        """Build networks that run layer by layer; see :mod:`spaces.nasbench201.grouped`."""
        from spaces.nasbench201.grouped import GroupedNetwork

        return GroupedNetwork(
            self, archs, weights, self.classes, widths=self.widths, cells=self.cells
        )

    @property
    def widths(self) -> tuple[int, int, int]:
        """The channels of the stages."""
        return self.channels, 2 * self.channels, 4 * self.channels

    def network_key(self) -> dict[str, Any]:
        """Add channels and cells to the key, where they are not the benchmark's."""
        key = super().network_key()
        if self.channels != _CHANNELS:
            key["channels"] = self.channels
        if self.cells != _CELLS:
            key["cells"] = self.cells
        return key

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the results of 200 (default) or 12 epochs on this dataset.

        Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a
        table.
        """
        return table.load(self.dataset, path, epochs)

    def column(self, name: str, path: Path | None = None) -> NDArray[np.float64]:
        """Load one column of the table; see :func:`spaces.nasbench201.table.column`."""
        return table.column(self.dataset, name, path)
