"""The whole sample-efficiency study: every preset ``study_*``, and one report of all of them.

``python -m benchmarks.study [--plan] [--small] [PRESET...]`` says how many searches each preset
runs and about how long they take, runs ``run_search.py experiment=PRESET`` for each, and writes
the page with ``run_report.py``. Started again it goes on where it was interrupted: presets use
fixed directories, and a finished search is not run again. ``--plan`` only says; ``--small`` runs a
few trials of a few short searches, to see it work.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import conf

ROOT: Final = Path(__file__).parents[1]
OUTPUTS: Final = Path("outputs/study")

MILLISECONDS: Final = {
    "random": 0.1,
    "reinforce": 0.2,
    "evolution": 0.15,
    "local_search": 0.1,
    "successive_halving": 0.5,
    "hyperband": 0.4,
    "predictor": 5.0,
    "tpe": 5.0,
    "robot": 40.0,
    "touchstone": 25.0,
    "touchstone-nasbench101": 130.0,
    "weaknas": 70.0,
    "bananas": 60.0,
    "npenas": 180.0,
}
"""What a searcher, or a searcher on a space, takes for a model: one core, every score at hand."""

JOB_SECONDS: Final = 1.0
"""What a search takes besides: loading the table and the scores, writing the results."""

SCORES: Final = {
    "study_nb101_warmup": 10_000 * 0.29,
    "study_nb101_move": 10 * 3 * 100 * 7 * 0.29,
    "study_nb201_slow_proxies": 1000 * 8.5,
}
"""Seconds of one core that computing the scores takes that do not come with Assay."""

SMALL: Final = {
    "study_nb201": ["searcher=random,evolution"],
    "study_nb201_warmup": ["searcher=random", "guidance.warmup.pool=64,256"],
    "study_nb201_move": ["searcher=evolution", "guidance.move.candidates=3,all"],
}
_SMALLER: Final = ["space.dataset=cifar100", "trials=3", "budget.models=20"]


@dataclass(frozen=True)
class Plan:
    """What a preset runs: ``searches``, those that are ``finished``, and the time of the others."""

    preset: str
    directory: Path
    searches: int
    finished: int
    seconds: float


def presets() -> list[str]:
    """Name the presets of the study."""
    folder = Path(conf.__file__).parent / "experiment"
    return sorted(file.stem for file in folder.glob("study_*.yaml"))


def plan(preset: str, overrides: Sequence[str] = ()) -> Plan:
    """Say what ``preset`` runs, and about how long that takes on one core."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("conf", version_base="1.3"):
        words = [f"experiment={preset}", *(word for word in overrides if "," not in word)]
        config = compose("config", words, return_hydra_config=True)
    swept = dict(config.hydra.sweeper.params)
    swept |= dict(word.split("=", 1) for word in overrides)
    searches = list(_searches(swept))
    directory = Path(config.hydra.sweep.dir)
    finished = len(list(directory.glob("*/summary.json")))
    models = int(config.budget.models) * int(config.trials)
    space = config.hydra.runtime.choices.space
    each = [
        JOB_SECONDS + models * _milliseconds(search.get("searcher", ""), space) / 1000
        for search in searches
    ]
    left = max(0.0, 1 - finished / len(searches))
    scores = SCORES.get(preset, 0.0) if left else 0.0
    return Plan(preset, directory, len(searches), finished, left * sum(each) + scores)


def _milliseconds(searcher: str, space: str) -> float:
    """Return what ``searcher`` takes for a model, on ``space`` where that differs."""
    return MILLISECONDS.get(f"{searcher}-{space}", MILLISECONDS.get(searcher, 10.0))


def _searches(swept: dict[str, Any]) -> Iterator[dict[str, str]]:
    values = [str(choices).split(",") for choices in swept.values()]
    for chosen in product(*values):
        yield dict(zip(swept, chosen, strict=True))


def time_of(seconds: float) -> str:
    """Write a time that is only about right."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or what is left of it; returns an exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=(__doc__ or "").splitlines()[0]
    )
    known = presets()
    parser.add_argument("presets", metavar="PRESET", nargs="*", help=f"of {', '.join(known)}")
    parser.add_argument("--plan", action="store_true", help="only say what would be run")
    parser.add_argument("--small", action="store_true", help="a few trials of a few searches")
    parser.add_argument("--outputs", type=Path, default=OUTPUTS, help="where searches are written")
    parser.add_argument("--out", type=Path, default=Path("report/study"), help="of the report")
    args = parser.parse_args(arguments)
    for name in args.presets:
        if name not in known:
            print(f"{name} is no preset of the study; choose of: {', '.join(known)}.")
            return 2
    chosen = args.presets or (list(SMALL) if args.small else known)
    jobs = {name: _overrides(name, args.small, args.outputs) for name in chosen}
    plans = [plan(name, overrides) for name, overrides in jobs.items()]
    for each in plans:
        print(
            f"{each.preset:<26}{each.searches:>4} searches, {each.finished:>3} finished, "
            f"about {time_of(each.seconds)}"
        )
    print(f"in all about {time_of(sum(each.seconds for each in plans))} of one core", flush=True)
    if args.plan:
        return 0
    for name, overrides in jobs.items():
        if status := _call("run_search.py", f"experiment={name}", *overrides):
            return status
    return _call("run_report.py", str(args.outputs), "--out", str(args.out))


def _overrides(preset: str, small: bool, outputs: Path) -> list[str]:
    overrides = [*SMALL.get(preset, []), *_SMALLER] if small else []
    if small or outputs != OUTPUTS:
        overrides.append(f"hydra.sweep.dir={outputs / preset.removeprefix('study_')}")
    return overrides


def _call(script: str, *words: str) -> int:
    return subprocess.run([sys.executable, str(ROOT / script), *words], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
