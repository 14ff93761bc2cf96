"""The NAS-Bench-101 search space (Ying et al., ICML 2019)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, Graph, SearchSpace
from spaces.nasbench101 import hashing, table
from spaces.nasbench101.cell import (
    EDGES,
    INNER,
    MAX_EDGES,
    OPERATIONS,
    VERTICES,
    Adjacency,
    adjacency,
    architecture,
    live,
    operations,
    pruned,
)
from spaces.nasbench101.index import Ints, index

if TYPE_CHECKING:
    from torch import nn

    from spaces.initial_weights import InitialWeights
    from spaces.table import Table

_CHUNK: Final = 4096


class NASBench101(SearchSpace):
    """The 423,624 distinct cells of at most seven vertices and nine edges.

    An architecture has 26 decisions: 21 edges, named ``target<-source``, each absent or present,
    then the operations of the five inner vertices. It is valid where its input reaches its output
    and at most nine edges lie on paths from the one to the other. What lies on no such path is
    dead: it may stay, changes nothing, and is removed before training.

    Many architectures write one cell. ``sample`` draws cells uniformly and ``enumerate`` lists
    them, each as its representative; edits lead to any writing.

    Args:
        subset: all, or validated: only the 3,258 cells of which validation accuracies are known.

    Raises :class:`UsageError` for another subset.
    """

    name = "nasbench101"
    graph_operations: ClassVar[tuple[str, ...]] = ("input", *OPERATIONS, "none", "output")

    dataset = "cifar10"
    classes = 10
    image_size = 32

    def __init__(self, subset: Literal["all", "validated"] = "all") -> None:
        if subset not in get_args(table.Subset):
            raise unknown_name("space.subset", subset, get_args(table.Subset))
        self.subset = subset
        self.decisions = (
            *(Decision(f"{target}<-{source}", ("absent", "present")) for target, source in EDGES),
            *(Decision(f"operation {vertex}", OPERATIONS) for vertex in INNER),
        )

    # -- drawing and editing ------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many distinct cells there are."""
        return len(index()) if self._members is None else len(self._members)

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs``, all of legal choices, writes a cell of the space: bool [n]."""
        return table.find(self._members, archs) >= 0

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` cells independently and uniformly, with replacement."""
        return self._representatives(rng.integers(self.size, size=n))

    def enumerate(self) -> Iterator[Architecture]:
        """Every cell once, as its representative, in lexicographic order."""
        for start in range(0, self.size, _CHUNK):
            yield from self._representatives(np.arange(start, min(start + _CHUNK, self.size)))

    # -- names --------------------------------------------------------------------------------

    def format(self, arch: Architecture) -> str:
        """Write adjacency matrix and operations as JSON, dead vertices too."""
        edges, chosen = arch[: len(EDGES)], operations(arch)
        return f'{{"matrix":{_matrix_text(edges)},"ops":{_operations_text(chosen)}}}'

    def parse(self, text: str) -> Architecture:
        """Read adjacency matrix and operations of two to seven vertices.

        Raises :class:`UsageError` on anything else, and on what is no cell of the space.
        """
        try:
            arch = architecture(*_fields(text))
            if not self.is_valid(arch):
                raise UsageError(self._objection(arch))
        except UsageError as error:
            raise UsageError(f"'{text}' is no architecture of {self.name}: {error}") from None
        return arch

    def hash(self, arch: Architecture) -> str:
        """Return the benchmark's module hash; see :mod:`spaces.nasbench101.hashing`."""
        return hashing.module_hash(arch)

    # -- meaning ------------------------------------------------------------------------------

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the representative of the cell, which is the one that the benchmark trained.

        Cells are one where the benchmark's module hash is: up to dead vertices and renaming.
        :mod:`spaces.nasbench101.index` says which the representative is.
        """
        return self.canonicals([arch])[0]

    def canonicals(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Return the representative of each of ``archs``; see :meth:`canonical`."""
        numbers = index().numbers(archs)
        if (numbers < 0).any():
            raise UsageError(f"{archs[int(numbers.argmin())]} is no architecture of {self.name}.")
        return index().representatives(numbers)

    def graph(self, arch: Architecture) -> Graph:
        """Encode with operations as nodes [7]: input, inner vertices, output.

        Dead vertices keep their place, joined to nothing and labelled ``none``.
        """
        joined, alive = _joined(arch[: len(EDGES)])
        labels = (0, *(1 + operation for operation in operations(arch)), 5)
        none = self.graph_operations.index("none")
        nodes = [label if vertex in alive else none for vertex, label in enumerate(labels)]
        return Graph(joined, np.array(nodes, np.int64))

    # -- networks and tables ------------------------------------------------------------------

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network that the benchmark trains; see :mod:`spaces.nasbench101.network`.

        That is the network of the representative: where channels do not divide evenly, another
        writing of the cell would give the odd channel to another vertex.
        """
        from spaces.nasbench101.network import Network

        return Network(self.canonical(arch), classes or self.classes, running_stats=running_stats)

    def draw(self, layer: nn.Module) -> None:
        """Draw as :mod:`spaces.nasbench101.network` does."""
        from spaces.nasbench101.network import draw

        draw(layer)

    def stacked_network(self, archs: Sequence[Architecture], weights: InitialWeights) -> nn.Module:
        """Build networks that run as one; see :mod:`spaces.nasbench101.stacked`."""
        from spaces.nasbench101.stacked import StackedNetwork

        return StackedNetwork([weights.network(self, arch, running_stats=False) for arch in archs])

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the results of 108 epochs.

        Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a
        table.
        """
        return table.load(self.subset, path, epochs)

    def column(self, name: str, path: Path | None = None) -> NDArray[np.float64]:
        """Load one column of the table; see :func:`spaces.nasbench101.table.column`."""
        return table.column(self.subset, name, path)

    # -- cells --------------------------------------------------------------------------------

    @functools.cached_property
    def _members(self) -> Ints | None:
        """The numbers of the cells of this space; None where it has all."""
        return table.members(self.subset)

    def _representatives(self, places: Ints) -> list[Architecture]:
        return index().representatives(places if self._members is None else self._members[places])

    def _objection(self, arch: Architecture) -> str:
        """Say why ``arch`` is not valid."""
        joined = adjacency(arch)
        if not live(joined):
            return "its input does not reach its output."
        edges = int(pruned(joined).sum())
        if edges > MAX_EDGES:
            return f"it has {edges} edges, and {MAX_EDGES} are allowed."
        return f"space.subset={self.subset} has only cells of known validation accuracy."


