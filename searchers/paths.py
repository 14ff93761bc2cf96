"""The path encoding of architectures: how often each sequence of operations leads to the output.

White et al. 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
Search", section 4. A path is the labels of the nodes from a source of the graph to a sink.

Deviations: (1) paths are counted, not only noted as present; (2) a node labelled ``none`` carries
nothing, and paths through it do not count; (3) only paths that some of the architectures at hand
have become columns, in the order in which they are met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from spaces.base import Architecture, Graph, SearchSpace

Path = tuple[int, ...]


def paths(graph: Graph, none: int | None = None, unnamed: Collection[int] = ()) -> Counter[Path]:
    """Count the paths of ``graph`` by their labels; those through the label ``none`` do not count.

    A source is fed by nothing, a sink feeds nothing. Labels that are ``unnamed`` are passed over.
    """
    labels = graph.operations.tolist()
    found: Counter[Path] = Counter()
    for route in _routes(graph.adjacency.tobytes(), len(labels)):
        path = tuple([labels[node] for node in route])
        if none not in path:
            found[tuple([n for n in path if n not in unnamed]) if unnamed else path] += 1
    return found


@lru_cache(maxsize=2**16)
def _routes(adjacency: bytes, nodes: int) -> list[tuple[int, ...]]:
    """List the nodes on each way from a source to a sink; many architectures are joined alike."""
    joined = np.frombuffer(adjacency, np.bool_).reshape(nodes, nodes)
    feeds = [np.flatnonzero(row).tolist() for row in joined]
    fed = set().union(*feeds)

    @cache
    def onwards(node: int) -> list[tuple[int, ...]]:
        if not feeds[node]:
            return [(node,)]
        return [(node, *rest) for later in feeds[node] for rest in onwards(later)]

    return [route for node in range(nodes) if node not in fed for route in onwards(node)]


def is_chain(graph: Graph) -> bool:
    """Whether no node of ``graph`` feeds or hears more than one, so that it has one path."""
    joined = graph.adjacency
    return bool((joined.sum(0) <= 1).all() and (joined.sum(1) <= 1).all())


def some_branch(space: SearchSpace, archs: Iterable[Architecture]) -> bool:
    """Whether ``space`` writes architectures as graphs, and one of ``archs`` is no chain."""
    return bool(space.graph_operations) and not all(is_chain(space.graph(arch)) for arch in archs)


class PathEncoder:
    """Encodes architectures of one space as float32 [n, paths]; learns its columns from ``archs``.

    A path that none of ``archs`` has is left out of later encodings. Operations that are
    ``unnamed`` do not stand in paths.
    """

    def __init__(
        self,
        space: SearchSpace,
        archs: Iterable[Architecture],
        unnamed: Collection[str] = (),
    ) -> None:
        words = space.graph_operations
        self._none = words.index("none") if "none" in words else None
        self._unnamed = [n for n, word in enumerate(words) if word in unnamed]
        self._space = space
        met: dict[Path, None] = {}
        for arch in archs:
            met.update(dict.fromkeys(self._paths(arch)))
        self._columns = {path: column for column, path in enumerate(met)}

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self._columns)

    def _paths(self, arch: Architecture) -> Counter[Path]:
        return paths(self._space.graph(arch), self._none, self._unnamed)

    def __call__(self, archs: Sequence[Architecture]) -> NDArray[np.float32]:
        """Encode ``archs``."""
        code = np.zeros((len(archs), len(self._columns)), np.float32)
        for row, arch in zip(code, archs, strict=True):
            for path, count in self._paths(arch).items():
                if path in self._columns:
                    row[self._columns[path]] = count
        return code
