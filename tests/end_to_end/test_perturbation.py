"""Zero-Cost-PT from the command line."""

from __future__ import annotations

import csv
import json
import signal
import time

import pytest

from run_score import score
from run_search import search

PRESET = [
    "experiment=zero_cost_pt",
    "service=inline",
    "batch.size=4",
    "searcher.proposals=3",
    "searcher.validation=2",
    "trials=2",
]
SMALL = ["space.channels=2", "space.cells=1"]


def rows(directory):
    with (directory / "trajectory.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_killed_search_goes_on_as_if_nothing_had_happened(run, command, tmp_path):
    run("run_search.py", *PRESET, *SMALL, "hydra.run.dir=whole")
    own = {"env": {"ASSAY_CACHE": str(tmp_path / "own")}}
    process = command("run_search.py", *PRESET, *SMALL, "hydra.run.dir=killed", **own)
    journal = tmp_path / "killed" / "journal.jsonl"
    while not journal.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run("run_search.py", *PRESET, *SMALL, "hydra.run.dir=killed", **own)
    found = [(tmp_path / name / "trajectory.csv").read_bytes() for name in ("whole", "killed")]
    assert found[0] == found[1]
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert (summary["searcher"], summary["proxy"]) == ("perturbation", "naswot_eval")
    assert len(rows(tmp_path / "whole")) == 2
    assert all(float(row["test"]) > 0 for row in rows(tmp_path / "whole"))
    assert "searcher=perturbation" not in summary["config"]
    assert summary["batch"]["size"] == 4
    assert summary["batch"]["drawn"].startswith("the last one")


def test_a_grid_comes_into_one_report_beside_what_no_table_knows(run, tmp_path):
    grid = ["searcher.order=random,global_op_once", "proxy=synflow", "searcher.proposals=1"]
    run("run_search.py", "-m", *PRESET, *SMALL, *grid, "hydra.sweep.dir=grid")
    darts = ["space=darts", "space.subspace=s2", "space.table=none", "space.layers=3"]
    small = ["space.channels=2", "searcher.proposals=1", "trials=1"]
    run("run_search.py", *PRESET, *darts, *small, "hydra.run.dir=darts")
    (row,) = rows(tmp_path / "darts")
    assert row["architecture"].startswith("Genotype(")
    assert row["val"] == row["test"] == ""
    summary = json.loads((tmp_path / "darts" / "summary.json").read_text())
    assert summary["benchmark"] == {"kind": "none"}
    run("run_report.py", "grid", "darts", "--out", "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("perturbation") > 3


MISTAKES = {
    "searcher.order=up": "searcher.order=up must be one of",
    "searcher.proposals=0": "searcher.proposals=0 must be at least 1",
    "guidance=warmup": "give guidance=none",
    "space=mobilenet": "mobilenet has no supernet",
    "space=darts": "choose space.table=none",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_end_in_one_sentence(mistake, refused):
    arguments = ["experiment=zero_cost_pt", mistake]
    assert MISTAKES[mistake] in refused(search, "config", *arguments)


def test_no_draws_are_refused(refused):
    said = refused(score, "score", "operations=perturbation", "draws=0")
    assert "draws=0 must be at least 1" in said


def test_scores_of_operations_are_compared_with_what_can_be_reached(run, tmp_path):
    words = ["operations=perturbation", "proxies=[synflow]", "draws=2", "service=inline"]
    done = run("run_score.py", *words, *SMALL, "iterations=2", "hydra.run.dir=study")
    assert "with best" in done.stdout
    found = json.loads((tmp_path / "study" / "operations.json").read_text())["synflow"]
    assert found["best_of"] == "single runs"
    assert len(found["spearman_best"]) == len(found["choices"]) == 2
    table = (tmp_path / "study" / "operations.csv").read_text().splitlines()
    assert len(table) == 1 + 2 * (6 + 5) * 5


@pytest.mark.parametrize("preset", ["darts", "darts_pt", "te_nas"])
def test_presets_of_the_baselines(run, tmp_path, preset):
    few = {
        "te_nas": ["batch.size=4", "service=inline"],
        "darts": ["searcher.steps=2", "searcher.batch_size=32"],
        "darts_pt": [f"searcher.{name}" for name in ("steps=2", "tuning=1", "validation=32")],
    }
    directory = f"hydra.run.dir={preset}"
    run("run_search.py", f"experiment={preset}", *SMALL, *few[preset], "trials=1", directory)
    (row,) = rows(tmp_path / preset)
    assert float(row["test"]) > 0
    assert (row["proxy_evaluations"] == "0") == preset.startswith("darts")
