"""Sweeps through submitit: what is queued, and two jobs of its local mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hydra_plugins.hydra_submitit_launcher")

ROOT = Path(__file__).parents[2]
SEARCH = [
    "searcher=evolution",
    "searcher.population=8",
    "searcher.tournament=4",
    "guidance.warmup.pool=10",
    "budget.models=12",
    "trials=2",
    "service=inline",
]


def sweep(cache, folder, *arguments):
    """Run what ``assay-search`` runs, and return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", "from run_search import main; main()", "-m", *SEARCH, *arguments],
        cwd=folder,
        env=os.environ | {"ASSAY_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    ).stdout


def jobs(folder):
    return sorted(path.parent for path in folder.glob("*/trajectory.csv"))


def said(folder):
    return "".join(log.read_text() for log in folder.glob(".submitit/*/*.out"))


@pytest.mark.parametrize(
    ("preset", "launcher"), [("slurm", "SlurmLauncher"), ("slurm_local", "LocalLauncher")]
)
def test_presets_are_what_the_launcher_takes(preset, launcher):
    from hydra import compose, initialize_config_module
    from hydra._internal.utils import _locate

    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose(
            "config", [f"hydra/launcher={preset}", "hydra.sweep.dir=s"], return_hydra_config=True
        ).hydra.launcher
    assert _locate(cfg._target_).__name__ == launcher
    assert cfg.submitit_folder == "s/.submitit/%j"
    if preset == "slurm":
        assert cfg.max_num_timeout > 0, "a search goes on where it stopped"


def test_a_sweep_of_two_jobs_runs_shares_scores_and_is_not_run_again(tmp_path):
    arguments = ["guidance=warmup,warmup_move"]
    basic, local = [*arguments, "hydra.sweep.dir=basic"], [*arguments, "hydra.sweep.dir=local"]
    sweep(tmp_path / "alone", tmp_path, *basic)
    local.append("hydra/launcher=slurm_local")
    sweep(tmp_path / "shared", tmp_path, *local)
    expected, found = jobs(tmp_path / "basic"), jobs(tmp_path / "local")
    assert len(found) == 2
    for here, there in zip(expected, found, strict=True):
        assert here.name == there.name
        assert (here / "trajectory.csv").read_bytes() == (there / "trajectory.csv").read_bytes()
        assert json.loads((there / "summary.json").read_text())["trials"] == 2
    assert "finished already" not in said(tmp_path / "local")
    sweep(tmp_path / "shared", tmp_path, *local)
    assert said(tmp_path / "local").count("finished already") == 2
