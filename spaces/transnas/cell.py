"""The cells of TransNAS-Bench-101's micro space: NAS-Bench-201's without pooling."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Final

import numpy as np

from spaces.base import Architecture
from spaces.nasbench201.cell import EDGES

OPERATIONS: Final = ("none", "skip", "conv1x1", "conv3x3")
"""The first four operations of NAS-Bench-201, under its numbers, on its edges."""

CELLS: Final = tuple(itertools.product(range(len(OPERATIONS)), repeat=len(EDGES)))
"""Every architecture, in lexicographic order."""

REPRESENTATIVES: Final = Path(__file__).with_name("canonical.npy")
"""uint16 [4096]: the index in ``CELLS`` of each cell's representative."""


@functools.cache
def representatives() -> dict[Architecture, Architecture]:
    """Return the representative of each cell, as derived by :mod:`spaces.transnas.canonical`."""
    indices = np.load(REPRESENTATIVES, allow_pickle=False).tolist()
    return {cell: CELLS[index] for cell, index in zip(CELLS, indices, strict=True)}
