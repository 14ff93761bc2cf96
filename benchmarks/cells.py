"""Architectures that benchmarks score."""

from __future__ import annotations

import numpy as np

from spaces.base import Architecture
from spaces.nasbench201.space import NASBench201


def distinct_cells(space: NASBench201, n: int) -> list[Architecture]:
    """Draw ``n`` cells that compute different functions."""
    rng = np.random.default_rng(0)
    found: dict[Architecture, Architecture] = {}
    while len(found) < n:
        (arch,) = space.sample(rng, 1)
        found.setdefault(space.canonical(arch), arch)
    return list(found.values())
