import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from proxies.store import Row, default_path, open_scores, open_store
from proxies.store.shipped import export

WRITERS = 8
WRITER = """
import random, sys
from proxies.store import Row, open_store
address, me = sys.argv[1], int(sys.argv[2])
store = open_store(address)
for start in range(0, 1500, 100):
    context = store.context({"proxy": start % 3})
    own = {f"{me}-{n}": Row(me + n, 1.0) for n in range(start, start + 100)}
    shared = {f"shared-{n}": Row(n, float(me)) for n in range(start, start + 100)}
    rows = list((own | shared).items())
    random.shuffle(rows)
    store.put_many(context, dict(rows))
"""

rows = st.dictionaries(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    st.builds(
        Row,
        st.floats(allow_infinity=False),
        st.floats(0, 1e6),
        st.none() | st.sampled_from(["RuntimeError: it's broken", "ü\n"]),
    ),
    max_size=30,
)


def same(one, other):
    """Equal rows, NaN equal to NaN."""
    exact = [{k: (float.hex(r.value + 0.0), *r[1:]) for k, r in x.items()} for x in (one, other)]
    return exact[0] == exact[1]


def write_at_once(address):
    """Let eight processes write rows of their own and rows that all of them write."""
    code = [sys.executable, "-c", WRITER, address]
    writers = [subprocess.Popen([*code, str(me)]) for me in range(WRITERS)]
    assert [writer.wait() for writer in writers] == [0] * WRITERS
    with open_store(address) as store:
        for third in range(3):
            found = store.get_many(store.context({"proxy": third}))
            numbers = [n for n in range(1500) if n // 100 * 100 % 3 == third]
            assert {k: r.value for k, r in found.items()} == {
                **{f"{me}-{n}": me + n for me in range(WRITERS) for n in numbers},
                **{f"shared-{n}": n for n in numbers},
            }


class StoreConformance:
    """What every store does; subclasses have a fixture ``address`` of one that is empty."""

    def test_rows_come_back_as_they_were(self, address):
        rows = {
            "a": Row(1 / 3, 0.25),
            "b": Row(7.7e61, 0.5),
            "c": Row(math.nan, 0.0, "RuntimeError: it's broken"),
            "ü|~0|": Row(-0.0, 1e-9),
            "'; DROP TABLE scores; -- %s :key {}": Row(5e-324, 1.0),
        }
        with open_store(address) as store:
            context = store.context({"proxy": "synflow", "seed": 0})
            store.put_many(context, rows)
        with open_store(address) as again:
            assert again.context({"seed": 0, "proxy": "synflow"}) == context
            assert same(again.get_many(context), rows)
            assert same(again.get_many(context, ["c", "x"]), {"c": rows["c"]})
            assert set(again.get_many(context, set(rows) - {"b"})) == set(rows) - {"b"}
            assert again.get_many(context, []) == {}
            assert again.get_many(again.context({"seed": 1})) == {}

    def test_any_rows_come_back(self, address):
        store = open_store(address)
        numbers = iter(range(1000))

        @given(rows)
        def check(written):
            context = store.context({"case": next(numbers)})
            store.put_many(context, written)
            assert same(store.get_many(context), written)

        check()
        store.close()

    def test_what_is_written_stays(self, address):
        with open_store(address) as store:
            context = store.context({})
            store.put_many(context, {"a": Row(1.0, 1.0)})
            store.put_many(context, {"a": Row(2.0, 1.0), "b": Row(3.0, 1.0)})
            assert [store.get_many(context)[k].value for k in "ab"] == [1.0, 3.0]

    def test_long_lists_of_architectures(self, address):
        with open_store(address) as store:
            context = store.context({})
            rows = {f"{n:060}": Row(float(n), 1.0) for n in range(20_000)}
            store.put_many(context, rows)
            assert store.get_many(context, [*rows, "none"]) == rows

    def test_contexts_count(self, address):
        with open_store(address) as store:
            assert store.contexts() == []
            first, second = store.context({"seed": 0}), store.context({"seed": 1})
            store.put_many(second, {"a": Row(1.0, 1.0), "b": Row(math.nan, 2.0, "broken")})
            assert store.contexts() == [(second, {"seed": 1}, 2, 1, 1.5)]
            store.put_many(first, {"a": Row(1.0, 1.0)})
            assert [context.number for context in store.contexts()] == [first, second]

    def test_what_is_deleted_may_be_written_again_under_its_number(self, address):
        with open_store(address) as store, open_store(address) as other:
            one, two = store.context({"seed": 0}), store.context({"seed": 1})
            for context in (one, two):
                store.put_many(context, {"a": Row(1.0, 1.0)})
            known = other.context({"seed": 0})
            store.delete([one])
            assert [context.number for context in store.contexts()] == [two]
            other.put_many(known, {"a": Row(2.0, 1.0)})
            assert store.get_many(one) == {"a": Row(2.0, 1.0)}

    def test_eight_processes_write_at_once(self, address):
        write_at_once(address)


class TestSQLite(StoreConformance):
    @pytest.fixture
    def address(self, tmp_path):
        return str(tmp_path / "deep" / "folder" / "scores.sqlite")

    def test_the_log_is_written_ahead(self, address):
        open_store(address).close()
        (mode,) = sqlite3.connect(address).execute("PRAGMA journal_mode").fetchone()
        assert mode == "wal"

    def test_deleting_gives_space_back(self, address):
        with open_store(address) as store:
            context = store.context({})
            store.put_many(context, {str(n): Row(n, 1.0) for n in range(20_000)})
        before = Path(address).stat().st_size
        with open_store(address) as store:
            store.delete([context])
        assert Path(address).stat().st_size < before / 4


def test_memory_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = open_store("memory")
    context = store.context({})
    store.put_many(context, {"a": Row(1.0, 1.0)})
    assert store.get_many(context) == {"a": Row(1.0, 1.0)}
    assert open_store("memory").contexts() == []
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
        open_store(path)
    message = str(caught.value)
    assert message.startswith(f"service.store={path} cannot be used as a store of scores")
    assert "\n" not in message


@pytest.mark.parametrize("length", [1, 100, 5000])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path, length):
    text = tmp_path / "notes.txt"
    text.write_text("x" * length)
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
    store = open_store(path)
    context = store.context({})
    store.put_many(context, {str(n): Row(n, 1.0) for n in range(5000)})
    store.close()
    pages = bytearray(path.read_bytes())
    pages[4096:] = os.urandom(len(pages) - 4096)
    path.write_bytes(pages)
    with pytest.raises(UsageError, match="cannot be used as a store"):
        damaged = open_store(path)
        damaged.get_many(damaged.context({}))


