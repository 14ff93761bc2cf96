"""Scoring throughput against the published way of working, paired in one run.

``python -m benchmarks.scoring [--json FILE] [--architectures N]`` scores random distinct
NAS-Bench-201 cells, cell by cell in turn with the published way, on one thread each, and prints
architectures per second of both and their ratio. Building the network counts on both sides.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.files import write_json
from benchmarks import published
from proxies.batch import Minibatch, pictures
from proxies.service import ScoringService
from spaces.base import Architecture
from spaces.nasbench201.space import NASBench201

SEVEN = ("grad_norm", "snip", "grasp", "fisher", "plain", "jacob_cov", "synflow")
CASES: dict[str, tuple[str, ...]] = {
    "seven": SEVEN,
    "six": tuple(name for name in SEVEN if name != "grasp"),
    "synflow": ("synflow",),
}


def distinct_cells(space: NASBench201, n: int) -> list[Architecture]:
    """Draw ``n`` cells that compute different functions."""
    rng = np.random.default_rng(0)
    found: dict[Architecture, Architecture] = {}
    while len(found) < n:
        (arch,) = space.sample(rng, 1)
        found.setdefault(space.canonical(arch), arch)
    return list(found.values())


def seconds(work: Callable[[], Any]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def the_published_way(
    space: NASBench201, arch: Architecture, batch: Minibatch, names: Sequence[str]
) -> None:
    """Build the network, then copy and run it once for each proxy."""
    network = space.network(arch)
    assert batch.targets is not None
    for name in names:
        published.PROXIES[name](network, batch.inputs, batch.targets)


def measure(names: Sequence[str], architectures: int) -> dict[str, Any]:
    """Score each cell both ways in turn; rates are of the medians."""
    space = NASBench201("cifar10")
    service = ScoringService(space, store="memory", device="cpu")
    batch = pictures(space)
    cells = distinct_cells(space, architectures + 1)
    times: dict[str, list[float]] = {"ours": [], "published": []}
    for arch in cells:
        times["ours"].append(seconds(lambda arch=arch: service.score([arch], names)))  # type: ignore[misc]
        times["published"].append(
            seconds(lambda arch=arch: the_published_way(space, arch, batch, names))  # type: ignore[misc]
        )
    ours, theirs = (sum(times[way][1:]) for way in ("ours", "published"))
    ratios = [b / a for a, b in zip(times["ours"][1:], times["published"][1:], strict=True)]
    return {
        "ours_per_second": architectures / ours,
        "published_way_per_second": architectures / theirs,
        "ratio": theirs / ours,
        "median_ratio_of_pairs": statistics.median(ratios),
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "architectures": architectures,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and print it; with ``--json`` also write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--architectures", type=int, default=20, help="cells per case")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures = {}
    for case, names in CASES.items():
        figures[case] = row = measure(names, options.architectures)
        print(
            f"{case:<10}{row['ours_per_second']:8.1f} a second, the published way "
            f"{row['published_way_per_second']:6.1f}: {row['ratio']:.2f} times"
        )
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
