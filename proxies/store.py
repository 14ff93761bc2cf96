"""Scores on disk: one SQLite file that many processes share."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from conf.errors import UsageError

_FILE: Final = "scores.sqlite"
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


class Row(NamedTuple):
    """One stored score: value (NaN if it failed), seconds that it took, and why it failed."""

    value: float
    seconds: float
    reason: str | None = None


def default_path() -> Path:
    """``$ASSAY_CACHE``, else ``$XDG_CACHE_HOME/assay``, else ``~/.cache/assay``: scores.sqlite."""
    if own := os.environ.get("ASSAY_CACHE"):
        return Path(own).expanduser() / _FILE
    if cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(cache) / "assay" / _FILE
    return Path.home() / ".cache" / "assay" / _FILE


class Store:
    """Scores by context and architecture.

    A *context* is all that a value depends on besides the architecture. A row once written stays:
    of two processes that compute the same score, the first one's is kept.

    Args:
        path: the file, made with its folders where there is none; None is :func:`default_path`;
            ``memory`` keeps nothing.

    Raises :class:`UsageError`, also later, where the file cannot be used.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = "memory" if path == "memory" else str(path or default_path())
        with self._explaining():
            if self.path != "memory":
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                ":memory:" if self.path == "memory" else self.path,
                timeout=_WAIT_SECONDS,
                isolation_level=None,
            )
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def context(self, key: Mapping[str, Any]) -> int:
        """Return the number of the context that ``key``, which JSON can write, describes."""
        text = json.dumps(key, sort_keys=True)
        query = "SELECT id FROM contexts WHERE key = ?"
        with self._explaining():
            found = self._db.execute(query, (text,)).fetchone()
            if found is None:
                with self._writing():
                    self._db.execute("INSERT OR IGNORE INTO contexts (key) VALUES (?)", (text,))
                found = self._db.execute(query, (text,)).fetchone()
        return int(found[0])

    def get_many(self, context: int, archs: Collection[str] | None = None) -> dict[str, Row]:
        """Return what is stored of ``archs``, or of all architectures."""
        query = "SELECT architecture, value, seconds, reason FROM scores WHERE context = ?"
        values: tuple[object, ...] = (context,)
        if archs is not None:
            query += " AND architecture IN (SELECT value FROM json_each(?))"
            values = (context, json.dumps(list(archs)))
        with self._explaining():
            rows = self._db.execute(query, values).fetchall()
        return {
            arch: Row(math.nan if value is None else value, seconds, reason)
            for arch, value, seconds, reason in rows
        }

    def put_many(self, context: int, rows: Mapping[str, Row]) -> None:
        """Store ``rows`` by architecture, in one transaction."""
        values = [
            (context, arch, None if math.isnan(row.value) else row.value, row.reason, row.seconds)
            for arch, row in rows.items()
        ]
        with self._explaining(), self._writing():
            self._db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?, ?)", values)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _open(self) -> None:
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

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise UsageError(
                f"service.store={self.path} cannot be used as a store of scores ({error}); give "
                "the path of a writable file, null for the default, or memory."
            ) from None
