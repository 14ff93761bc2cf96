"""How many models a search trains until it has trained the best of a whole table.

``python -m benchmarks.models_to_best [OVERRIDE...]`` takes the settings of ``run_search.py``, runs
its trials, each only until it has trained the architecture of the best value that steers the search
(validation accuracy, where the table has it) over the whole space, and prints a row of Markdown.
A trial that does not get there counts as one model more than the budget, and the share of those
that do stands beside the mean; in brackets, the mean's 95 % interval.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.efficiency import mean_interval
from conf.errors import UsageError
from run_search import Settings
from searchers.loop import trial_seed


def settings_of(overrides: Sequence[str]) -> Settings:
    """Compose the settings of ``run_search.py``."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("conf", version_base="1.3"):
        return Settings.of(compose("config", list(overrides)))


def models_to_best(settings: Settings) -> tuple[NDArray[np.float64], float]:
    """Return the models that each trial trained, float64 [trials], and the mean time of one, s.

    Raises :class:`UsageError` for a time budget, and where not all values are known beforehand.
    """
    job = settings.prepare()
    if job.budget.train_seconds is not None:
        raise UsageError("budget.train_seconds is not heeded here; leave it null.")
    known = job.benchmark.known_values(list(job.within.enumerate()))
    if known is None:
        raise UsageError("the best of the space is known of a table alone; give benchmark=table.")
    best = np.nanmax(known if job.benchmark.higher_is_better else -known)
    rng = np.random.default_rng(0)
    found, began = [], time.perf_counter()
    for trial in range(settings.trials):
        searcher = job.searcher(trial_seed(settings.seed, trial))
        for _ in range(job.budget.models):
            archs = searcher.ask()
            evaluations = [job.benchmark.evaluate(arch, rng) for arch in archs]
            searcher.tell(archs, evaluations)
            if evaluations[-1].objective >= best:
                found.append(searcher.told)
                break
        else:
            found.append(job.budget.models + 1)
    seconds = time.perf_counter() - began
    return np.array(found, np.float64), seconds / sum(found)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the row of one search."""
    settings = settings_of(sys.argv[1:] if argv is None else argv)
    models, seconds = models_to_best(settings)
    budget = int(settings.budget["models"])
    mean, solved = mean_interval(models, least=1, most=budget + 1), models <= budget
    cells = (
        f"{mean.mean:.1f} {mean.ends('{:.1f}'.format)}",
        f"{np.median(models):.0f}",
        f"{solved.sum()} of {len(models)}",
        f"{1000 * seconds:.0f}",
    )
    print("| models to the best | median | solved | ms a model |")
    print("|---|---|---|---|")
    print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
