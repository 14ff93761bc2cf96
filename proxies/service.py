"""Scores architectures, each only once: the one door between searches and proxies."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from conf.errors import UsageError, at_least, unknown_name
from proxies import registry, workers
from proxies.batch import Minibatch, input_shape, pictures
from proxies.failures import of_the_machine
from proxies.registry import Level, Proxy
from proxies.store import Row, Shipped, open_store
from proxies.store.shipped import table_of
from spaces.base import Architecture, SearchSpace
from spaces.costs import Cost, agreed
from spaces.initial_weights import INITS, InitialWeights

if TYPE_CHECKING:
    from collections.abc import Set

    from proxies.ray_workers import RayCluster
    from proxies.workers import Chunk, Job, Result
    from spaces.table import Table

_WORKERS: Final = ("inline", "processes", "ray")
_PATIENCE_SECONDS: Final = 2.0
_COSTS: Final = {"parameters": "params", "operations": "flops"}
"""The passes that count what a space's table may have, and as what it has it."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of n architectures by p proxies.

    ``values`` float64 [n, p], NaN where a score could not be computed; ``seconds`` float64 [n, p],
    what each score took when it was computed; ``reasons`` says why (row, name) is NaN.
    """

    architectures: list[Architecture]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    seconds: NDArray[np.float64]
    reasons: dict[tuple[int, str], str]

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the values of one proxy, float64 [n], by any name that it answers to."""
        own = name if name in self.names else registry.canonical(name)
        if own not in self.names:
            raise unknown_name("proxy", name, self.names)
        return self.values[:, self.names.index(own)]

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.generic]:
        """Return ``values``, as numpy asks for it."""
        return np.array(self.values, dtype, copy=copy)


_Table = Callable[[Sequence[Architecture]], list[Row]]


class _Column:
    """What is known of one proxy: its rows by key, and its values by architecture.

    ``table`` looks rows up in the space's table, if that has all of them: they are neither computed
    nor stored. ``shipped`` names the keys whose rows came with the space.
    """

    def __init__(self, proxy: Proxy, context: int, table: _Table | None) -> None:
        self.proxy = proxy
        self.context = context
        self.table = table
        self.rows: dict[str, Row] = {}
        self.values: dict[Architecture, float] = {}
        self.seconds = 0.0
        self.shipped: Set[str] = frozenset()

    def knows(self, archs: Sequence[Architecture]) -> bool:
        """Whether the values of all ``archs`` are known."""
        return all(map(self.values.__contains__, archs))

    def learn(self, rows: dict[str, Row]) -> None:
        """Take in rows; what is known stays."""
        fresh = {key: row for key, row in rows.items() if key not in self.rows}
        self.rows.update(fresh)
        self.seconds += sum(row.seconds for row in fresh.values())


