"""Reasons for a missing score that lie in the machine, not in the network.

Scores that failed so are reported, but not stored: elsewhere, or later, they may succeed.
"""

from typing import Final

OUT_OF_MEMORY: Final = "out of memory"
WORKER_DIED: Final = "the worker process died while it scored this architecture"

PASSING: Final = frozenset({OUT_OF_MEMORY, WORKER_DIED})
