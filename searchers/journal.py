"""The journal of a job: what makes a killed search resumable.

The first line is the fingerprint of the configuration; every further line is one evaluation,
flushed as it is made. A line that a kill tore off is dropped.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from conf.errors import UsageError
from spaces.benchmark import Evaluation


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation, and the guidance of its trial so far.

    ``proxy_evaluations`` counts the scores asked for, and ``guidance_seconds`` is what they and
    other work of the searcher took.
    """

    trial: int
    architecture: str
    evaluation: Evaluation
    proxy_evaluations: int
    guidance_seconds: float = 0.0


class Journal:
    """Appends entries to ``path`` and holds those of an interrupted job.

    Nothing is written before the first entry is. While a journal is open no other process opens
    it, where the system has locks; a process that is killed lets go of it. What may only be read is
    read without. Raises :class:`UsageError` where another process has it open, and where the file
    belongs to another configuration, is damaged, or cannot be read or written.
    """

    def __init__(self, path: Path, fingerprint: dict[str, Any]) -> None:
        self.path = path
        self._head = json.dumps({"fingerprint": fingerprint}, sort_keys=True)
        self._begun = False
        self._file: BinaryIO | None = None
        try:
            if path.exists():
                self._file = self._open("r+b" if os.access(path, os.W_OK) else "rb")
            lines = self._read()
            if lines and lines[0] != self._head:
                raise UsageError(
                    f"{path.parent} holds the journal of another configuration; choose another "
                    f"hydra.run.dir (hydra.sweep.dir in a sweep) or remove that directory."
                )
            self.entries = [_entry(line, path) for line in lines[1:]]
        except (OSError, UnicodeDecodeError) as error:
            self.close()
            raise self._unusable(error) from None
        except UsageError:
            self.close()
            raise

    def append(self, entry: Entry) -> None:
        """Write one evaluation and flush it to the operating system."""
        e = entry.evaluation
        row = (
            entry.trial,
            entry.architecture,
            e.objective,
            e.val,
            e.test,
            e.train_seconds,
            entry.proxy_evaluations,
            entry.guidance_seconds,
        )
        file = self._writable()
        file.write(f"{json.dumps(row)}\n".encode())
        file.flush()

    def close(self) -> None:
        """Let other processes have the journal."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, mode: Literal["rb", "r+b", "a+b"]) -> BinaryIO:
        file = self.path.open(mode)
        if mode != "rb" and not _lock(file):
            file.close()
            raise self._taken()
        return file

    def _read(self) -> list[str]:
        """Return the whole lines; a torn last one does not count."""
        content = self._file.read() if self._file else b""
        self._intact = content.rfind(b"\n") + 1
        return content[: self._intact].decode().splitlines()

    def _writable(self) -> BinaryIO:
        """Return the file, cut to what was read of it before the first entry is appended."""
        if self._file is not None and not self._file.writable():
            raise UsageError(f"{self.path} may not be written, so that its job cannot go on.")
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._open("a+b")
                if self._file.seek(0, os.SEEK_END):
                    raise self._taken()
            if not self._begun:
                self._file.truncate(self._intact)
                self._file.seek(self._intact)
                if not self._intact:
                    self._file.write(f"{self._head}\n".encode())
                self._begun = True
        except OSError as error:
            raise self._unusable(error) from None
        return self._file

    def _taken(self) -> UsageError:
        return UsageError(
            f"another process runs in {self.path.parent}; wait for its end or choose another "
            "hydra.run.dir."
        )

    def _unusable(self, error: Exception) -> UsageError:
        return UsageError(f"{self.path} cannot be used as a journal: {error}.")


def _lock(file: BinaryIO) -> bool:
    """Keep other processes from ``file`` until it is closed; False where one has it already."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _entry(line: str, path: Path) -> Entry:
    try:
        trial, architecture, objective, val, test, seconds, asked, guidance = json.loads(line)
        evaluation = Evaluation(float(objective), float(val), float(test), float(seconds))
        return Entry(int(trial), str(architecture), evaluation, int(asked), float(guidance))
    except (ValueError, TypeError):
        raise UsageError(
            f"{path} is damaged at the line '{line[:60]}'; remove it to start the job afresh."
        ) from None
