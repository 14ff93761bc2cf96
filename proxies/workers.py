"""Where misses are computed: in this process, or in several of this machine.

A score does not depend on which: every worker uses one thread, and every network draws its
weights from its own seed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import multiprocessing
import pickle
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from conf.errors import UsageError
from proxies.batch import Minibatch
from proxies.failures import WORKER_DIED
from proxies.registry import Proxy
from spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from proxies.engine import ProxyEngine, Scores

CHUNK: Final = 16
"""Architectures that a worker takes at a time: about half a second of work."""

_DEATHS: Final = 3


@dataclass(frozen=True)
class Chunk:
    """Networks to build, the proxies to score each by, and how often it killed its worker."""

    archs: tuple[Architecture, ...]
    proxies: tuple[Proxy, ...]
    deaths: int = 0


@dataclass(frozen=True)
class Result:
    """The scores of a chunk, [len(archs), len(proxies)], and the seconds spent on all of it."""

    chunk: Chunk
    scores: Scores
    seconds: float


@dataclass(frozen=True, eq=False)
class Job:
    """All that a worker must know besides the architectures."""

    space: SearchSpace
    batch: Minibatch
    seed: int
    running_stats: bool
    device: str
    dtype: str

    @functools.cached_property
    def engine(self) -> ProxyEngine:
        """The engine, which brings torch in."""
        from proxies.engine import ProxyEngine

        return ProxyEngine(self.device, threads=1, dtype=self.dtype)

    def run(self, chunk: Chunk) -> Result:
        """Score a chunk."""
        from proxies.engine import Scores

        began = time.perf_counter()
        shape = (len(chunk.archs), len(chunk.proxies))
        total = Scores(np.full(shape, np.nan), np.zeros(shape), {})
        with self.engine.session():
            for row, arch in enumerate(chunk.archs):
                scores = self._score(arch, chunk.proxies)
                total.values[row], total.seconds[row] = scores.values[0], scores.seconds[0]
                total.reasons.update({(row, n): why for (_, n), why in scores.reasons.items()})
        return Result(chunk, total, time.perf_counter() - began)

    def _score(self, arch: Architecture, proxies: tuple[Proxy, ...]) -> Scores:
        import torch

        from proxies.engine import Scores, describe_failure
        from proxies.stack import Single

        began = time.perf_counter()
        try:
            network = self._build(arch)
        except UsageError:
            raise
        except Exception as error:
            reasons = {(0, proxy.name): describe_failure(error) for proxy in proxies}
            nothing = np.full((1, len(proxies)), np.nan)
            return Scores(nothing, np.zeros_like(nothing), reasons)
        building = time.perf_counter() - began
        stack = Single(network, memory_format=torch.channels_last)
        scores = self.engine.score(stack, self.batch, proxies)
        return scores._replace(seconds=scores.seconds + building)

    def _build(self, arch: Architecture) -> nn.Module:
        """Build the network, its weights drawn from the seed, the network's key and ``arch``."""
        import torch

        key = json.dumps(self.space.network_key(), sort_keys=True)
        text = f"{self.seed}|{key}|{self.space.format(arch)}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
        precision = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                return self.space.network(arch, running_stats=self.running_stats)
        finally:
            torch.set_default_dtype(precision)


def inline(job: Job, chunks: Iterable[Chunk]) -> Iterator[Result]:
    """Score chunk by chunk in this process."""
    return map(job.run, chunks)


def processes(job: Job, chunks: Iterable[Chunk], count: int) -> Iterator[Result]:
    """Score in ``count`` spawned processes; results come as they are done.

    A worker that dies takes the chunks then under way with it; they are done again by fresh
    workers. A chunk lost three times is scored one architecture at a time, and those that kill
    their worker even so are NaN with that reason.
    """
    waiting, suspects = deque(chunks), deque[Chunk]()
    while waiting:
        for chunk, result in _run(job, waiting, count):
            if result is not None:
                yield result
            elif chunk.deaths + 1 < _DEATHS:
                waiting.append(dataclasses.replace(chunk, deaths=chunk.deaths + 1))
            else:
                suspects.extend(dataclasses.replace(chunk, archs=(a,)) for a in chunk.archs)
    while suspects:
        for chunk, result in _run(job, suspects, 1):
            yield result or _dead(chunk)


def _run(job: Job, waiting: deque[Chunk], count: int) -> Iterator[tuple[Chunk, Result | None]]:
    """Work through ``waiting`` until it is empty or a worker dies; lost chunks come with None."""
    pool = _start(job, count)
    running: dict[Future[Result], Chunk] = {}
    alive = True
    try:
        while running or (waiting and alive):
            while waiting and alive and len(running) < (1 if count == 1 else 2 * count):
                try:
                    running[pool.submit(_work, waiting[0])] = waiting[0]
                    waiting.popleft()
                except BrokenProcessPool:
                    alive = False
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                chunk = running.pop(future)
                try:
                    yield chunk, future.result()
                except BrokenProcessPool:
                    alive = False
                    yield chunk, None
    finally:
        pool.shutdown(cancel_futures=True)


def _start(job: Job, count: int) -> ProcessPoolExecutor:
    try:
        packed = pickle.dumps(job)
    except Exception as error:
        raise UsageError(
            "service.workers=processes needs a space that can be pickled, one whose class stands "
            f"in a module ({error}); choose service.workers=inline."
        ) from None
    pool = ProcessPoolExecutor(
        count,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_initialise,
        initargs=(packed,),
    )
    try:
        pool.submit(_work, Chunk((), ())).result()
    except BrokenProcessPool:
        pool.shutdown()
        raise UsageError(
            "service.workers=processes could not start a worker: keep what your script runs under "
            "if __name__ == '__main__', or choose service.workers=inline."
        ) from None
    return pool


_job: Job


def _initialise(packed: bytes) -> None:
    global _job  # noqa: PLW0603
    _job = pickle.loads(packed)


def _work(chunk: Chunk) -> Result:
    return _job.run(chunk)


def _dead(chunk: Chunk) -> Result:
    from proxies.engine import Scores

    shape = (len(chunk.archs), len(chunk.proxies))
    reasons = {
        (row, proxy.name): WORKER_DIED for row in range(len(chunk.archs)) for proxy in chunk.proxies
    }
    return Result(chunk, Scores(np.full(shape, np.nan), np.zeros(shape), reasons), 0.0)