def test_a_directory_is_refused(tmp_path):
    _refused(tmp_path)


def test_a_path_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    _refused(tmp_path / "file" / "scores.sqlite")


def stored(path):
    """Make a store with a score; return its contexts."""
    with open_store(path) as store:
        store.put_many(store.context({"proxy": "a"}), {"x": Row(1.0, 0.1)})
        return store.contexts()


def test_reading_waits_for_nobody_and_writes_nothing(tmp_path):
    path = tmp_path / "scores.sqlite"
    contexts = stored(path)
    before = path.read_bytes()
    with open_store(path) as writer:
        writer._db.execute("BEGIN IMMEDIATE")
        with open_scores(path) as scores:
            scores._db.execute("PRAGMA busy_timeout = 0")
            assert scores.contexts() == contexts
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_reading_needs_no_permission_to_write(tmp_path, monkeypatch):
    """Root may write anywhere, so that permissions alone would show nothing."""
    path = tmp_path / "scores.sqlite"
    contexts = stored(path)
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        with open_scores(path) as scores:
            assert scores.contexts() == contexts
            with pytest.raises(UsageError, match="readonly"):
                scores.delete([context.number for context in contexts])
        assert list(tmp_path.iterdir()) == [path]
    finally:
        tmp_path.chmod(0o755)
        path.chmod(0o644)
    with open_store(path) as writer:
        writer.put_many(writer.context({"proxy": "b"}), {"x": Row(1.0, 0.1)})
        with open_scores(path) as scores:  # what is new is in the log beside the file
            assert len(scores.contexts()) == 2


def test_an_empty_file_holds_no_scores_to_read(tmp_path):
    path = tmp_path / "scores.sqlite"
    path.touch()
    with pytest.raises(UsageError, match="holds no scores"):
        open_scores(path)
    assert path.read_bytes() == b""


def test_the_databases_own_error_is_told(tmp_path):
    with open_store(tmp_path / "scores.sqlite") as store:
        context = store.context({})
        store._db.execute("PRAGMA max_page_count = 8")
        with pytest.raises(UsageError, match="database or disk is full"):
            store.put_many(context, {f"arch{n:06}": Row(1.0, 0.1) for n in range(5000)})
        assert store.get_many(context) == {}
        store.put_many(context, {"x": Row(1.0, 0.1)})
        assert list(store.get_many(context)) == ["x"]


@pytest.mark.parametrize("kind", ["sqlite", "npz"])
def test_a_tilde_is_the_home_directory(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    with open_store("~/deep/scores.sqlite") as store:
        store.put_many(store.context({"proxy": "a"}), {"x": Row(1.0, 0.1)})
        assert store.address == str(tmp_path / "home" / "deep" / "scores.sqlite")
        rows = [(c.key, store.get_many(c.number)) for c in store.contexts()]
    export(rows, tmp_path / "home" / "deep" / "scores.npz", command=None, versions={})
    with open_scores(f"~/deep/scores.{kind}") as scores:
        assert [context.key for context in scores.contexts()] == [{"proxy": "a"}]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    path = tmp_path / "scores.sqlite"
    open_store(path).close()
    path.chmod(0o400)
    _refused(path)


def test_another_kind_of_address_is_refused_without_its_password(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"service\.store=mysql://… is no store") as caught:
        open_store("mysql://me:secret@host/db")
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named():
    code = """
import sys
sys.modules["sqlalchemy"] = None
from proxies.store import open_store
try: open_store("postgresql://me@nowhere/scores")
except ValueError as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'assay[postgres]'" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_file_needs_no_extra():
    code = """
import sys
from proxies.store import open_store
open_store("memory")
print(sorted({"sqlalchemy", "psycopg", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_reading_makes_no_store(tmp_path):
    for name in ("scores.sqlite", "scores.npz"):
        with pytest.raises(UsageError, match=f"{name} does not exist"):
            open_scores(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
