"""How many networks that run as one a GPU holds, learnt from the memory that they took."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from typing import Final

_GROWTH: Final = 4
"""A run has at most so many times the networks of the largest before it: the first few networks
may be light ones."""

_SHARE: Final = 0.8
"""Of the memory that there is, for what was measured: the rest is for heavier networks, and for
gaps between blocks of memory."""


class Room:
    """The memory of the GPU that this process computes on.

    Args:
        share: of its memory, for this process, above 0 and at most 1.
    """

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self._each: dict[Hashable, int] = {}
        self._most: dict[Hashable, int] = {}

    def networks(self, passes: Hashable) -> int:
        """Return how many networks to run as one through ``passes``; one, if none has run yet."""
        if passes not in self._each:
            return 1
        import torch

        free, total = torch.cuda.mem_get_info()
        # What torch has set aside is free to this process, and to no other.
        spare = free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        holds = int(_SHARE * min(spare, self.share * total) / self._each[passes])
        return max(1, min(holds, _GROWTH * self._most[passes]))

    @contextlib.contextmanager
    def watch(self, passes: Hashable, networks: int) -> Iterator[None]:
        """Learn from the memory that ``networks`` take inside."""
        import torch

        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield
        each = (torch.cuda.max_memory_allocated() - before) // networks
        self._each[passes] = max(1, each, self._each.get(passes, 0))
        self._most[passes] = max(networks, self._most.get(passes, 0))

    def too_many(self, passes: Hashable) -> None:
        """Take note that as many as :meth:`networks` said did not fit."""
        self._each[passes] *= 2
