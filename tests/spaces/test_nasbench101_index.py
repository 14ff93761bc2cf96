"""Which cells are one: the index against the benchmark's own hash, and against brute force."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.nasbench101 import NASBench101
from spaces.nasbench101.cell import EDGES, adjacency, live, operations, pruned
from spaces.nasbench101.index import index
from tests.spaces.test_nasbench101 import CELLS, INCEPTION, INPUT_TO_OUTPUT

SPACE = NASBench101()

FIRST = """
{"matrix": [[0,1,0,0,1,1,0], [0,0,1,0,0,0,0], [0,0,0,1,0,0,1], [0,0,0,0,0,1,0], [0,0,0,0,0,1,0],
            [0,0,0,0,0,0,1], [0,0,0,0,0,0,0]],
 "ops": ["input", "conv3x3-bn-relu", "maxpool3x3", "conv3x3-bn-relu", "conv3x3-bn-relu",
         "conv1x1-bn-relu", "output"]}
"""

writings = st.tuples(*[st.integers(0, 1)] * len(EDGES), *[st.integers(0, 2)] * 5)


def test_published_hashes():
    assert SPACE.hash(SPACE.parse(json.dumps(INCEPTION))) == "28cfc7874f6d200472e1a9dcd8650aa0"


def test_first_hash_of_the_benchmark():
    """The smallest of all hashes, with the accuracy and the parameters of its record."""
    arch = SPACE.parse(FIRST)
    assert SPACE.hash(arch) == "00005c142e6f48ac74fdcf73e3439874"
    row = SPACE.table().rows([arch])
    assert SPACE.table().test[row] == pytest.approx(92.0606, abs=5e-5)
    assert SPACE.column("params")[row] == 8_555_530


def test_what_is_valid():
    """By the words of the definition, on patterns of edges drawn at random."""
    rng = np.random.default_rng(0)
    drawn = rng.random((3000, len(EDGES))) < rng.uniform(0.2, 0.7, (3000, 1))
    for edges in drawn.astype(int).tolist():
        arch = (*edges, 0, 0, 0, 0, 0)
        joined = adjacency(arch).astype(int)
        paths = sum(np.linalg.matrix_power(joined, length)[0, 6] for length in range(1, 7))
        kept = keep_paths(joined).sum()
        assert SPACE.is_valid(arch) == (paths > 0 and kept <= 9)
        np.testing.assert_array_equal(pruned(adjacency(arch)), keep_paths(joined))


def keep_paths(joined):
    """Keep the edges that some path from 0 to 6 goes along."""
    reach = np.linalg.matrix_power(joined + np.eye(7, dtype=int), 6) > 0
    return (joined * reach[0][:, None] * reach[:, 6]).astype(bool)


@given(writings, st.permutations(range(1, 6)))
def test_renaming_and_dead_vertices_do_not_matter(arch, order):
    if not SPACE.is_valid(arch):
        return
    name = [0, *order, 6]
    joined = pruned(adjacency(arch))
    renamed = np.zeros_like(joined)
    renamed[np.ix_(name, name)] = joined
    if np.tril(renamed).any():
        return
    choices = [0] * 7
    for vertex in range(1, 6):
        choices[name[vertex]] = operations(arch)[vertex - 1]
    other = (*(int(renamed[s, t]) for t, s in EDGES), *choices[1:6])
    assert SPACE.canonical(other) == SPACE.canonical(arch)
    assert SPACE.hash(other) == SPACE.hash(arch) == SPACE.hash(SPACE.canonical(arch))


def test_cells_are_one_exactly_where_the_benchmarks_hash_is():
    """Over cells of many shapes, each written in many ways."""
    by_hash, by_form = defaultdict(set), defaultdict(set)
    rng = np.random.default_rng(1)
    archs = SPACE.sample(rng, 300)
    archs += [n for arch in archs[:60] for n in SPACE.neighbours(arch)]
    archs += [SPACE.mutate(SPACE.mutate(arch, rng), rng) for arch in archs]
    for arch in archs:
        form, digest = SPACE.canonical(arch), SPACE.hash(arch)
        by_hash[digest].add(form)
        by_form[form].add(digest)
    assert len(by_hash) > 1000
    assert {len(forms) for forms in by_hash.values()} == {1}
    assert {len(digests) for digests in by_form.values()} == {1}


@pytest.mark.slow
def test_every_cell_has_a_hash_of_its_own():
    assert len({SPACE.hash(arch) for arch in SPACE.enumerate()}) == CELLS


def smallest(arch):
    """The smallest writing, tried one by one: edges as the benchmark numbers them, operations."""
    joined = pruned(adjacency(arch))
    alive = [v for v in live(adjacency(arch)) if 0 < v < 6]
    best = None
    for order in itertools.permutations(alive):
        name = {0: 0, 6: len(alive) + 1} | {v: place for place, v in enumerate(order, start=1)}
        edges = [(name[int(s)], name[int(t)]) for s, t in np.argwhere(joined)]
        if all(s < t for s, t in edges):
            number = sum(1 << s + t * (t - 1) // 2 for s, t in edges)
            found = number, tuple(operations(arch)[v - 1] for v in order)
            best = found if best is None else min(best, found)
    return best


@given(writings)
def test_representatives_are_what_the_benchmark_meets_first(arch):
    """It counts up edges, then operations, and keeps the first cell of each hash."""
    if not SPACE.is_valid(arch):
        return
    representative = SPACE.canonical(arch)
    joined = adjacency(representative)
    alive = [v for v in live(joined) if 0 < v < 6]
    assert alive == list(range(1, len(alive) + 1))
    assert operations(representative)[len(alive) :] == (0,) * (5 - len(alive))
    np.testing.assert_array_equal(joined, pruned(joined))
    name = dict(enumerate(range(6))) | {6: len(alive) + 1}
    edges = [(name[int(s)], name[int(t)]) for s, t in np.argwhere(joined)]
    number = sum(1 << s + t * (t - 1) // 2 for s, t in edges)
    assert (number, operations(representative)[: len(alive)]) == smallest(arch)


def test_the_index_knows_its_own():
    cells = index()
    assert len(cells) == CELLS
    assert len(cells.edges) == 2494
    numbers = np.random.default_rng(0).integers(0, CELLS, 5000)
    np.testing.assert_array_equal(cells.numbers(cells.representatives(numbers)), numbers)
    assert cells.numbers([INPUT_TO_OUTPUT]).tolist() == [0]
    assert cells.numbers([(0,) * 26, INPUT_TO_OUTPUT]).tolist() == [-1, 0]
