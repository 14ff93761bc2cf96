"""What scoring asks of the host of a GPU, counted without one.

``python -m benchmarks.launches [--networks N]`` scores NAS-Bench-201 cells as one stack, and one
cell the published way, on a simulated device (:mod:`benchmarks.simulated_device`). Printed are, for
a cell, the operations that the host issues, each of which costs it some microseconds; how often it
waits for their results; and the milliseconds of CPU time in which it builds the networks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks import published
from benchmarks.cells import distinct_cells
from benchmarks.published_network import PublishedNetwork
from benchmarks.scoring import CASES
from benchmarks.simulated_device import DEVICE, simulated_device
from proxies import registry
from proxies.batch import Minibatch, pictures
from proxies.engine import ProxyEngine
from proxies.stack import Grouped
from spaces.base import Architecture
from spaces.initial_weights import InitialWeights
from spaces.nasbench201.space import NASBench201


class Asked(NamedTuple):
    """What a cell asks of the host."""

    launches: float
    waits: float
    building_ms: float


def ours(
    space: NASBench201, archs: Sequence[Architecture], batch: Minibatch, names: Sequence[str]
) -> Asked:
    """Score ``archs`` as one stack."""
    network, seconds = _timed(lambda: space.grouped_network(archs, InitialWeights()))
    engine = ProxyEngine("cpu")
    engine.device = DEVICE
    with simulated_device() as calls:
        engine.score(Grouped(network), batch, [registry.get(name) for name in names])
    n = len(archs)
    return Asked(calls.launches / n, calls.waits.total() / n, 1e3 * seconds / n)


def published_way(
    space: NASBench201, arch: Architecture, batch: Minibatch, names: Sequence[str]
) -> Asked:
    """Score ``arch`` by a network that is built anew for each proxy."""
    assert batch.targets is not None
    network, seconds = _timed(lambda: PublishedNetwork(arch, space.classes))
    copies = [_timed(partial(network.copied, name != "synflow"))[1] for name in names]
    with simulated_device() as calls:
        there = network.to(DEVICE), batch.inputs.to(DEVICE), batch.targets.to(DEVICE)
        for name in names:
            published.PROXIES[name](*there)
    return Asked(calls.launches, calls.waits.total(), 1e3 * (seconds + sum(copies)))


def _timed(build: Callable[[], Any]) -> tuple[Any, float]:
    """Return what is built, and the median of the seconds that five builds take."""
    seconds = []
    for _ in range(5):
        began = time.process_time()
        built = build()
        seconds.append(time.process_time() - began)
    return built, statistics.median(seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--networks", type=int, default=64, help="how many run as one")
    wanted = parser.parse_args(arguments)
    torch.set_num_threads(1)
    space = NASBench201("cifar10")
    archs, batch = distinct_cells(space, wanted.networks), pictures(space, size=2)
    print(f"{'':<8}{'operations':>20}{'waits':>16}{'ms to build':>20}   ours / published way")
    for case, names in CASES.items():
        pairs = zip(
            ours(space, archs, batch, names),
            published_way(space, archs[0], batch, names),
            strict=True,
        )
        cells = [f"{mine:.4g} / {theirs:.4g}" for mine, theirs in pairs]
        print(f"{case:<8}{cells[0]:>20}{cells[1]:>16}{cells[2]:>20}")


if __name__ == "__main__":
    main()
