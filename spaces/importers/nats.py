"""Imports NAS-Bench-201 (Dong and Yang, ICLR 2020) and NATS-Bench (Dong et al., TPAMI 2021).

Both keep an ``ArchResults`` for each architecture and budget of epochs, with one ``ResultsCount``
for each dataset and training seed: NAS-Bench-201 in one ``.pth``, NATS-Bench in one
``.pickle.pbz2`` or in a folder with one for each architecture. They are read through the
benchmarks' own packages, architecture by architecture.

Which accuracy is meant: validation on cifar10 is of the setting ``cifar10-valid`` (trained on half
of the training images, validated on the other half), test on cifar10 of networks trained on all of
them; on cifar100 and ImageNet16-120 both are of one training, on the two halves of the held-out
images. Means are over training seeds, of the last epoch.

Deviations:

1. Training seconds are those of the full budget, without evaluation; on cifar10 of
   ``cifar10-valid``. The tables scale them for smaller budgets: the benchmarks give every epoch of
   an architecture the same time, whatever its budget.
2. Curves, losses and training accuracies are left out.
3. Where seeds disagree on operations and parameters, seed 888 is right: so says ``nats-bench``, and
   it is applied to NAS-Bench-201 too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, SearchSpace
from spaces.importers.imported import Agreement, Imported, agreement
from spaces.importers.pickles import load_bz2, load_torch
from spaces.importers.reading import counted, explained
from spaces.nasbench201 import NASBench201
from spaces.nats_size import NATSSize

State = Mapping[str, Any]
"""An ``ArchResults`` as the benchmarks write it."""

DATASETS: Final = ("cifar10", "cifar100", "ImageNet16-120")

_SPLITS: Final = {
    "val": {
        "cifar10": ("cifar10-valid", "x-valid"),
        "cifar100": ("cifar100", "x-valid"),
        "ImageNet16-120": ("ImageNet16-120", "x-valid"),
    },
    "test": {
        "cifar10": ("cifar10", "ori-test"),
        "cifar100": ("cifar100", "x-test"),
        "ImageNet16-120": ("ImageNet16-120", "x-test"),
    },
}
"""Of which training, and on which images, the benchmarks' papers report an accuracy."""

_SAME_COUNT: Final = 1e-5
_RIGHT_SEED: Final = 888
_COSTS: Final = ("latency_seconds", "flops_M", "params")
_TOLERANCE: Final = {"val": 0.01, "test": 0.01, "flops_M": 1e-3, "params": 0.0}


@dataclass(frozen=True)
class _Benchmark:
    """A space of the benchmarks; ``budgets`` maps their names of budgets to epochs."""

    space: Callable[[str], SearchSpace]
    budgets: Mapping[str, int]
    listing: str
    describe: Callable[[SearchSpace, Architecture], Sequence[int]]

    @property
    def epochs(self) -> list[int]:
        """Budgets, the smallest first."""
        return sorted(set(self.budgets.values()))


def _channels(space: SearchSpace, arch: Architecture) -> Sequence[int]:
    assert isinstance(space, NATSSize)
    return space.channels(arch)


_TOPOLOGY: Final = _Benchmark(
    NASBench201,
    {"less": 12, "full": 200, "12": 12, "200": 200},
    "ops",
    lambda _, arch: arch,
)
_SIZE: Final = _Benchmark(NATSSize, {"01": 1, "12": 12, "90": 90}, "channels", _channels)


def from_pth(path: Path | str, *, trust: bool = False) -> Imported:
    """Read ``NAS-Bench-201-v1_0-e61699.pth`` or ``NAS-Bench-201-v1_1-096897.pth``.

    With ``trust``, whatever code the file names may run, and it is read much faster.

    Raises :class:`UsageError` for a file that is missing, damaged, foreign, incomplete, larger than
    memory, or, unless trusted, holds more than numbers; and where the package is missing.
    """
    path = Path(path)
    package = _package("nas_201_api")
    content = _content(load_torch(path, trust=trust), path)
    return _imported(path, _Archive(path, content), package, (_TOPOLOGY,))


def from_nats(path: Path | str, *, trust: bool = False) -> Imported:
    """Read an archive or a folder of NATS-Bench, of the topology space or of the size space.

    Archives are ``NATS-tss-v1_0-3ffb9.pickle.pbz2`` and ``NATS-sss-v1_0-50262.pickle.pbz2``, all of
    which is held in memory; folders have the same names with ``-simple``. With ``trust``, whatever
    code the files name may run.

    Raises :class:`UsageError` as :func:`from_pth`.
    """
    path = Path(path)
    package = _package("nats_bench")
    source: _Archive | _Folder
    if path.is_dir():
        source = _Folder(path, trust)
    else:
        source = _Archive(path, _content(load_bz2(path, trust=trust, bar=True), path))
    return _imported(path, source, package, (_TOPOLOGY, _SIZE))


# -- sources ----------------------------------------------------------------------------------


