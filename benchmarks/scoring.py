"""Scoring throughput against the published way of working, paired in one run.

``python -m benchmarks.scoring [--json FILE] [--architectures N] [--cases NAME…]``
scores random distinct NAS-Bench-201 cells, group by group in turn with the published way, each way
in a process of its own with one thread, and prints architectures per second of both, their ratio,
and how far memory rises above what is loaded before the first network. Building the network counts
on both sides.

The published way is measured twice: on the network as its code holds it, thirty operations a cell
(:mod:`benchmarks.published_network`), which gives ``ratio``, and on Assay's own network
(``ratio_same_network``). ``whole_space_ratio`` is for all 15,625 cells: the published way scores
each, Assay one of each of 5,044 families, of which a random sample is timed.

It also says how many multiply-adds of convolutions ours needs, at two operations each, and how
many operations a second that comes to, beside those of a product of two matrices 1024 x 1024 in
the same process. Of the convolutions of one forward pass over the minibatch, the loss takes three
times as many, the input Jacobian one more, GraSP four more (five where several networks run as
one, as on a GPU); synaptic flow takes those of two pictures.

``--device cuda`` and ``--init shared`` measure that instead. On a GPU Assay scores larger groups,
of which the published way scores the first eight cells; synflow takes there as much as the loss of
one picture; and memory is that of the host. ``--full`` adds, for each case, stacks of several
sizes, and several worker processes.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from analysis.figures import PALETTE, STYLE, save_figure
from analysis.files import write_json
from benchmarks import published, workers
from benchmarks.cells import distinct_cells
from benchmarks.published_network import PublishedNetwork
from proxies.batch import pictures
from proxies.service import ScoringService
from proxies.workers import GPU_CHUNK
from spaces.base import Architecture
from spaces.initial_weights import INITS
from spaces.nasbench201.cell import representatives
from spaces.nasbench201.space import NASBench201

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEVEN = ("grad_norm", "snip", "grasp", "fisher", "plain", "jacob_cov", "synflow")
CASES: dict[str, tuple[str, ...]] = {
    "seven": SEVEN,
    "six": tuple(name for name in SEVEN if name != "grasp"),
    "synflow": ("synflow",),
}


FORWARD_PASSES: Final = {
    "cpu": {"seven": 8 + 2 / 64, "six": 4 + 2 / 64, "synflow": 2 / 64},
    "cuda": {"seven": 9 + 3 / 64, "six": 4 + 3 / 64, "synflow": 3 / 64},
}
"""The convolutions of each case on each device, in those of a forward pass over 64 pictures."""

MATRIX_SIDES: Final = {"cpu": 1024, "cuda": 8192}
"""Of the matrices that tell how fast a device is."""

GROUP = 8
"""Cells that one way scores before it is the other's turn."""

GROUPS = {"cpu": GROUP, "cuda": 2 * GPU_CHUNK}
"""The same of ours, on each device: a GPU wants many."""

ARCHITECTURES = {"cpu": 16, "cuda": 512}
"""Cells of each case, unless told otherwise."""

WORKERS_CELLS = {
    "cpu": {"seven": 48, "six": 64, "synflow": 1024},
    "cuda": {"seven": 1024, "six": 1024, "synflow": 2048},
}
"""Cells that workers share, with ``--full``."""

STACKS = {"cpu": (1, 4, 16), "cuda": (1, 8, 32)}
"""How many networks run as one, with ``--full``."""


@dataclass(frozen=True)
class Settings:
    """What both ways are given, and how Assay scores."""

    names: tuple[str, ...]
    device: str = "cpu"
    init: str = "independent"
    stack: int | None = None
    processes: int = 1


