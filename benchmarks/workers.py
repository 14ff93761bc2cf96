"""What more workers bring: architectures a second of each kind, paired in one run.

``python -m benchmarks.workers [--proxy NAME] [--architectures N] [--rounds N]`` scores the same
distinct NAS-Bench-201 cells in this process, in one and in two processes, and, where Ray is
installed, in two actors on two nodes that this machine plays; each worker uses one thread of the
CPU. In each round every kind has its turn. Printed are medians over the rounds: seconds until the
workers take their first chunk, architectures a second from then on, and the ratio of that to this
process in the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from benchmarks.scoring import distinct_cells
from proxies import registry, workers
from proxies.batch import pictures
from proxies.workers import CHUNK, Chunk, Job, Result
from spaces.initial_weights import InitialWeights
from spaces.nasbench201.space import NASBench201

Way = Callable[[Job, Sequence[Chunk]], Iterator[Result]]


class Speed(NamedTuple):
    """Seconds until the first chunk begins, and architectures a second from then on."""

    start: float
    rate: float


def measure(results: Iterator[Result]) -> Speed:
    """Take all ``results`` and time them."""
    began = time.perf_counter()
    first = next(results)
    start = time.perf_counter() - began - first.seconds
    scored = len(first.chunk.archs) + sum(len(result.chunk.archs) for result in results)
    return Speed(start, scored / (time.perf_counter() - began - start))


@contextlib.contextmanager
def two_nodes() -> Iterator[str]:
    """Start a cluster of two nodes with one CPU each beside its head; yield its address."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 100_000_000}
    head = node | {"num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextlib.contextmanager
def ways() -> Iterator[dict[str, Way]]:
    """Yield what is compared, by name."""
    found: dict[str, Way] = {
        "inline": workers.inline,
        "1 process": partial(workers.processes, count=1),
        "2 processes": partial(workers.processes, count=2),
    }
    if importlib.util.find_spec("ray") is None:
        yield found
        return
    with two_nodes() as address:
        from proxies.ray_workers import RayCluster

        cluster = RayCluster(address, 1.0, "cpu")
        yield found | {"2 Ray nodes": partial(cluster.score, count=cluster.room())}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each kind of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--proxy", default="synflow")
    parser.add_argument("--architectures", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args(arguments)
    space, proxy = NASBench201("cifar10"), registry.get(wanted.proxy)
    cells = distinct_cells(space, wanted.architectures)
    chunks = [
        Chunk(tuple(cells[start : start + CHUNK]), (proxy,))
        for start in range(0, len(cells), CHUNK)
    ]
    weights = InitialWeights()
    job = Job(space, pictures(space), weights, running_stats=False, device="cpu", dtype="float32")
    measure(workers.inline(job, chunks[:1]))
    speeds: dict[str, list[Speed]] = {}
    with ways() as compared:
        for _ in range(wanted.rounds):
            for name, way in compared.items():
                # Pickled once for each way: what the engine has in memory stays here.
                fresh = dataclasses.replace(job)
                speeds.setdefault(name, []).append(measure(iter(way(fresh, chunks))))
    print(f"{wanted.proxy}, {len(cells)} cells, {os.cpu_count()} cores, {wanted.rounds} rounds")
    for name, ours in speeds.items():
        start, rate = (statistics.median(column) for column in zip(*ours, strict=True))
        pairs = zip(ours, speeds["inline"], strict=True)
        ratio = statistics.median(speed.rate / alone.rate for speed, alone in pairs)
        print(f"{name:<12}{start:6.1f} s to start{rate:8.1f} architectures/s{ratio:6.2f} times")


if __name__ == "__main__":
    main()
