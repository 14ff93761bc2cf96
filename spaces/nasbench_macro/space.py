"""The search space of NAS-Bench-Macro (Su et al., CVPR 2021)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, Decision, Graph, SearchSpace
from spaces.nasbench_macro import table
from spaces.nasbench_macro.blocks import OPERATIONS, POSITIONS, compact

if TYPE_CHECKING:
    from torch import nn

    from spaces.table import Table

_PATTERN: Final = re.compile(f"[0-{len(OPERATIONS) - 1}]{{{POSITIONS}}}")


class NASBenchMacro(SearchSpace):
    """All 6,561 sequences of eight blocks, each of three kinds, on CIFAR-10.

    Text is the benchmark's own, one digit a block: ``02012100``, where 0 is the identity, 1 an
    inverted residual of kernel 3 and expansion 3, 2 one of kernel 5 and expansion 6.
    """

    name = "nasbench_macro"
    graph_operations: ClassVar[tuple[str, ...]] = OPERATIONS

    def __init__(self) -> None:
        self.decisions = tuple(
            Decision(f"block {position}", OPERATIONS) for position in range(POSITIONS)
        )
        self.dataset = "cifar10"
        self.classes = 10
        self.image_size = 32

    def format(self, arch: Architecture) -> str:
        """Write the benchmark's arch string."""
        return "".join(map(str, arch))

    def parse(self, text: str) -> Architecture:
        """Read the benchmark's arch string; raises :class:`UsageError` on anything else."""
        if _PATTERN.fullmatch(text.strip()) is None:
            raise UsageError(
                f"'{text}' is no architecture of {self.name}: write {POSITIONS} digits from 0 to "
                f"{len(OPERATIONS) - 1}, as 02012100."
            )
        return tuple(map(int, text.strip()))

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the architecture that the benchmark trained for ``arch``, one of 3,969.

        The identities of each stage stand at its end; see :func:`spaces.nasbench_macro.blocks
        .compact`.
        """
        return compact(arch)

    def graph(self, arch: Architecture) -> Graph:
        """Encode as a chain of eight nodes, each labelled with its block."""
        return Graph(np.eye(POSITIONS, k=1, dtype=np.bool_), np.array(arch, np.int64))

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network that the benchmark trains; see :mod:`spaces.nasbench_macro.network`."""
        from spaces.nasbench_macro.network import Network

        left = [(operation,) for operation in arch]
        return Network(left, classes or self.classes, running_stats=running_stats)

    @property
    def places(self) -> tuple[Decision, ...]:
        """The positions, which are the decisions."""
        return self.decisions

    def supernet(self, classes: int | None = None, *, running_stats: bool = True) -> nn.Module:
        """Build the network that has all three blocks in each position."""
        from spaces.nasbench_macro.network import Network

        left = [range(len(OPERATIONS))] * POSITIONS
        return Network(left, classes or self.classes, running_stats=running_stats)

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the test accuracies, mean of three seeds.

        Raises :class:`UsageError` for epochs that the table does not have, and where the file at
        ``path`` is not such a table.
        """
        return table.load(self, path, epochs)

    def column(self, name: str, path: Path | None = None) -> NDArray[np.float64]:
        """Load one column of the table; see :func:`spaces.nasbench_macro.table.column`."""
        return table.column(self, name, path)
