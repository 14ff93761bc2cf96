from __future__ import annotations

import re
from pathlib import Path

from analysis.groups import GUIDANCE
from analysis.published import SOURCES, points

CONF = Path(__file__).parents[2] / "conf"


def test_every_point_is_of_a_search_that_can_be_run():
    for point in points():
        for searcher in point.searchers:
            assert (CONF / "searcher" / f"{searcher}.yaml").exists()
        assert (CONF / "space" / f"{point.space}.yaml").exists()
        assert point.guidance in GUIDANCE
        assert point.guidance == "none" or (CONF / "proxy" / f"{point.proxy}.yaml").exists()
        assert point.pool == "all" or not point.pool or point.pool.isdigit()
        assert point.candidates == "all" or not point.candidates or point.candidates.isdigit()


def test_every_setting_is_one_of_the_configuration():
    for point in points():
        for searcher in point.searchers:
            names = {"space": point.space, "searcher": searcher}
            for path, value in point.settings.items():
                group, _, key = path.partition(".")
                text = (CONF / group / f"{names[group]}.yaml").read_text()
                assert re.search(rf"^{key}: +{value}\b", text, re.MULTILINE)


def test_every_point_names_its_source_and_is_a_percentage():
    for point in points():
        assert point.source in SOURCES
        assert 50 < point.value < 100
        assert point.models > 0


def test_no_point_comes_twice():
    assert len(set(points())) == len(points())
