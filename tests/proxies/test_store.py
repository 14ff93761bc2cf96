import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from conf.errors import UsageError
from proxies.store import Row, Store, default_path

WRITER = """
import sys
from proxies.store import Row, Store
path, me = sys.argv[1], int(sys.argv[2])
store = Store(path)
for start in range(0, 3000, 100):
    context = store.context({"proxy": start % 3})
    store.put_many(context, {f"{me}-{n}": Row(me + n, 1.0) for n in range(start, start + 100)})
    store.put_many(context, {f"shared-{n}": Row(n, 1.0) for n in range(start, start + 100)})
"""


def test_rows_come_back_as_they_were(tmp_path):
    rows = {
        "a": Row(1 / 3, 0.25),
        "b": Row(7.7e61, 0.5),
        "c": Row(math.nan, 0.0, "RuntimeError: it's broken"),
        "ü|~0|": Row(-0.0, 1e-9),
    }
    store = Store(tmp_path / "deep" / "folder" / "scores.sqlite")
    context = store.context({"proxy": "synflow", "seed": 0})
    store.put_many(context, rows)
    store.close()
    again = Store(tmp_path / "deep" / "folder" / "scores.sqlite")
    assert again.context({"seed": 0, "proxy": "synflow"}) == context
    found = again.get_many(context)
    assert math.isnan(found.pop("c").value)
    assert found == {k: v for k, v in rows.items() if k != "c"}
    assert again.get_many(context, ["c"])["c"].reason == "RuntimeError: it's broken"
    assert set(again.get_many(context, ["a", "nothing"])) == {"a"}
    assert again.get_many(context, []) == {}
    assert again.get_many(again.context({"seed": 1})) == {}


def test_what_is_written_stays(tmp_path):
    store = Store(tmp_path / "scores.sqlite")
    context = store.context({})
    store.put_many(context, {"a": Row(1.0, 1.0)})
    store.put_many(context, {"a": Row(2.0, 1.0), "b": Row(3.0, 1.0)})
    assert [store.get_many(context)[k].value for k in "ab"] == [1.0, 3.0]


def test_four_processes_write_at_once(tmp_path):
    path = str(tmp_path / "scores.sqlite")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(me)]) for me in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    store = Store(path)
    rows = [store.get_many(store.context({"proxy": p})) for p in range(3)]
    assert [len(r) for r in rows] == [5000] * 3
    assert rows[2900 % 3]["3-2999"].value == 3002
    (mode,) = sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()
    assert mode == "wal"


def test_memory_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("memory")
    context = store.context({})
    store.put_many(context, {"a": Row(1.0, 1.0)})
    assert store.get_many(context) == {"a": Row(1.0, 1.0)}
    assert list(tmp_path.iterdir()) == []


def test_default_path_follows_the_environment(monkeypatch):
    monkeypatch.setenv("ASSAY_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert default_path() == Path("/one/scores.sqlite")
    monkeypatch.delenv("ASSAY_CACHE")
    assert default_path() == Path("/two/assay/scores.sqlite")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_path() == Path.home() / ".cache" / "assay" / "scores.sqlite"


def _refused(path):
    with pytest.raises(UsageError) as caught:
        Store(path)
    message = str(caught.value)
    assert message.startswith(f"service.store={path} cannot be used as a store of scores")
    assert "\n" not in message


def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("these are no scores, " * 100)
    before = text.read_bytes()
    _refused(text)
    assert text.read_bytes() == before


def test_another_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE scores (player TEXT)")
    db.close()
    before = path.read_bytes()
    _refused(path)
    assert path.read_bytes() == before


def test_a_damaged_store_is_refused(tmp_path):
    path = tmp_path / "scores.sqlite"
    store = Store(path)
    context = store.context({})
    store.put_many(context, {str(n): Row(n, 1.0) for n in range(5000)})
    store.close()
    pages = bytearray(path.read_bytes())
    pages[4096:] = os.urandom(len(pages) - 4096)
    path.write_bytes(pages)
    with pytest.raises(UsageError, match="cannot be used as a store"):
        damaged = Store(path)
        damaged.get_many(damaged.context({}))


def test_a_directory_is_refused(tmp_path):
    _refused(tmp_path)


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    _refused(tmp_path / "file" / "scores.sqlite")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "scores.sqlite"
    Store(path).close()
    path.chmod(0o400)
    _refused(path)
