from __future__ import annotations

from pathlib import Path

import pytest

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