class Ours:
    """Asks the service."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.space = NASBench201("cifar10")
        self.service = ScoringService(
            self.space,
            batch=pictures(self.space),
            store="memory",
            device=self.settings.device,
            init=self.settings.init,  # type: ignore[arg-type]
            stack=self.settings.stack,
            workers="processes" if self.settings.processes > 1 else "inline",
            processes=self.settings.processes,
            shipped=False,
        )

    def score(self, archs: Sequence[Architecture]) -> None:
        """Score every one."""
        known = self.service.hits
        self.service.score(archs, self.settings.names)
        assert self.service.hits == known, "each cell is to be scored once"


class Published:
    """Builds each network, then copies and runs it once for each proxy."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self.names, self.device = settings.names, settings.device
        self.space = NASBench201("cifar10")
        batch = pictures(self.space)
        assert batch.targets is not None
        self.inputs, self.targets = batch.inputs.to(self.device), batch.targets.to(self.device)

    def score(self, archs: Sequence[Architecture]) -> None:
        """Score one after the other."""
        for arch in archs:
            network = self.network(arch).to(self.device)
            for name in self.names:
                published.PROXIES[name](network, self.inputs, self.targets)

    def network(self, arch: Architecture) -> torch.nn.Module:
        """Build the network as the published code holds it."""
        return PublishedNetwork(arch, self.space.classes)


class SameNetwork(Published):
    """The published way on Assay's network."""

    def network(self, arch: Architecture) -> torch.nn.Module:
        """Build the network with the operations of ``arch`` alone."""
        return self.space.network(arch)


WAYS: Final[dict[str, type[Ours] | type[Published]]] = {
    "ours": Ours,
    "published_way": Published,
    "same_network": SameNetwork,
}

_way: Ours | Published
_memory: float


def _begin(way: str, settings: Settings) -> None:
    global _way, _memory  # noqa: PLW0603
    _way = WAYS[way](settings)
    _memory = _high_water()


def _seconds(archs: Sequence[Architecture]) -> float:
    began = time.perf_counter()
    _way.score(archs)
    return time.perf_counter() - began


def _risen() -> float:
    return _high_water() - _memory


