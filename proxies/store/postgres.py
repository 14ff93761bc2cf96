"""Scores in a PostgreSQL database, which many machines share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from conf.errors import UsageError
from proxies.store.base import Store

try:
    import psycopg  # noqa: F401
    import sqlalchemy
    from sqlalchemy import exc, text
except ImportError:
    raise UsageError(
        "service.store=postgresql://… needs packages that are not installed; run pip install "
        "'assay[postgres]', or give the path of a file."
    ) from None

_MARK: Final = "scores of Assay, schema 1"
_LOCK: Final = 0x41535359

_TABLES: Final = (
    "CREATE SCHEMA assay",
    f"COMMENT ON SCHEMA assay IS '{_MARK}'",
    """CREATE TABLE assay.contexts (
        id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key TEXT COLLATE "C" NOT NULL UNIQUE
    )""",
    """CREATE TABLE assay.scores (
        context INTEGER NOT NULL REFERENCES assay.contexts,
        architecture TEXT COLLATE "C" NOT NULL,
        value DOUBLE PRECISION,
        reason TEXT,
        seconds DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (context, architecture)
    )""",
)


class PostgresStore(Store):
    """Scores in the schema ``assay`` of the database at a URL, made where there is none.

    A connection that was lost is opened again at the next request. Raises
    :class:`~conf.errors.UsageError` where the database cannot be reached or its schema ``assay``
    is of another kind.
    """

    names: ClassVar[Mapping[str, str]] = {
        "contexts": "assay.contexts",
        "scores": "assay.scores",
        "listed": "SELECT json_array_elements_text(CAST(:archs AS json))",
    }
    errors = (exc.SQLAlchemyError, OSError)

    def __init__(self, address: str) -> None:
        try:
            url = sqlalchemy.make_url(address)
        except (exc.ArgumentError, ValueError):
            raise UsageError(
                "service.store=postgresql://… is no URL that can be read; write it as "
                "postgresql://user@host/database."
            ) from None
        self.address = url.render_as_string(hide_password=True)
        with self.explaining():
            self._engine = sqlalchemy.create_engine(
                url.set(drivername="postgresql+psycopg"), pool_size=1, pool_pre_ping=True
            )
            self._prepare()

    def query(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """Return the rows that ``statement`` selects."""
        with self._engine.connect() as connection:
            return connection.execute(text(statement), dict(values)).fetchall()

    def write(self, statement: str, values: Sequence[Mapping[str, object]]) -> None:
        """Run ``statement`` once for each of ``values``, all in one transaction."""
        with self._engine.begin() as connection:
            connection.execute(text(statement), [dict(row) for row in values])

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    def _prepare(self) -> None:
        find = text(
            "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'assay'"
        )
        with self._engine.begin() as connection:
            found = connection.execute(find).fetchone()
            if found is None:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                found = connection.execute(find).fetchone()
            if found is None:
                for table in _TABLES:
                    connection.execute(text(table))
            elif found[0] != _MARK:
                raise exc.InvalidRequestError(
                    "its schema assay holds something else than scores of this version"
                )
