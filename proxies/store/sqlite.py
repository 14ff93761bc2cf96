"""Scores in one SQLite file, which the processes of one machine share, or in memory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from proxies.store.base import Store

MEMORY: Final = "memory"

_FILE: Final = "scores.sqlite"
_MAGIC: Final = b"SQLite format 3\0"
_WAIT_SECONDS: Final = 60.0
_SCHEMA: Final = 1
_APPLICATION: Final = 0x41535359
"""Marks the file as ours: "ASSY"."""

_TABLES: Final = (
    "CREATE TABLE contexts (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE)",
    """CREATE TABLE scores (
        context INTEGER NOT NULL REFERENCES contexts (id),
        architecture TEXT NOT NULL,
        value REAL,
        reason TEXT,
        seconds REAL NOT NULL,
        PRIMARY KEY (context, architecture)
    ) WITHOUT ROWID""",
)


def default_path() -> Path:
    """``$ASSAY_CACHE``, else ``$XDG_CACHE_HOME/assay``, else ``~/.cache/assay``: scores.sqlite."""
    if own := os.environ.get("ASSAY_CACHE"):
        return Path(own).expanduser() / _FILE
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "assay" / _FILE
    return Path.home() / ".cache" / "assay" / _FILE


class SQLiteStore(Store):
    """Scores in the file at ``address``, made with its folders where there is none; or in memory.

    Writers wait for each other, up to a minute. Raises :class:`~conf.errors.UsageError` where the
    file is of another kind or cannot be written.
    """

    names: ClassVar[Mapping[str, str]] = {
        **Store.names,
        "listed": "SELECT value FROM json_each(:archs)",
    }
    errors = (sqlite3.Error, OSError)

    def __init__(self, address: str) -> None:
        self.address = address
        with self.explaining():
            if address != MEMORY:
                self._check(Path(address))
            self._db = sqlite3.connect(
                ":memory:" if address == MEMORY else address,
                timeout=_WAIT_SECONDS,
                isolation_level=None,
            )
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def query(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """Return the rows that ``statement`` selects."""
        return self._db.execute(statement, values).fetchall()

    def write(self, statement: str, values: Sequence[Mapping[str, object]]) -> None:
        """Run ``statement`` once for each of ``values``, all in one transaction."""
        with self._writing():
            self._db.executemany(statement, values)

    def delete(self, contexts: Iterable[int]) -> None:
        """Delete all scores of ``contexts``, and give their space back if nobody reads just now."""
        super().delete(contexts)
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("VACUUM")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _check(self, path: Path) -> None:
        """Refuse a file of another kind; SQLite itself would take a short one for an empty one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) not in (b"", _MAGIC):
                    raise sqlite3.DatabaseError("it is no SQLite file")

    def _prepare(self) -> None:
        with self._writing():
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            (schema,) = self._db.execute("PRAGMA user_version").fetchone()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and (application, schema) != (_APPLICATION, _SCHEMA):
                raise sqlite3.DatabaseError("it holds something else than scores of this version")
            if not tables:
                for table in _TABLES:
                    self._db.execute(table)
                self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._db.execute(f"PRAGMA user_version = {_SCHEMA}")
        if self._db.execute("PRAGMA journal_mode").fetchone()[0] == "delete":
            # Another process may be switching right now; then the mode is set without us.
            with contextlib.suppress(sqlite3.OperationalError):
                self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