def _high_water() -> float:
    """Return the most memory that this process has had resident, in MB (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def matrix_rate(device: str) -> float:
    """Measure operations a second of a product of float32 matrices, in billions, on one thread."""
    side = MATRIX_SIDES[device]
    torch.set_num_threads(1)
    matrix = torch.rand(side, side, device=device)
    times = []
    for _ in range(9):
        began = time.perf_counter()
        float(torch.mm(matrix, matrix)[0, 0])
        times.append(time.perf_counter() - began)
    return 2 * side**3 / statistics.median(times) / 1e9


class Process:
    """One way, in a process of its own that lives as long as this is open."""

    def __init__(self, way: str, settings: Settings) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            1, mp_context=spawn, initializer=_begin, initargs=(way, settings)
        )

    def call(self, work: Callable[..., float], *given: Any) -> float:
        """Run there."""
        return self._pool.submit(work, *given).result()

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


@contextlib.contextmanager
def processes(ways: Sequence[str], settings: Settings) -> Iterator[list[Process]]:
    """Yield a process for each way."""
    opened = [Process(way, settings) for way in ways]
    try:
        yield opened
    finally:
        for process in opened:
            process.close()


def measure(case: str, settings: Settings, architectures: int) -> dict[str, Any]:
    """Score groups of cells each way in turn; a first group that warms up is not counted."""
    space = NASBench201("cifar10")
    device, size = settings.device, GROUPS[settings.device]
    cells = distinct_cells(space, architectures + size)
    known = set(map(space.canonical, cells))
    others = [arch for arch in sorted(set(representatives().values())) if arch not in known]
    chosen = np.random.default_rng(1).choice(
        len(others), min(architectures, len(others)), replace=False
    )
    rates = []
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    scored: dict[str, list[int]] = {way: [] for way in WAYS}
    with processes(list(WAYS), settings) as opened:
        for start in range(0, len(cells), size):
            group = cells[start : start + size]
            for way, process in zip(WAYS, opened, strict=True):
                given = group if way == "ours" else group[:GROUP]
                seconds[way].append(process.call(_seconds, given))
                scored[way].append(len(given))
            rates.append(opened[0].call(matrix_rate, device))
        anywhere = opened[0].call(_seconds, [others[n] for n in chosen]) / len(chosen)
        memory = [process.call(_risen) for process in opened]
    costs = ScoringService(space, store="memory", device="cpu", shipped=False)
    flops = costs.score(cells[size:], ["flops"]).values.mean()
    needed = 2 * flops * len(pictures(space).inputs) * FORWARD_PASSES[device][case] / 1e9
    ours, theirs, same = (sum(seconds[way][1:]) / sum(scored[way][1:]) for way in WAYS)
    families = len(known) + len(others)
    return {
        "ours_per_second": 1 / ours,
        "published_way_per_second": 1 / theirs,
        "ratio": theirs / ours,
        "same_network_per_second": 1 / same,
        "ratio_same_network": same / ours,
        "whole_space_ratio": len(representatives()) * theirs / (families * anywhere),
        "ours_peak_megabytes": memory[0],
        "published_way_peak_megabytes": memory[1],
        "ours_gigaflops": needed,
        "ours_gigaflops_per_second": needed / ours,
        "matrix_gigaflops_per_second": statistics.median(rates),
        "device": device,
        "init": settings.init,
        "threads": 1,
        "architectures": architectures,
    }


def rate(settings: Settings, architectures: int) -> float:
    """Measure architectures a second of ours alone, a first group not counted."""
    first = GROUPS[settings.device]
    cells = distinct_cells(NASBench201("cifar10"), architectures + first)
    with processes(["ours"], settings) as (ours,):
        ours.call(_seconds, cells[:first])
        return architectures / ours.call(_seconds, cells[first:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case and print it; with ``--json`` also write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--architectures", type=int, help="cells per case")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--init", choices=INITS, default=INITS[0])
    parser.add_argument("--full", action="store_true", help="also stacks and workers")
    options = parser.parse_args(arguments)
    architectures = options.architectures or ARCHITECTURES[options.device]
    figures: dict[str, Any] = {}
    for case in options.cases:
        names = CASES[case]
        settings = Settings(names, options.device, options.init)
        figures[case] = row = measure(case, settings, architectures)
        print(
            f"{case:<8}{row['ours_per_second']:7.1f} a second, the published way "
            f"{row['published_way_per_second']:5.2f}: {row['ratio']:.1f} times "
            f"({row['ratio_same_network']:.1f} on the same network, whole space "
            f"{row['whole_space_ratio']:.1f}); peak memory "
            f"{row['ours_peak_megabytes']:.0f} MB, {row['published_way_peak_megabytes']:.0f} MB; "
            f"{row['ours_gigaflops']:.1f} Gflop, "
            f"{row['ours_gigaflops_per_second']:.0f} a second, "
            f"matrices at {row['matrix_gigaflops_per_second']:.0f}",
            flush=True,
        )
        if options.full:
            row["stacks"] = {
                str(stack): rate(dataclasses.replace(settings, stack=stack), architectures)
                for stack in STACKS[options.device]
            }
            shared = WORKERS_CELLS[options.device][case]
            found = workers.compare(names, shared, rounds=1, device=options.device)
            row["workers"] = {kind: speeds.rate for kind, speeds in found.items()}
            for what in ("stacks", "workers"):
                rates = ", ".join(f"{kind} {n:.2f}" for kind, n in row[what].items())
                print(f"{'':<8}cells a second by {what}: {rates}", flush=True)
    if options.json:
        write_json(options.json, figures)
        save_figure(plotted(figures), options.json.with_suffix(""))


def plotted(figures: dict[str, Any]) -> Figure:
    """Draw how many times as fast as the published way each case is."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    bars = {
        "published way, on its network": "ratio",
        "published way, on ours": "ratio_same_network",
        "whole space": "whole_space_ratio",
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(6, 2.6))
        ax = figure.subplots()
        for n, (label, key) in enumerate(bars.items()):
            places = np.arange(len(figures)) + (n - 1) * 0.27
            heights = [row[key] for row in figures.values()]
            ax.bar_label(ax.bar(places, heights, 0.25, label=label, color=PALETTE[n]), fmt="%.1f")
        ax.set_xticks(range(len(figures)), list(figures))
        ax.set_ylabel("times as fast")
        ax.legend()
    return figure


if __name__ == "__main__":
    main()