@functools.lru_cache(maxsize=1 << 13)
def _joined(edges: tuple[int, ...]) -> tuple[Adjacency, frozenset[int]]:
    """Return the edges on paths from input to output, and their vertices; cells share them."""
    joined = adjacency(edges)
    found = pruned(joined)
    found.flags.writeable = False
    return found, frozenset(live(joined))


@functools.lru_cache(maxsize=1 << 13)
def _matrix_text(edges: tuple[int, ...]) -> str:
    return _compact(adjacency(edges).astype(int).tolist())


@functools.cache
def _operations_text(chosen: tuple[int, ...]) -> str:
    return _compact(["input", *(OPERATIONS[o] for o in chosen), "output"])


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _fields(text: str) -> tuple[list[list[int]], list[str]]:
    """Read ``matrix`` and ``ops`` of the JSON notation, and check what they are made of."""
    form = '{"matrix":[[0,1],[0,0]],"ops":["input","output"]}'
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and fields.keys() == {"matrix", "ops"}:
        matrix, names = fields["matrix"], fields["ops"]
        lists = isinstance(matrix, list) and all(isinstance(row, list) for row in matrix)
        if lists and isinstance(names, list):
            entries = [value for row in matrix for value in row]
            if all(type(v) is int for v in entries) and all(isinstance(n, str) for n in names):
                return matrix, names
    raise UsageError(f"write it as JSON like {form}, for two to {VERTICES} vertices.")
