"""The benchmark's own name of a cell: an MD5 digest that renaming vertices does not change."""

from __future__ import annotations

import hashlib

from spaces.base import Architecture
from spaces.nasbench101.cell import adjacency, live, operations

_INPUT, _OUTPUT = -1, -2


def module_hash(arch: Architecture) -> str:
    """Return the module hash by which NAS-Bench-101 files a cell, 32 hexadecimal digits.

    Ying et al. 2019: dead vertices are removed; each vertex starts from the digest of (out degree,
    in degree, label), where the label is -1 for the input, -2 for the output, else the operation;
    as often as there are vertices, each takes the digest of the sorted digests of its sources,
    those of its targets, and its own; the cell's is the digest of all of them, sorted. Written to
    agree with the benchmark to the letter.
    """
    joined = adjacency(arch)
    vertices = live(joined)
    labels = dict(enumerate((_INPUT, *operations(arch), _OUTPUT)))
    sources = {v: [w for w in vertices if joined[w, v]] for v in vertices}
    targets = {v: [w for w in vertices if joined[v, w]] for v in vertices}
    digests = {v: _md5(str((len(targets[v]), len(sources[v]), labels[v]))) for v in vertices}
    for _ in vertices:
        digests = {
            v: _md5(f"{_joined(digests, sources[v])}|{_joined(digests, targets[v])}|{digests[v]}")
            for v in vertices
        }
    return _md5(str(sorted(digests.values())))


def _joined(digests: dict[int, str], vertices: list[int]) -> str:
    return "".join(sorted(digests[v] for v in vertices))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
