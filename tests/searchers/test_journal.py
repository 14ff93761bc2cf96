from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from conf.errors import UsageError
from searchers.journal import Entry, Journal
from spaces import Evaluation

needs_locks = pytest.mark.skipif(sys.platform == "win32", reason="needs the locks of Unix")

FINGERPRINT = {"space": "x", "seed": 0}
ENTRIES = [
    Entry(0, "a,b", Evaluation(1 / 3, 1 / 3, math.pi, 12.5), 0),
    Entry(0, "a,c", Evaluation(-0.1, 0.1, 70.0, 1e-9), 24),
    Entry(1, "ü", Evaluation(2.0, 2.0, 71.123456789, 3.0), 3000, 0.1),
]


def write(path, entries=ENTRIES):
    with Journal(path, FINGERPRINT) as journal:
        for entry in entries:
            journal.append(entry)
    return path


def test_entries_come_back_exactly(tmp_path):
    assert Journal(write(tmp_path / "run" / "journal.jsonl"), FINGERPRINT).entries == ENTRIES


def test_first_line_is_the_fingerprint(tmp_path):
    first = write(tmp_path / "journal.jsonl").read_text().splitlines()[0]
    assert json.loads(first) == {"fingerprint": FINGERPRINT}


def test_not_a_number_survives(tmp_path):
    entry = Entry(0, "a", Evaluation(1.0, math.nan, 1.0, math.nan), 0)
    (read,) = Journal(write(tmp_path / "journal.jsonl", [entry]), FINGERPRINT).entries
    assert math.isnan(read.evaluation.val)


def test_every_torn_tail_is_dropped_and_overwritten(tmp_path):
    whole = write(tmp_path / "whole.jsonl").read_bytes()
    for length in range(len(whole) + 1):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(whole[:length])
        with Journal(path, FINGERPRINT) as journal:
            kept = len(journal.entries)
            assert journal.entries == ENTRIES[:kept]
            for entry in ENTRIES[kept:]:
                journal.append(entry)
        assert path.read_bytes() == whole


def test_nothing_is_written_before_the_first_entry(tmp_path):
    path = tmp_path / "run" / "journal.jsonl"
    with Journal(path, FINGERPRINT):
        pass
    assert not path.parent.exists()


def test_other_configuration_is_refused(tmp_path):
    path = write(tmp_path / "journal.jsonl")
    with pytest.raises(UsageError, match="journal of another configuration") as error:
        Journal(path, {"space": "y"})
    assert Journal(path, FINGERPRINT).entries == ENTRIES
    assert error  # what it holds keeps no lock


def test_damage_is_told(tmp_path):
    path = write(tmp_path / "journal.jsonl")
    path.write_text(path.read_text().replace('[0, "a,c"', '[0, "a,c'))
    with pytest.raises(UsageError, match="damaged"):
        Journal(path, FINGERPRINT)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UsageError, match="cannot be used as a journal"):
        Journal(path, FINGERPRINT)


def test_unwritable_place_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match="cannot be used as a journal"),
        Journal(tmp_path / "file" / "journal.jsonl", FINGERPRINT) as journal,
    ):
        journal.append(ENTRIES[0])


@needs_locks
def test_a_journal_is_open_once(tmp_path):
    path = write(tmp_path / "journal.jsonl", ENTRIES[:1])
    with Journal(path, FINGERPRINT) as journal:
        journal.append(ENTRIES[1])
        with pytest.raises(UsageError, match=rf"another process runs in {tmp_path};"):
            Journal(path, FINGERPRINT)
        journal.append(ENTRIES[2])
    assert Journal(path, FINGERPRINT).entries == ENTRIES


@pytest.mark.parametrize("running", [pytest.param(True, marks=needs_locks), False])
def test_of_two_that_begin_together_one_goes_on(tmp_path, running):
    path = tmp_path / "journal.jsonl"
    with Journal(path, FINGERPRINT) as late:
        first = Journal(path, FINGERPRINT)
        first.append(ENTRIES[0])
        if not running:
            first.close()
        with pytest.raises(UsageError, match="another process runs in"):
            late.append(ENTRIES[1])
        first.close()
    assert Journal(path, FINGERPRINT).entries == ENTRIES[:1]


@needs_locks
def test_a_killed_process_lets_go(tmp_path):
    path = write(tmp_path / "journal.jsonl")
    code = (
        "import pathlib, sys, time\nfrom searchers.journal import Journal\n"
        f"journal = Journal(pathlib.Path({str(path)!r}), {FINGERPRINT!r})\n"
        "print(len(journal.entries), flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"3\n"
        with pytest.raises(UsageError, match="another process runs in"):
            Journal(path, FINGERPRINT)
        process.kill()
    assert Journal(path, FINGERPRINT).entries == ENTRIES


def test_what_may_only_be_read_is_read(tmp_path, monkeypatch):
    path = write(tmp_path / "journal.jsonl")
    path.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = path.read_bytes()
    with Journal(path, FINGERPRINT) as journal, Journal(path, FINGERPRINT) as other:
        assert journal.entries == other.entries == ENTRIES
        with pytest.raises(UsageError, match="may not be written"):
            other.append(ENTRIES[0])
    assert path.read_bytes() == before


def test_without_locks_a_journal_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert Journal(write(tmp_path / "journal.jsonl"), FINGERPRINT).entries == ENTRIES
