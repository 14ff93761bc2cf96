"""How many scores a second the parts between GPUs can take: store, driver and network.

``python -m benchmarks.saturation [--store URL] [--chunks N]`` measures, with chunks of sixteen
NAS-Bench-201 cells by seven proxies,

- store: chunks a second that one process writes to an empty store (SQLite in a temporary folder,
  or ``--store``), and that two write at once to the same;
- driver: chunks a second that the scoring service looks up, hands out, takes back and keeps when
  computing takes no time;
- network: bytes of a chunk and of its result as they go to another machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import pickle
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np

from benchmarks.scoring import SEVEN
from proxies import registry, workers
from proxies.engine import Scores
from proxies.service import ScoringService
from proxies.store import Row, open_store
from proxies.workers import CHUNK, Chunk, Job, Result
from spaces.base import Architecture
from spaces.nasbench201.space import NASBench201


def write_chunks(store: str, writer: int, chunks: int) -> float:
    """Write chunks of scores of architectures of one's own; return the seconds."""
    opened = open_store(store)
    contexts = [opened.context({"proxy": name, "benchmark": "saturation"}) for name in SEVEN]
    began = time.perf_counter()
    for chunk in range(chunks):
        for context in contexts:
            names = [f"{writer}/{chunk}/{n}" for n in range(CHUNK)]
            opened.put_many(context, {name: Row(float(chunk), 0.1, None) for name in names})
    seconds = time.perf_counter() - began
    opened.close()
    return seconds


def store_rate(store: str, writers: int, chunks: int) -> float:
    """Let ``writers`` processes write at once; return the chunks a second of all together."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(writers, mp_context=spawn) as pool:
        list(pool.map(write_chunks, [store] * writers, range(-writers, 0), [1] * writers))
        seconds = list(
            pool.map(write_chunks, [store] * writers, range(writers), [chunks] * writers)
        )
    return writers * chunks / max(seconds)


def answered(chunk: Chunk) -> Result:
    """Make up a result at once."""
    shape = (len(chunk.archs), len(chunk.proxies))
    return Result(chunk, Scores(np.zeros(shape), np.zeros(shape), {}), 0.0)


def driver_rate(store: str, cells: Sequence[Architecture]) -> float:
    """Ask a service for scores that take no time to compute; return chunks a second."""

    def at_once(_: Job, chunks: Iterable[Chunk]) -> Iterator[Result]:
        return map(answered, chunks)

    service = ScoringService(NASBench201("cifar10"), store=store, device="cpu", shipped=False)
    service.score(cells[:1], SEVEN)
    with mock.patch.object(workers, "inline", at_once):
        began = time.perf_counter()
        service.score(cells[1:], SEVEN)
        seconds = time.perf_counter() - began
    service.close()
    return len(cells) / CHUNK / seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--store", help="an empty postgresql:// database instead of SQLite")
    parser.add_argument("--chunks", type=int, default=200)
    wanted = parser.parse_args(arguments)
    space = NASBench201("cifar10")
    cells = sorted({space.canonical(arch) for arch in space.enumerate()})
    chunk = Chunk(tuple(cells[:CHUNK]), tuple(map(registry.get, SEVEN)))
    with tempfile.TemporaryDirectory() as folder:
        for writers in (1, 2):
            store = wanted.store or str(Path(folder) / f"{writers}.sqlite")
            found = store_rate(store, writers, wanted.chunks)
            print(f"store, {writers} writing: {found:6.0f} chunks/s, {found * CHUNK:8.0f} cells/s")
        store = wanted.store or str(Path(folder) / "driver.sqlite")
        found = driver_rate(store, cells)
        print(f"driver:           {found:6.0f} chunks/s, {found * CHUNK:8.0f} cells/s")
    sizes = [len(pickle.dumps(thing)) for thing in (chunk, dataclasses.astuple(answered(chunk)))]
    print(f"network:          {sizes[0]} bytes to a worker, {sizes[1]} back, a chunk")


if __name__ == "__main__":
    main()
