"""Imports NAS-Bench-101 (Ying et al., ICML 2019), from its ``.tfrecord`` or its API object.

A record is JSON: module hash, epochs, adjacency matrix as a string of V x V digits, operations
joined by commas, and a protocol buffer in base64, ModelMetrics = {1: repeated EvaluationData,
2: trainable parameters, 3: total time}, EvaluationData = {1: epoch, 2: training seconds, 3, 4, 5:
training, validation and test accuracy}. A record is one of three trainings of a cell with one
budget of epochs (4, 12, 36 or 108); it was evaluated at the start, halfway and at the end.

Deviations:

1. Of the three evaluations only the last one is kept, and training accuracies are left out.
2. Training times are the mean over the three trainings.
"""

from __future__ import annotations

import base64
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture
from spaces.importers import tfrecord
from spaces.importers.imported import Agreement, Imported, agreement
from spaces.importers.reading import counted, opened
from spaces.nasbench101.cell import VERTICES, architecture
from spaces.nasbench101.hashing import module_hash
from spaces.nasbench101.index import index
from spaces.nasbench101.table import IMAGES, SEEDS, column, parameters

_EVALUATIONS: Final = 3
_HASHES_CHECKED: Final = 1000
_ROUNDING: Final = 0.01
_EPOCHS: Final = range(1, 1000)


class _Run(NamedTuple):
    """One training of one cell."""

    hash: str
    epochs: int
    adjacency: str
    operations: str
    parameters: int
    seconds: float
    val: float
    test: float


@dataclass
class _Runs:
    """The trainings read so far, column by column, and the cells met."""

    source: str
    cells: dict[tuple[str, str], int] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)
    archs: list[Architecture] = field(default_factory=list)
    parameters: array[int] = field(default_factory=lambda: array("q"))
    cell: array[int] = field(default_factory=lambda: array("l"))
    epochs: array[int] = field(default_factory=lambda: array("l"))
    values: array[float] = field(default_factory=lambda: array("d"))

    def add(self, run: _Run) -> None:
        """Add a training; raises ``ValueError`` (:class:`UsageError` too) for what is no cell."""
        key = run.adjacency, run.operations
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = len(self.archs)
            self.archs.append(_architecture(*key))
            self.hashes.append(run.hash)
            self.parameters.append(run.parameters)
            if cell < _HASHES_CHECKED and module_hash(self.archs[cell]) != run.hash:
                raise UsageError(
                    f"{self.source} is not consistent: {run.hash} is not the hash of its cell."
                )
        elif self.hashes[cell] != run.hash:
            raise UsageError(
                f"{self.source} is not consistent: a cell has the hashes {self.hashes[cell]} and "
                f"{run.hash}."
            )
        if run.epochs not in _EPOCHS:
            raise ValueError(f"{run.epochs} epochs")
        self.cell.append(cell)
        self.epochs.append(run.epochs)
        self.values.extend((run.val, run.test, run.seconds))

    def imported(self, partial: bool) -> Imported:
        """Check the trainings, and make columns of them."""
        if not self.archs:
            raise UsageError(f"{self.source} holds no results.")
        found = index().numbers(self.archs)
        if (found < 0).any():
            raise UsageError(
                f"{self.source} is not of NAS-Bench-101: {self.hashes[int(found.argmin())]} is no "
                "cell of it."
            )
        numbers, first = np.unique(found, return_index=True)
        if len(numbers) < len(found):
            twice = np.setdiff1d(np.arange(len(found)), first)[0]
            raise UsageError(
                f"{self.source} is not consistent: {self.hashes[twice]} is there twice."
            )
        if not partial and len(numbers) < len(index()):
            raise UsageError(
                f"{self.source} is not complete: it has {len(numbers):,} of {len(index()):,} cells."
            )
        row = np.searchsorted(numbers, found)[np.array(self.cell)]
        values = np.array(self.values).reshape(-1, 3)
        columns: dict[str, NDArray[Any]] = {"validated": numbers.astype(np.uint32)}
        budgets = np.array(self.epochs)
        for epochs in np.unique(budgets).tolist():
            chosen = budgets == epochs
            val, test, seconds = self._by_cell(row[chosen], values[chosen], len(numbers), epochs)
            columns[f"val_{epochs}_seeds"] = self._counts(val)
            columns[f"test_{epochs}_seeds"] = self._counts(test)
            columns[f"train_seconds_{epochs}"] = seconds.mean(axis=1).astype(np.float32)
        counted_parameters = np.array(self.parameters)[first]
        return Imported(
            "nasbench101",
            len(numbers),
            columns,
            tuple(_agreements(numbers, columns, counted_parameters)),
        )

    def _by_cell(
        self, row: NDArray[np.int64], values: NDArray[np.float64], cells: int, epochs: int
    ) -> NDArray[np.float64]:
        """Sort the trainings of one budget, [n, 3] to [3, cells, seeds], seeds as they came."""
        runs = np.bincount(row, minlength=cells)
        if (runs != SEEDS).any():
            odd = int((runs != SEEDS).argmax())
            raise UsageError(
                f"{self.source} is not consistent: a cell has {runs[odd]} trainings of {epochs} "
                f"epochs, and others have {SEEDS}."
            )
        order = np.argsort(row, kind="stable")
        return values[order].reshape(cells, SEEDS, 3).transpose(2, 0, 1)

    def _counts(self, accuracies: NDArray[np.float64]) -> NDArray[np.uint16]:
        """Turn shares of the images into numbers of images."""
        right = accuracies * IMAGES
        whole = np.rint(right)
        if not ((np.abs(right - whole) < _ROUNDING) & (whole >= 0) & (whole <= IMAGES)).all():
            raise UsageError(
                f"{self.source} is not of NAS-Bench-101: its accuracies must be shares of the "
                f"{IMAGES:,} images that the benchmark evaluates on."
            )
        return whole.astype(np.uint16)


