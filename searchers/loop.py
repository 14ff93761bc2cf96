"""The search loop: ask, train, tell, write down; over trials, within a budget, resumable."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.pareto import Reference, hypervolume
from analysis.results import Trace
from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.journal import Entry, Journal
from searchers.streams import Streams
from spaces.base import Architecture, SearchSpace
from spaces.benchmark import Benchmark
from spaces.costs import Cost
from spaces.limits import LimitedSpace

_LIMITED: Final = ("params", "flops", "latency_ms")
_KNOWN: Final = 1_000_000  # the largest space whose every value is looked at


@dataclass(frozen=True)
class Budget:
    """When a trial ends: after ``models`` trainings, or once ``train_seconds`` are spent.

    Time counts the training of every model and the computing of every score asked for. What costs
    more than ``max_params`` parameters, ``max_flops`` multiply-adds or ``max_latency_ms`` on
    ``device`` is never trained; :meth:`limit` takes it out of a space. Raises :class:`UsageError`
    for a budget that allows nothing.
    """

    models: int = 300
    train_seconds: float | None = None
    max_params: float | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        at_least(1, "budget", models=self.models)
        if self.train_seconds is not None and not self.train_seconds > 0:
            raise UsageError(f"budget.train_seconds={self.train_seconds} must be positive or null.")
        for kind, limit in self.limits.items():
            if not limit > 0:
                raise UsageError(f"budget.max_{kind}={limit} must be positive or null.")

    @property
    def limits(self) -> dict[str, float]:
        """The largest cost allowed, of each kind that is limited."""
        limits = {kind: getattr(self, f"max_{kind}") for kind in _LIMITED}
        return {kind: limit for kind, limit in limits.items() if limit is not None}

    def limit(self, space: SearchSpace, costs: Mapping[str, Cost]) -> SearchSpace:
        """Return ``space`` without what costs more than is allowed; ``costs`` has each kind's.

        Raises :class:`UsageError` where nothing is left.
        """
        limits = {f"budget.max_{kind}": (costs[kind], limit) for kind, limit in self.limits.items()}
        return LimitedSpace(space, limits) if limits else space

    def spent(self, models: int, seconds: float) -> bool:
        """Whether nothing is left after so many models and so much time."""
        return models >= self.models or (
            self.train_seconds is not None and seconds >= self.train_seconds
        )


SearcherFactory = Callable[[int], Searcher]
"""Makes the searcher of one trial from the trial's seed."""


def trial_seed(seed: int, trial: int) -> int:
    """Return the seed of one trial of a job; trials of one job share no random numbers."""
    return int(np.random.SeedSequence([seed, trial]).generate_state(1, np.uint64)[0])


def run_trials(
    make: SearcherFactory,
    benchmark: Benchmark,
    budget: Budget,
    *,
    trials: int,
    seed: int,
    journal: Journal | None = None,
    on_step: Callable[[int], None] | None = None,
) -> list[Trace]:
    """Run ``trials`` searches one after the other and return their traces.

    What ``journal`` already holds is told to the searchers instead of being evaluated again;
    ``on_step`` is called with the number of evaluations that were added.

    Architectures are asked for ``benchmark.at_once`` at a time, and told together. Where the
    journal ends amid such a batch, the batch is asked for again and the rest of it evaluated.
    """
    done: dict[int, list[Entry]] = {}
    if journal is not None:
        done = {k: list(v) for k, v in itertools.groupby(journal.entries, lambda e: e.trial)}
    return [
        _run_trial(make, benchmark, budget, trial, trial_seed(seed, trial), journal, done, on_step)
        for trial in range(trials)
    ]


