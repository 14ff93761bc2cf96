"""The page on a space of one's own is true: its files are written and its commands run."""

from __future__ import annotations

import csv
import json
import re
import shlex
import sys

import pytest

import run_score
import run_search
from conf import app
from tests.end_to_end.conftest import ROOT
from tests.spaces.conformance import SpaceConformance

PAGE = (ROOT / "docs" / "adding_a_space.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (assay-.*)$", PAGE, re.M)
TASKS = {"assay-search": (run_search.search, "config"), "assay-score": (run_score.score, "score")}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The user's directory: each block of the page that begins with the name of a file is one."""
    folder = tmp_path_factory.mktemp("mine")
    for name, content in re.findall(r"```\w+\n# (\S+\.(?:py|yaml))\n(.*?)```", PAGE, re.S):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return folder


@pytest.fixture
def here(directory, monkeypatch):
    monkeypatch.chdir(directory)
    monkeypatch.setenv("ASSAY_CACHE", str(directory / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield directory
    sys.modules.pop("towers", None)


class TestTowers(SpaceConformance):
    has_graph = has_network = True

    @pytest.fixture
    def space(self, here, monkeypatch):
        monkeypatch.syspath_prepend(here)
        from towers import Towers

        return Towers([4, 8], layers=3)


def test_every_command_of_the_page_runs(here, monkeypatch, capsys):
    assert len(COMMANDS) == 5
    for command in COMMANDS:
        script, *arguments = shlex.split(command)
        monkeypatch.setattr("sys.argv", [script, *arguments])
        app.run(*TASKS[script])
    printed = capsys.readouterr()
    assert not printed.err.strip()
    scores = list(csv.DictReader((here / "scores" / "scores.csv").open()))
    assert len(scores) == 18
    assert {"synflow", "naswot", "params"} <= set(scores[0])
    trained = list(csv.DictReader((here / "trained" / "trajectory.csv").open()))
    assert len({row["architecture"] for row in trained}) == 18
    found = json.loads((here / "searched" / "summary.json").read_text())
    assert found["benchmark"]["table"] == "trained/trajectory.csv"
    assert found["trials"] == 20
    best = max(float(row["val"]) for row in trained)
    assert found["final"]["best_val"]["mean"] <= best
    assert json.loads((here / "correlated" / "correlation.json").read_text())["params"]["n"] == 18


def test_what_the_annotations_forbid_is_refused_in_a_sentence(here, monkeypatch, capsys):
    settings = ["hydra.searchpath=[file://conf]", "space=towers", "hydra.run.dir=wrong"]
    for mistake, words in {
        "space.layers=many": "space.layers=many must be a whole number",
        "space.layers=0": "space.layers=0 is not possible; give 1 or more",
        "space.depth=3": "space.depth",
        "searcher=predictor": "towers has no benchmark table; choose benchmark=training",
    }.items():
        monkeypatch.setattr("sys.argv", ["assay-search", *settings, mistake])
        with pytest.raises(SystemExit):
            app.run(*TASKS["assay-search"])
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "FileNotFoundError"), ("architecture,val\n4,skip,skip\n", "KeyError: 'test'")],
)
def test_a_file_that_is_no_table_ends_in_a_sentence(here, refused, monkeypatch, text, reason):
    monkeypatch.syspath_prepend(here)
    if text:
        (here / "own.csv").write_text(text.replace("4,skip,skip", '"4,skip,skip",1'))
    mistake = f"benchmark.path={here / 'own.csv'}"
    places = [f"hydra.searchpath=[file://{here}/conf]", "space=towers", "space.layers=2"]
    assert reason in refused(run_search.search, "config", *places, mistake)
