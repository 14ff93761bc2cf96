"""Find finished runs and group what is comparable.

Runs are compared only with runs on the same space, set alike, and of the same dataset, benchmark
and metric.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from analysis import published, settings
from analysis.efficiency import (
    Comparison,
    Floats,
    Interval,
    Ranks,
    Spread,
    compare,
    mean_interval,
    models_to_target,
    rank_trials,
    share_reaching,
    spread,
)
from analysis.pareto import Reference
from analysis.results import SUMMARY, TRAJECTORY, Run, read_run, target_curve
from conf.errors import UsageError

PROTOCOLS: Final = {
    "test_of_best_val": "test of best val",
    "best_test_so_far": "best test so far",
    "best_val": "best val",
}
GUIDANCE: Final = ("none", "warmup", "move", "warmup_move")
_SIZES: Final = {"warmup": "pool", "move": "candidates"}
_LONGEST: Final = 100  # letters of a title in a file name


@dataclass(frozen=True)
class Target:
    """How a run reaches one target: trained models needed, and the fraction of trials solved."""

    models: Interval
    solved: float


@dataclass(frozen=True)
class Pair:
    """Two runs of a group compared trial by trial after ``step`` trained models."""

    first: str
    second: str
    step: int
    result: Comparison


@dataclass(frozen=True)
class Beside:
    """A published point, and the mean best test value so far of a run after as many models.

    ``reached`` is the share of means of as many trials as were published, drawn from this run's,
    that are at least as good; NaN where it is not known how many they were.
    """

    label: str
    point: published.Point
    ours: Interval
    reached: float


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of the runs named, of equal trials and seed, after ``step`` trained models."""

    step: int
    labels: list[str]
    ranks: Ranks


@dataclass(frozen=True)
class Cost:
    """Simulated hours of a trial, means: training, scoring, and both until each target."""

    training: float
    scoring: float
    targets: dict[str, Interval]


@dataclass(frozen=True)
class Entry:
    """A run and the name it has within its group."""

    label: str
    run: Run

    @property
    def searcher(self) -> str:
        """Name of the searcher."""
        return str(self.run.summary["searcher"])

    @property
    def guidance(self) -> str:
        """Name of the guidance."""
        return str(self.run.summary["guidance"] or "none")

    @property
    def proxy(self) -> str:
        """Name of the proxy, or a dash."""
        return str(self.run.summary["proxy"] or "-")

    @property
    def pool(self) -> str | None:
        """Size of the warmup pool, if there is one."""
        return settings.of_guidance(self.run.summary, "warmup", "pool")

    @property
    def candidates(self) -> str | None:
        """Candidates of a move proposal, if there is one."""
        return settings.of_guidance(self.run.summary, "move", "candidates")

    def published(self) -> list[published.Point]:
        """Points of the same search; none for a run within limits or on a table of one's own."""
        summary = self.run.summary
        if settings.is_limited(summary) or not settings.is_shipped_table(summary):
            return []
        own = {
            "space": str(summary["space"]),
            "dataset": str(summary["dataset"]),
            "epochs": str(summary["benchmark"].get("epochs")),
            "guidance": self.guidance,
            "pool": self.pool or "",
            "candidates": self.candidates or "",
            "proxy": "" if self.guidance == "none" else self.proxy,
        }
        return [
            point
            for point in published.points()
            if self.searcher in point.searchers
            and all(getattr(point, key) in ("", value) for key, value in own.items())
            and all(
                settings.of_path(summary.get("config"), path) == value
                for path, value in point.settings.items()
            )
        ]

    def at(self, protocol: str, step: int | None) -> Floats | None:
        """Values over trials after ``step`` models (None: the last); None beyond the run's end."""
        if step is not None and step > self.run.steps:
            return None
        curve: Floats = getattr(self.run.curves, protocol)
        return curve[:, -1 if step is None else step - 1]


@dataclass(frozen=True)
class Trade:
    """Runs with one cost beside accuracy.

    Attributes:
        cost: its name.
        unit: of the cost.
        entries: the runs.
        curves: hypervolume of each run, float64 [trials, steps], all from one reference; where the
            best possible is known and the same for all, as a share of it in percent.
        shares: whether it is.
    """

    cost: str
    unit: str
    entries: list[Entry]
    curves: list[Floats]
    shares: bool

    def spread(self, entry: Entry) -> Spread | None:
        """Hypervolume of a run at its end, over trials; None for a run without this cost."""
        for known, curve in zip(self.entries, self.curves, strict=True):
            if known is entry:
                return spread(curve[:, -1])
        return None

    @property
    def most(self) -> float:
        """The largest mean hypervolume of any run at its end."""
        return max(float(curve[:, -1].mean()) for curve in self.curves)

    def number(self, value: float) -> str:
        """Write a hypervolume."""
        return f"{value:.2f}" if self.shares else f"{value:.5g}"

    @property
    def unit_of_hypervolume(self) -> str:
        """What :attr:`curves` are in."""
        return "% of the best possible" if self.shares else f"value times {self.unit}"


