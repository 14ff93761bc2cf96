from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from benchmarks.models_to_best import settings_of

CONF = Path(__file__).parents[2] / "conf"
ON = sorted((CONF / "searcher" / "on").glob("*.yaml"))


@pytest.mark.parametrize("file", ON, ids=lambda f: f.stem)
def test_settings_of_a_searcher_on_a_space_hold_where_the_two_meet(file):
    searcher, space = file.stem.split("-")
    here = settings_of([f"searcher={searcher}", f"space={space}"])
    elsewhere = settings_of([f"searcher={searcher}"])
    assert here.searcher != elsewhere.searcher
    assert here.searcher.keys() == elsewhere.searcher.keys()


def test_the_recommended_searcher_takes_them():
    settings = settings_of(["experiment=recommended", "space=nasbench101"])
    assert settings.searcher["candidates"] == 500_000


def test_the_command_line_has_the_last_word():
    given = ["searcher=touchstone", "space=nasbench101", "searcher.candidates=77"]
    assert settings_of(given).searcher["candidates"] == 77


PRESETS = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("file", PRESETS, ids=lambda f: f.stem)
def test_a_preset_has_a_directory_of_its_own(file):
    hydra = OmegaConf.load(file).hydra
    several = "mode" in hydra
    assert not several or hydra.mode == "MULTIRUN"
    directory = hydra.sweep.dir if several else OmegaConf.to_container(hydra)["run"]["dir"]
    assert directory.startswith("outputs/")
    assert "now:" not in directory


@pytest.mark.parametrize("searcher", ["perturbation", "darts"])
def test_what_trains_no_models_chooses_one_architecture(searcher):
    assert settings_of([f"searcher={searcher}"]).budget["models"] == 1
    assert settings_of([f"searcher={searcher}", "budget.models=4"]).budget["models"] == 4
    assert settings_of([]).budget["models"] == 300
