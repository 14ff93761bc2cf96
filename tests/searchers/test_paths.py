from __future__ import annotations

import numpy as np

from searchers.paths import PathEncoder, is_chain, paths, some_branch
from spaces.base import Graph
from spaces.nasbench201.space import NASBench201
from spaces.nats_size.space import NATSSize

SPACE = NASBench201()
NONE, SKIP, ONE, THREE, POOL = range(1, 6)  # labels: input is 0, output 6


def test_a_cell_of_one_operation_has_its_four_paths():
    found = paths(SPACE.graph((3, 3, 3, 3, 3, 3)))
    assert found == {
        (0, THREE, 6): 1,
        (0, THREE, THREE, 6): 2,
        (0, THREE, THREE, THREE, 6): 1,
    }


def test_paths_through_none_do_not_count():
    arch = SPACE.parse("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|avg_pool_3x3~1|none~2|")
    assert paths(SPACE.graph(arch), NONE) == {(0, THREE, POOL, 6): 1}


def test_encodes_what_it_was_made_of():
    archs = SPACE.sample(np.random.default_rng(0), 20)
    code = PathEncoder(SPACE, archs)(archs)
    for row, arch in zip(code, archs, strict=True):
        assert row.sum() == paths(SPACE.graph(arch), NONE).total()


def test_equal_paths_equal_codes():
    one = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|")
    other = SPACE.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|skip_connect~1|none~2|")
    first, second = PathEncoder(SPACE, [one, other])([one, other])
    assert (first == second).all()


def test_one_that_branches_is_enough():
    chain = SPACE.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    assert some_branch(SPACE, [chain, (3,) * 6])
    assert not some_branch(NATSSize(), [(0, 1, 2, 3, 4)])


def test_knows_a_chain():
    size = NATSSize()
    assert is_chain(size.graph((0, 1, 2, 3, 4)))
    assert not is_chain(SPACE.graph((3,) * 6))
    assert is_chain(Graph(np.zeros((1, 1), np.bool_), np.zeros(1, np.int64)))
