"""Computes misses on a Ray cluster, in actors that take one chunk at a time.

This process alone draws the chunks and receives the results, so that nothing else writes the store.
An actor that dies, with its node or without, is replaced as soon as the cluster has room for
another, and its chunk is done again.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

from conf.errors import UsageError
from proxies.workers import DEATHS, Chunk, Job, Queue, Result, cores, redo_lost

try:
    import ray
    from ray import exceptions
except ImportError:
    raise UsageError(
        "service.workers=ray needs packages that are not installed; run pip install "
        "'assay[ray]', or choose service.workers=processes."
    ) from None

_NOTHING: Final = Chunk((), ())
_PATIENCE_SECONDS: Final = 30.0
_LOST: Final = (
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    exceptions.WorkerCrashedError,
)


class RayCluster:
    """The cluster at an address, connected to when it is first needed.

    A connection that this process has already is used as it is.

    Args:
        address: ``auto``, the cluster that this machine belongs to or ``$RAY_ADDRESS`` names;
            ``local``, one of its own on this machine, which ends with this process; ``host:port``;
            or ``ray://host:port``.
        gpus_per_worker: the share of a GPU that a worker takes, above 0 and at most 1, on a
            cluster with GPUs.
        device: of the engine; workers take no GPU with ``cpu``, and wait for one with ``cuda``.

    Raises :class:`UsageError` later where there is no such cluster.
    """

    def __init__(self, address: str, gpus_per_worker: float, device: str) -> None:
        self.address, self.device = address, device
        self.gpus_per_worker = gpus_per_worker

    def room(self) -> int:
        """Return how many workers the nodes that are there now can hold, busy or not."""
        share = self._share()
        places = 0
        for node in self._nodes():
            cpus, gpus = (node["Resources"].get(kind, 0.0) for kind in ("CPU", "GPU"))
            places += int(min(cpus, gpus / share + 1e-6) if share else cpus)
        if not places:
            needed = f"one CPU and {share:g} of a GPU" if share else "one CPU"
            raise UsageError(
                f"service.address={self.address} is a Ray cluster without room for a worker, which "
                f"takes {needed} of a node; add nodes, or choose another service.device."
            )
        return places

    def has_gpus(self) -> bool:
        """Say whether workers compute on GPUs."""
        return self._share() > 0

    def score(self, job: Job, chunks: Iterable[Chunk], count: int) -> Iterator[Result]:
        """Score in ``count`` actors; results come as they are done.

        Actors for which there is no room begin when there is. What happens to chunks that are
        lost says :func:`~proxies.workers.redo_lost`.
        """
        crew = _Crew(job, count, self._share())
        try:
            yield from redo_lost(chunks, crew.run)
        finally:
            crew.dismiss()

    def _share(self) -> float:
        """Return the share of a GPU that each worker takes."""
        if self.device == "auto":
            wanted = any(node["Resources"].get("GPU") for node in self._nodes())
        else:
            wanted = self.device == "cuda"
        return self.gpus_per_worker if wanted else 0.0

    def _nodes(self) -> list[dict[str, Any]]:
        """List the nodes that are alive, connected."""
        if not ray.is_initialized():
            self._connect()
        return [node for node in ray.nodes() if node["Alive"]]

    def _connect(self) -> None:
        settings: dict[str, Any] = {"logging_level": "warning"}
        if not self.address.startswith("ray://"):
            settings["log_to_driver"] = False
        if self.address == "local":
            settings |= {"num_cpus": cores(), "include_dashboard": False}
        host, _, port = self.address.rpartition(":")
        try:
            if port.isdigit() and "/" not in host:
                # Ray itself would go on trying for minutes.
                socket.create_connection((host, int(port)), _PATIENCE_SECONDS).close()
            ray.init(self.address, **settings)
        except (OSError, ValueError, RuntimeError, ImportError, exceptions.RayError) as error:
            cause = " ".join(str(error).split()).rstrip(".")
            raise UsageError(
                f"service.address={self.address} is no Ray cluster that can be reached ({cause}); "
                "give host:port, ray://host:port, auto where ray start has made this machine a "
                "node, or local."
            ) from None


class _Worker:
    def __init__(self, job: Job) -> None:
        self.job = job

    def run(self, chunk: Chunk) -> Result:
        return self.job.run(chunk)


_Actor: Final = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(_Worker)


class _Crew:
    """Actors that score for one job; each is starting, idle, or at one chunk."""

    def __init__(self, job: Job, count: int, share: float) -> None:
        try:
            self._job = ray.put(job)
        except (TypeError, pickle.PicklingError) as error:
            raise UsageError(
                "service.workers=ray needs a space that can be pickled "
                f"({' '.join(str(error).split())}); choose service.workers=inline."
            ) from None
        self._share, self._stillbirths_left = share, DEATHS * count
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._working: dict[Any, tuple[Any, Chunk]] = {}
        for _ in range(count):
            self._hire()

    def run(self, waiting: Queue, alone: bool) -> Iterator[tuple[Chunk, Result | None]]:
        """Work through ``waiting`` until it is empty; lost chunks come with None."""
        while True:
            while self._idle and not (alone and self._working) and waiting:
                actor, chunk = self._idle.pop(), waiting.take()
                self._working[actor.run.remote(chunk)] = actor, chunk
            if self._idle and not self._working:
                return
            for call in self._done():
                if call in self._starting:
                    self._welcome(call)
                else:
                    yield self._collect(call)

    def dismiss(self) -> None:
        """End all actors."""
        working = [actor for actor, _ in self._working.values()]
        for actor in [*self._starting.values(), *self._idle, *working]:
            _kill(actor)

    def _hire(self) -> None:
        actor = _Actor.options(num_gpus=self._share).remote(self._job)
        self._starting[actor.run.remote(_NOTHING)] = actor

    def _done(self) -> list[Any]:
        """Wait for a call to end; return those that have."""
        calls = [*self._starting, *self._working]
        done, _ = ray.wait(calls, timeout=None if self._working else _PATIENCE_SECONDS)
        if not done:
            warnings.warn("the Ray cluster has no room for a worker yet; waiting.", stacklevel=2)
            done, _ = ray.wait(calls)
        return list(done)

    def _welcome(self, call: Any) -> None:
        """Take in an actor that has started, or start another in its place."""
        actor = self._starting.pop(call)
        try:
            _result(call)
        except _LOST as error:
            _kill(actor)
            self._stillbirths_left -= 1
            if self._stillbirths_left < 0 or getattr(error, "actor_init_failed", False):
                raise UsageError(
                    f"service.workers=ray could not start a worker ({_last_line(error)}); each "
                    "node needs the packages, and the modules of your own, that are here."
                ) from None
            self._hire()
        else:
            self._idle.append(actor)

    def _collect(self, call: Any) -> tuple[Chunk, Result | None]:
        """Return what has become of a chunk."""
        actor, chunk = self._working.pop(call)
        try:
            result = _result(call)
        except _LOST:
            _kill(actor)
            self._hire()
            return chunk, None
        self._idle.append(actor)
        return chunk, result


def _result(call: Any) -> Result:
    """Return the result of a call; what the engine raised is raised here, too."""
    try:
        return ray.get(call)  # type: ignore[no-any-return]
    except exceptions.RayTaskError as error:
        raise error.cause from None


def _kill(actor: Any) -> None:
    """End an actor, also one that is merely out of reach."""
    with contextlib.suppress(exceptions.RayError, ValueError):
        ray.kill(actor)


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
