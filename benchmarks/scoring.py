"""Scoring throughput against the published way of working, paired in one run.

``python -m benchmarks.scoring [--json FILE] [--architectures N]`` scores random distinct
NAS-Bench-201 cells, group by group in turn with the published way, on one thread each, and prints
architectures per second of both, their ratio, and how far memory rises above what is loaded before
the first network. Building the network counts on both sides.

It also says how many multiply-adds of convolutions ours needs, at two operations each, and how
many operations a second that comes to, beside those of a product of two matrices 1024 x 1024 in
the same run. Of the convolutions of one forward pass over the minibatch, the loss takes three times
as many, the input Jacobian one more, GraSP five more; synaptic flow takes those of two pictures.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from analysis.files import write_json
from benchmarks import published
from proxies.batch import pictures
from proxies.service import ScoringService
from spaces.base import Architecture
from spaces.nasbench201.space import NASBench201

SEVEN = ("grad_norm", "snip", "grasp", "fisher", "plain", "jacob_cov", "synflow")
CASES: dict[str, tuple[str, ...]] = {
    "seven": SEVEN,
    "six": tuple(name for name in SEVEN if name != "grasp"),
    "synflow": ("synflow",),
}


FORWARD_PASSES: dict[str, float] = {"seven": 9 + 2 / 64, "six": 4 + 2 / 64, "synflow": 2 / 64}
"""The convolutions of each case, in those of one forward pass over 64 pictures."""

GROUP = 8
"""Cells that one way scores before it is the other's turn."""


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


class Ways:
    """Both ways of scoring one cell of NAS-Bench-201 by some proxies, on one thread."""

    def __init__(self, names: Sequence[str]) -> None:
        torch.set_num_threads(1)
        self.names = names
        self.space = NASBench201("cifar10")
        self.batch = pictures(self.space)
        self.service = ScoringService(
            self.space, batch=self.batch, store="memory", device="cpu", shipped=False
        )

    def ours(self, archs: Sequence[Architecture]) -> None:
        """Ask the service."""
        self.service.score(archs, self.names)

    def published(self, archs: Sequence[Architecture]) -> None:
        """Build each network, then copy and run it once for each proxy."""
        assert self.batch.targets is not None
        for arch in archs:
            network = self.space.network(arch)
            for name in self.names:
                published.PROXIES[name](network, self.batch.inputs, self.batch.targets)


def peak_megabytes(way: str, names: Sequence[str], cells: Sequence[Architecture]) -> float:
    """Score ``cells`` one way in a process of its own; return how far its memory rose."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory, way, names, cells).result()


def _memory(way: str, names: Sequence[str], cells: Sequence[Architecture]) -> float:
    ways = Ways(names)
    before = _high_water()
    getattr(ways, way)(cells)
    return _high_water() - before


def _high_water() -> float:
    """Return the most memory that this process has had resident, in MB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def matrix_rate() -> float:
    """Measure operations a second of a product of float32 matrices, in billions, on one thread."""
    side = 1024
    matrix = torch.rand(side, side)
    times = [seconds(lambda: matrix @ matrix) for _ in range(9)]
    return 2 * side**3 / statistics.median(times) / 1e9


def measure(case: str, architectures: int) -> dict[str, Any]:
    """Score groups of cells both ways in turn; a first group that warms up is not counted."""
    names = CASES[case]
    ways = Ways(names)
    cells = distinct_cells(ways.space, architectures + GROUP)
    rates = [matrix_rate()]
    times: dict[str, list[float]] = {"ours": [], "published": []}
    for start in range(0, len(cells), GROUP):
        group = cells[start : start + GROUP]
        times["ours"].append(seconds(functools.partial(ways.ours, group)))
        times["published"].append(seconds(functools.partial(ways.published, group)))
        rates.append(matrix_rate())
    flops = ways.service.score(cells[GROUP:], ["flops"]).values.sum()
    needed = 2 * flops * len(ways.batch.inputs) * FORWARD_PASSES[case] / 1e9
    ours, theirs = (sum(times[way][1:]) for way in ("ours", "published"))
    ratios = [b / a for a, b in zip(times["ours"][1:], times["published"][1:], strict=True)]
    return {
        "ours_per_second": architectures / ours,
        "published_way_per_second": architectures / theirs,
        "ratio": theirs / ours,
        "median_ratio_of_groups": statistics.median(ratios),
        "ours_peak_megabytes": peak_megabytes("ours", names, cells[:3]),
        "published_way_peak_megabytes": peak_megabytes("published", names, cells[:3]),
        "ours_gigaflops": needed / architectures,
        "ours_gigaflops_per_second": needed / ours,
        "matrix_gigaflops_per_second": statistics.median(rates),
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
    figures = {}
    for case in CASES:
        figures[case] = row = measure(case, options.architectures)
        print(
            f"{case:<10}{row['ours_per_second']:8.1f} a second, the published way "
            f"{row['published_way_per_second']:6.1f}: {row['ratio']:.2f} times; peak memory "
            f"{row['ours_peak_megabytes']:.0f} MB, {row['published_way_peak_megabytes']:.0f} MB; "
            f"{row['ours_gigaflops']:.1f} Gflop, "
            f"{row['ours_gigaflops_per_second']:.0f} a second, "
            f"matrices at {row['matrix_gigaflops_per_second']:.0f}"
        )
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
