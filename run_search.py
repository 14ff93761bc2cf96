"""Search for architectures: one searcher on one space, over many trials.

python run_search.py space=nasbench201 space.dataset=cifar100 searcher=evolution guidance=warmup
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from conf import app
from conf.errors import UsageError, at_least
from conf.schema import build, check, takes, target_of

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from analysis.results import Trace
    from proxies.batch import Minibatch
    from proxies.ranking import Judge, PoolScorer, ProxyScorer
    from proxies.service import ScoringService
    from searchers.base import Searcher
    from searchers.guidance import Guidance, Scorer, Scores
    from searchers.journal import Journal
    from searchers.loop import Budget
    from spaces.base import SearchSpace
    from spaces.benchmark import Benchmark
    from spaces.costs import Cost

# Settings that say how scores and trainings are computed, not what they are.
_EXECUTION = (
    "workers",
    "processes",
    "address",
    "gpus_per_worker",
    "store",
    "shipped",
    "device",
    "stack",
    "directory",
    "tensorboard",
    "progress",
)


@dataclass(frozen=True)
class Warmup:
    """``guidance.warmup``: score a pool before anything is trained."""

    enabled: bool
    pool: int | Literal["all"]
    among: int | None = None


@dataclass(frozen=True)
class Move:
    """``guidance.move``: score the candidates of each step."""

    enabled: bool
    candidates: int | Literal["all"]
    epsilon: float


@dataclass(frozen=True)
class Scoring:
    """What scores architectures for the trials of one search, as far as it needs any."""

    service: ScoringService | None = None
    scores: Scores | None = None
    scorer: Scorer | None = None
    judge: Judge | None = None

    def shown(self) -> dict[str, Any] | None:
        """Describe the minibatch that proxies were shown; None if none was."""
        from proxies.batch import shown

        if self.judge:
            drawn = {"drawn": "the last one; each decision draws its own"}
            return self.judge.shown.describe() | drawn if self.judge.shown else None
        batch = shown(self.service) if self.service else None
        return batch.describe() if batch else None


@dataclass(frozen=True)
class Settings:
    """The top level of ``config.yaml``; groups are checked by the classes that they name."""

    space: Any
    benchmark: Any
    searcher: Any
    guidance: dict[str, Any]
    proxy: Any
    budget: Any
    service: Any
    batch: Any
    cost: str | None
    trials: int
    seed: int
    targets: list[float] | None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"trials={self.trials} must be at least 1.")
        if self.seed < 0:
            raise UsageError(f"seed={self.seed} must not be negative.")
        for name, kind, size in (("warmup", Warmup, "pool"), ("move", Move, "candidates")):
            check(kind, self.guidance.get(name), f"guidance.{name}", {})
            given = self.guidance[name][size]
            if given != "all":
                at_least(1, f"guidance.{name}", **{size: given})

    @classmethod
    def of(cls, cfg: DictConfig) -> Self:
        """Take a composed configuration. Raises :class:`UsageError` for what does not fit."""
        from omegaconf import OmegaConf

        config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
        check(cls, config, "", {})
        return cls(**config)

    @property
    def judged(self) -> bool:
        """Whether the searcher decides by scores of its own."""
        return bool(getattr(target_of(self.searcher, "searcher"), "judged", False))

    @property
    def guided(self) -> bool:
        """Whether a proxy guides the searcher."""
        guidance = self.guidance["warmup"]["enabled"] or self.guidance["move"]["enabled"]
        return bool(guidance or self.judged)

    @property
    def guided_by(self) -> str:
        """What guides the searcher, as the guidance that is so set is called."""
        parts = [part for part in ("warmup", "move") if self.guidance[part]["enabled"]]
        return "_".join(parts) or "none"

    @property
    def scored(self) -> bool:
        """Whether scores are needed at all: to guide, as features, or as a cheap fidelity."""
        return self.guided or bool(self.searcher.get("features") or self.searcher.get("fidelity"))

    def fingerprint(self) -> dict[str, Any]:
        """Everything that decides the trajectory, and nothing else."""
        config = dataclasses.asdict(self)
        if config["searcher"].get("model") == "auto":
            from searchers.predictor import resolve

            config["searcher"]["model"] = resolve("auto")
        for group in ("benchmark", "service"):
            for name in _EXECUTION:
                config[group].pop(name, None)
        if not self.guided:
            del config["proxy"]
        if not self.scored:
            del config["service"], config["batch"]
        del config["targets"]
        return config

    def scoring_for(self, space: SearchSpace) -> Scoring:
        """Make what scores the architectures of ``space``, once for all trials."""
        if not self.scored:
            return Scoring()
        from proxies.ranking import Judge, ProxyScores

        def batch_for(space: SearchSpace, seed: int | None = None) -> Minibatch:
            config = self.batch if seed is None else self.batch | {"seed": seed}
            return build(config, "batch", space=space)  # type: ignore[no-any-return]

        def scorer_for(service: ScoringService) -> ProxyScorer | PoolScorer:
            return build(self.proxy, "proxy", service=service)  # type: ignore[no-any-return]

        service = build(self.service, "service", space=space, batch=batch_for)
        return Scoring(
            service,
            ProxyScores(service),
            scorer_for(service) if self.guided else None,
            Judge(service, scorer_for, batch_for) if self.judged else None,
        )

    def prepare(self) -> Prepared:
        """Build what all trials share. Raises :class:`UsageError` for what cannot be."""
        from searchers.loop import check_repeats

        space = build(self.space, "space")
        benchmark = build(self.benchmark, "benchmark", space=space)
        budget = build(self.budget, "budget")
        kinds = dict.fromkeys([*([self.cost] if self.cost else []), *budget.limits])
        costs = {kind: benchmark.cost(kind, budget.device) for kind in kinds}
        within = budget.limit(space, costs)
        check_repeats(within, budget, self.searcher.get("repeats", True))
        scoring = self.scoring_for(space)
        return Prepared(self, space, within, benchmark, budget, costs, scoring)

    def guidance_by(self, scoring: Scoring) -> Guidance:
        """Make the guidance of one trial, which counts its own scores."""
        from searchers.guidance import Guidance

        warmup, move = Warmup(**self.guidance["warmup"]), Move(**self.guidance["move"])
        return Guidance(
            scoring.scorer,
            warmup=warmup.pool if warmup.enabled else 0,
            among=warmup.among if warmup.enabled else None,
            move=move.candidates if move.enabled else 0,
            epsilon=move.epsilon,
            scores=scoring.scores,
        )


@dataclass(frozen=True)
class Prepared:
    """What the trials of one search share. ``within`` is the space without what costs too much."""

    settings: Settings
    space: SearchSpace
    within: SearchSpace
    benchmark: Benchmark
    budget: Budget
    costs: dict[str, Cost]
    scoring: Scoring

    @property
    def cost(self) -> Cost | None:
        """The cost that the search looks at."""
        return self.costs[self.settings.cost] if self.settings.cost else None

    def searcher(self, seed: int) -> Searcher:
        """Make the searcher of one trial."""
        settings = self.settings
        given: dict[str, Any] = {"guidance": settings.guidance_by(self.scoring)}
        if self.scoring.judge:
            given["judge"] = self.scoring.judge
        if takes(settings.searcher, "searcher", "cost"):
            given["cost"] = self.cost
        return build(settings.searcher, "searcher", space=self.within, seed=seed, **given)  # type: ignore[no-any-return]


def search(cfg: DictConfig) -> None:
    """Run one job in its directory, or go on with one that was interrupted there."""
    from searchers.journal import Journal

    settings = Settings.of(cfg)
    directory = app.output_directory()
    with Journal(directory / "journal.jsonl", settings.fingerprint()) as journal:
        if journal.entries and (directory / "summary.json").exists():
            _count_to(settings.targets, directory)
            app.say(f"finished already: {directory}")
        else:
            _run(settings, journal, directory)


def _count_to(targets: list[float] | None, directory: Path) -> None:
    """Count models to other targets, if asked to, in the summary of a finished job."""
    from analysis.results import read_run, summarise, write_summary

    if targets is None:
        return
    run = read_run(directory)
    if [str(float(t)) for t in targets] == [*run.summary["models_to_target"]]:
        return
    statistics = summarise(
        run.traces,
        protocol=run.summary["protocol"],
        higher_is_better=run.summary["higher_is_better"],
        targets=targets,
        budget_models=run.budget,
    )
    write_summary(directory / "summary.json", run.summary, statistics)


def _run(settings: Settings, journal: Journal, directory: Path) -> None:
    from hydra.core.hydra_config import HydraConfig

    from analysis.results import (
        summarise,
        summarise_hypervolume,
        write_summary,
        write_trajectory,
    )
    from searchers.loop import reference_of, run_trials, trial_seed

    started = time.perf_counter()
    job = settings.prepare()
    space, benchmark, budget = job.space, job.benchmark, job.budget
    costs, cost, scoring = job.costs, job.cost, job.scoring
    first = trial_seed(settings.seed, 0)
    # Its checks speak before anything is written.
    ready = {first: job.searcher(first)}
    last = [ready[first].guidance]

    def make(seed: int) -> Searcher:
        searcher = ready.pop(seed, None) or job.searcher(seed)
        last[:] = [searcher.guidance]
        return searcher

    app.save_config(settings)
    choices = HydraConfig.get().runtime.choices
    title = f"{space.name} {space.dataset} {choices['searcher']} {settings.guided_by}"
    logging.getLogger("assay").info(
        f"{title}: {settings.trials} trials, {len(journal.entries)} models in the journal"
    )
    with _progress(title, settings.trials * budget.models) as step:
        traces = run_trials(
            make,
            benchmark,
            budget,
            trials=settings.trials,
            seed=settings.seed,
            journal=journal,
            on_step=step,
        )
    steering: dict[str, Any] = {
        "protocol": benchmark.protocol,
        "higher_is_better": benchmark.higher_is_better,
    }
    for trace in traces if costs else ():
        archs = [space.parse(text) for text in trace.architectures]
        trace.costs = {each.name: each(archs).tolist() for each in costs.values()}
    write_trajectory(directory / "trajectory.csv", traces, **steering)
    service, batch = scoring.service, scoring.shown()
    beside = _beside(cost, costs.values()) | _concluded(benchmark, traces)
    if cost:
        reference = reference_of(space, job.within, benchmark, cost)
        beside["hypervolume"] = summarise_hypervolume(traces, cost.name, reference, **steering)
    write_summary(
        directory / "summary.json",
        {
            "space": space.name,
            "dataset": space.dataset,
            "benchmark": benchmark.describe(),
            "searcher": choices["searcher"],
            "guidance": settings.guided_by,
            "proxy": choices["proxy"] if settings.guided else None,
            "budget": dataclasses.asdict(budget),
            "trials": settings.trials,
            "seed": settings.seed,
            "config": settings.fingerprint(),
            "versions": app.versions(),
            "metric": benchmark.metric,
            "unit": benchmark.unit,
            "wall_seconds": time.perf_counter() - started,
            "proxy_seconds": service.proxy_seconds if service else 0.0,
            "seconds_per_score": _seconds_per_score(last[0], scoring.scorer),
            "cache_hits": service.hits if service else 0,
            "shipped_hits": service.shipped_hits if service else 0,
            "table_hits": service.table_hits if service else 0,
            "batch": batch,
            **beside,
            **steering,
        },
        summarise(
            traces,
            targets=settings.targets if settings.targets is not None else benchmark.targets,
            budget_models=budget.models,
            **steering,
        ),
    )
    if batch and batch["stand_in"]:
        app.say(f"{batch['stand_in']}.")
    done = service.account() if service else f"{settings.trials} trials"
    app.say(f"{done} -> {directory}")


def _beside(cost: Cost | None, costs: Collection[Cost]) -> dict[str, Any]:
    """Say which costs stand beside the accuracies, and which of them the search looks at."""
    if not costs:
        return {}
    described = {each.name: {"unit": each.unit, "source": each.source} for each in costs}
    return {"cost": cost.name if cost else None, "costs": described}


def _seconds_per_score(guidance: Guidance, scorer: Scorer | None) -> float:
    """Return what a score that a trial asked for takes to compute, on average."""
    if guidance.asked:
        return guidance.seconds / guidance.asked
    return scorer.seconds_per_score if scorer else 0.0


def _concluded(benchmark: Benchmark, traces: Sequence[Trace]) -> dict[str, Any]:
    """Let the benchmark look again at the best of each trial, and say what it would take."""
    finalists = [benchmark.conclude(trace.architectures, trace.val) for trace in traces]
    for trial, rows in enumerate(finalists):
        if rows:
            app.say(f"trial {trial} found {rows[0]['architecture']}")
    return {"finalists": finalists} if any(finalists) else {}


@contextlib.contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar of trained models; yields the function that moves it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("models"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total)
        done, shown = 0, 0.0

        def step(models: int) -> None:
            nonlocal done, shown
            done += models
            if (now := time.monotonic()) - shown > 0.1:
                bar.update(task, completed=done)
                shown = now

        yield step
        bar.update(task, completed=done)


def main() -> None:
    """Entry point of ``assay-search``."""
    app.run(search, "config")


if __name__ == "__main__":
    # By its name: jobs on other machines import what __main__ has.
    import run_search

    run_search.main()
