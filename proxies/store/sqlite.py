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

    Writers wait for each other, up to a minute. With ``to_read`` nothing is made, and neither the
    file nor its folder need be writable. Raises :class:`~conf.errors.UsageError` where the file is
    of another kind or cannot be used so.
    """

    names: ClassVar[Mapping[str, str]] = {
        **Store.names,
        "listed": "SELECT value FROM json_each(:archs)",
    }
    errors = (sqlite3.Error, OSError)

    def __init__(self, address: str, *, to_read: bool = False) -> None:
        self.address = address
        with self.explaining():
            self._db = sqlite3.connect(
                self._place(to_read), uri=True, timeout=_WAIT_SECONDS, isolation_level=None
            )
            try:
                if not to_read:
                    self._prepare()
                elif not self._has_tables():
                    raise sqlite3.DatabaseError("it holds no scores")
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

    def _place(self, to_read: bool) -> str:
        """Say where to connect and how; refuse a file of another kind.

        SQLite itself would take a short one for an empty one.
        """
        if self.address == MEMORY:
            return ":memory:"
        path = Path(self.address)
        if not to_read:
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            with path.open("rb") as file:
                if file.read(len(_MAGIC)) not in (b"", _MAGIC):
                    raise sqlite3.DatabaseError("it is no SQLite file")
        return f"{path.absolute().as_uri()}?mode={_reading(path) if to_read else 'rwc'}"

    def _has_tables(self) -> bool:
        """Whether the file is one of ours, or empty; refuse any other."""
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (schema,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, schema) != (_APPLICATION, _SCHEMA):
            raise sqlite3.DatabaseError("it holds something else than scores of this version")
        return bool(tables)

    def _prepare(self) -> None:
        with self._writing():
            if not self._has_tables():
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
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself may have rolled back
                self._db.execute("ROLLBACK")
            raise


def _reading(path: Path) -> str:
    """Say in which mode to open a file to be read, such that nothing is left beside it.

    One that only reads would leave the log that SQLite keeps there, and cannot make one where it
    may not write; where there is none, all is in the file.
    """
    if all(os.access(place, os.W_OK) for place in (path, path.parent)):
        return "rw"
    return "ro" if Path(f"{path}-wal").exists() else "ro&immutable=1"
