from __future__ import annotations

import numpy as np
import pytest

from searchers.encodings import encodings
from spaces import Choices
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.nats_size import NATSSize


def whole(space):
    return tuple(space.enumerate())


def squares(code, groups):
    """Mean squared distance of two drawn at random, in each group."""
    spread = 2 * code.astype(np.float64).var(0)
    return np.bincount(groups, spread)


def test_numbers_lie_on_a_line():
    ((encoding, code),) = encodings(space := NATSSize(), whole(space))
    assert code.shape == (32768, 5)
    np.testing.assert_allclose(squares(code, encoding.groups), 1.0, rtol=1e-4)
    first = encoding([(n, 0, 0, 0, 0) for n in range(8)])[:, 0]
    np.testing.assert_allclose(np.diff(first), np.diff(first)[0], rtol=1e-5)


def test_words_are_corners():
    ((encoding, code),) = encodings(space := Choices(a="xyz", b=["1", "10"]), whole(space))
    assert code.shape == (6, 4)
    assert encoding.groups.tolist() == [0, 0, 0, 1]
    distance = np.square(code[:, None, :3] - code[:, :3]).sum(-1)
    np.testing.assert_allclose(np.unique(distance.round(4)), [0, 1])


def test_chains_are_described_as_written_and_by_canonical_form():
    space = NASBenchMacro()
    (written, code), (canonical, form) = encodings(space, whole(space))
    arch = next(a for a in space.enumerate() if space.canonical(a) != a)
    row = whole(space).index(arch)
    assert (written([arch]) == code[row]).all()
    assert (canonical([arch]) == form[row]).all()
    assert (form[row] == written([space.canonical(arch)])).all()


@pytest.mark.parametrize("row", [0, 1234, 15624])
def test_graphs_are_described_by_paths_without_identities(row):
    _, (encoding, code) = encodings(space := NASBench201(), whole(space))
    assert code.shape == (15625, 40)
    assert squares(code, encoding.groups) == pytest.approx([1.0], rel=1e-4)
    assert (encoding([whole(space)[row]]) == code[row]).all()


def test_a_space_is_encoded_once():
    space = NASBench201()
    assert encodings(space, whole(space)) is encodings(space, whole(space))
