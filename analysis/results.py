"""The result files of one search job, and nothing else knows their form.

A job leaves ``trajectory.csv`` (one row per trained model) and ``summary.json`` in its directory.
Two protocols stand side by side in both: *test of best val*, the test value of the model that is
best by validation so far, which is what a user of the search would get; and *best test so far*,
which peeks at the test set and is what many papers plot.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from array import array
from collections.abc import Iterable, Mapping, MutableSequence, Sequence
from dataclasses import asdict, astuple, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from analysis.efficiency import Floats, models_to_target, spread
from analysis.files import replacing, write_json
from analysis.pareto import Reference, hypervolumes
from conf.errors import UsageError

TRAJECTORY: Final = "trajectory.csv"
SUMMARY: Final = "summary.json"

COLUMNS: Final = (
    "trial",
    "step",
    "architecture",
    "val",
    "test",
    "best_val",
    "best_test_so_far",
    "test_of_best_val",
    "train_seconds",
    "proxy_evaluations",
)

SUMMARY_KEYS: Final = (
    "space",
    "dataset",
    "benchmark",
    "searcher",
    "guidance",
    "proxy",
    "budget",
    "trials",
    "seed",
    "versions",
    "protocol",
    "metric",
    "unit",
    "higher_is_better",
    "final",
    "models_to_target",
    "wall_seconds",
    "proxy_seconds",
    "cache_hits",
)

Steering = Literal["validation", "test"]


@dataclass
class Trace:
    """One trial: parallel sequences, one entry per trained model, in the order of training.

    ``val`` and ``test`` are in the benchmark's unit, NaN where it has none; ``train_seconds`` is
    the time of that model alone; ``proxy_evaluations`` counts from the beginning of the trial.
    ``costs`` are what models cost, by the cost's name, where a search was asked for it.
    """

    architectures: list[str] = field(default_factory=list)
    val: MutableSequence[float] = field(default_factory=list)
    test: MutableSequence[float] = field(default_factory=list)
    train_seconds: MutableSequence[float] = field(default_factory=list)
    proxy_evaluations: MutableSequence[int] = field(default_factory=list)
    costs: dict[str, MutableSequence[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.architectures)


class Curves(NamedTuple):
    """The incumbents of all trials, each float64 [trials, steps]; NaN where there is no value."""

    best_val: Floats
    best_test_so_far: Floats
    test_of_best_val: Floats


class Best(NamedTuple):
    """The best model of a whole run, by the value that steered it."""

    architecture: str
    val: float
    test: float


@dataclass(frozen=True)
class Run:
    """A finished job, as read from its directory.

    ``budget`` is the number of models that a trial may train; ``overrides`` are the words of the
    command line that started it, or None where they are not recorded.
    """

    path: Path
    summary: dict[str, Any]
    traces: list[Trace]
    curves: Curves
    overrides: list[str] | None

    @property
    def budget(self) -> int:
        """Models that one trial may train."""
        return int(self.summary["budget"]["models"])

    @property
    def steps(self) -> int:
        """Models that the longest trial trained."""
        return int(self.curves.best_val.shape[1])

    @property
    def has_test(self) -> bool:
        """Whether the benchmark gave any test value."""
        return not bool(np.isnan(self.curves.best_test_so_far).all())

    @property
    def seconds(self) -> tuple[Floats, Floats] | None:
        """Simulated time so far, of training and of scoring, each float64 [trials, steps].

        None where the benchmark knows no training times, or the summary not what a score takes. A
        trial that ended early keeps its last.
        """
        rate = self.summary.get("seconds_per_score")
        training = np.nancumsum(_padded([t.train_seconds for t in self.traces]), axis=1)
        known = not any(np.isnan(t.train_seconds).any() for t in self.traces)
        if not isinstance(rate, int | float) or not known:
            return None
        scores = _padded([t.proxy_evaluations for t in self.traces])
        return training, rate * np.fmax.accumulate(scores, axis=1)

    @property
    def cost(self) -> str | None:
        """Name of the cost that stands beside accuracy, if one does."""
        name = self.summary.get("cost")
        return str(name) if name else None

    @property
    def reference(self) -> Reference:
        """From where the hypervolume is measured, for a run with a cost."""
        return Reference(**self.summary["hypervolume"]["reference"])

    def hypervolumes(self, reference: Reference) -> Floats:
        """Follow the hypervolume of each trial, float64 [trials, steps], from ``reference``."""
        assert self.cost is not None
        return _hypervolumes(
            self.traces,
            self.cost,
            reference,
            by_test=self.summary["protocol"] == "test",
            higher_is_better=self.summary["higher_is_better"],
        )

    def best(self) -> Best:
        """Return the best model over all trials by the value that steered; the first of equals."""
        by_test = self.summary["protocol"] == "test"
        values = _padded([t.test if by_test else t.val for t in self.traces])
        gains = values if self.summary["higher_is_better"] else -values
        trial, step = divmod(int(np.nanargmax(gains)), gains.shape[1])
        trace = self.traces[trial]
        return Best(trace.architectures[step], trace.val[step], trace.test[step])


# -- statistics -----------------------------------------------------------------------------------


def curves(
    traces: Sequence[Trace],
    *,
    protocol: Steering | None = None,
    higher_is_better: bool = True,
) -> Curves:
    """Follow the incumbents of ``traces`` from step 1 on.

    With protocol ``"test"`` the test values choose the incumbent, with ``"validation"`` the
    validation values; None takes the test where there is no validation value at all. The first of
    equally good models stays incumbent. A trial that ended early keeps its last incumbent; NaN
    values never become one.

    Values are rounded to the seven significant digits that ``trajectory.csv`` holds, so that the
    summary can be recomputed from it, and 73.02 reaches the target 73.02 though float32 holds it
    as 73.0199966.
    """
    val = _seven_digits(_padded([t.val for t in traces]))
    test = _seven_digits(_padded([t.test for t in traces]))
    if protocol is None:
        protocol = "test" if np.isnan(val).all() else "validation"
    best = np.fmax if higher_is_better else np.fmin
    steering = best.accumulate(test if protocol == "test" else val, axis=1)
    step = np.broadcast_to(np.arange(steering.shape[1]), steering.shape).copy()
    step[:, 1:][steering[:, 1:] == steering[:, :-1]] = 0
    incumbent = np.maximum.accumulate(step, axis=1)
    test_of_best = np.take_along_axis(test, incumbent, axis=1)
    return Curves(
        best_val=best.accumulate(val, axis=1),
        best_test_so_far=best.accumulate(test, axis=1),
        test_of_best_val=np.where(np.isnan(steering), np.nan, test_of_best),
    )


def summarise(
    traces: Sequence[Trace],
    *,
    protocol: Steering,
    higher_is_better: bool,
    targets: Iterable[float],
    budget_models: int,
) -> dict[str, Any]:
    """Return the statistics of ``summary.json``: ``final`` and ``models_to_target``.

    ``final`` has {mean, std, median, q25, q75} over trials of each curve's last value, NaN for
    curves that the benchmark cannot give. ``models_to_target`` has, for each of ``targets`` (its
    text, as ``"73.0"``), mean and median of the first step at which the best test so far reaches
    it (the best validation where there is no test), an unsolved trial counting as
    ``budget_models`` + 1, and the fraction of trials that reached it.
    """
    found = curves(traces, protocol=protocol, higher_is_better=higher_is_better)
    order = ("test_of_best_val", "best_test_so_far", "best_val")
    final = {name: spread(getattr(found, name)[:, -1])._asdict() for name in order}
    steps_to = {}
    for target in targets:
        steps = models_to_target(
            target_curve(found),
            target,
            unsolved=budget_models + 1,
            higher_is_better=higher_is_better,
        )
        steps_to[str(float(target))] = {
            "mean": float(steps.mean()),
            "median": float(np.median(steps)),
            "solved_fraction": float((steps <= budget_models).mean()),
        }
    return {"final": final, "models_to_target": steps_to}


def summarise_hypervolume(
    traces: Sequence[Trace],
    cost: str,
    reference: Reference | None,
    *,
    protocol: Steering,
    higher_is_better: bool,
) -> dict[str, Any]:
    """Return ``hypervolume`` of ``summary.json``: of the values that steered, and ``cost``.

    ``reference`` None takes the worst value and the largest cost of the models of this run.
    ``final`` has {mean, std, median, q25, q75} over trials of the area that a trial's models
    dominate, and ``share`` its mean as a share of the best possible, None where that is not known.
    """
    by_test = protocol == "test"
    if reference is None:
        values = np.concatenate([t.test if by_test else t.val for t in traces])
        reference = Reference(
            float(np.nanmin(values) if higher_is_better else np.nanmax(values)),
            float(np.nanmax(np.concatenate([t.costs[cost] for t in traces]))),
        )
    grown = _hypervolumes(
        traces, cost, reference, by_test=by_test, higher_is_better=higher_is_better
    )
    final = spread(grown[:, -1])
    return {
        "final": final._asdict(),
        "share": final.mean / reference.best if reference.best else None,
        "reference": asdict(reference),
    }


def _hypervolumes(
    traces: Sequence[Trace],
    cost: str,
    reference: Reference,
    *,
    by_test: bool,
    higher_is_better: bool,
) -> Floats:
    return hypervolumes(
        _padded([t.test if by_test else t.val for t in traces]),
        _padded([t.costs[cost] for t in traces]),
        reference,
        higher_is_better=higher_is_better,
    )


def target_curve(found: Curves) -> Floats:
    """Return the curve by which targets are reached: best test so far, else best validation."""
    without_test = np.isnan(found.best_test_so_far).all()
    return found.best_val if without_test else found.best_test_so_far


# -- writing --------------------------------------------------------------------------------------


def write_trajectory(
    path: Path | str,
    traces: Sequence[Trace],
    *,
    protocol: Steering | None = None,
    higher_is_better: bool = True,
) -> None:
    """Write ``trajectory.csv``: one row per trained model, in the order of :data:`COLUMNS`.

    The costs that the traces know follow, a column each, named like the cost.

    ``trial`` counts from 0, ``step`` from 1; numbers have seven significant digits, and a value
    that there is not is left empty. ``protocol`` is as in :func:`curves`.
    """
    lengths = [len(t) for t in traces]
    found = curves(traces, protocol=protocol, higher_is_better=higher_is_better)
    real = np.arange(found.best_val.shape[1]) < np.array(lengths)[:, None]
    columns: dict[str, Iterable[object]] = {
        "trial": np.repeat(np.arange(len(traces)), lengths).tolist(),
        "step": chain.from_iterable(range(1, n + 1) for n in lengths),
        "architecture": chain.from_iterable(t.architectures for t in traces),
        "val": _cells(_padded([t.val for t in traces])[real]),
        "test": _cells(_padded([t.test for t in traces])[real]),
        **{name: _cells(getattr(found, name)[real]) for name in Curves._fields},
        "train_seconds": _cells(_padded([t.train_seconds for t in traces])[real]),
        "proxy_evaluations": chain.from_iterable(t.proxy_evaluations for t in traces),
    }
    assert tuple(columns) == COLUMNS
    for name in traces[0].costs if traces else ():
        columns[name] = _cells(_padded([t.costs[name] for t in traces])[real])
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_summary(
    path: Path | str, metadata: Mapping[str, Any], statistics: Mapping[str, Any]
) -> None:
    """Write ``summary.json``: ``metadata`` of the job and what :func:`summarise` returned.

    Both together must have :data:`SUMMARY_KEYS`; further keys follow them. ``space``,
    ``dataset``, ``searcher``, ``guidance`` and ``proxy`` are names, ``budget`` has at least
    ``models``. Raises ``ValueError`` for keys that lack.
    """
    summary = {**metadata, **statistics}
    lacking = [key for key in SUMMARY_KEYS if key not in summary]
    if lacking:
        raise ValueError(f"the summary lacks {', '.join(lacking)}")
    write_json(path, {key: summary[key] for key in (*SUMMARY_KEYS, *summary)})


# -- reading --------------------------------------------------------------------------------------


def read_run(directory: Path | str) -> Run:
    """Read a finished job from its directory.

    Raises :class:`UsageError` where a file is missing, damaged, or does not fit the other.
    """
    directory = Path(directory)
    summary = _read_summary(directory / SUMMARY)
    traces = _read_trajectory(directory / TRAJECTORY)
    if len(traces) != summary["trials"]:
        raise UsageError(
            f"{directory / TRAJECTORY} is incomplete: it holds {len(traces)} trials where "
            f"{SUMMARY} says {summary['trials']}."
        )
    found = curves(
        traces, protocol=summary["protocol"], higher_is_better=summary["higher_is_better"]
    )
    cost = summary.get("cost")
    if cost and cost not in traces[0].costs:
        raise UsageError(
            f"{directory / TRAJECTORY} has no column {cost}, of which {SUMMARY} tells."
        )
    by_test = summary["protocol"] == "test"
    if np.isnan(found.best_test_so_far if by_test else found.best_val).all():
        raise UsageError(f"{directory / TRAJECTORY} holds no {summary['protocol']} value.")
    return Run(directory, summary, traces, found, _read_overrides(directory))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; give the directory of a finished run.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None


def _read_summary(path: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is damaged, it is no JSON: {error}.") from None
    lacking = [k for k in SUMMARY_KEYS if k not in summary] if isinstance(summary, dict) else None
    if lacking is None or lacking:
        what = ", ".join(lacking or ["every key of a summary"])
        raise UsageError(f"{path} is no summary of a search: it lacks {what}.")
    budget, targets = summary["budget"], summary["models_to_target"]
    names = ("space", "dataset", "searcher", "guidance", "proxy", "metric", "unit", "cost")
    cost = summary.get("cost")
    legal = {
        **{name: isinstance(summary.get(name), str | None) for name in names},
        "protocol": summary["protocol"] in ("validation", "test"),
        "higher_is_better": isinstance(summary["higher_is_better"], bool),
        "trials": isinstance(summary["trials"], int),
        "budget": isinstance(budget, dict) and _is_budget(budget),
        "models_to_target": isinstance(targets, dict) and all(map(_is_number, targets)),
        "costs": not cost or _has_unit(summary.get("costs"), cost),
        "hypervolume": not cost or _is_hypervolume(summary.get("hypervolume")),
    }
    wrong = [key for key, right in legal.items() if not right]
    if wrong:
        raise UsageError(f"{path} is damaged: it has no legal value of {', '.join(wrong)}.")
    return summary


def _read_trajectory(path: Path) -> list[Trace]:
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        header = next(rows, [])
        if tuple(header[: len(COLUMNS)]) != COLUMNS:
            raise UsageError(
                f"{path} is no trajectory: its first line does not start with {','.join(COLUMNS)}."
            )
        priced = header[len(COLUMNS) :]
        traces: list[Trace] = []
        for trial, step, architecture, val, test, _, _, _, seconds, evaluations, *costs in rows:
            if int(trial) == len(traces):
                traces.append(_compact_trace(priced))
            trace = traces[-1]
            if int(trial) != len(traces) - 1 or int(step) != len(trace) + 1:
                raise ValueError("trials and steps are not in order")
            trace.architectures.append(sys.intern(architecture))
            trace.val.append(float(val or "nan"))
            trace.test.append(float(test or "nan"))
            trace.train_seconds.append(float(seconds or "nan"))
            trace.proxy_evaluations.append(int(evaluations))
            for name, cost in zip(priced, costs, strict=True):
                trace.costs[name].append(float(cost or "nan"))
    except (ValueError, IndexError, csv.Error) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged at line {rows.line_num}: {error}.") from None
    if not traces:
        raise UsageError(f"{path} holds no trained model.")
    return traces


def _compact_trace(costs: Iterable[str]) -> Trace:
    """Make an empty trace that holds a number in eight bytes."""
    columns = (array("d"), array("d"), array("d"), array("q"))
    return Trace([], *columns, {name: array("d") for name in costs})


def _read_overrides(directory: Path) -> list[str] | None:
    path = directory / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return None
    from omegaconf import OmegaConf

    try:
        words = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # whatever the parser raises, the command is a courtesy
        return None
    return [str(word) for word in words] if isinstance(words, list) else None


# -- columns --------------------------------------------------------------------------------------


def _padded(rows: Sequence[Sequence[float]]) -> Floats:
    """Stack rows of different lengths to float64 [rows, longest], filled with NaN."""
    lengths = np.array([len(row) for row in rows])
    table = np.full((len(rows), max(1, lengths.max(initial=0))), np.nan)
    table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate([[], *rows])
    return table


def _seven_digits(values: Floats) -> Floats:
    distinct, places = np.unique(values, return_inverse=True)
    rounded = np.array([float(f"{value:.7g}") for value in distinct.tolist()], np.float64)
    return rounded[places]


def _cells(values: Floats) -> list[str | None]:
    distinct, places = np.unique(values, return_inverse=True)
    texts = [None if math.isnan(value) else f"{value:.7g}" for value in distinct.tolist()]
    return [texts[place] for place in places.tolist()]


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_budget(found: dict[str, Any]) -> bool:
    limits = [value for key, value in found.items() if key.startswith("max_")]
    return isinstance(found.get("models"), int) and all(
        isinstance(limit, int | float | None) for limit in limits
    )


def _has_unit(costs: object, cost: object) -> bool:
    described = costs.get(str(cost)) if isinstance(costs, dict) else None
    return isinstance(described, dict) and isinstance(described.get("unit"), str)


def _is_hypervolume(found: object) -> bool:
    reference = found.get("reference") if isinstance(found, dict) else None
    try:
        value, cost, best = astuple(Reference(**reference))  # type: ignore[arg-type]
    except TypeError:
        return False
    return (
        isinstance(value, int | float)
        and isinstance(cost, int | float)
        and isinstance(best, int | float | None)
    )
