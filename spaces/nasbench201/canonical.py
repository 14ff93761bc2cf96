"""Which cells of NAS-Bench-201 compute the same family of functions.

Run ``python -m spaces.nasbench201.canonical`` to derive ``canonical.npy`` anew (about a second).
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spaces.base import Architecture
from spaces.nasbench201.cell import (
    AVG_POOL,
    CELLS,
    CONV_1X1,
    CONV_3X3,
    EDGES,
    NODES,
    NONE,
    REPRESENTATIVES,
    SKIP,
)

_INPUT: Final = -1

_Value = Counter[tuple[int, int]]
"""A node's value as a sum: how often it holds each (generator, number of poolings)."""


def family(arch: Architecture) -> Hashable:
    """Describe what a cell computes: equal for two cells exactly if they compute the same family.

    A node's value is a sum of *generators*, each pooled some number of times. Generators are the
    input of the cell and the convolutions, each with weights of its own. A skip passes the sum on.
    Average pooling is linear and has no weights: it distributes over the sum, and equal poolings
    of one value are one. A convolution of nothing is nothing: its BatchNorm turns zero into its
    shift, a learnable constant that is zero at initialisation, and is counted as zero. The
    convolutions that reach the output are numbered so that the description becomes smallest, which
    forgets the edges that they stand on.

    Cells are compared at equal weights: a convolution of ``x + x``, which could be had from ``x``
    with doubled weights, is not a convolution of ``x``, since initialisation tells them apart.
    """
    convolutions: list[tuple[int, _Value]] = []
    nodes: list[_Value] = [Counter({(_INPUT, 0): 1})]
    nodes += [Counter() for _ in range(1, NODES)]
    for operation, (target, source) in zip(arch, EDGES, strict=True):
        value = nodes[source]
        if operation == NONE or not value:
            continue
        if operation == SKIP:
            nodes[target].update(value)
        elif operation == AVG_POOL:
            nodes[target].update({(g, pools + 1): times for (g, pools), times in value.items()})
        else:
            nodes[target][len(convolutions), 0] += 1
            convolutions.append((operation, value))
    output = nodes[-1]
    live = _reached(output, convolutions)
    return min(
        _describe(output, [convolutions[g] for g in order], {g: i for i, g in enumerate(order)})
        for order in itertools.permutations(live)
    )


def derive() -> NDArray[np.uint16]:
    """Derive the representatives: uint16 [15625], both sides numbered in the order of ``CELLS``.

    A family is represented by its cell with the fewest convolutions, then the fewest poolings,
    then the fewest skips, then the smallest tuple.
    """
    return cheapest(CELLS, family)


def cheapest(
    cells: Sequence[Architecture], describe: Callable[[Architecture], Hashable]
) -> NDArray[np.uint16]:
    """Represent each cell by the cheapest that is described alike: places in ``cells``, [n]."""
    described = [describe(cell) for cell in cells]
    best: dict[Hashable, int] = {}
    for index in sorted(range(len(cells)), key=lambda i: _cost(cells[i])):
        best.setdefault(described[index], index)
    return np.array([best[d] for d in described], np.uint16)


def write(file: Path, representatives: NDArray[np.uint16]) -> None:
    """Replace a file of representatives, and say how many differ."""
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    with draft.open("wb") as opened:
        np.save(opened, representatives)
    draft.replace(file)
    print(f"{file.name}: {len(set(representatives.tolist()))} of {len(representatives)} differ")


def _reached(output: _Value, convolutions: list[tuple[int, _Value]]) -> list[int]:
    reached: set[int] = set()
    ahead = {g for g, _ in output}
    while ahead:
        generator = ahead.pop()
        if generator != _INPUT and generator not in reached:
            reached.add(generator)
            ahead |= {g for g, _ in convolutions[generator][1]}
    return sorted(reached)


def _describe(
    output: _Value, convolutions: list[tuple[int, _Value]], numbers: dict[int, int]
) -> tuple[tuple[tuple[int, tuple[tuple[int, ...], ...]], ...], tuple[tuple[int, ...], ...]]:
    def terms(value: _Value) -> tuple[tuple[int, ...], ...]:
        return tuple(
            sorted((numbers.get(g, _INPUT), pools, times) for (g, pools), times in value.items())
        )

    return tuple((operation, terms(value)) for operation, value in convolutions), terms(output)


def _cost(arch: Architecture) -> tuple[int, int, int, Architecture]:
    convolutions = arch.count(CONV_1X1) + arch.count(CONV_3X3)
    return convolutions, arch.count(AVG_POOL), arch.count(SKIP), arch


def main() -> None:
    """Rewrite ``canonical.npy``."""
    write(REPRESENTATIVES, derive())


if __name__ == "__main__":
    main()
