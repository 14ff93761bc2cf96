from __future__ import annotations

import json
import math

import pytest

from conf.errors import UsageError
from searchers.journal import Entry, Journal
from spaces import Evaluation

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
    with pytest.raises(UsageError, match="journal of another configuration"):
        Journal(path, {"space": "y"})


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
