"""What a proxy program is worth: how it ranks trained networks of some spaces, and of others.

Akhauri et al. 2022: the fitness of a program is the smallest Kendall correlation over tasks, each
some networks of one space. It steers; the same on other spaces, which the program never sees, is
its test value. What was best on the networks that steered may owe it to them: once a search is
over its finalists meet other networks of the same spaces, which decide among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.pareto import front
from conf.errors import UsageError, at_least, unknown_name
from spaces.base import Architecture, SearchSpace, distinct
from spaces.benchmark import Benchmark, Evaluation
from spaces.costs import Cost
from spaces.proxy_programs.formula import Node, parse
from spaces.proxy_programs.space import ProxyPrograms

if TYPE_CHECKING:
    from proxies.samples import Samples

INVALID: Final = -1.0
"""The value of a program that is not finite for every network, or the same for all."""

_CONF: Final = Path(__file__).parents[1] / "conf" / "space"


def _rounded(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave 16 bits, so that rounding in float32 ranks nothing that is equal."""
    mantissa, exponent = np.frexp(scores)
    return np.asarray(np.ldexp(np.round(np.ldexp(mantissa, 16)), exponent - 16), np.float64)


def _geometric(values: Sequence[float]) -> float:
    return math.prod(values) ** (1 / len(values)) if min(values) > 0 else min(values)


_COMBINE: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "min": min,
    "mean": fmean,
    "geometric": _geometric,
}


@dataclass(frozen=True)
class Task:
    """Networks of one space and what they reach once trained, the larger the better."""

    name: str
    samples: Samples
    accuracy: NDArray[np.float64]

    def correlation(self, program: Node, chosen: NDArray[np.int64] | None = None) -> float:
        """Kendall's tau of the program's scores with accuracy; ``INVALID`` if it has none."""
        samples, accuracy = self.samples, self.accuracy
        if chosen is not None:
            samples, accuracy = samples.of(chosen), accuracy[chosen]
        return _tau(_scores(program, samples), accuracy)


def _scores(program: Node, samples: Samples) -> NDArray[np.float64]:
    """Score all networks; NaN where there is no memory for it, or no convergence."""
    from proxies.torch_state import usual_defaults
    from spaces.proxy_programs.evaluation import evaluate

    try:
        with usual_defaults():
            scores = evaluate(program, samples.groups, samples.networks).numpy()
    except (RuntimeError, MemoryError):
        return np.full(samples.networks, np.nan)
    return _rounded(scores)


def _tau(scores: NDArray[np.float64], accuracy: NDArray[np.float64]) -> float:
    from scipy.stats import kendalltau

    if not np.isfinite(scores).all() or np.ptp(scores) == 0:
        return INVALID
    return float(kendalltau(scores, accuracy).statistic)


