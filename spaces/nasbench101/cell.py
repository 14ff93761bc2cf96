"""The cells of NAS-Bench-101: vertices, edges, operations, and what of them matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from conf.errors import UsageError
from spaces.base import Architecture

VERTICES: Final = 7
"""Vertex 0 is the input of the cell, the last one its output."""

MAX_EDGES: Final = 9
"""Edges that a cell may have on its paths from input to output."""

OPERATIONS: Final = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
CONV_3X3, CONV_1X1, MAX_POOL = range(len(OPERATIONS))

EDGES: Final = tuple((target, source) for target in range(1, VERTICES) for source in range(target))
"""(target, source) of each edge that a cell may have, in the order of the decisions."""

INNER: Final = range(1, VERTICES - 1)
"""The vertices that have an operation."""

CHANNELS: Final = (128, 256, 512)
"""Channels that the cells of each stack put out."""

CELLS_PER_STACK: Final = 3

Adjacency = NDArray[np.bool_]
"""bool [7, 7], entry [i, j] set where vertex i feeds vertex j; upper triangular."""


def adjacency(arch: Architecture) -> Adjacency:
    """Return the edges of ``arch``, dead ones too."""
    joined = np.zeros((VERTICES, VERTICES), np.bool_)
    joined[_SOURCES, _TARGETS] = arch[: len(EDGES)]
    return joined


def operations(arch: Architecture) -> tuple[int, ...]:
    """Return the operations of the inner vertices, dead ones too."""
    return arch[len(EDGES) :]


def architecture(matrix: ArrayLike, names: Sequence[str]) -> Architecture:
    """Return the architecture of an adjacency matrix and its operations, as the benchmark has them.

    ``matrix`` is upper triangular, of zeros and ones, for two to seven vertices; ``names`` are
    those of the vertices, ``input`` and ``output`` included. Fewer than seven vertices are filled
    up with dead ones before the output. Whether input and output are joined is not looked at.

    Raises :class:`UsageError` for anything else.
    """
    size = len(names)
    if not 2 <= size <= VERTICES:
        raise UsageError(f"a cell of nasbench101 has 2 to {VERTICES} vertices, not {size}.")
    try:
        given = np.asarray(matrix)
    except ValueError:  # rows of unequal lengths
        given = np.empty(0)
    if given.shape != (size, size):
        raise UsageError(f"the matrix of {size} vertices must have {size} rows and columns.")
    if ((given != 0) & (given != 1)).any():
        raise UsageError("the matrix of a cell must hold zeros and ones.")
    if np.tril(given).any():
        raise UsageError("the matrix of a cell must be upper triangular.")
    if names[0] != "input" or names[-1] != "output":
        raise UsageError("the operations of a cell must begin with input and end with output.")
    for name in names[1:-1]:
        if name not in OPERATIONS:
            raise UsageError(f"an operation can be {', '.join(OPERATIONS)}, not '{name}'.")
    joined = np.zeros((VERTICES, VERTICES), np.int64)
    joined[: size - 1, : size - 1] = given[:-1, :-1]
    joined[: size - 1, -1] = given[:-1, -1]
    dead = (CONV_3X3,) * (VERTICES - size)
    return (
        *joined[_SOURCES, _TARGETS].tolist(),
        *(OPERATIONS.index(name) for name in names[1:-1]),
        *dead,
    )


def live(joined: Adjacency) -> list[int]:
    """List, in order, the vertices that lie on a path from input to output.

    Empty where there is no such path. The benchmark removes all others before anything else.
    """
    fed, heard = {0}, {VERTICES - 1}
    for target, source in EDGES:
        if joined[source, target] and source in fed:
            fed.add(target)
    for target, source in reversed(EDGES):
        if joined[source, target] and target in heard:
            heard.add(source)
    return sorted(fed & heard) if VERTICES - 1 in fed else []


def pruned(joined: Adjacency) -> Adjacency:
    """Return the edges that lie on a path from input to output."""
    alive = np.zeros(VERTICES, np.bool_)
    alive[live(joined)] = True
    return joined & alive[:, None] & alive


def channels(joined: Adjacency, width: int) -> list[int]:
    """Return the output channels of each vertex of a pruned cell that puts out ``width`` channels.

    The output concatenates what its inner sources bring, which share ``width`` equally; the first
    of them take one more where it does not divide. An inner vertex that does not feed the output
    has as many channels as the widest vertex that it feeds. The entries of the input and of dead
    vertices are zero.
    """
    last = VERTICES - 1
    split = [0] * last + [width]
    sharing = [v for v in INNER if joined[v, last]]
    for place, vertex in enumerate(sharing):
        split[vertex] = width // len(sharing) + (place < width % len(sharing))
    for vertex in reversed(INNER):
        if not joined[vertex, last]:
            fed = np.flatnonzero(joined[vertex])
            split[vertex] = max((split[v] for v in fed), default=0)
    return split


_TARGETS, _SOURCES = (np.array(ends) for ends in zip(*EDGES, strict=True))