@dataclass(frozen=True)
class Group:
    """Comparable runs, in a fixed order, and everything that is reported of them.

    ``steps`` are the numbers of trained models at which values are given; None is the last.
    """

    entries: list[Entry]
    steps: list[int | None]

    @property
    def summary(self) -> dict[str, Any]:
        """What all runs of the group share, as in the first one's summary."""
        return self.entries[0].run.summary

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return bool(self.summary["higher_is_better"])

    @property
    def protocols(self) -> list[str]:
        """Curves worth reporting, the one to judge by first."""
        if not any(entry.run.has_test for entry in self.entries):
            return ["best_val"]
        if self.summary["protocol"] == "test":
            return ["best_test_so_far"]
        return ["test_of_best_val", "best_test_so_far"]

    @property
    def title(self) -> str:
        """Space and dataset, and how the space is set."""
        names = [str(self.summary[key]) for key in ("space", "dataset") if _has(self, key)]
        return " · ".join(filter(None, [*names, self.settings]))

    @property
    def settings(self) -> str:
        """How the space is set, in words; empty where nothing tells it from others of its name."""
        found = settings.of_space(self.summary)
        return ", ".join(f"{key} {value}" for key, value in found.items())

    @property
    def slug(self) -> str:
        """The title, as far as it goes, as part of a file name."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower())[:_LONGEST].strip("-") or "runs"

    @property
    def metric(self) -> str:
        """Metric with its unit."""
        unit = self.summary["unit"]
        return f"{self.summary['metric']} ({unit})" if unit else str(self.summary["metric"])

    @property
    def benchmark(self) -> str:
        """The benchmark in words."""
        benchmark = self.summary["benchmark"]
        if not isinstance(benchmark, dict):
            return str(benchmark)
        return ", ".join(f"{key} {value}" for key, value in benchmark.items() if value is not None)

    @property
    def budget(self) -> int:
        """The largest budget of any run of the group."""
        return max(entry.run.budget for entry in self.entries)

    @property
    def proxies(self) -> list[str]:
        """Proxies that guide any run of the group."""
        return sorted({entry.proxy for entry in self.entries if entry.guidance != "none"})

    @property
    def targets(self) -> list[str]:
        """Targets that any run of the group recorded, ascending."""
        names = {name for e in self.entries for name in e.run.summary["models_to_target"]}
        return sorted(names, key=float)

    @cached_property
    def trades(self) -> list[Trade]:
        """What runs with a cost beside accuracy traded it for, one for each such cost."""
        names = dict.fromkeys(e.run.cost for e in self.entries if e.run.cost)
        return [
            _trade(name, [e for e in self.entries if e.run.cost == name], self.higher_is_better)
            for name in names
        ]

    def number(self, value: float) -> str:
        """Write a value of the metric with sensible decimals."""
        return "-" if np.isnan(value) else f"{value:.{2 if self.summary['unit'] == '%' else 4}f}"

    def spread(self, entry: Entry, protocol: str, step: int | None) -> Spread | None:
        """Spread over trials; None where the run is shorter or has no such value."""
        values = entry.at(protocol, step)
        return None if values is None or np.isnan(values).all() else spread(values)

    def target(self, entry: Entry, name: str) -> Target:
        """Trained models that ``entry`` needs for target ``name``.

        An unsolved trial counts as the largest budget of the group + 1, so that a run with a small
        budget gains nothing by giving up early.
        """
        unsolved = self.budget + 1
        steps = models_to_target(
            target_curve(entry.run.curves),
            float(name),
            unsolved=unsolved,
            higher_is_better=self.higher_is_better,
        )
        solved = float((steps <= entry.run.budget).mean())
        return Target(mean_interval(steps, least=1, most=unsolved), solved)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Each guided run against the same searcher without guidance, on the first protocol.

        Where there is no such pair, every run against the one that ends best. Only runs with the
        same trials and seed are paired; all p-values of a group are corrected together.
        """
        couples = [
            (entry, plain)
            for entry in self.entries
            for plain in self.entries
            if entry.guidance != "none" == plain.guidance and entry.searcher == plain.searcher
        ]
        if not any(_paired(*couple) for couple in couples):
            leader = self.leader()
            couples = [(leader, entry) for entry in self.entries if entry is not leader]
        protocol, asked = self.protocols[0], []
        for first, second in filter(lambda couple: _paired(*couple), couples):
            common = min(first.run.steps, second.run.steps)
            steps = sorted({common if s is None else s for s in self.steps if (s or 0) <= common})
            for step in steps:
                one, other = first.at(protocol, step), second.at(protocol, step)
                if one is not None and other is not None:
                    asked.append((first.label, second.label, step, (one, other)))
        results = compare([case[3] for case in asked], higher_is_better=self.higher_is_better)
        return [Pair(*case[:3], result) for case, result in zip(asked, results, strict=True)]

    @cached_property
    def beside(self) -> list[Beside]:
        """What is published of the searches of this group, where they trained as many models."""
        found = []
        for entry in self.entries:
            for point in entry.published():
                values = entry.at("best_test_so_far", point.models)
                if values is not None:
                    known = values[~np.isnan(values)]
                    reached = share_reaching(
                        known, point.value, point.runs, higher_is_better=self.higher_is_better
                    )
                    found.append(Beside(entry.label, point, mean_interval(known), reached))
        return found

    @cached_property
    def rankings(self) -> list[Ranking]:
        """Mean ranks at each step, on the first protocol, of runs that can be paired.

        Those are the runs of the most frequent number of trials and seed. A step takes the runs
        that get as far; the last one is the end of the shortest run.
        """
        keys = [(e.run.summary["trials"], e.run.summary["seed"]) for e in self.entries]
        usual = max(keys, key=keys.count)
        alike = [e for e, key in zip(self.entries, keys, strict=True) if key == usual]
        shortest = min(entry.run.steps for entry in alike)
        found = []
        for step in sorted({shortest if s is None else s for s in self.steps}):
            values = {e.label: e.at(self.protocols[0], step) for e in alike}
            known = {label: row for label, row in values.items() if row is not None}
            if len(known) < 3:
                continue
            ranks = rank_trials(np.array([*known.values()]), higher_is_better=self.higher_is_better)
            if not np.isnan(ranks.p):
                found.append(Ranking(step, [*known], ranks))
        return found

    def cost(self, entry: Entry) -> Cost | None:
        """Return the simulated time of ``entry``; None where that of models or scores is not known.

        A trial that does not reach a target counts with all its time.
        """
        if entry.run.seconds is None:
            return None
        training, scoring = (part / 3600 for part in entry.run.seconds)
        whole = training + scoring
        targets = {}
        for name in self.targets:
            curve = target_curve(entry.run.curves)
            better = self.higher_is_better
            last = curve.shape[1]
            steps = models_to_target(curve, float(name), unsolved=last, higher_is_better=better)
            targets[name] = mean_interval(whole[np.arange(len(whole)), steps - 1], least=0)
        return Cost(float(training[:, -1].mean()), float(scoring[:, -1].mean()), targets)

    def leader(self) -> Entry:
        """Return the run with the best mean of the first protocol at its end."""
        return self.ranked()[0]

    def ranked(self) -> list[Entry]:
        """Entries from best to worst by the mean of the first protocol at their end."""

        def mean(entry: Entry) -> float:
            value = self.spread(entry, self.protocols[0], None)
            sign = 1 if self.higher_is_better else -1
            return -np.inf if value is None else sign * value.mean

        return sorted(self.entries, key=mean, reverse=True)


