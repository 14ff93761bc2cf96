"""Services that share a store divide the work."""

import subprocess
import sys

import pytest

from proxies import ScoringService
from proxies.store import open_store
from proxies.workers import CHUNK
from tests.proxies.tiny_space import SlowSpace, TinySpace

PROCESSES = 8
SCORER = """
import sys, time
from pathlib import Path
import torch
from proxies import ScoringService
from tests.proxies.tiny_space import SlowSpace
go, address = Path(sys.argv[1]), sys.argv[2]
space = SlowSpace(length=5)
service = ScoringService(space, store=address)
service.values([], "params")
print(flush=True)
while not go.exists():
    time.sleep(0.01)
service.values(list(space.enumerate()), "params")
print(service.computed, service.hits)
"""


def score_at_once(address, go):
    """Score all of one space in eight processes at once; return how many each one computed."""
    code = [sys.executable, "-c", SCORER, str(go), address]
    scorers = [subprocess.Popen(code, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    for scorer in scorers:
        scorer.stdout.readline()
    go.touch()
    printed = [scorer.communicate()[0] for scorer in scorers]
    assert [scorer.returncode for scorer in scorers] == [0] * PROCESSES
    size = SlowSpace(length=5).size
    counts = [tuple(map(int, words.split())) for words in printed]
    assert all(computed + hits == size for computed, hits in counts)
    with open_store(address) as store:
        (context,) = store.contexts()
        assert context.scores == size
    return [computed for computed, _ in counts]


def test_what_others_store_meanwhile_is_not_computed_again(tmp_path, monkeypatch):
    archs = list(TinySpace().enumerate())
    one, other = (ScoringService(TinySpace(), store=tmp_path / "s.sqlite") for _ in range(2))
    put_many = one.store.put_many

    def put_and_wait(context, rows):
        put_many(context, rows)
        other.values(archs, "params")

    monkeypatch.setattr(one.store, "put_many", put_and_wait)
    one.values(archs, "params")
    assert one.computed == CHUNK
    assert one.hits == len(archs) - CHUNK
    assert other.computed == len(archs) - CHUNK
    assert one.mean_seconds("params") == other.mean_seconds("params")


def test_what_others_store_in_part_is_completed(tmp_path, monkeypatch):
    archs = list(TinySpace().enumerate())
    one, other = (ScoringService(TinySpace(), store=tmp_path / "s.sqlite") for _ in range(2))
    put_many = one.store.put_many

    def put_and_wait(context, rows):
        put_many(context, rows)
        other.values(archs[::2], "params")

    monkeypatch.setattr(one.store, "put_many", put_and_wait)
    table = one.score(archs, ["params"])
    alone = ScoringService(TinySpace(), store="memory").score(archs, ["params"])
    assert (table.values == alone.values).all()
    assert one.computed + one.hits == len(archs)
    assert one.computed + other.computed == len(archs)


def test_services_begin_at_different_places():
    archs = list(TinySpace().enumerate())
    orders = []
    for _ in range(8):
        service = ScoringService(TinySpace(), store="memory")
        service.values(archs, "params")
        orders.append(tuple(service._column("params").rows))
    assert len(set(orders)) > 1
    assert len(set(map(frozenset, orders))) == 1


@pytest.mark.slow
def test_eight_processes_divide_the_work(tmp_path):
    computed = score_at_once(str(tmp_path / "scores.sqlite"), tmp_path / "go")
    assert sum(computed) < 2 * SlowSpace(length=5).size
