"""Against a real PostgreSQL server, which the tests start; without one they are skipped."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from conf.errors import UsageError
from proxies.store import Row, open_store
from tests.proxies.test_store import StoreConformance
from tests.proxies.test_store_sharing import score_at_once
from tests.proxies.tiny_space import SlowSpace

pytest.importorskip("sqlalchemy")
psycopg = pytest.importorskip("psycopg")

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
if PROGRAMS is None and (found := shutil.which("initdb")):
    PROGRAMS = Path(found)
ROOT = os.geteuid() == 0
USERS = [user for user in ("postgres", "nobody") if user in {u.pw_name for u in pwd.getpwall()}]

pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="no PostgreSQL server is installed"),
    pytest.mark.skipif(ROOT and not USERS, reason="root must not run a PostgreSQL server"),
]


@pytest.fixture(scope="module")
def server():
    """Start a server that listens on a socket in a folder of its own, and yield the folder."""
    with tempfile.TemporaryDirectory(prefix="assay") as name:
        folder = Path(name)
        if ROOT:
            shutil.chown(folder, USERS[0])
        options = {"cwd": folder, "user": USERS[0] if ROOT else None}
        subprocess.run(
            [PROGRAMS, "-D", "data", "-U", "assay", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            **options,
        )
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(
                [PROGRAMS.with_name("postgres"), "-D", "data", "-h", "", "-k", folder, "-F"],
                stderr=log,
                stdout=log,
                **options,
            )
        try:
            _wait(folder)
            yield folder
        finally:
            server.send_signal(signal.SIGINT)  # which waits for no client
            server.wait()


def _wait(folder):
    deadline = time.monotonic() + 60
    while True:
        try:
            return _run(folder, "SELECT 1")
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)


def _run(folder, *statements, database="postgres"):
    with psycopg.connect(
        host=str(folder), user="assay", dbname=database, autocommit=True
    ) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.fixture
def address(server, request):
    """Make an empty database."""
    name = f"scores{abs(hash(request.node.nodeid))}"
    _run(server, f"CREATE DATABASE {name}")
    yield f"postgresql://assay@/{name}?host={server}"
    _run(server, f"DROP DATABASE {name} WITH (FORCE)")


class TestPostgres(StoreConformance):
    pass


def test_another_schema_of_that_name_is_refused_and_left_alone(server, address):
    name = address.partition("/scores")[2].partition("?")[0]
    _run(server, "CREATE SCHEMA assay", database=f"scores{name}")
    with pytest.raises(UsageError, match="schema assay holds something else") as caught:
        open_store(address)
    assert "\n" not in str(caught.value)
    with pytest.raises(psycopg.errors.UndefinedTable):
        _run(server, "SELECT * FROM assay.scores", database=f"scores{name}")


def test_a_lost_connection_is_opened_again(server, address):
    store = open_store(address)
    context = store.context({})
    store.put_many(context, {"a": Row(1.0, 1.0)})
    _run(
        server,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname LIKE 'scores%' AND pid <> pg_backend_pid()",
    )
    assert store.get_many(context) == {"a": Row(1.0, 1.0)}
    store.close()


@pytest.mark.slow
def test_eight_processes_divide_the_work(address, tmp_path):
    computed = score_at_once(address, tmp_path / "go")
    assert sum(computed) < 2 * SlowSpace(length=5).size


def test_one_connection_a_store(server, address):
    store = open_store(address)
    for n in range(20):
        store.put_many(store.context({"seed": n}), {"a": Row(1.0, 1.0)})
    with psycopg.connect(host=str(server), user="assay", dbname="postgres") as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'scores%'"
        assert connection.execute(count).fetchone() == (1,)
    store.close()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@/scores?host=/nowhere",
        "postgresql://me:secret@/scores?host={server}",
    ],
)
def test_a_database_that_cannot_be_reached_is_one_sentence_without_password(url, server):
    with pytest.raises(UsageError) as caught:
        open_store(url.format(server=server))
    message = str(caught.value)
    assert message.startswith("service.store=postgresql://")
    assert "cannot be used as a store of scores" in message
    assert "secret" not in message
    assert "\n" not in message


def test_a_url_that_cannot_be_read_is_one_sentence_without_password():
    with pytest.raises(UsageError, match="is no URL that can be read; write it as") as caught:
        open_store("postgresql://me:secret@host:port/scores")
    assert "secret" not in str(caught.value)
