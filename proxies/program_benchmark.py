"""What a proxy program is worth: how it ranks trained networks of some spaces, and of others.

Akhauri et al. 2022: the fitness of a program is the smallest Kendall correlation over tasks, each
some networks of one space. It steers; the same on other spaces, which the program never sees, is
its test value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, SearchSpace
from spaces.benchmark import Benchmark, Evaluation
from spaces.proxy_programs.formula import Node
from spaces.proxy_programs.space import ProxyPrograms

INVALID: Final = -1.0
"""The value of a program that is not finite for every network, or the same for all."""

_CONF: Final = Path(__file__).parents[1] / "conf" / "space"


@dataclass(frozen=True)
class Task:
    """Networks of one space and what they reach once trained, the larger the better."""

    name: str
    samples: Any
    accuracy: NDArray[np.float64]

    def correlation(self, program: Node, chosen: NDArray[np.int64] | None = None) -> float:
        """Kendall's tau of the program's scores with accuracy; ``INVALID`` if it has none."""
        from scipy.stats import kendalltau

        from spaces.proxy_programs.evaluation import evaluate

        samples, accuracy = self.samples, self.accuracy
        if chosen is not None:
            samples, accuracy = samples.of(chosen), accuracy[chosen]
        try:
            scores = evaluate(program, samples.groups, samples.networks).numpy()
        except (RuntimeError, MemoryError):  # out of memory, or no convergence
            return INVALID
        if not np.isfinite(scores).all() or np.ptp(scores) == 0:
            return INVALID
        return float(kendalltau(scores, accuracy).statistic)


class ProgramBenchmark(Benchmark):
    """Evaluates programs on sampled statistics of networks, all of a task at once.

    Args:
        space: the programs.
        train: tasks that steer, each a space, or ``space:dataset``.
        test: tasks that do not; of other spaces than those.
        networks: how many networks of each, drawn at random from its table.
        subsample: how many of them an evaluation sees, drawn anew each time; null: all.
        seed: of the networks.
        combine: ``min`` or ``mean`` over the tasks.
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
        networks: int = 80,
        subsample: int | None = None,
        seed: int = 0,
        combine: Literal["min", "mean"] = "min",
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
        for key, value in (("networks", networks), ("subsample", subsample)):
            if value is not None and value < least:
                raise UsageError(f"benchmark.{key}={value} is not possible; give {least} or more.")
        if subsample is not None and subsample > networks:
            raise UsageError(
                f"benchmark.subsample={subsample} exceeds benchmark.networks={networks}."
            )
        if combine not in ("min", "mean"):
            raise UsageError(f"benchmark.combine={combine} is unknown; choose one of: min, mean.")
        if processes < 1:
            raise UsageError(f"benchmark.processes={processes} must be at least 1.")
        self.space = space
        self.networks, self.subsample, self.seed, self.combine = networks, subsample, seed, combine
        self._directory, self._processes, self._gigabytes = directory, processes, gigabytes
        self._names = (tuple(train), tuple(test))
        self._spaces = {name: _space(name) for name in (*train, *test)}
        self._tasks: dict[str, Task] = {}
        self._known: dict[Architecture, Evaluation] = {}

    def evaluate(self, arch: Architecture, rng: np.random.Generator) -> Evaluation:
        """Return the correlation on the tasks of either list, combined."""
        key = self.space.canonical(arch)
        if self.subsample is None and key in self._known:
            return self._known[key]
        program = self.space.program(arch)
        chosen = None
        if self.subsample is not None:
            chosen = np.sort(rng.choice(self.networks, self.subsample, replace=False))
        train, test = ([self.task(name) for name in names] for names in self._names)
        value = self._combined([task.correlation(program, chosen) for task in train])
        tested = nan = float("nan")
        if value > INVALID and test:
            tested = self._combined([task.correlation(program) for task in test])
        found = Evaluation(value, value, tested, nan)
        if self.subsample is None:
            self._known[key] = found
        return found

    def describe(self) -> dict[str, Any]:
        """Name tasks, networks, and how they are combined."""
        train, test = self._names
        return {
            "kind": "programs",
            "table": "proxy programs",
            "dataset": "",
            "epochs": None,
            "train": list(train),
            "test_tasks": list(test),
            "networks": self.networks,
            "subsample": self.subsample,
            "seed": self.seed,
            "validation": f"{self.combine} over {', '.join(train)}",
            "test": f"{self.combine} over {', '.join(test)}" if test else None,
        }

    def task(self, name: str) -> Task:
        """Return one task, with its statistics."""
        if name not in self._tasks:
            self._tasks[name] = self._collect(name)
        return self._tasks[name]

    def _combined(self, values: Sequence[float]) -> float:
        if min(values) <= INVALID:
            return INVALID
        return min(values) if self.combine == "min" else float(np.mean(values))

    def _collect(self, name: str) -> Task:
        from proxies.batch import pictures
        from proxies.samples import collect
        from proxies.service import progress
        from proxies.store import default_path

        space = self._spaces[name]
        table = space.table()
        rng = np.random.default_rng(self.seed)
        found: dict[Architecture, None] = {}
        while len(found) < self.networks:
            found.update(dict.fromkeys(space.sample(rng, self.networks - len(found))))
        archs = list(found)
        column = table.test if table.test is not None else table.val
        assert column is not None
        sign = 1.0 if table.higher_is_better else -1.0
        folder = (
            Path(self._directory) if self._directory else Path(default_path()).parent / "statistics"
        )
        with progress(f"statistics of {name}", len(archs), True) as step:
            samples = collect(
                space,
                archs,
                pictures(space),
                folder,
                processes=self._processes,
                largest=self._gigabytes,
                on_step=step,
            )
        return Task(name, samples, sign * column[table.rows(archs)].astype(np.float64))


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
