from __future__ import annotations

import csv
import json
import signal
import time

import numpy as np
import pytest

from run_search import search

SMALL = [
    "benchmark=training",
    "space=nasbench201",
    "space.channels=2",
    "space.cells=1",
    "benchmark.epochs=1",
    "benchmark.device=cpu",
    "budget.models=3",
    "trials=1",
]


def rows(directory):
    """The trajectory, without what the clock decides."""
    with (directory / "trajectory.csv").open() as file:
        return [row | {"train_seconds": None} for row in csv.DictReader(file)]


def test_a_killed_search_that_trains_goes_on_as_if_nothing_had_happened(run, command, tmp_path):
    run("run_search.py", *SMALL, "hydra.run.dir=whole")
    own = {"env": {"ASSAY_CACHE": str(tmp_path / "own")}}
    trainings = tmp_path / "own" / "trainings"

    process = command("run_search.py", *SMALL, "hydra.run.dir=killed", **own)
    while len(list(trainings.rglob("*.pt"))) < 2 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "summary.json").exists()

    kept = {file: file.stat().st_mtime_ns for file in trainings.rglob("*.pt")}
    moved = f"benchmark.directory={trainings}"  # where it is by default
    run("run_search.py", *SMALL, "hydra.run.dir=killed", moved, **own)
    assert {file: file.stat().st_mtime_ns for file in kept} == kept, "trained again"
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")

    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["protocol"] == "validation"
    assert summary["benchmark"]["kind"] == "training"
    assert summary["benchmark"]["pictures"] == "320 to train, 160 to validate, 160 to test"
    assert summary["config"]["benchmark"]["epochs"] == 1


MISTAKES = {
    "benchmark.epochs=0": "benchmark.epochs=0 must be at least 1.",
    "benchmark.epochs=some": "benchmark.epochs=some must be a whole number",
    "benchmark.batch=3": "benchmark.batch is no setting of benchmark",
    "benchmark.device=tpu": "benchmark.device=tpu must be one of auto, cpu, cuda",
    "benchmark.held_out=1": "benchmark.held_out=1 must be between 0 and 1.",
    "benchmark.data=missing": "benchmark.data=missing cannot be read: No such file or directory.",
    "benchmark.data=damaged.npz": "benchmark.data=damaged.npz is no readable .npz archive",
    "benchmark.data=images.npz": "benchmark.data=images.npz must hold images and labels.",
    "benchmark.directory=damaged.npz": "benchmark.directory=damaged.npz cannot be written",
    "space.dataset=cifar100": "benchmark.data=null holds CIFAR-10, and networks of nasbench201 are",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_sentence(mistake, tmp_path, refused):
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 not really")
    np.savez(tmp_path / "images.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
    assert MISTAKES[mistake] in refused(search, "config", *SMALL, mistake)
