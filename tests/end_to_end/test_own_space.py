"""A user's own space, on the user's own pictures, from the command line."""

from __future__ import annotations

import csv
import json
import signal
import time

import numpy as np
import torch

from conf import app
from run_search import search
from spaces.training_crew import Crew
from tests.spaces.test_training import colours

MODULE = """
from torch import nn

from spaces import Decision, SearchSpace


class Mine(SearchSpace):
    name, dataset = "mine", "colours"
    classes, image_size = 3, 8
    decisions = (Decision("width", ("2", "4", "6", "8")), Decision("kernel", ("1", "3", "5")))

    def network(self, arch, classes=None, *, running_stats=True):
        width, kernel = 2 * (arch[0] + 1), 2 * arch[1] + 1
        return nn.Sequential(
            nn.Conv2d(3, width, kernel, padding=kernel // 2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes or self.classes),
        )
"""
ARGUMENTS = [
    "space=mine",
    "benchmark=training_quick",
    "benchmark.data=mine.npz",
    "benchmark.device=cpu",
    "benchmark.at_once=2",
    "searcher=nsga2",
    "searcher.population=4",
    "cost=params",
    "budget.max_params=400",
    "budget.models=9",
    "trials=1",
]


def rows(directory):
    """The trajectory, without what the clock decides."""
    with (directory / "trajectory.csv").open() as file:
        return [row | {"train_seconds": None} for row in csv.DictReader(file)]


def results(folder):
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("results.jsonl"))


def test_own_pictures_and_space_killed_and_resumed(run, command, tmp_path, monkeypatch):
    (tmp_path / "minespace.py").write_text(MODULE)
    (tmp_path / "conf" / "space").mkdir(parents=True)
    (tmp_path / "conf" / "space" / "mine.yaml").write_text("_target_: minespace.Mine\n")
    searchpath = f"hydra.searchpath=[file://{tmp_path}/conf]"
    arguments = [searchpath, *ARGUMENTS]
    colours(tmp_path / "mine.npz", each=40)
    own = {"env": {"ASSAY_CACHE": str(tmp_path / "own"), "PYTHONPATH": str(tmp_path)}}

    process = command("run_search.py", *arguments, "hydra.run.dir=killed", **own)
    while results(tmp_path / "own") < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # returns when those that it started have ended too
    assert not (tmp_path / "killed" / "summary.json").exists()
    run("run_search.py", *arguments, "hydra.run.dir=killed", **own)

    # Undisturbed, one by one, in this process.
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("sys.argv", ["run_search", *arguments, "hydra.run.dir=whole"])
    monkeypatch.setattr(Crew, "train", lambda self, archs: None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        app.run(search, "config")
    finally:
        torch.set_num_threads(threads)

    found = rows(tmp_path / "killed")
    assert found == rows(tmp_path / "whole")
    assert len(found) == 9
    assert max(float(row["params"]) for row in found) <= 400
    assert np.ptp([float(row["val"]) for row in found]) > 0
    summary = json.loads((tmp_path / "killed" / "summary.json").read_text())
    assert (summary["space"], summary["searcher"], summary["cost"]) == ("mine", "nsga2", "params")
    assert summary["hypervolume"]["final"]["mean"] > 0
    assert summary["hypervolume"]["share"] is None
