"""The DARTS search space (Liu et al., ICLR 2019) and its sub-spaces (Zela et al., ICLR 2020)."""

from __future__ import annotations

import ast
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import (
    Architecture,
    Decision,
    Graph,
    Junction,
    Left,
    SearchSpace,
)
from spaces.darts import table
from spaces.darts.cell import (
    EDGES,
    INPUTS,
    KINDS,
    NODES,
    OPERATIONS,
    SUBSPACES,
    Cell,
    Edge,
    Input,
    edges,
    same,
)
from spaces.table import NoTableError, Table

if TYPE_CHECKING:
    from torch import nn


_SOURCES: Final = get_args(table.Source)

_TARGETS: Final = tuple(np.repeat(NODES, INPUTS).tolist())
"""The node of each input of a cell."""

_FORM: Final = (
    "Genotype(normal=[('sep_conv_3x3', 1), …], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), …], reduce_concat=range(2, 6))"
)
_CONCATS: Final = ("range(2, 6)", "[2, 3, 4, 5]", "(2, 3, 4, 5)")


class DARTS(SearchSpace):
    """A normal and a reduction cell of four nodes, each with two inputs.

    A decision is one entry of a genotype: an operation on an earlier node, or on one of the two
    cells before. The first eight are the entries of the normal cell, two for each node, the others
    those of the reduction cell. An architecture is valid where the two inputs of each node come
    from different nodes, or where it is a row of the table.

    Args:
        subspace: full: eight operations on every edge, ``none`` among them; s1: two operations,
            other ones on each edge; s2: skip and separable convolution; s3: these and ``none``;
            s4: separable convolution and noise; s5: full without ``none``.
        table: none: the whole sub-space, without accuracies; trained: the 1,000 genotypes that
            were really trained, of equal normal and reduction cells; surrogate: the 1,218 of which
            NAS-Bench-301's surrogate model predicts the accuracy. Either needs subspace=full.
        layers: cells of networks, at least 3; the published final networks have 20.
        channels: of the first cells of networks, an even number; the published have 36.

    Raises :class:`UsageError` for another sub-space or table, and for settings that are not
    possible.
    """

    name = "darts"
    graph_operations: ClassVar[tuple[str, ...]] = ("input", *OPERATIONS, "output")

    dataset = "cifar10"
    classes = 10
    image_size = 32

    def __init__(
        self,
        subspace: Literal["full", "s1", "s2", "s3", "s4", "s5"] = "full",
        table: Literal["none", "trained", "surrogate"] = "trained",
        layers: int = 8,
        channels: int = 16,
    ) -> None:
        if subspace not in SUBSPACES:
            raise unknown_name("space.subspace", subspace, SUBSPACES)
        if table not in ("none", *_SOURCES):
            raise unknown_name("space.table", table, ("none", *_SOURCES))
        if table != "none" and subspace != "full":
            raise UsageError(
                f"space.table={table} has no rows of space.subspace={subspace}; choose "
                f"space.table=none, or space.subspace=full."
            )
        if layers < 3:
            raise UsageError(f"space.layers={layers} is not possible; give 3 or more.")
        if channels < 2 or channels % 2:
            raise UsageError(
                f"space.channels={channels} is not possible; give an even number, 2 or more."
            )
        self.subspace, self.layers, self.channels = subspace, layers, channels
        self.source = None if table == "none" else table
        self._entries = [
            [
                Input(operation, source)
                for (target, source), operations in zip(EDGES, sets, strict=True)
                if target == node
                for operation in operations
            ]
            for sets in SUBSPACES[subspace]
            for node in _TARGETS
        ]
        self._choices = [{entry: i for i, entry in enumerate(e)} for e in self._entries]
        names = itertools.product(KINDS, NODES, ("first", "second"))
        self.decisions = tuple(
            Decision(f"{kind} {node} {which}", tuple(f"{OPERATIONS[o]}~{s}" for o, s in entries))
            for (kind, node, which), entries in zip(names, self._entries, strict=True)
        )

    # -- drawing and editing ------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many valid architectures there are, each order of inputs counted."""
        if self.source:
            return len(self._rows)
        return math.prod(map(len, self._pairs))

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs`` is a row of the table, or has two inputs to each node."""
        valid = self._rows.__contains__ if self.source else self._distinct
        return np.array(list(map(valid, archs)), np.bool_)

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` architectures independently and uniformly, with replacement."""
        if self.source:
            rows = list(self._rows)
            return [rows[i] for i in rng.integers(len(rows), size=n)]
        drawn = [pairs[rng.integers(len(pairs), size=n)] for pairs in self._pairs]
        return [tuple(row) for row in np.hstack(drawn).tolist()]

    def check_neighbours(self) -> None:
        """Raise :class:`UsageError` within a table, whose rows are no neighbours."""
        if self.source:
            raise UsageError(
                f"space.table={self.source} has single genotypes, which no edit turns into one "
                f"another; choose searcher=random or predictor, without "
                f"guidance.move.candidates=all, or space.table=none with benchmark=training."
            )

    def enumerate(self) -> Iterator[Architecture]:
        """Every row of the table once, in lexicographic order.

        Raises :class:`UsageError` without a table: every sub-space is too large.
        """
        if self.source is None:
            raise UsageError(
                f"space.subspace={self.subspace} has {self.size:.1e} architectures, too many to "
                f"list; give a number of them, or choose space.table=trained or surrogate."
            )
        return iter(sorted(self._rows))

    # -- names --------------------------------------------------------------------------------

    def format(self, arch: Architecture) -> str:
        """Write the genotype, as the code of DARTS prints it."""
        normal, reduce = (
            ", ".join(f"({OPERATIONS[operation]!r}, {source})" for operation, source in cell)
            for cell in self.cells(arch)
        )
        return (
            f"Genotype(normal=[{normal}], normal_concat=range(2, 6), "
            f"reduce=[{reduce}], reduce_concat=range(2, 6))"
        )

    def parse(self, text: str) -> Architecture:
        """Read a genotype; raises :class:`UsageError` on what is none of the space."""
        try:
            arch = tuple(
                self._choice(place, entry) for place, entry in enumerate(_genotype(text.strip()))
            )
            if not self.is_valid(arch):
                raise UsageError(
                    f"space.table={self.source} does not have it."
                    if self.source
                    else "the two inputs of a node must come from different nodes."
                )
        except UsageError as error:
            raise UsageError(f"'{text}' is no architecture of {self.name}: {error}") from None
        return arch

    def cells(self, arch: Architecture) -> tuple[Cell, Cell]:
        """Return the normal and the reduction cell of ``arch``."""
        inputs = tuple(entries[choice] for entries, choice in zip(self._entries, arch, strict=True))
        return inputs[: len(_TARGETS)], inputs[len(_TARGETS) :]

    # -- meaning ------------------------------------------------------------------------------

    def canonical(self, arch: Architecture) -> Architecture:
        """Return one architecture of all that compute the same.

        :func:`spaces.darts.cell.same` says when cells do. Of the writings that the sub-space has,
        it is the smallest; within a table, the first row.
        """
        normal, reduce = self.cells(arch)
        if self.source:
            return self._firsts[min(same(normal)), min(same(reduce))]
        half = len(_TARGETS)
        return self._smallest(normal, 0) + self._smallest(reduce, half)

    def graph(self, arch: Architecture) -> Graph:
        """Encode with operations as nodes, each cell: two inputs, eight operations, output [22].

        An operation feeds those on the node that it belongs to, and the output.
        """
        size = INPUTS + len(_TARGETS) + 1
        joined = np.zeros((len(KINDS) * size, len(KINDS) * size), np.bool_)
        labels = np.zeros(len(joined), np.int64)
        for start, cell in zip((0, size), self.cells(arch), strict=True):
            output = start + size - 1
            for place, (operation, source) in enumerate(cell):
                node = start + INPUTS + place
                fed_by = (
                    [start + source]
                    if source < INPUTS
                    else [start + INPUTS + other for other, t in enumerate(_TARGETS) if t == source]
                )
                joined[fed_by, node] = joined[node, output] = True
                labels[node] = 1 + operation
            labels[output] = len(self.graph_operations) - 1
        return Graph(joined, labels)

    # -- networks and tables ------------------------------------------------------------------

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network for CIFAR; see :mod:`spaces.darts.network`."""
        from spaces.darts.network import Network

        normal, reduce = self.cells(arch)
        return Network(
            edges(normal),
            edges(reduce),
            classes or self.classes,
            channels=self.channels,
            layers=self.layers,
            running_stats=running_stats,
        )

    # -- supernets ----------------------------------------------------------------------------

    @property
    def places(self) -> tuple[Decision, ...]:
        """The fourteen edges of the normal cell, then those of the reduction cell.

        None within a table, whose rows are single genotypes.
        """
        if self.source:
            return ()
        return tuple(
            Decision(f"{kind} {target}<-{source}", tuple(OPERATIONS[o] for o in operations))
            for kind, sets in zip(KINDS, SUBSPACES[self.subspace], strict=True)
            for (target, source), operations in zip(EDGES, sets, strict=True)
        )

    @property
    def junctions(self) -> tuple[Junction, ...]:
        """Each node of both cells, which keeps two inputs."""
        return tuple(
            Junction(tuple(first + i for i, (t, _) in enumerate(EDGES) if t == node), INPUTS)
            for first in (0, len(EDGES))
            for node in NODES
        )

    def supernet(self, classes: int | None = None, *, running_stats: bool = True) -> nn.Module:
        """Build the network that has all edges, each with all its operations.

        Raises :class:`UsageError` within a table.
        """
        if self.source:
            raise UsageError(
                f"space.table={self.source} has single genotypes, which no supernet holds; choose "
                "space.table=none."
            )
        from spaces.darts.network import Network

        normal, reduce = (
            [Edge(*ends, operations) for ends, operations in zip(EDGES, sets, strict=True)]
            for sets in SUBSPACES[self.subspace]
        )
        return Network(
            normal,
            reduce,
            classes or self.classes,
            channels=self.channels,
            layers=self.layers,
            running_stats=running_stats,
        )

    def decided(self, left: Left) -> Architecture:
        """Return the genotype of the edges that are not cut, one operation on each."""
        sets = [operations for kind in SUBSPACES[self.subspace] for operations in kind]
        inputs = [
            Input(operations[number], source)
            for (_, source), operations, place in zip(EDGES * len(KINDS), sets, left, strict=True)
            for number in place
        ]
        return tuple(choices[entry] for choices, entry in zip(self._choices, inputs, strict=True))

    def held(self, arch: Architecture) -> list[tuple[int, int]]:
        """List the edges of a genotype, each with the number of its operation there."""
        half = len(_TARGETS)
        found = []
        for kind, cell in enumerate(self.cells(arch)):
            for target, entry in zip(_TARGETS, cell[:half], strict=True):
                edge = EDGES.index((target, entry.source))
                number = SUBSPACES[self.subspace][kind][edge].index(entry.operation)
                found.append((kind * len(EDGES) + edge, number))
        return found

    def network_key(self) -> dict[str, Any]:
        """Add sub-space, which says what a choice means, layers and channels."""
        return {
            **super().network_key(),
            "subspace": self.subspace,
            "layers": self.layers,
            "channels": self.channels,
        }

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the validation accuracies of the genotypes that ``space.table`` names.

        Raises :class:`UsageError` where it is none, for other epochs, and where the file at
        ``path`` is not such a table.
        """
        if self.source is None:
            raise NoTableError(
                "space.table=none has no accuracies; choose space.table=trained or surrogate, or "
                "benchmark=training."
            )
        members = self._rows if path is None else self._read(path)
        if absent := self._rows.keys() - members.keys():
            raise UsageError(
                f"{path} lacks {len(absent)} of the genotypes of space.table={self.source}."
            )
        return table.load(self.source, list(members), path, epochs)

    # -- entries ------------------------------------------------------------------------------

    @functools.cached_property
    def _pairs(self) -> list[NDArray[np.int64]]:
        """The choices, [pairs, 2], that the two entries of each node may take together."""
        return [
            np.array(
                [
                    (i, j)
                    for (i, one), (j, other) in itertools.permutations(enumerate(entries), 2)
                    if one.source != other.source
                ]
            )
            for entries in self._entries[::INPUTS]
        ]

    @functools.cached_property
    def _rows(self) -> dict[Architecture, None]:
        """The architectures of the table, in its order."""
        return self._read(None)

    @functools.cached_property
    def _firsts(self) -> dict[tuple[Cell, Cell], Architecture]:
        """The first row of the table that computes each family of functions."""
        firsts: dict[tuple[Cell, Cell], Architecture] = {}
        for arch in self._rows:
            normal, reduce = self.cells(arch)
            firsts.setdefault((min(same(normal)), min(same(reduce))), arch)
        return firsts

    def _read(self, path: Path | None) -> dict[Architecture, None]:
        assert self.source
        found = table.genotypes(self.source, path)
        return dict.fromkeys(
            tuple(self._choices[i][entry] for i, entry in enumerate((*normal, *reduce)))
            for normal, reduce in found
        )

    def _smallest(self, cell: Cell, start: int) -> Architecture:
        """Return the smallest writing of a cell whose decisions begin at ``start``."""
        decisions = self._choices[start : start + len(cell)]
        return min(
            tuple(choices[entry] for choices, entry in zip(decisions, writing, strict=True))
            for writing in same(cell)
            if all(entry in choices for choices, entry in zip(decisions, writing, strict=True))
        )

    def _distinct(self, arch: Architecture) -> bool:
        normal, reduce = self.cells(arch)
        inputs = (*normal, *reduce)
        return all(a.source != b.source for a, b in zip(inputs[::2], inputs[1::2], strict=True))

    def _choice(self, place: int, entry: tuple[str, int]) -> int:
        operation, source = entry
        legal = self.decisions[place].choices
        if f"{operation}~{source}" not in legal:
            raise UsageError(
                f"{self.decisions[place].name} can be {', '.join(legal)}, not {operation}~{source}."
            )
        return legal.index(f"{operation}~{source}")


def _genotype(text: str) -> list[tuple[str, int]]:
    """Read the sixteen entries of a genotype, those of the normal cell first."""
    fields = [name for kind in KINDS for name in (kind, f"{kind}_concat")]
    try:
        call = ast.parse(text, mode="eval").body
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Genotype" and not call.args:
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            concats = {ast.unparse(given[f"{kind}_concat"]) for kind in KINDS}
            cells = [ast.literal_eval(given[kind]) for kind in KINDS]
            known = list(given) == fields and concats <= set(_CONCATS)
            if known and all(map(_is_cell, cells)):
                return [entry for cell in cells for entry in cell]
    except (SyntaxError, ValueError, TypeError, KeyError, RecursionError, MemoryError):
        pass
    raise UsageError(f"write it as {_FORM}, with eight entries a cell.")


def _is_cell(value: object) -> bool:
    """Whether ``value`` lists eight pairs of an operation and a node."""
    return (
        isinstance(value, list)
        and len(value) == len(_TARGETS)
        and all(isinstance(entry, tuple) and len(entry) == 2 for entry in value)
        and all(isinstance(o, str) and type(s) is int for o, s in value)
    )
