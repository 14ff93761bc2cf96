"""What more workers bring: architectures a second of each kind, paired in one run.

``python -m benchmarks.workers [--proxy NAME] [--architectures N] [--rounds N]`` scores the same
distinct NAS-Bench-201 cells in this process, in one and in two processes, and, where Ray is
installed, in two actors on two nodes that this machine plays; each worker uses one thread of the
CPU. In each round every kind has its turn. Printed are medians over the rounds: seconds until the
workers take their first chunk, architectures a second from then on, and how many times as many that
is as with one process.
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

from benchmarks.cells import distinct_cells
from proxies import registry, workers
from proxies.batch import pictures
from proxies.workers import CHUNK, GPU_CHUNK, Chunk, Job, Result
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
def ways(device: str) -> Iterator[dict[str, Way]]:
    """Yield what is compared, by name; a GPU is shared by more processes, and not by Ray."""
    counts = (1, 2, 4) if device == "cuda" else (1, 2)
    names = {count: f"{count} process{'es' if count > 1 else ''}" for count in counts}
    found: dict[str, Way] = {"inline": workers.inline}
    found |= {name: partial(_in_processes, count=count) for count, name in names.items()}
    if device == "cuda" or importlib.util.find_spec("ray") is None:
        yield found
        return
    with two_nodes() as address:
        from proxies.ray_workers import RayCluster

        cluster = RayCluster(address, 1.0, "cpu")
        yield found | {"2 Ray nodes": partial(cluster.score, count=cluster.room())}


def _in_processes(job: Job, chunks: Sequence[Chunk], count: int) -> Iterator[Result]:
    return workers.processes(dataclasses.replace(job, gpu_share=1 / count), chunks, count)


def compare(
    names: Sequence[str], architectures: int, rounds: int, device: str = "cpu"
) -> dict[str, Speed]:
    """Let each kind of workers score the same cells in turn; return medians over the rounds."""
    space, proxies = NASBench201("cifar10"), tuple(map(registry.get, names))
    cells = distinct_cells(space, architectures)
    size = GPU_CHUNK if device == "cuda" else CHUNK
    chunks = [
        Chunk(tuple(cells[start : start + size]), proxies) for start in range(0, len(cells), size)
    ]
    weights = InitialWeights()
    job = Job(space, pictures(space), weights, running_stats=False, device=device, dtype="float32")
    measure(workers.inline(job, chunks[:1]))
    speeds: dict[str, list[Speed]] = {}
    with ways(device) as compared:
        for _ in range(rounds):
            for name, way in compared.items():
                # Pickled once for each way: what the engine has in memory stays here.
                fresh = dataclasses.replace(job)
                speeds.setdefault(name, []).append(measure(iter(way(fresh, chunks))))
    return {
        name: Speed(*(statistics.median(column) for column in zip(*found, strict=True)))
        for name, found in speeds.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each kind of workers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--proxy", default="synflow")
    parser.add_argument("--architectures", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args(arguments)
    found = compare([wanted.proxy], wanted.architectures, wanted.rounds)
    print(
        f"{wanted.proxy}, {wanted.architectures} cells, {os.cpu_count()} cores, "
        f"{wanted.rounds} rounds"
    )
    for name, (start, rate) in found.items():
        ratio = rate / found["1 process"].rate
        print(f"{name:<12}{start:6.1f} s to start{rate:8.1f} architectures/s{ratio:6.2f} times")


if __name__ == "__main__":
    main()
