"""The positions of NAS-Bench-Macro and what each may hold."""

from __future__ import annotations

from typing import Final

from spaces.base import Architecture

OPERATIONS: Final = ("identity", "MB3_K3", "MB6_K5")
IDENTITY, MB3_K3, MB6_K5 = range(len(OPERATIONS))

STAGES: Final = (2, 3, 3)
"""Blocks of each stage, the first of which halves the image and doubles the channels."""

POSITIONS: Final = sum(STAGES)


def compact(arch: Architecture) -> Architecture:
    """Move the identities of each stage to its end.

    After the first block of a stage an identity changes nothing, so that only the order of the
    other blocks counts. The first block is another matter: there the identity is a convolution.
    """
    compacted: list[int] = []
    start = 0
    for length in STAGES:
        first, *rest = arch[start : start + length]
        compacted += [first, *sorted(rest, key=lambda operation: operation == IDENTITY)]
        start += length
    return tuple(compacted)
