"""Reads files that may be damaged, foreign or huge, and shows how far it is."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from conf.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_BUFFER: Final = 1 << 20
_UNKNOWN_MEMORY: Final = 1 << 34


def memory() -> int:
    """Return how many bytes of memory the machine has, 16 GiB where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return _UNKNOWN_MEMORY


def too_large(path: Path, limit: int) -> UsageError:
    """Say that a file whose content must be held in memory has more than ``limit`` bytes."""
    return UsageError(
        f"{path} is too large: it holds more than {limit / 1e9:.3g} GB, which must fit into memory."
    )


class Metered(io.RawIOBase):
    """Passes on what it reads from ``file``; ``watch`` is told how many bytes each time."""

    def __init__(self, file: BinaryIO | io.BufferedIOBase, watch: Callable[[int], None]) -> None:
        self._file, self._watch = file, watch

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Whether the file is."""
        return self._file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def readinto(self, buffer: Any, /) -> int:
        """Read into ``buffer`` and report."""
        read = self._file.readinto(buffer)  # type: ignore[union-attr]
        self._watch(read)
        return int(read)


def metered(file: BinaryIO | io.BufferedIOBase, watch: Callable[[int], None]) -> io.BufferedReader:
    """Return ``file`` as a buffered stream that tells ``watch`` how much was read."""
    return io.BufferedReader(Metered(file, watch), _BUFFER)


@contextlib.contextmanager
def opened(path: Path, title: str) -> Iterator[io.BufferedReader]:
    """Open a file behind a progress bar of its bytes.

    Raises :class:`UsageError` where it cannot be read.
    """
    from rich.progress import DownloadColumn

    with explained(path), path.open("rb") as file:
        size = path.stat().st_size
        with _bar(title, size, DownloadColumn()) as (bar, task):
            yield metered(file, lambda n: bar.advance(task, n))


@contextlib.contextmanager
def counted(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar of ``total`` things; yields the function that moves it."""
    from rich.progress import MofNCompleteColumn

    with _bar(title, total, MofNCompleteColumn()) as (bar, task):
        yield lambda n: bar.advance(task, n)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn failures of the file system, and lack of memory, into :class:`UsageError`."""
    try:
        yield
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; give the path of the benchmark's file.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    except MemoryError:
        raise UsageError(f"{path} cannot be read: there is not enough memory for it.") from None


@contextlib.contextmanager
def _bar(title: str, total: int, column: ProgressColumn) -> Iterator[tuple[Progress, Any]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        column,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        yield bar, bar.add_task(title, total=total)