def from_tfrecord(path: Path | str, *, partial: bool = False) -> Imported:
    """Read ``nasbench_full.tfrecord`` or ``nasbench_only108.tfrecord``; TensorFlow is not needed.

    Every checksum is looked at. A table of some of the cells (``partial``) serves these only, with
    ``space.subset=validated``.

    Raises :class:`UsageError` for a file that is missing, damaged, cut off, foreign, or, unless
    ``partial``, of less than all cells.
    """
    path = Path(path)
    runs = _Runs(str(path))
    with opened(path, f"reading {path.name}") as file:
        for number, data in enumerate(tfrecord.frames(file, path), start=1):
            try:
                runs.add(_run(data))
            except (UsageError, MemoryError):
                raise
            except Exception:  # a foreign record may fail in any of a dozen ways
                raise UsageError(
                    f"{path} is no .tfrecord of NAS-Bench-101: record {number:,} has another form."
                ) from None
    return runs.imported(partial)


def from_nasbench(api: Any, *, partial: bool = False) -> Imported:
    """Read a ``nasbench.api.NASBench`` object, as the benchmark's own package makes it.

    Of the object its ``fixed_statistics`` and ``computed_statistics`` are read, and nothing is
    copied. ``partial`` as in :func:`from_tfrecord`.

    Raises :class:`UsageError` for another object, and for one that is not consistent or, unless
    ``partial``, has less than all cells.
    """
    source = f"the {type(api).__name__} object"
    runs = _Runs(source)
    try:
        fixed, computed = api.fixed_statistics, api.computed_statistics
        with counted("reading cells", len(fixed)) as advance:
            for run in _runs_of(fixed, computed, advance):
                runs.add(run)
    except UsageError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"{source} is no nasbench.api.NASBench with its results ({type(error).__name__}: "
            f"{error})."
        ) from None
    return runs.imported(partial)


def _run(data: bytes) -> _Run:
    """Read a record."""
    name, epochs, adjacency, operations, encoded = json.loads(data)
    evaluations: list[bytes] = []
    trainable = 0
    for number, value in tfrecord.fields(base64.b64decode(encoded, validate=True)):
        if number == 1 and isinstance(value, bytes):
            evaluations.append(value)
        elif number == 2:
            trainable = int(value)
    if len(evaluations) != _EVALUATIONS or type(epochs) is not int:
        raise ValueError(f"{len(evaluations)} evaluations")
    last = {number: float(value) for number, value in tfrecord.fields(evaluations[-1])}
    return _Run(name, epochs, adjacency, operations, trainable, last[2], last[4], last[5])


def _runs_of(fixed: Any, computed: Any, advance: Any) -> Iterator[_Run]:
    for name, cell in fixed.items():
        matrix = "".join(map(str, np.asarray(cell["module_adjacency"]).astype(int).ravel()))
        operations = ",".join(cell["module_operations"])
        for epochs, trainings in computed[name].items():
            for training in trainings:
                yield _Run(
                    name,
                    int(epochs),
                    matrix,
                    operations,
                    int(cell["trainable_parameters"]),
                    float(training["final_training_time"]),
                    float(training["final_validation_accuracy"]),
                    float(training["final_test_accuracy"]),
                )
        advance(1)


def _architecture(digits: str, operations: str) -> Architecture:
    """Read a matrix of V x V digits, and operations joined by commas."""
    names = operations.split(",")
    size = len(names)
    if not 2 <= size <= VERTICES or len(digits) != size * size or set(digits) - {"0", "1"}:
        raise ValueError(f"a cell of {size} vertices")
    matrix = [[int(d) for d in digits[start : start + size]] for start in range(0, size**2, size)]
    return architecture(matrix, names)


def _agreements(
    numbers: NDArray[np.int64], columns: dict[str, NDArray[Any]], trainable: NDArray[np.int64]
) -> Iterable[Agreement]:
    """Compare with the shipped accuracies, and with the parameters that the cells have."""
    if "test_108_seeds" in columns:
        ours = columns["test_108_seeds"].sum(axis=1) / (SEEDS * IMAGES / 100)
        yield agreement("test_108", ours, column("all", "test_108")[numbers], 1e-6)
    yield agreement("params", trainable, parameters()[numbers], 0)
