import numpy as np
import pytest

from conf.errors import UsageError
from proxies import ScoringService
from proxies.failures import WORKER_DIED
from proxies.workers import CHUNK
from tests.proxies.tiny_space import FragileSpace, TinySpace

NAMES = ["synflow", "params", "flops"]


def fresh(space, **settings):
    settings = {"store": "memory", "workers": "processes", "processes": 2} | settings
    return ScoringService(space, **settings)


def test_processes_give_the_same_bits_as_inline():
    space = TinySpace(length=4)
    archs = list(space.enumerate())
    pooled, inline = fresh(space), fresh(space, workers="inline")
    table, expected = pooled.score(archs, NAMES), inline.score(archs[::-1], NAMES)
    assert np.array_equal(table.values, expected.values[::-1])
    assert pooled.computed == inline.computed
    assert pooled.hits == inline.hits


def test_few_misses_start_no_process():
    home_only = FragileSpace(victim=(3, 3, 3))
    archs = [(3, 3, 3), *home_only.enumerate()][: 2 * CHUNK]
    assert np.isfinite(fresh(home_only).values(archs, "params")).all()


def test_the_work_of_a_killed_worker_is_redone(tmp_path):
    space = FragileSpace(victim=(3, 2, 3, 3), marker=tmp_path / "died", length=4)
    archs = list(space.enumerate())
    service = fresh(space, store=tmp_path / "scores.sqlite")
    table = service.score(archs, "params")
    assert (tmp_path / "died").exists()
    assert table.reasons == {}
    assert service.computed == len(archs)
    expected = fresh(space, workers="inline").score(archs, "params")
    assert np.array_equal(table.values, expected.values)
    assert len(service.store.get_many(service._column("params").context)) == len(archs)


def test_what_kills_every_worker_is_nan_and_the_others_are_scored(tmp_path):
    space = FragileSpace(victim=(3, 3, 3))
    archs = list(space.enumerate())
    service = fresh(space, store=tmp_path / "scores.sqlite")
    table = service.score(archs, "params")
    assert table.reasons == {(archs.index((3, 3, 3)), "params"): WORKER_DIED}
    assert np.isnan(table.values).sum() == 1
    # It may live elsewhere, so it is not stored.
    assert len(service.store.get_many(service._column("params").context)) == len(archs) - 1


def test_a_space_that_cannot_be_pickled_is_refused():
    class Local(TinySpace):
        pass

    space = Local()
    with pytest.raises(UsageError, match=r"service\.workers=processes needs a space that can be"):
        fresh(space).values(list(space.enumerate()), "params")


def test_a_script_without_guard_is_told(tmp_path):
    import os
    import subprocess
    import sys
    from pathlib import Path

    script = tmp_path / "script.py"
    script.write_text(
        "from proxies import ScoringService\n"
        "from tests.proxies.tiny_space import TinySpace\n"
        "space = TinySpace()\n"
        "service = ScoringService(space, store='memory', workers='processes', processes=2)\n"
        "service.values(list(space.enumerate()), 'params')\n"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode != 0
    assert "if __name__ == '__main__'" in run.stderr
