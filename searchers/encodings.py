"""Architectures as points, such that what is near is alike.

Two ways. By **decisions**: a decision is a corner of a simplex, or, where all its choices are
numbers, a place on a line. By **paths** (:mod:`searchers.paths`): how often each sequence of
operations leads from input to output, identities passed over, which is what a cell computes rather
than how it is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from searchers.paths import PathEncoder, some_branch
from spaces.base import Architecture, SearchSpace

Matrix = NDArray[np.float32]

_DECISIONS: Final = 2.0
_PATHS: Final = 0.2
_IDENTITIES: Final = ("skip", "skip_connect")

_WIDEST: Final = 512
"""Paths beyond which decisions describe architectures better, and faster."""


@dataclass(frozen=True)
class Encoding:
    """Encodes architectures as float32 [n, columns].

    ``groups`` is int64 [columns], what of a point belongs together; two architectures drawn at
    random are at a squared distance of about 1 in each group. ``rate`` says how fast likeness
    decays with it (:class:`searchers.gaussian_process.Radial`).
    """

    encode: Callable[[Sequence[Architecture]], Matrix]
    groups: NDArray[np.int64]
    rate: float

    def __call__(self, archs: Sequence[Architecture]) -> Matrix:
        """Encode ``archs``."""
        return self.encode(archs)


@lru_cache(maxsize=2)
def encodings(
    space: SearchSpace, archs: tuple[Architecture, ...]
) -> tuple[tuple[Encoding, Matrix], ...]:
    """Return what describes the architectures of ``space``, each with the code of ``archs``.

    Decisions as they are written; and paths, where ``archs`` are graphs that branch, of not too
    many different paths, or else decisions as canonical forms have them, where those differ.
    """
    written = _decisions(space)
    found = [(written, written(archs))]
    if some_branch(space, archs):
        count = PathEncoder(space, archs, _IDENTITIES)
        if count.width <= _WIDEST:
            return (*found, _paths(count, archs))
    forms = space.canonicals(archs)
    if forms == list(archs):
        return tuple(found)

    def canonical(archs: Sequence[Architecture]) -> Matrix:
        return written(space.canonicals(archs))

    return (*found, (Encoding(canonical, written.groups, written.rate), written(forms)))


def _decisions(space: SearchSpace) -> Encoding:
    blocks = []
    for decision in space.decisions:
        block = np.eye(len(decision.choices), dtype=np.float32) / np.float32(np.sqrt(2))
        if numbers := decision.numbers:
            line = np.array(numbers, np.float32)[:, None]
            block = (line - line.mean()) / (line.std() * np.float32(np.sqrt(2)))
        blocks.append(block)
    groups = np.repeat(np.arange(len(blocks)), [block.shape[1] for block in blocks])

    def encode(archs: Sequence[Architecture]) -> Matrix:
        chosen = np.array(archs, np.int64).reshape(len(archs), len(blocks))
        return np.hstack([block[chosen[:, n]] for n, block in enumerate(blocks)])

    return Encoding(encode, groups, _DECISIONS)


def _paths(count: PathEncoder, archs: Sequence[Architecture]) -> tuple[Encoding, Matrix]:
    code = count(archs)
    scale = np.float32(1 / np.sqrt(max(2 * float(code.var(0).sum()), 1e-12)))
    groups = np.zeros(code.shape[1], np.int64)
    return Encoding(lambda archs: count(archs) * scale, groups, _PATHS), code * scale
