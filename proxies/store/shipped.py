"""Scores that come with a space: a compact table, read only.

A table is one ``.npz`` file, ``scores.npz`` in the package of the space, with the arrays

- ``about``: {format, command, versions, contexts}: how the scores were computed, and a list with
  an entry for each context: {key, architectures, seconds, reasons}. ``key`` is the key of the
  scores, as a store has it; ``architectures`` numbers a list of architectures; ``seconds`` is the
  mean time of computing one; ``reasons`` maps why a score is NaN to the rows where it is.
- ``architectures/<number>``: a list in the space's notation, in alphabetical order.
- ``values/<context>``: float64 [architectures], NaN where a score failed.

The first two are JSON in UTF-8, as uint8 [bytes], so that nothing need be unpickled. Contexts are
numbered by their place in the list. Only what is asked for is read.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from proxies.store.base import Context, Key, Row, Scores, encode

if TYPE_CHECKING:
    from spaces.base import SearchSpace

FILE: Final = "scores.npz"

_FORMAT: Final = "Assay scores 1"


def table_of(space: SearchSpace) -> Path | None:
    """Return the path of the table in the package of the class of ``space``; None if it has none.

    A class in a script of its own, outside any package, has none.
    """
    package = sys.modules.get(type(space).__module__.rpartition(".")[0])
    paths = (Path(folder) / FILE for folder in getattr(package, "__path__", ()))
    return next(filter(Path.exists, paths), None)


class Shipped(Scores):
    """The scores in the file at ``path``.

    Raises :class:`UsageError`, also later, where it is missing, damaged or something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._explaining():
            self._file = np.load(path, allow_pickle=False)
            if not isinstance(self._file, np.lib.npyio.NpzFile):
                raise ValueError
            try:
                self.about: dict[str, Any] = self._json("about")
                if self.about["format"] != _FORMAT:
                    raise ValueError
                self._contexts = self.about["contexts"]
                self._lists: dict[int, list[str]] = {}
                self._numbers = {encode(c["key"]): n for n, c in enumerate(self._contexts)}
            except BaseException:
                self._file.close()
                raise

    def rows(self, key: Key) -> dict[str, Row]:
        """Return all that is there under ``key``, by architecture."""
        number = self._numbers.get(encode(key))
        return {} if number is None else self.get_many(number)

    def contexts(self) -> list[Context]:
        """List the contexts."""
        return [
            Context(
                number,
                context["key"],
                len(self._architectures(context["architectures"])),
                sum(map(len, context["reasons"].values())),
                context["seconds"],
            )
            for number, context in enumerate(self._contexts)
        ]

    def get_many(self, context: int, archs: Collection[str] | None = None) -> dict[str, Row]:
        """Return what is there of ``archs``, or of all architectures."""
        with self._explaining():
            entry = self._contexts[context]
            names = self._architectures(entry["architectures"])
            values = self._file[f"values/{context}"].tolist()
            seconds = entry["seconds"]
            rows = {name: Row(value, seconds) for name, value in zip(names, values, strict=True)}
            for reason, failed in entry["reasons"].items():
                rows.update({names[n]: Row(math.nan, seconds, reason) for n in failed})
        return rows if archs is None else {arch: rows[arch] for arch in archs if arch in rows}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _architectures(self, number: int) -> list[str]:
        if number not in self._lists:
            with self._explaining():
                self._lists[number] = self._json(f"architectures/{number}")
        return self._lists[number]

    def _json(self, name: str) -> Any:
        return json.loads(self._file[name].tobytes())

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} does not exist; give a table of scores (.npz)."
            ) from None
        except OSError as error:
            raise UsageError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        except UsageError:
            raise
        except Exception:  # a foreign or damaged file fails in any of a dozen ways
            raise UsageError(
                f"{self.path} cannot be read as a table of scores (.npz): it is damaged or of "
                "another kind."
            ) from None


def export(
    tables: Iterable[tuple[Key, Mapping[str, Row]]],
    path: Path,
    *,
    command: str | None,
    versions: Mapping[str, str],
) -> None:
    """Write scores by key and architecture as a table at ``path``, atomically.

    ``command`` and ``versions`` (of packages) say how they were computed.
    """
    from analysis.files import replacing

    contexts: list[dict[str, Any]] = []
    numbers: dict[tuple[str, ...], int] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for key, rows in tables:
        names = tuple(sorted(rows))
        reasons: dict[str, list[int]] = {}
        for n, name in enumerate(names):
            if (reason := rows[name].reason) is not None:
                reasons.setdefault(reason, []).append(n)
        arrays[f"values/{len(contexts)}"] = np.array([rows[name].value for name in names])
        contexts.append(
            {
                "key": dict(key),
                "architectures": numbers.setdefault(names, len(numbers)),
                "seconds": float(np.mean([row.seconds for row in rows.values()])),
                "reasons": reasons,
            }
        )
    for names, number in numbers.items():
        arrays[f"architectures/{number}"] = _bytes(names)
    about = {"format": _FORMAT, "command": command, "versions": versions, "contexts": contexts}
    arrays["about"] = _bytes(about)
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _bytes(content: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(content).encode(), np.uint8)
