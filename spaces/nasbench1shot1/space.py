"""The three search spaces of NAS-Bench-1Shot1 (Zela et al., ICLR 2020)."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, Graph, Junction, Left, SearchSpace
from spaces.nasbench1shot1.blocks import PARENTS, Blocks, blocks, cells
from spaces.nasbench101.cell import EDGES, OPERATIONS, VERTICES, adjacency, operations
from spaces.nasbench101.index import Ints, index
from spaces.nasbench101.space import NASBench101
from spaces.nasbench101.table import Subset, load, members

if TYPE_CHECKING:
    from torch import nn

    from spaces.initial_weights import InitialWeights
    from spaces.table import Table

_VALIDATED: Final = 2
_CHUNK: Final = 4096
_TARGETS: Final = {1: (93.5, 93.8, 94.0), 2: (93.0, 93.5, 93.8), 3: (93.5, 93.8, 94.0)}


class NASBench1Shot1(SearchSpace):
    """Cells of choice blocks, each with a given number of parents and one of three operations.

    Space 1 has four blocks with 1, 2, 2 and 2 parents and an output with 2; space 2 has four with
    1, 1, 2 and 2 and an output with 3; space 3 has five with 1, 1, 1, 2 and 2 and an output with 2.
    Parents are the input, 0, and blocks before. An architecture has the parents of each block, and
    of the output, that has a choice of them, then the operations of all blocks. Every product of
    choices is a cell of NAS-Bench-101, which trained it. A block that feeds nothing is a *loose
    end*: it may stay, changes nothing, and is not trained.

    Args:
        number: 1, 2 or 3.
        subset: all, or validated: only architectures of which validation accuracies are known,
            which are part of space 2.

    Raises :class:`UsageError` for another number or subset, and for validated ones of space 1 or 3.
    """

    name = "nasbench1shot1"
    graph_operations: ClassVar[tuple[str, ...]] = ("input", *OPERATIONS, "output")

    dataset = "cifar10"
    classes = 10
    image_size = 32

    def __init__(
        self, number: Literal[1, 2, 3] = 1, subset: Literal["all", "validated"] = "all"
    ) -> None:
        if number not in PARENTS:
            raise unknown_name("space.number", number, PARENTS)
        if subset not in get_args(Subset):
            raise unknown_name("space.subset", subset, get_args(Subset))
        if subset == "validated" and number != _VALIDATED:
            raise UsageError(
                f"space.subset=validated has architectures of space {_VALIDATED} alone; choose "
                f"space.number={_VALIDATED}, or space.subset=all."
            )
        self.number, self.subset = number, subset
        self.decisions = self._blocks.decisions

    # -- drawing and editing ------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many architectures there are."""
        return len(self._blocks) if self._places is None else len(self._places)

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs``, all of legal choices, is in the subset: bool [n]."""
        if self._members is None:
            return super().are_valid(archs)
        places = np.ravel_multi_index(tuple(np.array(archs).T), self._blocks.widths)
        known: NDArray[np.bool_] = self._members[places]
        return known

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` architectures independently and uniformly, with replacement."""
        return self._architectures(rng.integers(self.size, size=n))

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once, in lexicographic order."""
        for start in range(0, self.size, _CHUNK):
            yield from self._architectures(np.arange(start, min(start + _CHUNK, self.size)))

    # -- names --------------------------------------------------------------------------------

    def format(self, arch: Architecture) -> str:
        """Write adjacency matrix and operations as NAS-Bench-101 does, loose ends too."""
        graph = self.graph(arch)
        names = [self.graph_operations[operation] for operation in graph.operations]
        matrix = graph.adjacency.astype(int).tolist()
        return json.dumps({"matrix": matrix, "ops": names}, separators=(",", ":"))

    def parse(self, text: str) -> Architecture:
        """Read what :meth:`format` writes, also with a seventh, unconnected vertex in spaces 1, 2.

        Raises :class:`UsageError` on anything else, and on what is no architecture of the space.
        """
        try:
            arch = self._blocks.architecture(_CELLS.parse(text))
            if not self.is_valid(arch):
                raise UsageError(
                    f"space.subset={self.subset} has only cells of known validation accuracy."
                )
        except UsageError as error:
            reason = str(error).removeprefix(f"'{text}' is no architecture of {_CELLS.name}: ")
            raise UsageError(f"'{text}' is no architecture of {self.name}: {reason}") from None
        return arch

    def cell(self, arch: Architecture) -> Architecture:
        """Return the architecture of :class:`spaces.nasbench101.NASBench101` that ``arch`` is."""
        return tuple(self._blocks.cells([arch])[0].tolist())

    # -- meaning ------------------------------------------------------------------------------

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the first architecture, in lexicographic order, that makes the same cell.

        Cells are one where NAS-Bench-101's module hash is: up to loose ends and renaming.
        """
        return self.canonicals([arch])[0]

    def canonicals(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Return the first of those that make the same cell as each of ``archs``."""
        numbers = index().numbers(self._blocks.cells(archs))
        return self._products(cells(self.number).first(numbers))

    def graph(self, arch: Architecture) -> Graph:
        """Encode with blocks as nodes: input, blocks, output. Loose ends stay."""
        cell = self.cell(arch)
        kept = [*range(1 + self._blocks.count), VERTICES - 1]
        labels = [0, *(1 + o for o in operations(cell)[: self._blocks.count])]
        labels.append(len(self.graph_operations) - 1)
        return Graph(adjacency(cell)[np.ix_(kept, kept)], np.array(labels, np.int64))

    # -- networks and tables ------------------------------------------------------------------

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network that NAS-Bench-101 trains of the cell."""
        return _CELLS.network(
            self.cell(arch), classes=classes or self.classes, running_stats=running_stats
        )

    def stacked_network(self, archs: Sequence[Architecture], weights: InitialWeights) -> nn.Module:
        """Build networks that run as one; see :mod:`spaces.nasbench101.stacked`."""
        from spaces.nasbench101.stacked import StackedNetwork

        return StackedNetwork([weights.network(self, arch, running_stats=False) for arch in archs])

    def draw(self, layer: nn.Module) -> None:
        """Draw as :mod:`spaces.nasbench101.network` does."""
        from spaces.nasbench101.network import draw

        draw(layer)

    # -- supernets ----------------------------------------------------------------------------

    @property
    def places(self) -> tuple[Decision, ...]:
        """The operation of each block, then each edge to a block, and to the output."""
        blocks = range(1, self._blocks.count + 1)
        return (
            *(Decision(f"operation {block}", OPERATIONS) for block in blocks),
            *(Decision(f"{target}<-{source}", ("join",)) for target, source in self._edges),
        )

    @property
    def junctions(self) -> tuple[Junction, ...]:
        """Each block, and the output, which keep as many parents as they have."""
        targets = dict.fromkeys(target for target, _ in self._edges)
        return tuple(
            Junction(
                tuple(
                    self._blocks.count + i for i, (t, _) in enumerate(self._edges) if t == target
                ),
                keep,
            )
            for target, keep in zip(targets, PARENTS[self.number], strict=True)
        )

    def supernet(self, classes: int | None = None, *, running_stats: bool = True) -> nn.Module:
        """Build the network of the cell that has all edges, with all operations in each block."""
        from spaces.nasbench101.network import Network

        cell = self._cell([True] * len(self._edges), (0,) * self._blocks.count)
        return Network(cell, classes or self.classes, running_stats=running_stats, several=True)

    def decided(self, left: Left) -> Architecture:
        """Return the architecture of the edges that are not cut."""
        count = self._blocks.count
        chosen = tuple(operation for (operation,) in left[:count])
        return self._blocks.architecture(self._cell([bool(e) for e in left[count:]], chosen))

    def held(self, arch: Architecture) -> list[tuple[int, int]]:
        """List the blocks, each with its operation, and the edges."""
        count, cell = self._blocks.count, self.cell(arch)
        joined = {ends for ends, bit in zip(EDGES, cell, strict=False) if bit}
        edges = [(count + i, 0) for i, ends in enumerate(self._edges) if ends in joined]
        return [*enumerate(operations(cell)[:count]), *edges]

    @functools.cached_property
    def _edges(self) -> list[tuple[int, int]]:
        """(target, source) of every edge that an architecture may have."""
        blocks = range(1, self._blocks.count + 1)
        ends = [(t, s) for t in blocks for s in range(t)]
        return ends + [(VERTICES - 1, s) for s in range(self._blocks.count + 1)]

    def _cell(self, joined: Sequence[bool], chosen: tuple[int, ...]) -> Architecture:
        """Return the cell of some edges and of the operations of blocks, as NAS-Bench-101 does."""
        kept = set(itertools.compress(self._edges, joined))
        spare = (0,) * (VERTICES - 2 - len(chosen))
        return (*(int(ends in kept) for ends in EDGES), *chosen, *spare)

    def network_key(self) -> dict[str, Any]:
        """Add the number of the space, which says what a choice means."""
        return {**super().network_key(), "number": self.number}

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load NAS-Bench-101's results of 108 epochs, of which the architectures find their rows.

        Raises :class:`UsageError` for other epochs, and where the file at ``path`` is not such a
        table.
        """
        found = load(self.subset, path, epochs)
        rows = functools.partial(_rows, found.rows, self._blocks)
        return dataclasses.replace(found, rows=rows, targets=_TARGETS[self.number])

    # -- places -------------------------------------------------------------------------------

    @functools.cached_property
    def _members(self) -> NDArray[np.bool_] | None:
        """Whether each product of choices is in the subset; None where all are."""
        if (numbers := members(self.subset)) is None:
            return None
        return np.isin(cells(self.number).numbers, numbers)

    @functools.cached_property
    def _places(self) -> Ints | None:
        """Places of the architectures among all products of choices; None where it has all."""
        return None if self._members is None else np.flatnonzero(self._members)

    @property
    def _blocks(self) -> Blocks:
        return blocks(self.number)

    def _architectures(self, places: Ints) -> list[Architecture]:
        return self._products(places if self._places is None else self._places[places])

    def _products(self, places: Ints) -> list[Architecture]:
        """Return the products of choices at these places."""
        choices = np.unravel_index(places, self._blocks.widths)
        return list(zip(*(column.tolist() for column in choices), strict=True))


_CELLS: Final = NASBench101()


def _rows(
    rows: Callable[[Sequence[Architecture]], Ints], layout: Blocks, archs: Sequence[Architecture]
) -> Ints:
    """Find the rows of architectures among those of their cells."""
    return rows(layout.cells(archs).tolist())
