"""What a search costs beyond training: milliseconds a trial on a full store.

``python -m benchmarks.search_overhead [--trials N]`` runs searches of 300 models on NAS-Bench-201
with every score in the store, journal included, and prints the time of a trial. Random search
without guidance is the baseline of the ratios. Of Touchstone, which compares all 15,625 cells at
each step, it prints the time of one proposal after 100 models.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from proxies import registry
from proxies.ranking import ProxyScorer, ProxyScores
from proxies.service import ScoringService
from proxies.store import Row
from searchers import Evolution, Guidance, RandomSearch, Reinforce, Searcher, Touchstone
from searchers.journal import Journal
from searchers.loop import Budget, run_trials
from spaces import TableBenchmark
from spaces.nasbench201.space import NASBench201

KINDS = {
    "none": (0, 0),
    "warmup": (3000, 0),
    "move": (0, "all"),
    "warmup_move": (3000, "all"),
}


def full_store(space: NASBench201) -> ScoringService:
    """Make a service whose store holds a score, drawn at random, of every cell."""
    service = ScoringService(space, store="memory")
    context = service.store.context(service.key(registry.get("params")))
    rng = np.random.default_rng(0)
    rows = {space.format(arch): Row(float(rng.random()), 0.01, None) for arch in space.enumerate()}
    service.store.put_many(context, rows)
    return service


def milliseconds(searcher: type[Searcher], kind: str, trials: int) -> float:
    """Time of one trial of 300 models, averaged over ``trials``."""
    space = NASBench201("cifar100")
    benchmark, scorer = TableBenchmark(space), ProxyScorer(full_store(space), "params")
    warmup, move = KINDS[kind]

    def make(seed: int) -> Searcher:
        guidance = Guidance(scorer, warmup=warmup, move=move)  # type: ignore[arg-type]
        return searcher(space, guidance=guidance, seed=seed)

    with (
        tempfile.TemporaryDirectory() as folder,
        Journal(Path(folder) / "journal.jsonl", {}) as journal,
    ):
        began = time.perf_counter()
        run_trials(make, benchmark, Budget(300), trials=trials, seed=0, journal=journal)
        return (time.perf_counter() - began) / trials * 1000


def proposal_milliseconds(models: int = 100, proposals: int = 20) -> float:
    """Time of one proposal of Touchstone after ``models``, averaged over ``proposals``."""
    space = NASBench201("cifar100")
    benchmark, rng = TableBenchmark(space), np.random.default_rng(0)
    guidance = Guidance(scores=ProxyScores(ScoringService(space, store="memory")))
    searcher = Touchstone(space, guidance=guidance, features=["synflow", "params", "flops"])
    spent = []
    for _ in range(models + proposals):
        began = time.perf_counter()
        archs = searcher.ask()
        spent.append(time.perf_counter() - began)
        searcher.tell(archs, [benchmark.evaluate(arch, rng) for arch in archs])
    return float(np.mean(spent[models:])) * 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Print milliseconds a trial of each searcher and guidance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=100)
    trials = parser.parse_args(arguments).trials
    baseline = milliseconds(RandomSearch, "none", trials)
    for searcher in (RandomSearch, Evolution, Reinforce):
        for kind in KINDS:
            cost = milliseconds(searcher, kind, trials)
            print(f"{searcher.__name__:<14}{kind:<12}{cost:7.2f} ms  {cost / baseline:5.2f} times")
    print(f"Touchstone    after 100 models {proposal_milliseconds():7.2f} ms a proposal")


if __name__ == "__main__":
    main()
