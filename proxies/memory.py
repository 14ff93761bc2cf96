"""Memory that a process keeps for its next network instead of giving it back."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
_NEVER: Final = 2**31 - 1


def keep_memory() -> None:
    """Let glibc reuse what this process frees; nothing happens with another C library.

    Otherwise each large tensor gets pages that the kernel must find and clear first, and gives them
    back: with features of a few megabytes a layer that takes longer than the arithmetic. The
    process then stays as large as it once was.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, _NEVER)
