"""Time and memory that loading the NAS-Bench-201 table takes, per dataset and fidelity.

Run ``python -m benchmarks.table_loading``; the promise is below 50 ms and below 20 MB.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

from spaces.nasbench201 import NASBench201

REPEATS = 11


def milliseconds(load: Callable[[], object]) -> float:
    """Return the median wall time of one call, after a first one that warms the disk cache."""
    load()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        load()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def peak_megabytes(load: Callable[[], object]) -> float:
    """Return the peak of what one call allocates, numpy's arrays among it."""
    tracemalloc.start()
    try:
        kept = load()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak / 1e6


def main() -> None:
    """Print one line for each dataset and number of epochs."""
    print(f"{'dataset':<16}{'epochs':>6}{'ms':>8}{'peak MB':>9}")
    for dataset in ("cifar10", "cifar100", "ImageNet16-120"):
        space = NASBench201(dataset)
        for epochs in (200, 12):

            def load(space: NASBench201 = space, epochs: int = epochs) -> object:
                return space.table(epochs=epochs)

            print(f"{dataset:<16}{epochs:>6}{milliseconds(load):>8.1f}{peak_megabytes(load):>9.2f}")


if __name__ == "__main__":
    main()