class _Archive:
    """All architectures in one file; each is forgotten once it was read."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.archs: Sequence[Any] = content["meta_archs"]
        results = content.get("arch2infos")
        if not isinstance(results, dict):
            raise _foreign(path)
        self._results: dict[int, Any] = results
        missing = len(self.archs) - sum(i in self._results for i in range(len(self.archs)))
        if missing:
            raise _incomplete(path, len(self.archs) - missing, len(self.archs))

    def results(self, number: int) -> Any:
        """Return the results of an architecture, by budget."""
        return self._results.pop(number)


class _Folder:
    """One file for each architecture, and one that lists them."""

    def __init__(self, path: Path, trust: bool) -> None:
        self._trust = trust
        meta = path / "meta.pickle.pbz2"
        if not meta.exists():
            raise UsageError(f"{path} is no folder of NATS-Bench: it lacks {meta.name}.")
        self.archs: Sequence[Any] = _content(load_bz2(meta, trust=trust), meta)["meta_archs"]
        with explained(path):
            there = {file.name for file in path.iterdir()}
        self._files = [
            next((path / name for name in _names(number) if name in there), None)
            for number in range(len(self.archs))
        ]
        missing = self._files.count(None)
        if missing:
            raise _incomplete(path, len(self.archs) - missing, len(self.archs))

    def results(self, number: int) -> Any:
        """Return the results of an architecture, by budget."""
        file = self._files[number]
        assert file is not None
        return load_bz2(file, trust=self._trust)


def _names(number: int) -> tuple[str, str]:
    """Return the names that the file of an architecture may have."""
    return f"{number:06d}.pickle.pbz2", f"{number}.pickle.pbz2"


def _content(loaded: Any, path: Path) -> dict[str, Any]:
    """Check that what a file holds lists architectures."""
    archs = loaded.get("meta_archs") if isinstance(loaded, dict) else None
    if not isinstance(archs, list) or not archs:
        raise _foreign(path)
    return dict(loaded)


def _package(name: str) -> ModuleType:
    """Import the module ``api_utils`` of a benchmark's package."""
    import importlib

    try:
        return importlib.import_module(f"{name}.api_utils")
    except ImportError:
        raise UsageError(
            "reading NAS-Bench-201 and NATS-Bench needs packages that are not installed; run pip "
            "install 'assay[nasbench201]'."
        ) from None


class _WrongError(ValueError):
    """The results of an architecture contradict themselves; the message says which and how."""


# -- columns ----------------------------------------------------------------------------------


def _imported(
    path: Path,
    source: _Archive | _Folder,
    package: ModuleType,
    benchmarks: Iterable[_Benchmark],
) -> Imported:
    benchmark, archs = _recognised(path, source.archs, benchmarks)
    rows = []
    with counted("reading architectures", len(archs)) as advance:
        for number, name in enumerate(source.archs):
            try:
                rows.append(_row(benchmark, source.results(number), package, name))
            except (UsageError, MemoryError):
                raise
            except Exception as error:  # a foreign record may fail in any of a dozen ways
                reason = (
                    str(error)
                    if isinstance(error, _WrongError)
                    else "its results are of another form"
                )
                raise UsageError(
                    f"{path} cannot be imported, because of architecture {number}: {reason}."
                ) from None
            advance(1)
    columns, remarks = _columns(path, benchmark, rows)
    space = benchmark.space(DATASETS[0])
    listed = [benchmark.describe(space, arch) for arch in archs]
    return Imported(
        space.name,
        len(archs),
        {benchmark.listing: np.array(listed, np.uint8), **columns},
        tuple(_agreements(benchmark, archs, columns)),
        tuple(remarks),
    )


def _recognised(
    path: Path, names: Sequence[Any], benchmarks: Iterable[_Benchmark]
) -> tuple[_Benchmark, list[Architecture]]:
    """Find the benchmark of which ``names`` are the architectures, all of them, each once."""
    for benchmark in benchmarks:
        space = benchmark.space(DATASETS[0])
        try:
            archs = [space.parse(name) for name in names]
        except (UsageError, AttributeError, TypeError):
            continue
        if len(set(archs)) < len(archs):
            raise UsageError(f"{path} is not consistent: it lists an architecture twice.")
        if len(archs) < space.size:
            raise _incomplete(path, len(archs), space.size)
        return benchmark, archs
    raise _foreign(path)


def _row(
    benchmark: _Benchmark, results: Any, package: ModuleType, name: str
) -> dict[str, list[float]]:
    """Read the values of an architecture, by column; accuracies seed by seed, others one."""
    row: dict[str, list[float]] = {}
    for budget, state in results.items():
        epochs = benchmark.budgets[budget]
        trained = package.ArchResults.create_from_state_dict(state)
        if trained.arch_str != name:
            raise _WrongError(
                f"its results of {epochs} epochs are of {trained.arch_str}, not of {name}"
            )
        for column, splits in _SPLITS.items():
            for dataset, (training, images) in splits.items():
                row[f"{dataset}/{column}_{epochs}"] = _accuracies(trained, training, images, epochs)
        if epochs == benchmark.epochs[-1]:
            row.update(_costs(trained))
    return row


