from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks import study

ROOT = Path(study.__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """In a directory without finished searches."""
    monkeypatch.chdir(tmp_path)


def test_every_preset_says_beforehand_what_it_runs():
    plans = [study.plan(preset) for preset in study.presets()]
    for told in plans:
        assert told.searches > 1
        assert told.finished == 0
        assert told.seconds > told.searches * study.JOB_SECONDS
        assert told.directory.parts[:2] == ("outputs", "study")
    assert len({told.directory for told in plans}) == len(plans)


@pytest.mark.parametrize("preset", study.presets())
def test_every_searcher_and_proxy_of_a_preset_is_known(preset):
    swept = OmegaConf.load(ROOT / "conf" / "experiment" / f"{preset}.yaml").hydra.sweeper.params
    for searcher in swept.searcher.split(","):
        assert searcher in study.MILLISECONDS
        assert (ROOT / "conf" / "searcher" / f"{searcher}.yaml").exists()
    for proxy in swept.get("proxy", "synflow").split(","):
        assert (ROOT / "conf" / "proxy" / f"{proxy}.yaml").exists()


def test_finished_searches_take_no_time():
    whole = study.plan("study_nb201")
    for n in range(6):
        folder = whole.directory / str(n)
        folder.mkdir(parents=True)
        (folder / "summary.json").write_text("{}")
    half = study.plan("study_nb201")
    assert (half.finished, half.searches) == (6, 12)
    assert half.seconds == pytest.approx(whole.seconds / 2)


def test_times_are_written_as_people_say_them():
    assert [study.time_of(s) for s in (30, 100, 3000, 9000)] == ["30 s", "2 min", "50 min", "2.5 h"]


def test_unknown_presets_are_named(capsys):
    assert study.main(["study_nowhere"]) == 2
    assert "study_nb201" in capsys.readouterr().out


def test_a_small_study_runs_and_is_reported(tmp_path):
    environment = os.environ | {"ASSAY_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.study", "--small"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "study_nb201_move             2 searches,   0 finished" in done.stdout
    page = (tmp_path / "report" / "study" / "index.html").read_text()
    for words in ("random + warmup 64", "evolution + move all", "Mean ranks", "Hours"):
        assert words in page
    assert "experiment=study_nb201_move" in page
    assert len(list((tmp_path / "outputs" / "study").glob("*/*/summary.json"))) == 6
    assert study.plan("study_nb201_move", study.SMALL["study_nb201_move"]).finished == 2
