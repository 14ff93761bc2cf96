"""Where misses are computed: in this process, or in several of this machine or of a cluster.

A score does not depend on which: every worker uses one thread, and no network's weights depend on
what else is built.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import multiprocessing
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from conf.errors import UsageError
from proxies.batch import Minibatch
from proxies.failures import OUT_OF_MEMORY, WORKER_DIED, describe
from proxies.memory import keep_memory
from proxies.registry import Proxy
from proxies.stack_size import StackSize
from spaces.base import Architecture, SearchSpace
from spaces.initial_weights import InitialWeights
from spaces.supernets import Supernets

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from proxies.engine import ProxyEngine, Scores
    from spaces.branched import Branched

CHUNK: Final = 16
"""Architectures that a worker takes at a time: about half a second of work."""

GPU_CHUNK: Final = 64
"""The same, where networks run as one: up to so many."""

DEATHS: Final = 3
"""How often a chunk may be lost with its worker before its architectures are tried alone."""


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
    weights: InitialWeights
    running_stats: bool
    device: str
    dtype: str
    stack: int | None = None
    gpu_share: float = 1.0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a worker must find out for itself: its engine, and how much it holds."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def engine(self) -> ProxyEngine:
        """The engine, which brings torch in."""
        from proxies.engine import ProxyEngine

        keep_memory()
        return ProxyEngine(self.device, threads=1, dtype=self.dtype)

    @functools.cached_property
    def _stack_size(self) -> StackSize:
        return StackSize(self.gpu_share)

    def run(self, chunk: Chunk) -> Result:
        """Score a chunk: what can be by passes over many networks at once, the rest one by one."""
        began = time.perf_counter()
        with self.engine.session():
            scores = self._score_grouped(chunk) if self._grouping else self._score_light(chunk)
            for row, arch in enumerate(chunk.archs):
                missing = np.flatnonzero(np.isnan(scores.values[row]))
                if len(missing):
                    found = self._score(arch, tuple(chunk.proxies[column] for column in missing))
                    scores.values[row, missing] = found.values[0]
                    scores.seconds[row, missing] = found.seconds[0]
                    scores.reasons.update({(row, n): why for (_, n), why in found.reasons.items()})
        return Result(chunk, scores, time.perf_counter() - began)

    @property
    def _grouping(self) -> bool:
        """Whether networks run layer by layer: on a CPU that is slower than one by one."""
        return self.engine.device.type == "cuda" if self.stack is None else self.stack > 1

    def _score_grouped(self, chunk: Chunk) -> Scores:
        """Score by networks that run layer by layer; NaN is what is left to do."""
        from proxies.stack import Grouped

        scores, start = _nothing(chunk), 0
        passes = frozenset(proxy.reads for proxy in chunk.proxies)
        with contextlib.suppress(Exception):  # one by one, each failure gets its reason
            while start < len(chunk.archs):
                rows = slice(start, start + (self.stack or self._stack_size.networks(passes)))
                began = time.perf_counter()
                module = self.space.grouped_network(chunk.archs[rows], self.weights)
                if module is None:
                    return self._score_light(chunk)
                stack = Grouped(module)
                building = (time.perf_counter() - began) / stack.size
                learning = self._stack_size.watch(passes, stack.size)
                with nullcontext() if self.stack else learning:
                    found = self.engine.score(stack, self.batch, chunk.proxies)
                crowded = OUT_OF_MEMORY in found.reasons.values()
                if crowded and stack.size > 1 and not self.stack:
                    self._stack_size.too_many(passes, stack.size)
                    continue
                scores.values[rows] = found.values
                scores.seconds[rows] = found.seconds + building
                start += stack.size
        return scores

    def _score_light(self, chunk: Chunk) -> Scores:
        """Score by the passes so light that building a network takes longer; NaN is left to do."""
        from proxies.passes.run import STACKING
        from proxies.stack import Stacked

        if isinstance(self.space, Supernets):
            return self._score_branches(chunk, self.space)
        scores = _nothing(chunk)
        columns = [c for c, proxy in enumerate(chunk.proxies) if proxy.reads in STACKING]
        if not columns:
            return scores
        began = time.perf_counter()
        with contextlib.suppress(Exception):  # one by one, each failure gets its reason
            module = self.space.stacked_network(chunk.archs, self.weights)
            if module is not None:
                building = (time.perf_counter() - began) / len(chunk.archs)
                proxies = [chunk.proxies[column] for column in columns]
                found = self.engine.score(Stacked(module), self.batch, proxies)
                scores.values[:, columns] = found.values
                scores.seconds[:, columns] = found.seconds + building
        return scores

    def _score_branches(self, chunk: Chunk, space: Supernets) -> Scores:
        """Score supernets that differ in one place by the passes that run them as one."""
        from proxies.passes.run import BRANCHING
        from proxies.stack import Branching

        scores = _nothing(chunk)
        columns = [c for c, proxy in enumerate(chunk.proxies) if proxy.reads in BRANCHING]
        proxies = [chunk.proxies[column] for column in columns]
        for rows in space.branches(chunk.archs) if columns else ():
            archs = [chunk.archs[row] for row in rows]
            if len(archs) < 2:
                continue
            began = time.perf_counter()
            with contextlib.suppress(Exception):  # one by one, each failure gets its reason
                module = _branched(space, self.weights, self.running_stats)
                module.arrange([space.decode(arch) for arch in archs])
                building = (time.perf_counter() - began) / len(archs)
                found = self.engine.score(Branching(module), self.batch, proxies)
                scores.values[np.ix_(rows, columns)] = found.values
                scores.seconds[np.ix_(rows, columns)] = found.seconds + building
        return scores

    def _score(self, arch: Architecture, proxies: tuple[Proxy, ...]) -> Scores:
        import torch

        from proxies.engine import Scores
        from proxies.stack import Single

        began = time.perf_counter()
        try:
            network = self.weights.network(self.space, arch, running_stats=self.running_stats)
        except UsageError:
            raise
        except Exception as error:
            reasons = {(0, proxy.name): describe(error) for proxy in proxies}
            nothing = np.full((1, len(proxies)), np.nan)
            return Scores(nothing, np.zeros_like(nothing), reasons)
        building = time.perf_counter() - began
        stack = Single(network, memory_format=torch.channels_last)
        scores = self.engine.score(stack, self.batch, proxies)
        return scores._replace(seconds=scores.seconds + building)


@functools.lru_cache(maxsize=1)
def _branched(space: Supernets, weights: InitialWeights, running_stats: bool) -> Branched:
    """Return the network of all supernets that are drawn alike, kept for the next ones."""
    build = functools.partial(space.branched, running_stats=running_stats)
    return weights.drawn(space, space.whole, build)


def inline(job: Job, chunks: Iterable[Chunk]) -> Iterator[Result]:
    """Score chunk by chunk in this process."""
    return map(job.run, chunks)


def processes(job: Job, chunks: Iterable[Chunk], count: int) -> Iterator[Result]:
    """Score in ``count`` spawned processes; results come as they are done.

    A worker that dies takes the chunks then under way with it; they are done again, by fresh
    workers, as :func:`redo_lost` says.
    """
    return redo_lost(chunks, lambda waiting, alone: _run(job, waiting, 1 if alone else count))


class Queue:
    """Chunks to do: those put back first, then those of an iterator, drawn as late as possible."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._back: deque[Chunk] = deque()
        self._chunks = iter(chunks)

    def __bool__(self) -> bool:
        if not self._back:
            self._back.extend(itertools.islice(self._chunks, 1))
        return bool(self._back)

    def take(self) -> Chunk:
        """Return the next chunk; call it where there is one."""
        return self._back.popleft()

    def put_back(self, chunk: Chunk) -> None:
        """Queue a chunk that has to be done again."""
        self._back.append(chunk)


