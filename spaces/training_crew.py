"""Trains several architectures at once: one process each, on a share of the cores or a GPU."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import Synchronized
from typing import TYPE_CHECKING

from conf.errors import UsageError
from spaces.base import Architecture

if TYPE_CHECKING:
    from spaces.training import TrainingBenchmark


class Crew:
    """``count`` spawned processes, each with a benchmark that ``make`` builds there.

    Process k uses GPU k modulo their number, where the benchmark uses GPUs, and its share of the
    cores otherwise. The processes end with this one, however that ends.

    Raises :class:`UsageError` for a ``make`` that cannot be pickled, and where a process cannot
    start.
    """

    def __init__(self, make: Callable[[], TrainingBenchmark], count: int) -> None:
        try:
            packed = pickle.dumps(make)
        except Exception as error:
            raise UsageError(
                "benchmark.at_once needs a space that can be pickled, one whose class stands in "
                f"a module ({error}); give benchmark.at_once=1."
            ) from None
        spawn = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(
            count, spawn, _initialise, (packed, spawn.Value("i", 0), count)
        )

    def train(self, archs: Sequence[Architecture]) -> None:
        """Train ``archs``; what they come to is in the benchmark's results.

        Where one fails, the others are finished first. Raises :class:`UsageError` where a process
        dies.
        """
        try:
            running: list[Future[None]] = [self._pool.submit(_train, arch) for arch in archs]
            for failure in [future.exception() for future in running]:
                if failure is not None:
                    raise failure
        except KeyboardInterrupt:  # at its end this process would wait for the trainings'
            for process in multiprocessing.active_children():
                process.terminate()
            raise
        except BrokenProcessPool:
            raise UsageError(
                "a process that trains could not start or has died; keep what your script runs "
                "under if __name__ == '__main__', or lower benchmark.at_once. What was trained "
                "is kept."
            ) from None


_benchmark: TrainingBenchmark


def _initialise(packed: bytes, started: Synchronized[int], count: int) -> None:
    global _benchmark  # noqa: PLW0603
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    with started.get_lock():
        place = started.value
        started.value += 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(max(1, (cores or 1) // count))
    _benchmark = pickle.loads(packed)()
    if _benchmark.device.type == "cuda":
        _benchmark.device = torch.device("cuda", place % torch.cuda.device_count())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _train(arch: Architecture) -> None:
    _benchmark.evaluate(arch)
