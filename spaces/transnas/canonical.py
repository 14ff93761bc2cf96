"""Which cells of TransNAS-Bench-101's micro space make the same networks.

Run ``python -m spaces.transnas.canonical`` to derive ``canonical.npy`` anew (about a second).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spaces.base import Architecture
from spaces.nasbench201 import cell as nasbench201
from spaces.nasbench201.canonical import cheapest, family, write
from spaces.nasbench201.cell import EDGES, SKIP
from spaces.transnas.cell import CELLS, REPRESENTATIVES

_REDUCING_SKIP: Final = len(nasbench201.OPERATIONS)
"""A kind of convolution that NAS-Bench-201 does not have."""


def families(cell: Architecture) -> Hashable:
    """Describe what the two kinds of cells of a network compute.

    A cell that keeps the shape is one of NAS-Bench-201. So is one that halves the image and doubles
    the channels, but that a skip out of its input has weights of its own.
    """
    reducing = tuple(
        _REDUCING_SKIP if operation == SKIP and source == 0 else operation
        for operation, (_, source) in zip(cell, EDGES, strict=True)
    )
    return family(cell), family(reducing)


def derive() -> NDArray[np.uint16]:
    """Derive the representatives: uint16 [4096], both sides numbered in the order of ``CELLS``.

    Cells that make the same networks are represented by the one with the fewest convolutions, then
    the fewest skips, then the smallest tuple.
    """
    return cheapest(CELLS, families)


def main() -> None:
    """Rewrite ``canonical.npy``."""
    write(REPRESENTATIVES, derive())


if __name__ == "__main__":
    main()
