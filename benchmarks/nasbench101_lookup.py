"""Time and memory that the NAS-Bench-101 table takes, and lookups a second.

Run ``python -m benchmarks.nasbench101_lookup``; the promises are: loaded, index included, in less
than 500 ms and 80 MB, and 5,000 lookups of arbitrary specifications a second. Looked up are
matrices and operations as one edit leaves them, most of which are not the writing that was
trained, with three ways of finding the row: all at once; one at a time; and the benchmark's own
way, by MD5 module hash, which is the baseline of the ratios. Times are of the processor.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.table_loading import REPEATS, peak_megabytes
from spaces.base import Architecture
from spaces.nasbench101 import NASBench101
from spaces.nasbench101.cell import OPERATIONS, adjacency, architecture, operations
from spaces.nasbench101.index import Index

LOOKUPS = 2000

Specification = tuple[list[list[int]], list[str]]


def specifications(space: NASBench101) -> list[Specification]:
    """Draw cells, edit each once, and write them as matrices and names of operations."""
    rng = np.random.default_rng(0)
    edits = [space.mutate(arch, rng) for arch in space.sample(rng, LOOKUPS)]
    return [
        (
            adjacency(arch).astype(int).tolist(),
            ["input", *(OPERATIONS[o] for o in operations(arch)), "output"],
        )
        for arch in edits
    ]


def milliseconds(load: Callable[[], object]) -> float:
    """Return the median time of one call."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        load()
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times)


def per_second(
    find: Callable[[Sequence[Architecture]], object], given: list[Specification]
) -> float:
    """Return how many specifications are read and found a second."""
    began = time.process_time()
    find([architecture(matrix, names) for matrix, names in given])
    return len(given) / (time.process_time() - began)


def main() -> None:
    """Print what loading takes, then lookups a second."""
    space = NASBench101()

    def load() -> object:
        return Index(), space.table()

    print(f"loading: {milliseconds(load):.0f} ms, peak {peak_megabytes(load):.0f} MB")
    table, given = space.table(), specifications(space)
    ways: dict[str, Callable[[Sequence[Architecture]], object]] = {
        "by module hash": lambda archs: [space.hash(arch) for arch in archs],
        "one at a time": lambda archs: [table.rows([arch]) for arch in archs],
        "all at once": table.rows,
    }
    speeds = {name: per_second(find, given) for name, find in ways.items()}
    for name, speed in speeds.items():
        ratio = speed / speeds["by module hash"]
        print(f"{name:<16}{speed:>9,.0f} lookups/s  {ratio:5.1f} times")


if __name__ == "__main__":
    main()
