"""The choice blocks of NAS-Bench-1Shot1, and which cells of NAS-Bench-101 they make."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, Decision
from spaces.nasbench101.cell import EDGES, INNER, OPERATIONS, VERTICES
from spaces.nasbench101.index import Ints, index

PARENTS: Final = {1: (1, 2, 2, 2, 2), 2: (1, 1, 2, 2, 3), 3: (1, 1, 1, 2, 2, 2)}
"""How many parents each choice block and, last, the output has, by the number of the space."""

_OUTPUT: Final = VERTICES - 1
_CHUNK: Final = 1 << 16


class Blocks:
    """The choice blocks of one space: vertices 1, 2, … of the cell, and its output.

    Attributes:
        count: how many choice blocks there are.
        decisions: the parents of each block, and of the output, that has a choice of them, then
            the operation of each block.
    """

    def __init__(self, number: int) -> None:
        self.count = len(PARENTS[number]) - 1
        self._parents = {
            target if target <= self.count else _OUTPUT: list(
                itertools.combinations(range(target), parents)
            )
            for target, parents in enumerate(PARENTS[number], start=1)
        }
        self._edges = {
            vertex: np.array([[t == vertex and s in chosen for t, s in EDGES] for chosen in sets])
            for vertex, sets in self._parents.items()
        }
        self._open = [vertex for vertex, sets in self._parents.items() if len(sets) > 1]
        self.decisions = (
            *(
                Decision(
                    "parents output" if vertex == _OUTPUT else f"parents {vertex}",
                    tuple(",".join(map(str, chosen)) for chosen in self._parents[vertex]),
                )
                for vertex in self._open
            ),
            *(Decision(f"operation {block}", OPERATIONS) for block in range(1, self.count + 1)),
        )
        self.widths = tuple(len(d.choices) for d in self.decisions)

    def __len__(self) -> int:
        """How many products of choices there are."""
        return math.prod(self.widths)

    def cells(self, archs: Sequence[Architecture] | Ints) -> Ints:
        """Write architectures as NAS-Bench-101 does, loose ends too: int64 [n, 26]."""
        choices = np.asarray(archs, np.int64).reshape(-1, len(self.decisions))
        cells = np.zeros((len(choices), len(EDGES) + len(INNER)), np.int64)
        edges, operations = np.hsplit(cells, [len(EDGES)])
        for vertex, table in self._edges.items():
            if vertex not in self._open:
                edges += table[0]
        for vertex, chosen in zip(self._open, choices.T, strict=False):
            edges += self._edges[vertex][chosen]
        operations[:, : self.count] = choices[:, len(self._open) :]
        return cells

    def architecture(self, cell: Architecture) -> Architecture:
        """Read the architecture that :meth:`cells` writes as ``cell``.

        The operation of a vertex that is no block is not looked at. Raises :class:`UsageError`
        where a vertex has another number of parents.
        """
        parents = {
            vertex: [s for i, (t, s) in enumerate(EDGES) if t == vertex and cell[i]]
            for vertex in range(1, VERTICES)
        }
        for vertex, chosen in parents.items():
            needed = len(self._parents.get(vertex, [()])[0])
            if len(chosen) != needed:
                raise UsageError(
                    f"vertex {vertex} has {len(chosen)} parents, and must have {needed}."
                )
        return (
            *(self._parents[vertex].index(tuple(parents[vertex])) for vertex in self._open),
            *cell[len(EDGES) :][: self.count],
        )


class Cells:
    """The cells of NAS-Bench-101 that the architectures of a space make.

    Architectures go by their place in lexicographic order, cells by their number in the index.

    Attributes:
        numbers: the cell of every architecture, int32 [architectures].
    """

    def __init__(self, blocks: Blocks) -> None:
        places = np.arange(len(blocks))
        self.numbers = np.concatenate(
            [
                _numbers(blocks, np.stack(np.unravel_index(part, blocks.widths), axis=1))
                for part in np.split(places, places[_CHUNK::_CHUNK])
            ]
        ).astype(np.int32)
        self._distinct, self._first = np.unique(self.numbers, return_index=True)

    def __len__(self) -> int:
        """How many distinct cells there are."""
        return len(self._distinct)

    def first(self, numbers: NDArray[np.integer]) -> Ints:
        """Return the first architecture that makes each of the cells ``numbers``: int64 [n]."""
        return self._first[np.searchsorted(self._distinct, numbers)]


@functools.cache
def blocks(number: int) -> Blocks:
    """Return the choice blocks of one space."""
    return Blocks(number)


@functools.cache
def cells(number: int) -> Cells:
    """Return the cells of one space, looked up at the first call (space 3: half a second)."""
    return Cells(blocks(number))


def _numbers(blocks: Blocks, choices: Ints) -> Ints:
    """Find the cells of architectures, int64 [n, decisions] to [n]."""
    return index().numbers(cast("Sequence[Architecture]", blocks.cells(choices)))
