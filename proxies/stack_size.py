"""How many networks run as one on a GPU, learnt from the memory and the time that they took."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from time import perf_counter
from typing import Final

_GROWTH: Final = 4
"""A run has at most so many times the networks of the largest before it: the first few networks
may be light ones."""

_SHARE: Final = 0.8
"""Of the memory that there is, for what was measured: the rest is for heavier networks, and for
gaps between blocks of memory."""


class StackSize:
    """How many networks the GPU of this process runs as one, for each set of passes.

    Args:
        share: of its memory, for this process, above 0 and at most 1.
    """

    def __init__(self, share: float = 1.0) -> None:
        self.share = share
        self._bytes: dict[Hashable, int] = {}
        self._runs: dict[Hashable, dict[int, tuple[int, float]]] = {}

    def networks(self, passes: Hashable) -> int:
        """Return how many networks to run as one through ``passes``; one, if none has run yet.

        ``passes`` stands for all that run together.
        """
        if passes not in self._bytes:
            return 1
        import torch

        free, total = torch.cuda.mem_get_info()
        # What torch has set aside is free to this process, and to no other.
        spare = free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        holds = int(_SHARE * min(spare, self.share * total) / self._bytes[passes])
        return max(1, min(holds, self._fastest(passes)))

    def _fastest(self, passes: Hashable) -> int:
        """Return more than ever ran as one, or what was faster than that, tried twice."""
        runs = self._runs[passes]
        largest, fastest = max(runs), min(runs, key=lambda networks: runs[networks][1])
        if fastest == largest:
            return _GROWTH * largest
        times, _ = runs[largest]
        return largest if times == 1 else fastest

    @contextlib.contextmanager
    def watch(self, passes: Hashable, networks: int) -> Iterator[None]:
        """Learn from what ``networks`` take inside; who ends it has waited for the results."""
        import torch

        torch.cuda.reset_peak_memory_stats()
        before, began = torch.cuda.memory_allocated(), perf_counter()
        yield
        each = (torch.cuda.max_memory_allocated() - before) // networks
        self._bytes[passes] = max(1, each, self._bytes.get(passes, 0))
        runs = self._runs.setdefault(passes, {})
        times, seconds = runs.get(networks, (0, float("inf")))
        runs[networks] = times + 1, min(seconds, (perf_counter() - began) / networks)

    def too_many(self, passes: Hashable, networks: int) -> None:
        """Take note that ``networks``, more than one, did not fit: their time tells nothing."""
        self._bytes[passes] *= 2
        del self._runs[passes][networks]
