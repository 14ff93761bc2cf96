"""What a store of scores is, and the part of it that all SQL databases share."""

from __future__ import annotations

import contextlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from conf.errors import UsageError

Key = Mapping[str, Any]
"""All that a score depends on besides the architecture; JSON can write it."""

FIND_CONTEXT = "SELECT id FROM {contexts} WHERE key = :key"
ADD_CONTEXT = "INSERT INTO {contexts} (key) VALUES (:key) ON CONFLICT DO NOTHING"
LIST_CONTEXTS = """
    SELECT id, key, count(*), count(value), avg(seconds)
    FROM {contexts} JOIN {scores} ON context = id GROUP BY id, key ORDER BY id"""
GET = "SELECT architecture, value, seconds, reason FROM {scores} WHERE context = :context"
AMONG = " AND architecture IN ({listed})"
PUT = """
    INSERT INTO {scores} (context, architecture, value, reason, seconds)
    VALUES (:context, :architecture, :value, :reason, :seconds) ON CONFLICT DO NOTHING"""
DELETE = "DELETE FROM {scores} WHERE context = :context"


class Row(NamedTuple):
    """One stored score: value (NaN if it failed), seconds that it took, and why it failed."""

    value: float
    seconds: float
    reason: str | None = None


class Context(NamedTuple):
    """What is stored under one key: how many scores, how many of them NaN, mean seconds each."""

    number: int
    key: Key
    scores: int
    failed: int
    seconds: float


def encode(key: Key) -> str:
    """Write ``key`` as text, the same for equal keys."""
    return json.dumps(key, sort_keys=True)


class Scores(ABC):
    """Scores by context and architecture, to read; a *context* is the number of a key."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def contexts(self) -> list[Context]:
        """List the contexts that have scores."""

    @abstractmethod
    def get_many(self, context: int, archs: Collection[str] | None = None) -> dict[str, Row]:
        """Return what is there of ``archs``, or of all architectures."""

    @abstractmethod
    def close(self) -> None:
        """Release the file or the connection."""


class Store(Scores):
    """Scores that many processes read and write at once, in tables of a database.

    A row once written stays: of two processes that compute the same score, the first one's is
    kept. Subclasses say how to run a statement of SQL.
    """

    names: ClassVar[Mapping[str, str]] = {"contexts": "contexts", "scores": "scores"}
    """What the tables are called; ``listed`` selects the strings of the JSON list ``:archs``."""

    errors: ClassVar[tuple[type[Exception], ...]]
    """What the database raises."""

    address: str
    """Path or URL, without its password."""

    @abstractmethod
    def query(self, statement: str, values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """Return the rows that ``statement`` selects."""

    @abstractmethod
    def write(self, statement: str, values: Sequence[Mapping[str, object]]) -> None:
        """Run ``statement`` once for each of ``values``, all in one transaction."""

    def context(self, key: Key) -> int:
        """Return the number of ``key``, which is new or known."""
        values = {"key": encode(key)}
        with self.explaining():
            found = self.query(self._sql(FIND_CONTEXT), values)
            if not found:
                self.write(self._sql(ADD_CONTEXT), [values])
                found = self.query(self._sql(FIND_CONTEXT), values)
        return int(found[0][0])

    def contexts(self) -> list[Context]:
        """List the contexts that have scores."""
        with self.explaining():
            rows = self.query(self._sql(LIST_CONTEXTS), {})
        return [
            Context(number, json.loads(key), scores, scores - finite, seconds)
            for number, key, scores, finite, seconds in rows
        ]

    def get_many(self, context: int, archs: Collection[str] | None = None) -> dict[str, Row]:
        """Return what is stored of ``archs``, or of all architectures."""
        values: dict[str, object] = {"context": context}
        statement = GET
        if archs is not None:
            statement += AMONG
            values["archs"] = json.dumps(list(archs))
        with self.explaining():
            rows = self.query(self._sql(statement), values)
        return {
            arch: Row(math.nan if value is None else value, seconds, reason)
            for arch, value, seconds, reason in rows
        }

    def put_many(self, context: int, rows: Mapping[str, Row]) -> None:
        """Store ``rows`` by architecture, in one transaction."""
        # In one order for all: writers that each wait for a row of the other would never end.
        values = [
            {
                "context": context,
                "architecture": arch,
                "value": None if math.isnan(row.value) else row.value,
                "reason": row.reason,
                "seconds": row.seconds,
            }
            for arch, row in sorted(rows.items())
        ]
        if values:
            with self.explaining():
                self.write(self._sql(PUT), values)

    def delete(self, contexts: Iterable[int]) -> None:
        """Delete all scores of ``contexts``; processes that know their numbers may go on."""
        with self.explaining():
            self.write(self._sql(DELETE), [{"context": context} for context in contexts])

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Turn the database's errors into one sentence."""
        try:
            yield
        except self.errors as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            raise UsageError(
                f"service.store={self.address} cannot be used as a store of scores ({cause}); "
                "give the path of a writable file, a postgresql:// URL, null for the default, or "
                "memory."
            ) from None

    def _sql(self, statement: str) -> str:
        return statement.format(**self.names)