class ScoringService:
    """Scores architectures of one space under one setting, and remembers every score.

    Each architecture is reduced to what the proxy sees (for most proxies its canonical form),
    looked up in memory and in the store, and computed only if it is in neither. A score depends
    on its key alone: not on order, on what else is scored, nor on the number of workers.

    Args:
        space: whose architectures to score.
        batch: the minibatch, or a function of the space that makes it when a proxy first needs
            one; by default 64 of the shipped CIFAR-10 pictures.
        workers: ``inline``, ``processes`` of this machine, or actors of a ``ray`` cluster.
        processes: how many workers; by default one a core of the machine, as many as share its
            GPUs where they compute there, or as many as the nodes of the cluster hold.
        address: of the Ray cluster: ``auto``, ``local``, ``host:port`` or ``ray://host:port``.
        gpus_per_worker: the share of a GPU that each of several workers takes, of its memory too.
        store: where scores are kept: path of a file, ``postgresql://`` URL; None is
            :func:`proxies.store.default_path`, ``memory`` keeps them as long as the service.
        shipped: whether to read the scores that come with the space, too.
        seed: of the initial weights.
        init: ``independent``: each architecture draws weights of its own, from the seed and its
            canonical form; ``shared``: the same layer at the same place has the same weights in
            all architectures (:mod:`spaces.initial_weights`).
        running_stats: whether BatchNorms keep running statistics.
        device: cpu, cuda, or auto.
        dtype: precision of the proxies that leave it open, float32 or float64.
        stack: how many networks to run as one, where the space can. By default one on a CPU, and on
            a GPU as many as its memory was seen to hold. Scores agree to rounding.
        progress: whether to show a bar on the terminal when work takes longer than two seconds.

    Attributes:
        hits: scores asked for that were known, from the store or this process.
        shipped_hits: how many of these came with the space.
        table_hits: scores asked for that the space's benchmark table has, no matter how often.
        computed: scores that were computed.
        proxy_seconds: time spent computing, summed over workers.

    Raises :class:`UsageError` for settings that are not possible, and for a store that cannot be
    used.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        batch: Minibatch | Callable[[SearchSpace], Minibatch] | None = None,
        workers: Literal["inline", "processes", "ray"] = "inline",
        processes: int | None = None,
        address: str = "auto",
        gpus_per_worker: float = 0.25,
        store: str | Path | None = None,
        shipped: bool = True,
        seed: int = 0,
        init: Literal["independent", "shared"] = "independent",
        running_stats: bool = False,
        device: str = "auto",
        dtype: str = "float32",
        stack: int | None = None,
        progress: bool = False,
    ) -> None:
        for setting, value, legal in (
            ("workers", workers, _WORKERS),
            ("init", init, INITS),
            ("device", device, registry.DEVICES),
            ("dtype", dtype, registry.DTYPES),
        ):
            if value not in legal:
                raise unknown_name(f"service.{setting}", value, legal)
        at_least(1, "service", processes=processes, stack=stack)
        at_least(0, "service", seed=seed)
        if not 0 < gpus_per_worker <= 1:
            raise UsageError(
                f"service.gpus_per_worker={gpus_per_worker} is not possible; give a number above "
                "0 and at most 1."
            )
        self.space = space
        self.workers, self.processes, self.stack = workers, processes, stack
        self.gpus_per_worker = gpus_per_worker
        self._cluster: RayCluster | None = None
        if workers == "ray":
            from proxies.ray_workers import RayCluster

            self._cluster = RayCluster(address, gpus_per_worker, device)
        self.weights, self.running_stats = InitialWeights(init, seed), running_stats
        self.device, self.dtype, self.progress = device, dtype, progress
        self.store = open_store(store)
        self.hits = self.shipped_hits = self.table_hits = 0
        self.computed = 0
        self.proxy_seconds = 0.0
        self._batch = batch
        self._wants_shipped = shipped
        self._columns: dict[str, _Column] = {}
        self._costs: dict[str, Cost | None] = {}
        self._jobs: dict[bool, Job] = {}
        self._keys: dict[Level, dict[Architecture, str]] = {"function": {}, "architecture": {}}

    # -- asking -------------------------------------------------------------------------------

    def score(self, archs: Sequence[Architecture], proxies: str | Sequence[str]) -> ScoreTable:
        """Score every one of ``archs`` by every one of ``proxies``, in order."""
        asked = [proxies] if isinstance(proxies, str) else proxies
        columns = list(dict.fromkeys(map(self._column, asked)))
        self._learn(archs, columns)
        shape = (len(archs), len(columns))
        values, seconds = np.empty(shape), np.empty(shape)
        reasons = {}
        for i, column in enumerate(columns):
            keys = self._keys[column.proxy.level]
            rows = [column.rows[keys[arch]] for arch in archs]
            values[:, i] = [row.value for row in rows]
            seconds[:, i] = [row.seconds for row in rows]
            for n, row in enumerate(rows):
                if row.reason is not None:
                    reasons[n, column.proxy.name] = row.reason
        names = tuple(column.proxy.name for column in columns)
        return ScoreTable(list(archs), names, values, seconds, reasons)

    def values(self, archs: Sequence[Architecture], proxy: str) -> NDArray[np.float64]:
        """Score every one of ``archs`` by one proxy: float64 [n]."""
        values: NDArray[np.float64] = self.matrix(archs, [proxy])[0]
        return values

    def matrix(self, archs: Sequence[Architecture], proxies: Sequence[str]) -> NDArray[np.float64]:
        """Score every one of ``archs`` by every one of ``proxies``: float64 [p, n].

        What is missing is computed for all of them at once.
        """
        columns = [self._columns.get(proxy) or self._column(proxy) for proxy in proxies]
        lacking = []
        for column in dict.fromkeys(columns):
            if column.knows(archs):
                self._count_hits(archs, column, len(archs))
            else:
                lacking.append(column)
        if lacking:
            self._learn(archs, lacking)
        return np.array([[c.values[arch] for arch in archs] for c in columns], np.float64)

    def mean_seconds(self, proxy: str, archs: Sequence[Architecture] = ()) -> float:
        """Mean time that computing one score took: of ``archs``, which have been scored.

        Without ``archs`` over all that are known; 0 if none is.
        """
        column = self._column(proxy)
        if archs:
            keys, rows = self._keys[column.proxy.level], column.rows
            return sum(rows[keys[arch]].seconds for arch in archs) / len(archs)
        return column.seconds / len(column.rows) if column.rows else 0.0

    def account(self) -> str:
        """Say in a few words where the scores that were asked for came from."""
        words = f"{self.computed} scores computed, {self.hits - self.shipped_hits} from the store"
        if self.shipped_hits:
            words += f", {self.shipped_hits} shipped with {self.space.name}"
        if self.table_hits:
            words += f", {self.table_hits} from the table of {self.space.name}"
        return words

    @functools.cached_property
    def batch(self) -> Minibatch:
        """The minibatch that proxies are shown."""
        if isinstance(self._batch, Minibatch):
            batch = self._batch
        else:
            batch = (self._batch or pictures)(self.space)
        if batch.targets is not None and not 0 <= int(batch.targets.max()) < self.space.classes:
            raise UsageError(
                f"service.batch must hold labels from 0 to {self.space.classes - 1} for "
                f"{self.space.name}, not {int(batch.targets.max())}."
            )
        if tuple(batch.inputs.shape[1:]) != self._input_shape:
            raise UsageError(
                f"service.batch must hold inputs {list(self._input_shape)} for {self.space.name}, "
                f"not {list(batch.inputs.shape[1:])}."
            )
        return batch

    def key(self, proxy: Proxy) -> dict[str, Any]:
        """All that a score depends on besides the architecture."""
        key: dict[str, Any] = {
            "network": {**self.space.network_key(), "running_stats": self.running_stats},
            "input": list(self._input_shape),
            "proxy": proxy.name,
            "version": proxy.version,
            "level": proxy.level,
            "dtype": proxy.dtype or self.dtype,
        }
        if proxy.settings:
            key["settings"] = proxy.settings
        if proxy.needs_weights:
            key |= {"init": self.weights.init, "seed": self.weights.seed}
        if proxy.needs_data:
            key["batch"] = self.batch.fingerprint
        return key

    def redrawn(
        self, space: SearchSpace, seed: int, batch: Callable[[SearchSpace], Minibatch]
    ) -> ScoringService:
        """Return a service of the same settings and store, for another draw of weights and data.

        ``space`` may be another one, as that of the supernets.
        """
        other = copy.copy(self)
        for cached in ("batch", "_shipped"):
            vars(other).pop(cached, None)
        other.space, other._batch = space, batch
        other._costs = self._costs if space is self.space else {}
        other.weights = dataclasses.replace(self.weights, seed=seed)
        other.hits = other.shipped_hits = other.table_hits = other.computed = 0
        other.proxy_seconds = 0.0
        other._columns, other._jobs = {}, {}
        other._keys = {"function": {}, "architecture": {}}
        return other

    def credit(self, other: ScoringService) -> None:
        """Add what ``other``, made by :meth:`redrawn`, has scored to one's own account."""
        self.hits += other.hits
        self.shipped_hits += other.shipped_hits
        self.table_hits += other.table_hits
        self.computed += other.computed
        self.proxy_seconds += other.proxy_seconds

    def close(self) -> None:
        """Close the store."""
        self.store.close()
        if opened := vars(self).get("_shipped"):
            opened.close()

    # -- knowing ------------------------------------------------------------------------------

    @property
    def _input_shape(self) -> tuple[int, ...]:
        if isinstance(self._batch, Minibatch):
            return tuple(self._batch.inputs.shape[1:])
        return input_shape(self.space)

    @functools.cached_property
    def _shipped(self) -> Shipped | None:
        """The scores that come with the space."""
        path = table_of(self.space) if self._wants_shipped else None
        return Shipped(path) if path else None

    def _column(self, name: str) -> _Column:
        """Return what is known of a proxy, at first all that is kept anywhere."""
        column = self._columns.get(name)
        if column is None:
            proxy = registry.get(name)
            column = self._columns.get(proxy.name)
            if column is None:
                column = self._new_column(proxy)
            self._columns[name] = self._columns[proxy.name] = column
        return column

    def _new_column(self, proxy: Proxy) -> _Column:
        key = self.key(proxy)
        column = _Column(proxy, self.store.context(key), self._table(proxy))
        if column.table is None:
            rows = self.store.get_many(column.context)
            shipped = self._shipped.rows(key) if self._shipped else {}
            column.shipped = shipped.keys() - rows.keys()
            column.learn(shipped | rows)
        return column

    def _table(self, proxy: Proxy) -> _Table | None:
        """Return what looks the scores by a proxy up in the space's table, if that has them.

        Whatever is asked for and was stored before, it is the same.
        """
        if proxy.epochs is not None:
            try:
                table = self.space.table(epochs=proxy.epochs)
            except UsageError as error:
                needs = f"proxy={proxy.name} needs results after {proxy.epochs} epochs"
                raise UsageError(f"{needs}: {error}") from None
            return functools.partial(_trained, proxy, table)
        if proxy.reads not in _COSTS:
            return None
        kind = _COSTS[proxy.reads]
        if kind not in self._costs:
            self._costs[kind] = agreed(self.space, kind)
        cost = self._costs[kind]
        return None if cost is None else functools.partial(_counted, cost)

    def _learn(self, archs: Sequence[Architecture], columns: Sequence[_Column]) -> None:
        """Make every value of ``archs`` known, computing what is missing."""
        work: dict[tuple[Level, str], tuple[Architecture, list[Proxy]]] = {}
        for column in columns:
            missing = self._missing(archs, column)
            level = column.proxy.level
            for key, arch in missing.items():
                work.setdefault((level, key), (arch, []))[1].append(column.proxy)
            self._count_hits(archs, column, len(archs) - len(missing))
        if work:
            self._compute(work)
        for column in columns:
            keys, rows = self._keys[column.proxy.level], column.rows
            column.values.update({arch: rows[keys[arch]].value for arch in archs})

    def _count_hits(self, archs: Sequence[Architecture], column: _Column, hits: int) -> None:
        if column.table:
            self.table_hits += hits
            return
        self.hits += hits
        if column.shipped:
            keys = self._keys[column.proxy.level]
            self.shipped_hits += sum(keys[arch] in column.shipped for arch in archs)

    def _missing(self, archs: Sequence[Architecture], column: _Column) -> dict[str, Architecture]:
        """Key and form to build of what neither memory nor the store nor the table holds."""
        level = column.proxy.level
        keys = self._keys[level]
        fresh = [arch for arch in archs if arch not in keys]
        legal = self.space.are_legal(fresh)
        if not legal.all():
            wrong = fresh[int(legal.argmin())]
            raise UsageError(f"{wrong} is no architecture of {self.space.name}.")
        keys.update(zip(fresh, map(self.space.format, self._forms(fresh, level)), strict=True))
        missing = {keys[arch]: arch for arch in archs if keys[arch] not in column.rows}
        if missing and not column.table:
            column.learn(self.store.get_many(column.context, missing))
        left = {key: arch for key, arch in missing.items() if key not in column.rows}
        forms = self._forms(list(left.values()), level)
        if column.table:
            column.learn(dict(zip(left, column.table(forms), strict=True)))
            return {}
        return dict(zip(left, forms, strict=True))

    def _forms(self, archs: Sequence[Architecture], level: Level) -> Sequence[Architecture]:
        """Return what a proxy of that level sees of ``archs``."""
        return self.space.canonicals(archs) if level == "function" else archs

    # -- computing ----------------------------------------------------------------------------

    def _compute(self, work: dict[tuple[Level, str], tuple[Architecture, list[Proxy]]]) -> None:
        """Compute, and keep each chunk as it arrives."""
        alike: dict[tuple[Proxy, ...], list[Architecture]] = {}
        for arch, proxies in work.values():
            alike.setdefault(tuple(proxies), []).append(arch)
        size = self._chunk_size(len(work))
        chunks = [
            workers.Chunk(tuple(archs[start : start + size]), proxies)
            for proxies, archs in alike.items()
            for start in range(0, len(archs), size)
        ]
        # Processes that share a store begin at different places, and so divide the work.
        random.SystemRandom().shuffle(chunks)
        needs_data = any(proxy.needs_data for proxies in alike for proxy in proxies)
        job = self._job(needs_data)
        names = ", ".join(sorted({proxy.name for proxies in alike for proxy in proxies}))
        title = f"scoring {self.space.name} | {names}"
        with progress(title, len(work), self.progress) as advance:
            for result in self._results(job, chunks, advance):
                self._keep(result)
                advance(len(result.chunk.archs))

    def _job(self, needs_data: bool) -> Job:
        """Return the job, which keeps what it learns of a GPU from one call to the next."""
        if needs_data not in self._jobs:
            alone = self.workers == "inline"
            self._jobs[needs_data] = workers.Job(
                self.space,
                self.batch if needs_data else Minibatch.empty(self._input_shape),
                self.weights,
                self.running_stats,
                self.device,
                self.dtype,
                self.stack,
                gpu_share=1.0 if alone else self.gpus_per_worker,
            )
        return self._jobs[needs_data]

    def _chunk_size(self, work: int) -> int:
        """Say how many of ``work`` architectures a worker takes at a time."""
        if self.stack is not None:
            return max(workers.CHUNK, self.stack)
        if self._cluster and work > 2 * workers.CHUNK:
            gpu = self._cluster.has_gpus()
        else:
            gpu = workers.on_gpu(self.device)
        return workers.GPU_CHUNK if gpu else workers.CHUNK

    def _results(
        self, job: Job, chunks: list[Chunk], advance: Callable[[int], None]
    ) -> Iterator[Result]:
        """Few chunks are done before other processes would have started."""
        unknown, few = self._unknown(chunks, advance), len(chunks) <= 2
        # A GPU that is asked for may be in the cluster alone.
        if self._cluster and (self.device == "cuda" or not few):
            count = self.processes or self._cluster.room()
            return self._cluster.score(job, unknown, min(count, len(chunks)))
        most = self.processes or workers.room(self.device, self.gpus_per_worker)
        count = min(most, len(chunks))
        if self.workers != "processes" or count == 1 or few:
            return workers.inline(job, unknown)
        return workers.processes(job, unknown, count)

    def _unknown(self, chunks: list[Chunk], advance: Callable[[int], None]) -> Iterator[Chunk]:
        """Look again just before a chunk is computed: others may have stored its scores by now."""
        for chunk in chunks:
            columns = [self._columns[proxy.name] for proxy in chunk.proxies]
            keys = {self.space.format(arch): arch for arch in chunk.archs}
            for column in columns:
                column.learn(self.store.get_many(column.context, keys))
            archs = [a for key, a in keys.items() if any(key not in c.rows for c in columns)]
            found = len(chunk.archs) - len(archs)
            self.hits += found * len(columns)
            advance(found)
            if archs:
                yield dataclasses.replace(chunk, archs=tuple(archs))

    def _keep(self, result: Result) -> None:
        scores = result.scores
        keys = [self.space.format(arch) for arch in result.chunk.archs]
        for i, proxy in enumerate(result.chunk.proxies):
            column = self._columns[proxy.name]
            values, seconds = scores.values[:, i].tolist(), scores.seconds[:, i].tolist()
            rows = {
                key: Row(values[n], seconds[n], scores.reasons.get((n, proxy.name)))
                for n, key in enumerate(keys)
            }
            column.learn(rows)
            lasting = {key: row for key, row in rows.items() if not of_the_machine(row.reason)}
            self.store.put_many(column.context, lasting)
        self.computed += scores.values.size
        self.proxy_seconds += result.seconds


def _trained(proxy: Proxy, table: Table, archs: Sequence[Architecture]) -> list[Row]:
    """Look up what a proxy reads of trainings."""
    places = table.rows(archs)
    values = np.asarray(proxy.function(table), np.float64)[places].tolist()
    return [*map(Row, values, table.train_seconds[places].tolist())]


def _counted(cost: Cost, archs: Sequence[Architecture]) -> list[Row]:
    """Look up what a network costs."""
    return [Row(value, 0.0) for value in cost(archs).tolist()]


@contextlib.contextmanager
def progress(title: str, total: int, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar, with rate and time left, once the work turns out to be long."""
    if not wanted:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = bar.add_task(title, total=total, rate="")
    began = time.perf_counter()
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        elapsed = time.perf_counter() - began
        bar.update(task, advance=n, rate=f"{done / elapsed:.0f}/s")
        if elapsed > _PATIENCE_SECONDS and done < total:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
