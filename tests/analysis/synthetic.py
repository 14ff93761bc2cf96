"""Runs made of known numbers, written by the project's own writers."""

from pathlib import Path

import numpy as np

from analysis.results import Trace, summarise, write_summary, write_trajectory

METADATA = {
    "space": "nasbench201",
    "dataset": "cifar100",
    "benchmark": {"kind": "table", "table": "nasbench201", "epochs": 200},
    "searcher": "random",
    "guidance": "none",
    "proxy": None,
    "budget": {"models": 30},
    "trials": 4,
    "seed": 0,
    "versions": {"assay": "0.1.0"},
    "protocol": "validation",
    "metric": "accuracy",
    "unit": "%",
    "higher_is_better": True,
    "wall_seconds": 1.5,
    "proxy_seconds": 0.25,
    "cache_hits": 7,
}


def trace(val, test=None, names=None):
    """One trial with the given values; without ``test`` the benchmark has none."""
    n = len(val)
    test = [float("nan")] * n if test is None else test
    names = [f"|op~{i}|,{i}" for i in range(n)] if names is None else names
    return Trace(list(names), list(val), list(test), [10.0] * n, list(range(1, n + 1)))


def random_traces(trials=4, steps=30, mean=70.0, seed=0, test=True):
    """Trials of random values; ``mean`` sets how good the search is."""
    rng = np.random.default_rng(seed)
    traces = []
    for _ in range(trials):
        val = rng.normal(mean, 1.0, steps)
        traces.append(trace(val, val + rng.normal(0, 0.3, steps) if test else None))
    return traces


def write_run(folder: Path, traces, *, targets=(71.0,), overrides=None, **changes):
    """Write ``traces`` as a finished job; ``changes`` go into the metadata."""
    folder.mkdir(parents=True)
    metadata = {**METADATA, "trials": len(traces), **changes}
    direction = {key: metadata[key] for key in ("protocol", "higher_is_better")}
    statistics = summarise(
        traces, **direction, targets=targets, budget_models=metadata["budget"]["models"]
    )
    write_trajectory(folder / "trajectory.csv", traces, **direction)
    write_summary(folder / "summary.json", metadata, statistics)
    if overrides is not None:
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text(
            "".join(f"- {word}\n" for word in overrides)
        )
    return folder