Crew = Callable[[Queue, bool], Iterator[tuple[Chunk, Result | None]]]
"""Works through a queue, if told so one chunk at a time; a chunk comes back with its result, or
with None if it was lost with its worker. May stop early, and is then called again."""


def redo_lost(chunks: Iterable[Chunk], crew: Crew) -> Iterator[Result]:
    """Score all ``chunks`` by workers that may die; results come as they are done.

    A chunk lost three times is scored one architecture at a time, alone, and the architectures
    that are lost even so are NaN, with that reason.
    """
    waiting, suspects = Queue(chunks), Queue(())
    while waiting:
        for chunk, result in crew(waiting, False):
            if result is not None:
                yield result
            elif chunk.deaths + 1 < DEATHS:
                waiting.put_back(dataclasses.replace(chunk, deaths=chunk.deaths + 1))
            else:
                for arch in chunk.archs:
                    suspects.put_back(dataclasses.replace(chunk, archs=(arch,)))
    while suspects:
        for chunk, result in crew(suspects, True):
            yield result or _dead(chunk)


def cores() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_gpu(device: str) -> bool:
    """Say whether an engine on ``device`` computes on a GPU of this machine."""
    if device == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


def room(device: str, gpu_share: float) -> int:
    """Return how many workers this machine holds: one a core, or as many as share its GPUs."""
    if not on_gpu(device):
        return cores()
    import torch

    return max(1, min(cores(), int(torch.cuda.device_count() / gpu_share + 1e-6)))