@dataclass(frozen=True)
class Report:
    """All groups found, and a warning for every directory that was passed over."""

    groups: list[Group]
    warnings: list[str]


# -- finding and grouping -------------------------------------------------------------------------


def collect(directories: Iterable[Path | str], steps: Sequence[int] = (50, 100)) -> Report:
    """Find the finished runs under ``directories``, and group them.

    Unfinished and damaged runs, and directories that are not there, are passed over with a
    warning. Raises :class:`UsageError` for a directory that cannot be read and where no finished
    run is found.
    """
    places = [Path(directory) for directory in directories]
    absent = [place for place in places if not place.exists()]
    runs, warnings = [], [f"{place} does not exist" for place in absent]
    for path in _candidates(place for place in places if place not in absent):
        try:
            runs.append(read_run(path))
        except UsageError as error:
            warnings.append(f"passed over a run: {error}")
    if not runs:
        passed = f" ({'; '.join(warnings)})" if warnings else ""
        raise UsageError(
            f"there is no finished run (a directory with {SUMMARY} and {TRAJECTORY}) "
            f"under {', '.join(map(str, places))}{passed}."
        )
    return Report(_group(runs, sorted(set(steps))), warnings)


def _candidates(directories: Iterable[Path]) -> list[Path]:
    """Return every directory that a job has written to, once, in a stable order."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}.") from None

    found: dict[Path, Path] = {}
    for directory in directories:
        if not directory.is_dir():
            raise UsageError(f"{directory} is no directory; give directories with finished runs.")
        for folder, inner, files in os.walk(directory, onerror=refuse):
            inner.sort()
            if {SUMMARY, TRAJECTORY, "journal.jsonl"} & set(files):
                path = Path(folder)
                found.setdefault(path.resolve(), path)
    return list(found.values())


def _group(runs: Iterable[Run], steps: Sequence[int]) -> list[Group]:
    shared = ("space", "dataset", "benchmark", "protocol", "metric", "unit", "higher_is_better")
    together: dict[str, list[Run]] = {}
    for run in runs:
        common = [run.summary[name] for name in shared]
        key = json.dumps([*common, settings.of_space(run.summary)], sort_keys=True)
        together.setdefault(key, []).append(run)
    groups = []
    for members in together.values():
        longest = max(run.steps for run in members)
        groups.append(Group(_entries(members), [s for s in steps if s < longest] + [None]))
    return sorted(groups, key=lambda group: group.title)


def _entries(runs: Sequence[Run]) -> list[Entry]:
    """Name runs by searcher and guidance, then by what else is needed to tell them apart.

    That are the size of the warmup pool, the candidates of a move, and the proxy, where guided runs
    differ in them; then the settings in which runs of one name differ; and the directory where that
    does not do. The order is by searcher, then none, warmup, move, both, then by size.
    """
    several = len({run.summary["proxy"] for run in runs if _guided(run)}) > 1
    sizes = {
        part: len({settings.of_guidance(run.summary, part, key) for run in runs} - {None}) > 1
        for part, key in _SIZES.items()
    }
    names = [_name(run, several, sizes) for run in runs]
    labels = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        rows = [row for row, other in enumerate(names) if other == name]
        found = settings.apart([runs[row].summary for row in rows])
        for row, text in zip(rows, found, strict=True):
            labels[row] = f"{name} ({text or runs[row].path.name})"
    labels = [
        f"{name} ({run.path})" if labels.count(label) > 1 else label
        for label, name, run in zip(labels, names, runs, strict=True)
    ]

    def order(entry: Entry) -> tuple[str, int, float, float, list[tuple[str, int]]]:
        known = GUIDANCE.index(entry.guidance) if entry.guidance in GUIDANCE else len(GUIDANCE)
        sizes = (_number(entry.pool), _number(entry.candidates))
        words = re.findall(r"(\D*)(\d*)", entry.label)
        return entry.searcher, known, *sizes, [(word, int(n or 0)) for word, n in words]

    return sorted((Entry(*pair) for pair in zip(labels, runs, strict=True)), key=order)


def _guided(run: Run) -> bool:
    return run.summary["guidance"] not in (None, "none")


def _number(size: str | None) -> float:
    return float(size) if size and size.isdigit() else np.inf


def _name(run: Run, with_proxy: bool, with_sizes: dict[str, bool]) -> str:
    searcher, guidance, proxy = (run.summary[k] for k in ("searcher", "guidance", "proxy"))
    if not _guided(run):
        return str(searcher) + _limits(run)
    parts = []
    for part in str(guidance).split("_"):
        wanted = with_sizes.get(part)
        size = settings.of_guidance(run.summary, part, _SIZES[part]) if wanted else None
        parts.append(f"{part} {size}" if size else part)
    name = " + ".join([str(searcher), *parts])
    return (f"{name}, {proxy}" if with_proxy else name) + _limits(run)


def _limits(run: Run) -> str:
    """Say what a model of the run may cost."""
    budget = run.summary["budget"]
    limits = {
        key.removeprefix("max_"): value
        for key, value in budget.items()
        if key.startswith("max_") and value is not None
    }
    device = f" on {budget['device']}" if "latency_ms" in limits and budget.get("device") else ""
    return "".join(f", {name} ≤ {value:,.10g}" for name, value in limits.items()) + device


def _trade(cost: str, entries: list[Entry], higher_is_better: bool) -> Trade:
    references = [entry.run.reference for entry in entries]
    worst = min if higher_is_better else max
    shared = Reference(worst(r.value for r in references), max(r.cost for r in references))
    best = references[0].best
    shares = best is not None and all(reference == references[0] for reference in references)
    scale = 100 / best if shares and best else 1.0
    curves = [scale * entry.run.hypervolumes(shared) for entry in entries]
    unit = entries[0].run.summary["costs"][cost]["unit"]
    return Trade(cost, unit, entries, curves, shares)


def _paired(first: Entry, second: Entry) -> bool:
    keys = ("trials", "seed")
    return all(first.run.summary[key] == second.run.summary[key] for key in keys)


def _has(group: Group, key: str) -> bool:
    return bool(group.summary[key]) and group.summary[key] != "none"


def step_name(step: int | None) -> str:
    """Write a number of trained models, or that it is the last."""
    return "end" if step is None else str(step)
