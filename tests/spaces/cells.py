"""Which edges of a NAS-Bench-201 cell matter, worked out apart from its canonical form."""

from __future__ import annotations

from spaces.base import Architecture
from spaces.nasbench201.cell import EDGES, NODES, NONE


def live_edges(arch: Architecture) -> list[int]:
    """Return the edges that carry a non-zero value to the output, in order.

    Empty when the cell's output is zero.
    """
    fed = {0}
    for operation, (target, source) in zip(arch, EDGES, strict=True):
        if operation != NONE and source in fed:
            fed.add(target)
    heard = {NODES - 1}
    live = []
    for edge in reversed(range(len(EDGES))):
        target, source = EDGES[edge]
        if arch[edge] != NONE and source in fed and target in heard:
            heard.add(source)
            live.append(edge)
    return live[::-1]