def _run(job: Job, waiting: Queue, count: int) -> Iterator[tuple[Chunk, Result | None]]:
    """Work through ``waiting`` until it is empty or a worker dies."""
    pool = _start(job, count)
    running: dict[Future[Result], Chunk] = {}
    alive = True
    try:
        while running or (alive and waiting):
            while alive and len(running) < (1 if count == 1 else 2 * count) and waiting:
                chunk = waiting.take()
                try:
                    running[pool.submit(_work, chunk)] = chunk
                except BrokenProcessPool:
                    alive = False
                    waiting.put_back(chunk)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                chunk = running.pop(future)
                try:
                    yield chunk, future.result()
                except BrokenProcessPool:
                    alive = False
                    yield chunk, None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _start(job: Job, count: int) -> ProcessPoolExecutor:
    try:
        packed = pickle.dumps(job)
    except Exception as error:
        raise UsageError(
            "service.workers=processes needs a space that can be pickled, one whose class stands "
            f"in a module ({error}); choose service.workers=inline."
        ) from None
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count,
        mp_context=spawn,
        initializer=_initialise,
        initargs=(packed, spawn.Value("i", 0)),
    )
    try:
        # The pool starts a process for each call that finds none idle: all of them start now.
        for begun in [pool.submit(_work, Chunk((), ())) for _ in range(count)]:
            begun.result()
    except BrokenProcessPool:
        pool.shutdown()
        raise UsageError(
            "service.workers=processes could not start a worker: keep what your script runs under "
            "if __name__ == '__main__', or choose service.workers=inline."
        ) from None
    return pool


_job: Job


def _initialise(packed: bytes, begun: Synchronized[int]) -> None:
    global _job  # noqa: PLW0603
    _job = pickle.loads(packed)
    with begun.get_lock():
        place = begun.value
        begun.value += 1
    if on_gpu(_job.device):
        import torch

        torch.cuda.set_device(place % torch.cuda.device_count())


def _work(chunk: Chunk) -> Result:
    return _job.run(chunk)


def _nothing(chunk: Chunk) -> Scores:
    from proxies.engine import Scores

    shape = (len(chunk.archs), len(chunk.proxies))
    return Scores(np.full(shape, np.nan), np.zeros(shape), {})


def _dead(chunk: Chunk) -> Result:
    rows = range(len(chunk.archs))
    reasons = {(row, proxy.name): WORKER_DIED for row in rows for proxy in chunk.proxies}
    return Result(chunk, _nothing(chunk)._replace(reasons=reasons), 0.0)