def _run_trial(
    make: SearcherFactory,
    benchmark: Benchmark,
    budget: Budget,
    trial: int,
    seed: int,
    journal: Journal | None,
    done: dict[int, list[Entry]],
    on_step: Callable[[int], None] | None,
) -> Trace:
    trace = Trace()
    known = done.get(trial, [])
    for entry in known:
        _record(trace, entry)
    if on_step and known:
        on_step(len(known))
    if len(known) >= budget.models:
        return trace

    searcher = make(seed)
    space, guidance = searcher.space, searcher.guidance
    whole = len(known) - len(known) % benchmark.at_once
    _replay(searcher, known[:whole])
    torn = known[whole:]
    chance = Streams(trial_seed(seed, 0))
    train_seconds = sum(trace.train_seconds[:whole])
    while not budget.spent(searcher.told, train_seconds + guidance.seconds):
        archs = searcher.ask(min(benchmark.at_once, budget.models - searcher.told))
        _check_same(space, archs, torn)
        streams = range(searcher.told + len(torn), searcher.told + len(archs))
        rngs = (chance.shared(stream) for stream in streams)
        evaluations = [entry.evaluation for entry in torn]
        evaluations += benchmark.evaluate_all(archs[len(torn) :], rngs)
        if budget.train_seconds is not None and any(
            math.isnan(e.train_seconds) for e in evaluations
        ):
            raise UsageError(
                "budget.train_seconds needs a benchmark with training times; leave it null."
            )
        searcher.tell(archs, evaluations)
        train_seconds += sum(evaluation.train_seconds for evaluation in evaluations)
        new = slice(len(torn), None)
        for arch, evaluation in zip(archs[new], evaluations[new], strict=True):
            entry = Entry(trial, space.format(arch), evaluation, guidance.asked, guidance.seconds)
            if journal is not None:
                journal.append(entry)
            _record(trace, entry)
        if on_step:
            on_step(len(archs) - len(torn))
        torn = []
    return trace


def _replay(searcher: Searcher, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    archs = [searcher.space.parse(entry.architecture) for entry in entries]
    searcher.replay(archs, [entry.evaluation for entry in entries])
    searcher.guidance.asked = entries[-1].proxy_evaluations
    searcher.guidance.seconds = entries[-1].guidance_seconds


def _check_same(space: SearchSpace, archs: Sequence[Architecture], torn: Sequence[Entry]) -> None:
    """Refuse a journal whose torn batch does not begin what was asked for again."""
    for arch, entry in zip(archs, torn, strict=False):
        if (proposed := space.format(arch)) != entry.architecture:
            raise UsageError(
                f"the journal of trial {entry.trial} has {entry.architecture} where the search now "
                f"proposes {proposed}; remove its directory to start the job afresh."
            )


def _record(trace: Trace, entry: Entry) -> None:
    trace.architectures.append(entry.architecture)
    trace.val.append(entry.evaluation.val)
    trace.test.append(entry.evaluation.test)
    trace.train_seconds.append(entry.evaluation.train_seconds)
    trace.proxy_evaluations.append(entry.proxy_evaluations)


def check_repeats(space: SearchSpace, budget: Budget, repeats: bool) -> None:
    """Refuse a budget that a space cannot serve without repeats."""
    if not repeats and budget.models > space.size:
        raise UsageError(
            f"budget.models={budget.models} exceeds the {space.size} architectures of "
            f"{space.name}; lower it or set searcher.repeats=true."
        )


def reference_of(
    space: SearchSpace, within: SearchSpace, benchmark: Benchmark, cost: Cost
) -> Reference | None:
    """Measure hypervolumes from the worst value and the largest cost of the whole ``space``.

    The best possible is that of all architectures ``within`` the limits. None where it is not
    known beforehand what architectures are worth.
    """
    if not cost.at_hand or space.size > _KNOWN:
        return None
    whole = list(space.enumerate())
    values = benchmark.known_values(whole)
    if values is None:
        return None
    better = benchmark.higher_is_better
    worst = np.nanmin(values) if better else np.nanmax(values)
    reference = Reference(float(worst), float(np.nanmax(cost(whole))))
    allowed = whole if within is space else list(within.enumerate())
    found = benchmark.known_values(allowed)
    assert found is not None
    best = hypervolume(found, cost(allowed), reference, higher_is_better=better)
    return dataclasses.replace(reference, best=best)
