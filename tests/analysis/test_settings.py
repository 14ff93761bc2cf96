import pytest

from analysis import settings


@pytest.mark.parametrize("config", [None, [], {}, {"space": None}, {"space": ["x"]}])
def test_what_is_not_recorded_is_empty(config):
    assert settings.part(config, "space") == {}
    assert settings.of_path(config, "space.number") == "None"
    assert settings.of_space({"benchmark": "a table", "config": config}) == {}
    assert settings.of_guidance({"config": config}, "warmup", "pool") is None


def test_settings_of_a_path():
    assert settings.of_path({"searcher": {"population": 64}}, "searcher.population") == "64"