class ProgramBenchmark(Benchmark):
    """Evaluates programs on sampled statistics of networks, all of a task at once.

    What steers a search is a program's ``val``, its correlation on the tasks of ``train``, whatever
    accuracies of trained networks that is with: ``protocol`` is always validation.

    Args:
        space: the programs.
        train: tasks that steer, each a space, or ``space:dataset``.
        test: tasks that do not; of other spaces than those. Their networks count by their test
            accuracies.
        accuracy: by which accuracies networks of ``train`` count, ``val`` or ``test``. Where a
            table lacks those that are wanted, the others count, and :meth:`describe` says so.
        networks: how many networks of each, drawn at random from its table.
        held_out: how many further networks of each of ``train`` decide among the finalists of a
            search; 0: no second look.
        finalists: how many the best programs are, by value alone and on the front of value and
            length, that get the second look.
        subsample: how many of them an evaluation sees, drawn anew each time; null: all.
        seed: of the networks.
        combine: ``min`` or ``mean`` over the tasks, or their ``geometric`` mean, in which a gain
            counts by its ratio: a task that nothing ranks well does not decide alone. It is the
            smallest where one is not positive.
        directory: where the statistics are kept; by default beside the scores.
        processes: how many compute them.
        gigabytes: of disk that a task may take.

    Raises :class:`UsageError` for tasks that cannot be, and for a space in both lists.
    """

    metric = "Kendall's tau"
    unit = ""

    def __init__(
        self,
        space: SearchSpace,
        train: Sequence[str],
        test: Sequence[str],
        accuracy: Literal["val", "test"] = "val",
        networks: int = 80,
        held_out: int = 80,
        finalists: int = 20,
        subsample: int | None = None,
        seed: int = 0,
        combine: Literal["min", "mean", "geometric"] = "min",
        directory: str | None = None,
        processes: int = 1,
        gigabytes: float = 2.5,
    ) -> None:
        if not isinstance(space, ProxyPrograms):
            raise UsageError("benchmark=programs evaluates programs; choose space=proxy_programs.")
        if not train:
            raise UsageError("benchmark.train=[] names no task; give at least one space.")
        both = {name.partition(":")[0] for name in train} & {
            name.partition(":")[0] for name in test
        }
        if both:
            raise UsageError(
                f"benchmark.train and benchmark.test share {', '.join(sorted(both))}; a program "
                "must not be tested on a space that it was evolved on."
            )
        least = 3
        counts = {"networks": networks, "subsample": subsample, "held_out": held_out or None}
        for key, value in counts.items():
            if value is not None and value < least:
                raise UsageError(f"benchmark.{key}={value} is not possible; give {least} or more.")
        if subsample is not None and subsample > networks:
            raise UsageError(
                f"benchmark.subsample={subsample} exceeds benchmark.networks={networks}."
            )
        if accuracy not in ("val", "test"):
            raise unknown_name("benchmark.accuracy", accuracy, ("val", "test"))
        at_least(1, "benchmark", finalists=finalists, processes=processes)
        if combine not in _COMBINE:
            raise UsageError(
                f"benchmark.combine={combine} is unknown; choose one of: {', '.join(_COMBINE)}."
            )
        self.space, self.accuracy = space, accuracy
        self.networks, self.subsample, self.seed, self.combine = networks, subsample, seed, combine
        self.held_out, self.finalists = held_out, finalists
        self._directory, self._processes, self._gigabytes = directory, processes, gigabytes
        self._names = (tuple(train), tuple(test))
        self._spaces = {name: _space(name) for name in (*train, *test)}
        for name, task in self._spaces.items():
            needed = networks + (held_out if name in train else 0)
            if needed > task.size:
                raise UsageError(
                    f"the task {name} has {task.size} networks, fewer than benchmark.networks="
                    f"{networks} and benchmark.held_out={held_out} need."
                )
        self._tasks: dict[tuple[str, bool], Task] = {}
        self._known: dict[Architecture, Evaluation] = {}

    def evaluate(self, arch: Architecture, rng: np.random.Generator | None = None) -> Evaluation:
        """Return the correlation on the tasks of either list, combined."""
        key = self.space.canonical(arch)
        if self.subsample is None and key in self._known:
            return self._known[key]
        program = self.space.program(arch)
        chosen = None
        if self.subsample is not None:
            if rng is None:
                raise ValueError("benchmark.subsample draws networks at each evaluation; give rng.")
            chosen = np.sort(rng.choice(self.networks, self.subsample, replace=False))
        train, test = ([self.task(name) for name in names] for names in self._names)
        value = self._valued(program, train, chosen)
        tested = nan = float("nan")
        if value > INVALID and test:
            tested = self._valued(program, test, None)
        found = Evaluation(value, value, tested, nan)
        if self.subsample is None:
            self._known[key] = found
        return found

    def conclude(self, archs: Sequence[str], val: Sequence[float]) -> list[dict[str, Any]]:
        """Rank the finalists of a search by networks that it did not see, of the same spaces.

        A row has the formula, its ``length``, its ``val``, the correlation on ``each`` task, held
        out or of the test, and what the former (``held_out``) and the latter (``test``) combine to.
        """
        if not self.held_out:
            return []
        rows = [self._row(archs[place], val[place]) for place in self._finalists(archs, val)]
        return sorted(rows, key=lambda row: (-row["held_out"], row["length"]))

    def _row(self, arch: str, val: float) -> dict[str, Any]:
        program = parse(arch)
        again = {n: self.task(n, held_out=True).correlation(program) for n in self._names[0]}
        tested = {n: self.task(n).correlation(program) for n in self._names[1]}
        return {
            "architecture": arch,
            "length": program.size,
            "val": val,
            "held_out": self._combined(list(again.values())),
            "test": self._combined(list(tested.values())) if tested else None,
            "each": again | tested,
        }

    def _finalists(self, archs: Sequence[str], val: Sequence[float]) -> list[int]:
        """Return places of the best programs, those on the front of value and length among them.

        Of programs with the same value, which rank alike, the shortest counts.
        """
        words = np.array([parse(text).size for text in archs], np.float64)
        values = np.array(val, np.float64)
        found: dict[float, int] = {}
        for place in (*front(values, words)[::-1], *np.lexsort((words, -values))):
            if val[place] > INVALID:
                found.setdefault(val[place], int(place))
            if len(found) == self.finalists:
                break
        return list(found.values())

    def cost(self, kind: str, device: str | None = None) -> Cost:
        """Say how long programs are: ``length``, in words, is the only cost."""
        if kind != "length":
            raise UsageError(f"programs have no {kind}; choose cost=length.")
        return Cost(kind, "words", "the formula", lambda archs: np.array([*map(len, archs)], float))

    def describe(self) -> dict[str, Any]:
        """Name tasks, networks, by which accuracies they count, and how they are combined."""
        train, test = self._names
        return {
            "kind": "programs",
            "table": "proxy programs",
            "dataset": "",
            "epochs": None,
            "train": list(train),
            "test_tasks": list(test),
            "accuracies": {name: self._counting(name) for name in (*train, *test)},
            "networks": self.networks,
            "held_out": self.held_out,
            "subsample": self.subsample,
            "seed": self.seed,
            "validation": f"{self.combine} over {', '.join(train)}",
            "test": f"{self.combine} over {', '.join(test)}" if test else None,
        }

    def task(self, name: str, held_out: bool = False) -> Task:
        """Return one task, with its statistics: of the networks that steer, or of the others."""
        key = (name, held_out)
        if key not in self._tasks:
            self._tasks[key] = self._collect(name, held_out)
        return self._tasks[key]

    def _valued(
        self, program: Node, tasks: Sequence[Task], chosen: NDArray[np.int64] | None
    ) -> float:
        """Combine the correlations on ``tasks``; what is invalid on one is tried on no further."""
        values: list[float] = []
        for task in tasks:
            values.append(task.correlation(program, chosen))
            if values[-1] <= INVALID:
                break
        return self._combined(values)

    def _combined(self, values: Sequence[float]) -> float:
        if min(values) <= INVALID:
            return INVALID
        return _COMBINE[self.combine](values)

    def _collect(self, name: str, held_out: bool) -> Task:
        from proxies.batch import pictures
        from proxies.samples import collect
        from proxies.service import progress
        from proxies.store import default_path

        space = self._spaces[name]
        table = space.table()
        archs = self._networks(space, held_out)
        accuracies = getattr(table, self._counting(name))[table.rows(archs)].astype(np.float64)
        sign = 1.0 if table.higher_is_better else -1.0
        folder = (
            Path(self._directory) if self._directory else Path(default_path()).parent / "statistics"
        )
        title = f"statistics of {name}" + ", held out" * held_out
        with progress(title, len(archs), True) as step:
            samples = collect(
                space,
                archs,
                pictures(space),
                folder,
                statistics=self.space.statistics,
                processes=self._processes,
                largest=self._gigabytes,
                on_step=step,
            )
        return Task(name, samples, sign * accuracies)

    def _counting(self, name: str) -> str:
        """Say which accuracies count in a task: ``val`` or ``test``."""
        wanted = self.accuracy if name in self._names[0] else "test"
        if getattr(self._spaces[name].table(), wanted) is not None:
            return wanted
        return "val" if wanted == "test" else "test"

    def _networks(self, space: SearchSpace, held_out: bool) -> list[Architecture]:
        """Draw the networks of a task: those that steer, then those that do not."""
        rng = np.random.default_rng(self.seed)
        drawn = distinct(space, rng, self.networks)
        if not held_out:
            return drawn
        steering = set(drawn)
        others: dict[Architecture, None] = {}
        while len(others) < self.held_out:
            drawn = space.sample(rng, self.held_out - len(others))
            others.update(dict.fromkeys(arch for arch in drawn if arch not in steering))
        return list(others)


def _space(task: str) -> SearchSpace:
    """Build the space of a task as its YAML has it, with the task's dataset if it names one."""
    from omegaconf import OmegaConf

    from conf.schema import build

    name, _, dataset = task.partition(":")
    file = _CONF / f"{name}.yaml"
    if not file.exists():
        known = sorted(path.stem for path in _CONF.glob("*.yaml"))
        raise UsageError(f"the task {task} is no space; choose one of: {', '.join(known)}.")
    node = dict(OmegaConf.to_container(OmegaConf.load(file)))  # type: ignore[arg-type]
    if dataset:
        node["dataset"] = dataset
    space: SearchSpace = build({str(k): v for k, v in node.items()}, f"the task {task}: space")
    return space
