"""Where scores are kept: an SQLite file, a PostgreSQL database, memory, or a shipped table.

``python -m proxies.store --help`` inspects, exports, merges and prunes them.
"""

from __future__ import annotations

from pathlib import Path

from conf.errors import UsageError
from proxies.store.base import Context, Key, Row, Scores, Store
from proxies.store.shipped import Shipped
from proxies.store.sqlite import MEMORY, SQLiteStore, default_path

__all__ = [
    "Context",
    "Key",
    "Row",
    "Scores",
    "Shipped",
    "Store",
    "default_path",
    "open_scores",
    "open_store",
]

_POSTGRES = ("postgresql://", "postgresql+psycopg://", "postgres://")


def open_store(address: str | Path | None = None) -> Store:
    """Open the store at ``address``, and make it where there is none.

    ``address`` is the path of an SQLite file (made with its folders), the URL of a PostgreSQL
    database, ``memory``, which keeps nothing, or None, which is :func:`default_path`.

    Raises :class:`UsageError`, also later, where it cannot be used, and where PostgreSQL needs an
    extra that is not installed.
    """
    text = _written(address)
    if text.startswith(_POSTGRES):
        from proxies.store.postgres import PostgresStore

        return PostgresStore(text)
    if "://" in text:
        raise UsageError(
            f"service.store={text.partition('://')[0]}://… is no store of scores; give the path of "
            "a file, a postgresql:// URL, null for the default, or memory."
        )
    return SQLiteStore(text)


def open_scores(address: str | Path | None = None) -> Scores:
    """Open what is there to be read: a store, or a shipped table, whose name ends in ``.npz``.

    Files need not be writable. Raises :class:`UsageError` also where there is none.
    """
    text = _written(address)
    if text.endswith(".npz"):
        return Shipped(Path(text))
    if "://" in text or text == MEMORY:
        return open_store(text)
    if not Path(text).exists():
        raise UsageError(f"{text} does not exist; give the store of scores to read.")
    return SQLiteStore(text, to_read=True)


def _written(address: str | Path | None) -> str:
    """Write out an address: the default, and the home directory for ``~``."""
    text = str(address or default_path())
    return text if "://" in text else str(Path(text).expanduser())
