"""What an architecture is worth once trained: the contract, and benchmarks read from a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, SearchSpace
from spaces.costs import Cost, from_table
from spaces.table import NoTableError


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of training one architecture.

    ``objective`` is what a search steers by, always the larger the better; ``val`` and ``test``
    are in the benchmark's unit (NaN where it has none); ``train_seconds`` is the training time.
    """

    objective: float
    val: float
    test: float
    train_seconds: float


class Benchmark(ABC):
    """Evaluates architectures; ``protocol`` says which value steers the search."""

    metric: str = "accuracy"
    unit: str = "%"
    higher_is_better: bool = True
    protocol: Literal["validation", "test"] = "validation"
    targets: tuple[float, ...] = ()
    at_once: int = 1
    """How many architectures a search proposes at a time."""

    @abstractmethod
    def evaluate(self, arch: Architecture, rng: np.random.Generator | None = None) -> Evaluation:
        """Train, or look up, one architecture; ``rng`` decides whatever chance there is.

        Raises ``ValueError`` where there is chance, but no generator.
        """

    def evaluate_all(
        self, archs: Sequence[Architecture], rngs: Iterable[np.random.Generator]
    ) -> list[Evaluation]:
        """Evaluate several architectures, each by its generator, which is valid until the next.

        A benchmark without chance may do so side by side.
        """
        return [self.evaluate(arch, rng) for arch, rng in zip(archs, rngs, strict=True)]

    def cost(self, kind: str, device: str | None = None) -> Cost:
        """Say what architectures cost: :mod:`spaces.costs` names the kinds.

        Raises :class:`UsageError` for what this benchmark cannot say.
        """
        raise UsageError(f"this benchmark does not know {kind}; leave costs and limits null.")

    def known_values(self, archs: Sequence[Architecture]) -> NDArray[np.float64] | None:
        """Return what steers a search for each of ``archs``, if that is known beforehand."""
        return None

    def conclude(self, archs: Sequence[str], val: Sequence[float]) -> list[dict[str, Any]]:
        """Look again, more closely, at the best that a finished search found.

        ``archs`` are written out, ``val`` their validation values. Returns what ``summary.json``
        shall say of each finalist, the one to take first; nothing where there is no second look.
        """
        return []

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Name everything that a reader must know to say which accuracy is meant."""


class Unknown(Benchmark):
    """Knows no accuracy: for searches that train nothing, in spaces without a table."""

    def evaluate(self, arch: Architecture, rng: np.random.Generator | None = None) -> Evaluation:
        """Return NaN for everything."""
        nan = float("nan")
        return Evaluation(nan, nan, nan, nan)

    def describe(self) -> dict[str, Any]:
        """Return the kind."""
        return {"kind": "none"}


class TableBenchmark(Benchmark):
    """Looks architectures up in a table of trained results.

    With ``seeds="mean"`` the search steers by the mean validation accuracy over training seeds;
    with ``seeds="random"`` each evaluation returns the validation accuracy of one seed, drawn
    afresh. Test accuracy is the table's mean over seeds in either case.

    Raises :class:`UsageError` for epochs, seeds or a path that the space's table cannot serve.
    """

    def __init__(
        self,
        space: SearchSpace,
        path: str | None = None,
        epochs: int | None = None,
        seeds: Literal["mean", "random"] = "mean",
    ) -> None:
        try:
            table = space.table(Path(path) if path else None, epochs)
        except UsageError:
            raise
        except (OSError, KeyError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UsageError(
                f"benchmark.path={path} cannot be read as a table of {space.name}: {reason}."
            ) from error
        if seeds not in ("mean", "random"):
            raise UsageError(f"benchmark.seeds={seeds} is unknown; choose one of: mean, random.")
        if seeds == "random" and table.val_seeds is None:
            raise UsageError(
                f"benchmark.seeds=random needs a table with single seeds, and {space.name} has "
                f"none at {table.epochs} epochs; choose benchmark.seeds=mean."
            )
        self.space, self.table, self.seeds = space, table, seeds
        self.metric, self.unit = table.metric, table.unit
        self.higher_is_better, self.targets = table.higher_is_better, table.targets
        self.protocol = "test" if table.val is None else "validation"
        self._steering = table.test if table.val is None else table.val
        self._sign = 1.0 if table.higher_is_better else -1.0
        self._means: dict[Architecture, Evaluation] = {}

    def evaluate(self, arch: Architecture, rng: np.random.Generator | None = None) -> Evaluation:
        """Return the table's entry for ``arch``; ``rng`` draws the seed, where that is random."""
        mean = self._means.get(arch)
        if mean is None:
            mean = self._means[arch] = self._look_up(arch)
        if self.seeds == "mean":
            return mean
        if rng is None:
            raise ValueError("benchmark.seeds=random draws a seed at each evaluation; give rng.")
        seeds = self.table.val_seeds
        assert seeds is not None
        row = seeds[int(self.table.rows([arch])[0])]
        val = float(rng.choice(row[~np.isnan(row)]))
        return Evaluation(self._sign * val, val, mean.test, mean.train_seconds)

    def cost(self, kind: str, device: str | None = None) -> Cost:
        """Look a cost up in the table; parameters and operations are counted where it has none."""
        return from_table(self.table, self.space, kind, device)

    def known_values(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Return the table's values, float64 [n], means over seeds."""
        assert self._steering is not None
        return self._steering[self.table.rows(archs)].astype(np.float64)

    def describe(self) -> dict[str, Any]:
        """Return kind, table, epochs and seeds."""
        return {
            "kind": "table",
            "table": self.table.source,
            "dataset": self.space.dataset,
            "epochs": self.table.epochs,
            "validation": self._of(self.table.val, self.seeds),
            "test": self._of(self.table.test, "mean"),
        }

    def _of(self, column: object, seeds: str) -> str | None:
        """Say which trainings a column of the table tells of."""
        if column is None:
            return None
        return "one seed, drawn at random" if seeds == "random" else self.table.runs

    def _look_up(self, arch: Architecture) -> Evaluation:
        if not self.space.is_valid(arch):
            raise UsageError(f"{arch} is no architecture of {self.space.name}.")
        row = int(self.table.rows([arch])[0])

        def cell(column: Any) -> float:
            return float("nan") if column is None else float(column[row])

        return Evaluation(
            self._sign * cell(self._steering),
            cell(self.table.val),
            cell(self.table.test),
            cell(self.table.train_seconds),
        )


def if_known(space: SearchSpace) -> Benchmark:
    """Look accuracies up in the space's table, or know none where it has no table."""
    try:
        return TableBenchmark(space)
    except NoTableError:
        return Unknown()
