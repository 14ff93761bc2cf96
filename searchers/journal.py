"""The journal of a job: what makes a killed search resumable.

The first line is the fingerprint of the configuration; every further line is one evaluation,
flushed as it is made. A line that a kill tore off is dropped.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from conf.errors import UsageError
from spaces.benchmark import Evaluation


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation, and the guidance of its trial so far.

    ``proxy_evaluations`` counts the scores asked for, and ``guidance_seconds`` is what they and
    other work of the searcher took; None in journals that do not say.
    """

    trial: int
    architecture: str
    evaluation: Evaluation
    proxy_evaluations: int
    guidance_seconds: float | None = None


class Journal:
    """Appends entries to ``path`` and holds those of an interrupted job.

    Nothing is written before the first entry is. Raises :class:`UsageError` where the file
    belongs to another configuration, is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path, fingerprint: dict[str, Any]) -> None:
        self.path = path
        self._head = json.dumps({"fingerprint": fingerprint}, sort_keys=True)
        self._file: TextIO | None = None
        lines = self._read()
        if lines and lines[0] != self._head:
            raise UsageError(
                f"{path.parent} holds the journal of another configuration; choose another "
                f"hydra.run.dir (hydra.sweep.dir in a sweep) or remove that directory."
            )
        self.entries = [_entry(line, path) for line in lines[1:]]

    def _read(self) -> list[str]:
        """Return the whole lines; a torn last one does not count."""
        try:
            content = self.path.read_bytes() if self.path.exists() else b""
            self._intact = content.rfind(b"\n") + 1
            return content[: self._intact].decode().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise self._unusable(error) from None

    def _open(self) -> TextIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("r+" if self._intact else "w", encoding="utf-8")
        except OSError as error:
            raise self._unusable(error) from None
        file.truncate(self._intact)
        file.seek(self._intact)
        if not self._intact:
            file.write(self._head + "\n")
        return file

    def _unusable(self, error: Exception) -> UsageError:
        return UsageError(f"{self.path} cannot be used as a journal: {error}.")

    def append(self, entry: Entry) -> None:
        """Write one evaluation and flush it to the operating system."""
        if self._file is None:
            self._file = self._open()
        e = entry.evaluation
        row = [
            entry.trial,
            entry.architecture,
            e.objective,
            e.val,
            e.test,
            e.train_seconds,
            entry.proxy_evaluations,
        ]
        if entry.guidance_seconds is not None:
            row.append(entry.guidance_seconds)
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()


def _entry(line: str, path: Path) -> Entry:
    try:
        trial, architecture, objective, val, test, seconds, asked, *guided = json.loads(line)
        evaluation = Evaluation(float(objective), float(val), float(test), float(seconds))
        return Entry(int(trial), str(architecture), evaluation, int(asked), *map(float, guided))
    except (ValueError, TypeError):
        raise UsageError(
            f"{path} is damaged at the line '{line[:60]}'; remove it to start the job afresh."
        ) from None
