"""The cells of DARTS: nodes, edges, operations, and which cells compute the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple

OPERATIONS: Final = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "noise",
)
(
    NONE,
    MAX_POOL,
    AVG_POOL,
    SKIP,
    SEP_CONV_3X3,
    SEP_CONV_5X5,
    DIL_CONV_3X3,
    DIL_CONV_5X5,
    NOISE,
) = range(len(OPERATIONS))

INPUTS: Final = 2
"""Nodes 0 and 1 are the outputs of the two cells before."""

NODES: Final = range(INPUTS, 6)
"""The nodes that compute something; the cell puts out all of them, concatenated."""

KINDS: Final = ("normal", "reduce")

EDGES: Final = tuple((target, source) for target in NODES for source in range(target))
"""(target, source) of the fourteen edges that a cell may have."""


class Edge(NamedTuple):
    """An edge from one node to a later one, with the operations that are left on it."""

    target: int
    source: int
    operations: tuple[int, ...]


class Input(NamedTuple):
    """One of the two inputs of a node: an operation on an earlier node, as in a genotype."""

    operation: int
    source: int


Cell = tuple[Input, ...]
"""The inputs of a cell's nodes, two for each, in the order of the nodes."""

OperationSets = tuple[tuple[int, ...], ...]
"""The operations that each of the edges in ``EDGES`` may have."""


def _everywhere(*operations: int) -> tuple[OperationSets, OperationSets]:
    """Give every edge of both cells the same operations."""
    sets = (operations,) * len(EDGES)
    return sets, sets


_S1_NORMAL: Final = (
    *((SKIP, DIL_CONV_3X3), (SKIP, DIL_CONV_5X5)),
    *((SKIP, DIL_CONV_5X5), (SKIP, SEP_CONV_3X3), (SKIP, DIL_CONV_3X3)),
    *((MAX_POOL, SKIP), (SKIP, SEP_CONV_3X3), (SKIP, SEP_CONV_3X3), (SKIP, DIL_CONV_3X3)),
    *((SKIP, SEP_CONV_3X3), (MAX_POOL, SKIP), (SKIP, DIL_CONV_3X3)),
    *((DIL_CONV_3X3, DIL_CONV_5X5), (DIL_CONV_3X3, DIL_CONV_5X5)),
)
_S1_REDUCE: Final = (
    *((MAX_POOL, AVG_POOL), (MAX_POOL, DIL_CONV_3X3)),
    *((MAX_POOL, AVG_POOL), (MAX_POOL, AVG_POOL), (SKIP, DIL_CONV_5X5)),
    *((MAX_POOL, AVG_POOL), (MAX_POOL, SEP_CONV_3X3), (SKIP, DIL_CONV_3X3), (SKIP, DIL_CONV_5X5)),
    *((MAX_POOL, AVG_POOL), (MAX_POOL, AVG_POOL)),
    *((SKIP, DIL_CONV_5X5), (SKIP, DIL_CONV_5X5), (SKIP, DIL_CONV_5X5)),
)

SUBSPACES: Final = {
    "full": _everywhere(*range(NOISE)),
    "s1": (_S1_NORMAL, _S1_REDUCE),
    "s2": _everywhere(SKIP, SEP_CONV_3X3),
    "s3": _everywhere(NONE, SKIP, SEP_CONV_3X3),
    "s4": _everywhere(SEP_CONV_3X3, NOISE),
    "s5": _everywhere(*range(MAX_POOL, NOISE)),
}
"""The operations of normal and reduction cell, by the name of the sub-space.

full is of Liu et al., ICLR 2019; s1 to s4 are of Zela et al., ICLR 2020 (*Understanding and
Robustifying Differentiable Architecture Search*), s5 of Xiang et al. 2023: full without ``none``.
"""


def edges(cell: Cell) -> list[Edge]:
    """Return the edges of a cell, two for each node, one operation on each."""
    return [
        Edge(target, source, (operation,))
        for target, pair in zip(NODES, _pairs(cell), strict=True)
        for operation, source in pair
    ]


def same(cell: Cell) -> Iterator[Cell]:
    """List the writings of what a cell computes, one of them, or several, for each.

    Two cells of the same list compute the same family of functions. What a cell puts out meets a
    1x1 convolution or the classifier, so that the order of the nodes is of no account, wherever
    every node still comes after its sources. Nor is the order of a node's two inputs, nor the
    source of ``none`` and ``noise``, which do not look at it. An operation, but for ``noise``, on
    a node that is zero is ``none``; a convolution of zero counts as zero, since its BatchNorm
    turns it into a shift that is zero at initialisation.

    In each writing a node's inputs are sorted by source, and those that look at no source name the
    smallest that is left.
    """
    live = _pairs(_without_zeros(cell))
    for order in itertools.permutations(range(len(NODES))):
        name = {INPUTS + old: INPUTS + new for new, old in enumerate(order)} | {0: 0, 1: 1}
        heard = [
            [(operation, name[source]) for operation, source in live[old] if _looks(operation)]
            for old in order
        ]
        if all(s < t for t, pair in zip(NODES, heard, strict=True) for _, s in pair):
            blind = [[o for o, _ in live[old] if not _looks(o)] for old in order]
            yield tuple(
                each
                for pair, rest in zip(heard, blind, strict=True)
                for each in _filled(pair, sorted(rest))
            )


def _pairs(cell: Cell) -> list[tuple[Input, Input]]:
    """Split a cell into the two inputs of each node."""
    return list(zip(cell[::2], cell[1::2], strict=True))


def _looks(operation: int) -> bool:
    """Whether an operation depends on its source."""
    return operation not in (NONE, NOISE)


def _without_zeros(cell: Cell) -> Cell:
    """Turn operations on zero into ``none``."""
    zero: set[int] = set()
    live: list[Input] = []
    for node, pair in zip(NODES, _pairs(cell), strict=True):
        kept = [
            Input(NONE, source)
            if source in zero and _looks(operation)
            else Input(operation, source)
            for operation, source in pair
        ]
        if all(operation == NONE for operation, _ in kept):
            zero.add(node)
        live += kept
    return tuple(live)


def _filled(heard: list[tuple[int, int]], blind: list[int]) -> list[Input]:
    """Give operations that look at no source the smallest ones left; sort by source."""
    taken = {source for _, source in heard}
    left = (source for source in range(INPUTS + 1) if source not in taken)
    inputs = [*heard, *((operation, next(left)) for operation in blind)]
    return [Input(o, s) for o, s in sorted(inputs, key=lambda each: (each[1], each[0]))]
