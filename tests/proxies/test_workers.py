import os
import pickle
import sys

import numpy as np
import pytest
import torch

from conf.errors import UsageError
from proxies import ScoringService, registry, workers
from proxies.failures import WORKER_DIED
from proxies.workers import CHUNK, DEATHS, Chunk, Result, cores, redo_lost
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


def test_a_worker_finds_out_its_device_and_memory_itself(monkeypatch):
    """Also after this process has scored: its engine stays here."""
    service = fresh(TinySpace(), device="auto")
    job = service._job(needs_data=False)
    unused = pickle.dumps(job)
    service.values([(3, 3, 3)], "params")
    assert pickle.dumps(job) == unused
    kept = []
    monkeypatch.setattr(workers, "keep_memory", lambda: kept.append(1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pickle.loads(unused).engine.device.type == "cuda"
    assert kept == [1]


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


def crew_that_dies_of(deadly, most=100):
    """Work through a queue as workers would; ``deadly`` says of a chunk whether it is lost."""
    calls = []

    def crew(waiting, alone):
        for _ in range(most):
            if not waiting:
                return
            chunk = waiting.take()
            calls.append((chunk.archs, alone))
            yield chunk, None if deadly(chunk) else Result(chunk, None, 0.0)

    return crew, calls


@pytest.mark.parametrize("most", [1, 2, 100])
def test_every_chunk_is_scored_whenever_a_crew_stops(most):
    chunks = [Chunk(((n,), (n + 1,)), ()) for n in range(0, 10, 2)]
    crew, _ = crew_that_dies_of(lambda chunk: chunk.deaths < DEATHS - 1, most)
    done = [result.chunk for result in redo_lost(chunks, crew)]
    assert [chunk.archs for chunk in done] == [chunk.archs for chunk in chunks]
    assert {chunk.deaths for chunk in done} == {DEATHS - 1}


def test_what_is_lost_three_times_is_tried_alone():
    params = registry.get("params")
    chunks = [Chunk(((0,), (1,)), (params,)), Chunk(((2,), (3,)), (params,))]
    crew, calls = crew_that_dies_of(lambda chunk: (2,) in chunk.archs)
    results = list(redo_lost(chunks, crew))
    assert [result.chunk.archs for result in results] == [((0,), (1,)), ((2,),), ((3,),)]
    assert results[1].scores.reasons == {(0, "params"): WORKER_DIED}
    assert calls.count((chunks[1].archs, False)) == DEATHS
    assert calls[-2:] == [(((2,),), True), (((3,),), True)]


def test_chunks_are_drawn_only_when_they_are_taken():
    drawn = []
    chunks = (drawn.append(n) or Chunk(((n,),), ()) for n in range(5))
    crew, _ = crew_that_dies_of(lambda chunk: False)
    for done, _ in enumerate(redo_lost(chunks, crew), start=1):
        assert len(drawn) == done


def test_cores_are_those_this_process_may_use():
    assert 1 <= cores() <= os.cpu_count()


def test_ray_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "proxies.ray_workers", raising=False)
    with pytest.raises(UsageError, match=r"run pip install 'assay\[ray\]', or choose") as caught:
        fresh(TinySpace(), workers="ray")
    assert "\n" not in str(caught.value)


def test_an_impossible_share_of_a_gpu_is_told():
    pytest.importorskip("ray")
    for share in (0, -0.5, 1.5):
        with pytest.raises(UsageError, match=r"service\.gpus_per_worker=.* at most 1"):
            fresh(TinySpace(), workers="ray", gpus_per_worker=share)


def test_a_cluster_that_is_not_there_is_told():
    pytest.importorskip("ray")
    space = TinySpace()
    service = fresh(space, workers="ray", address="localhost:1")
    assert service.values([(0, 0, 0)], "params").shape == (1,)
    with pytest.raises(UsageError, match=r"service\.address=localhost:1 is no Ray cluster"):
        service.values(list(space.enumerate()), "params")


def test_a_space_that_cannot_be_pickled_is_refused():
    class Local(TinySpace):
        pass

    space = Local()
    with pytest.raises(UsageError, match=r"service\.workers=processes needs a space that can be"):
        fresh(space).values(list(space.enumerate()), "params")


def test_a_script_without_guard_is_told(tmp_path):
    import subprocess
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