def _accuracies(trained: Any, training: str, images: str, epochs: int) -> list[float]:
    """Return the accuracy of each seed after the last epoch, where there is one."""
    if training not in trained.get_dataset_names():
        return []
    trials = trained.query(training)
    if trained.get_total_epoch(training) != epochs:
        raise _WrongError(f"its results on {training} are not of {epochs} epochs")
    key = f"{images}@{epochs - 1}"
    found = [t.eval_acc1es[key] for _, t in sorted(trials.items()) if key in t.eval_acc1es]
    accuracies = [float(value) for value in found]
    if not all(0 <= value <= 100 for value in accuracies):
        raise _WrongError(f"its accuracies on {training} are not from 0 to 100")
    return accuracies


def _costs(trained: Any) -> dict[str, list[float]]:
    row = {}
    for dataset in DATASETS:
        if dataset in trained.get_dataset_names():
            trials = trained.query(dataset)
            latency = trained.get_compute_costs(dataset)["latency"]
            row[f"{dataset}/latency_seconds"] = _one(latency)
            row[f"{dataset}/flops_M"] = [_agreed({s: t.flop for s, t in trials.items()})]
            millions = _agreed({s: t.params for s, t in trials.items()})
            row[f"{dataset}/params"] = [round(millions * 1e6)]
        training, _ = _SPLITS["val"][dataset]
        if training in trained.get_dataset_names():
            seconds = trained.get_compute_costs(training)["T-train@total"]
            row[f"{dataset}/train_seconds"] = _one(seconds)
    return row


def _agreed(counts: Mapping[int, Any]) -> float:
    """Return what trials agree on; where they do not, seed 888 is right, as nats-bench says."""
    values = [float(count) for count in counts.values()]
    if max(values) - min(values) > _SAME_COUNT and _RIGHT_SEED in counts:
        return float(counts[_RIGHT_SEED])
    return sum(values) / len(values)


def _one(value: Any) -> list[float]:
    return [] if value is None else [float(value)]


def _columns(
    path: Path, benchmark: _Benchmark, rows: Sequence[dict[str, list[float]]]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Make arrays of the columns; those of a smaller budget that have gaps are left out."""
    columns: dict[str, NDArray[Any]] = {}
    remarks = []
    full = benchmark.epochs[-1]
    for name in sorted({name for row in rows for name in row}):
        values = [row.get(name, []) for row in rows]
        known = sum(map(bool, values))
        short = name.rpartition("/")[2]
        if short in _COSTS or short == "train_seconds":
            if known:
                columns[name] = _means(values).astype(np.float32)
            if short == "params" and known == len(rows):
                columns[name] = _means(values).astype(np.uint32)
        elif known == len(rows):
            columns[name] = _means(values).astype(np.float32)
            if benchmark is _TOPOLOGY and short == f"val_{full}":
                columns[f"{name}_seeds"] = _by_seed(values).astype(np.float32)
        elif known and short.endswith(f"_{full}"):
            raise _incomplete(path, known, len(rows), f" in {name}")
        elif known:
            remarks.append(f"{name} is left out: {known:,} of {len(rows):,} architectures have it.")
    lacking = [
        name
        for name in (f"{d}/{column}_{full}" for d in DATASETS for column in _SPLITS)
        if name not in columns
    ]
    if lacking:
        raise UsageError(f"{path} is not such a benchmark: it lacks {', '.join(lacking)}.")
    return columns, remarks


def _by_seed(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Fill up with NaN what has fewer seeds than others, [n, seeds]."""
    filled = np.full((len(values), max(1, *map(len, values))), np.nan)
    for row, seeds in zip(filled, values, strict=True):
        row[: len(seeds)] = seeds
    return filled


def _means(values: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.array([sum(seeds) / len(seeds) if seeds else np.nan for seeds in values])


def _agreements(
    benchmark: _Benchmark, archs: Sequence[Architecture], columns: Mapping[str, NDArray[Any]]
) -> Iterator[Agreement]:
    """Compare with the shipped table."""
    for dataset in DATASETS:
        space = benchmark.space(dataset)
        assert isinstance(space, NASBench201 | NATSSize)
        shipped = space.table().rows(archs)
        for name in sorted(columns):
            folder, _, short = name.partition("/")
            tolerance = _TOLERANCE.get(short, _TOLERANCE.get(short.partition("_")[0]))
            if folder != dataset or tolerance is None or short.endswith("_seeds"):
                continue
            try:
                known = space.column(short)
            except UsageError:  # not in the shipped table
                continue
            yield agreement(name, columns[name], known[shipped], tolerance)


def _foreign(path: Path) -> UsageError:
    return UsageError(f"{path} is no file of NAS-Bench-201 or NATS-Bench.")


def _incomplete(path: Path, there: int, needed: int, where: str = "") -> UsageError:
    return UsageError(
        f"{path} is not complete: it has {there:,} of {needed:,} architectures{where}."
    )
