"""The cells of NAS-Bench-201: edges, operations, what of them matters, which are equivalent."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Final

import numpy as np

from spaces.base import Architecture

OPERATIONS: Final = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NONE, SKIP, CONV_1X1, CONV_3X3, AVG_POOL = range(len(OPERATIONS))

NODES: Final = 4
"""Node 0 is the input of the cell, the last one its output."""

EDGES: Final = tuple((target, source) for target in range(1, NODES) for source in range(target))
"""(target, source) of each decision, in order."""

EDGE_NAMES: Final = tuple(f"{target}<-{source}" for target, source in EDGES)

CELLS: Final = tuple(itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)))
"""Every architecture, in lexicographic order."""

REPRESENTATIVES: Final = Path(__file__).with_name("canonical.npy")
"""uint16 [15625]: the index in ``CELLS`` of each cell's representative."""


@functools.cache
def representatives() -> dict[Architecture, Architecture]:
    """Return the representative of each cell, as derived by :mod:`spaces.nasbench201.canonical`."""
    indices = np.load(REPRESENTATIVES, allow_pickle=False).tolist()
    return {cell: CELLS[index] for cell, index in zip(CELLS, indices, strict=True)}
