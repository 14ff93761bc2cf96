"""Numbers the 423,624 distinct cells of NAS-Bench-101, and finds the number of any cell.

Two cells are one if, once dead vertices are removed, renaming vertices turns the one into the
other. An edge pattern is a number of 21 bits, bit i set where edge i of ``EDGES`` is there; the
operations are a number of five digits to the base 3, the first vertex's digit the highest. The
*topology* of a pruned edge pattern is the smallest pattern that renaming makes of it; its dead
vertices come right before the output. The representative of a cell has the topology's edges and
the smallest operations that a symmetry of the topology makes of the cell's; dead vertices have
operation 0. It is the cell that the benchmark's own enumeration meets first, and trained.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spaces.base import Architecture
from spaces.nasbench101.cell import EDGES, INNER, MAX_EDGES, OPERATIONS, VERTICES

Ints = NDArray[np.int64]

_PATTERNS: Final = 1 << len(EDGES)
_BITS: Final = 1 << np.arange(len(EDGES))
_FIRST_BIT: Final = [EDGES.index((target, 0)) for target in range(1, VERTICES)]
_CODES: Final = len(OPERATIONS) ** len(INNER)
_POWERS: Final = len(OPERATIONS) ** np.arange(len(INNER))[::-1]
_DIGITS: Final = np.arange(_CODES)[:, None] // _POWERS % len(OPERATIONS)
_RENAMINGS: Final = np.array(list(itertools.permutations(range(len(INNER)))))
_CHUNK: Final = 1 << 15


class Index:
    """The distinct cells, numbered in lexicographic order of their representatives.

    Attributes:
        edges: edge decisions of every topology, int64 [2494, 21].
        topology: number of the topology of every cell, uint16 [423624].
        operations: operations of the representative of every cell, uint8 [423624, 5].
    """

    def __init__(self) -> None:
        patterns = np.arange(_PATTERNS, dtype=np.int32)
        pruned = np.concatenate([_prune(chunk) for chunk in patterns.reshape(-1, _CHUNK)])
        own = np.flatnonzero(pruned == patterns)[1:]
        own = own[sum(own >> edge & 1 for edge in range(len(EDGES))) <= MAX_EDGES]
        renamed = _rename(own)
        topologies, topology = np.unique(renamed.min(axis=1), return_inverse=True)
        self.edges = _edges(topologies)
        order = np.lexsort(self.edges.T[::-1])
        self.edges, topology = self.edges[order], np.argsort(order)[topology]
        back = np.argsort(_RENAMINGS)
        self._code = (_DIGITS[:, back] @ _POWERS).T.astype(np.uint8)
        place = np.full(_PATTERNS, -1, np.int32)
        place[own] = topology * len(_RENAMINGS) + renamed.argmin(axis=1)
        self._place = place[pruned]
        least = self._least(renamed[np.searchsorted(own, topologies[order])])
        first = least == np.arange(_CODES)
        numbers = np.cumsum(first).reshape(first.shape) - 1
        self._number = np.take_along_axis(numbers, least.astype(np.intp), axis=1)
        topology, codes = np.nonzero(first)
        self.topology = topology.astype(np.uint16)
        self.operations = _DIGITS.astype(np.uint8)[codes]

    def __len__(self) -> int:
        """How many cells there are."""
        return len(self.topology)

    def numbers(self, archs: Sequence[Architecture] | Ints) -> Ints:
        """Find the cells that ``archs`` write: int64 [n], -1 for what is no cell."""
        decisions = np.asarray(archs, np.int64).reshape(-1, len(EDGES) + len(INNER))
        place = self._place[decisions[:, : len(EDGES)] @ _BITS]
        topology, renaming = np.divmod(place, len(_RENAMINGS))
        code = self._code[renaming, decisions[:, len(EDGES) :] @ _POWERS]
        return np.where(place < 0, -1, self._number[topology, code])

    def representatives(self, numbers: Ints) -> list[Architecture]:
        """Return the representatives of cells, by their numbers."""
        edges = self.edges[self.topology[numbers]]
        decisions = np.hstack((edges, self.operations[numbers]))
        return [tuple(row) for row in decisions.tolist()]

    def _least(self, renamed: Ints) -> NDArray[np.uint8]:
        """Return the smallest operations that symmetries make of each, uint8 [topologies, 243].

        ``renamed`` is [topologies, 120]; a renaming that changes no edge is a symmetry. The
        operations of dead vertices, the last digits, are made 0.
        """
        sources = np.array([source for _, source in EDGES])
        alive = np.stack([self.edges[:, sources == v].any(axis=1) for v in INNER], axis=1)
        unit = len(OPERATIONS) ** (len(INNER) - alive.sum(axis=1, keepdims=True))
        blank = np.arange(_CODES) // unit * unit
        topology, symmetry = np.nonzero(renamed == renamed[:, :1])
        starts = np.flatnonzero(np.diff(topology, prepend=-1))
        return np.minimum.reduceat(self._code[symmetry[:, None], blank[topology]], starts)


@functools.cache
def index() -> Index:
    """Return the one index, made at the first call (about a tenth of a second)."""
    return Index()


def _edges(patterns: Ints) -> Ints:
    """Return the edge decisions of edge patterns, [n] to [n, 21]."""
    return (patterns[:, None] & _BITS > 0).astype(np.int64)


def _rename(patterns: Ints) -> Ints:
    """Return what each renaming of the inner vertices makes of edge patterns, [n] to [n, 120].

    The first changes nothing. Results of ``_PATTERNS`` and above are in no topological order.
    """
    bit = {edge: 1 << place for place, edge in enumerate(EDGES)}
    moved = []
    for renaming in _RENAMINGS.tolist():
        name = [0, *(1 + vertex for vertex in renaming), VERTICES - 1]
        moved.append([bit.get((name[t], name[s]), _PATTERNS) for t, s in EDGES])
    renamed = _edges(patterns).astype(np.float64) @ np.array(moved, np.float64).T
    return renamed.astype(np.int64)


def _prune(patterns: NDArray[np.int32]) -> NDArray[np.int32]:
    """Keep, in edge patterns [n], the edges that lie on a path from input to output."""
    sources = [
        patterns >> first & (1 << target) - 1 for target, first in enumerate(_FIRST_BIT, start=1)
    ]
    fed = np.ones_like(patterns)
    for target, heard in enumerate(sources, start=1):
        fed |= (heard & fed > 0).astype(np.int32) << target
    live = np.full_like(patterns, 1 << VERTICES - 1)
    for target in reversed(range(1, VERTICES)):
        live |= np.where(live >> target & 1, sources[target - 1], 0)
    live &= fed
    kept = np.zeros_like(patterns)
    for target, heard in enumerate(sources, start=1):
        kept |= np.where(live >> target & 1, heard & live, 0) << _FIRST_BIT[target - 1]
    return kept
