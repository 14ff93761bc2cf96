"""Canonical cells against what cells compute: on real modules, and numerically over all cells."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch

from spaces.nasbench201 import NASBench201
from spaces.nasbench201.canonical import derive, family
from spaces.nasbench201.cell import (
    AVG_POOL,
    CELLS,
    CONV_1X1,
    CONV_3X3,
    EDGE_NAMES,
    EDGES,
    NODES,
    NONE,
    OPERATIONS,
    REPRESENTATIVES,
    SKIP,
)
from spaces.nasbench201.network import Cell, ReLUConvBN
from tests.spaces.cells import live_edges

FAMILIES = 5044
CONVOLUTIONS = (CONV_1X1, CONV_3X3)


@pytest.fixture(scope="module")
def space():
    return NASBench201()


@pytest.fixture(scope="module")
def members(space):
    """The cells of each family, by representative."""
    members = defaultdict(list)
    for cell in CELLS:
        members[space.canonical(cell)].append(cell)
    return members


def convolutions(cell):
    return sum(operation in CONVOLUTIONS for operation in cell)


def cost(cell):
    return convolutions(cell), cell.count(AVG_POOL), cell.count(SKIP), cell


def live_part(cell):
    live = live_edges(cell)
    return tuple(operation if edge in live else NONE for edge, operation in enumerate(cell))


def test_shipped_representatives_are_the_derived_ones():
    shipped = np.load(REPRESENTATIVES, allow_pickle=False)
    assert shipped.dtype == np.uint16
    np.testing.assert_array_equal(shipped, derive())


def test_counts(members):
    assert len(CELLS) == 15_625
    assert len({live_part(cell) for cell in CELLS}) == 9445
    assert len(members) == FAMILIES


def test_the_quoted_6466_come_from_writing_cells_out_as_text():
    """Text merges a shared convolution with a repeated one, but keeps zeros and nested sums."""

    def text(cell):
        nodes = ["input", "", "", ""]
        for target in (1, 2, 3):
            terms = []
            for operation, (to, source) in zip(cell, EDGES, strict=True):
                if to == target:
                    term = nodes[source]
                    if operation == NONE or term == "#":
                        term = "#"
                    elif operation != SKIP:
                        term = f"({term})@{OPERATIONS[operation]}"
                    terms.append(term)
            nodes[target] = "+".join(sorted(terms))
        return nodes[3]

    assert len({text(cell) for cell in CELLS}) == 6466


def merged(cell, *, equal_poolings):
    """Contract skips and merge isomorphic nodes, pooling as a node of its own."""
    nodes, values = [], [Counter({-1: 1})]
    for target in range(1, NODES):
        value = Counter()
        for operation, (to, source) in zip(cell, EDGES, strict=True):
            if to != target or operation == NONE or not values[source]:
                continue
            if operation == SKIP:
                value.update(values[source])
                continue
            node = (operation, tuple(sorted(values[source].items())))
            if not (equal_poolings and operation == AVG_POOL and node in nodes):
                nodes.append(node)
                value[len(nodes) - 1] += 1
            else:
                value[nodes.index(node)] += 1
        values.append(value)
    live, waiting = set(), list(values[-1])
    while waiting:
        node = waiting.pop()
        if node >= 0 and node not in live:
            live.add(node)
            waiting += [feeding for feeding, _ in nodes[node][1]]

    def numbered(order):
        number = {-1: -1} | {node: place for place, node in enumerate(order)}
        terms = [
            tuple(sorted((number[n], times) for n, times in value))
            for value in [*(nodes[node][1] for node in order), values[-1].items()]
        ]
        return tuple(nodes[node][0] for node in order), tuple(terms)

    return min(numbered(order) for order in itertools.permutations(sorted(live)))


@pytest.mark.parametrize(("equal_poolings", "count"), [(False, 5425), (True, 5260)])
def test_counts_of_coarser_rules(equal_poolings, count):
    assert len({merged(cell, equal_poolings=equal_poolings) for cell in CELLS}) == count


def test_representatives_are_the_cheapest_of_their_family(members):
    for representative, cells in members.items():
        assert representative == min(cells, key=cost)
        assert live_part(representative) == representative


def test_dead_and_zero_edges_do_not_matter(space):
    assert all(space.canonical(cell) == space.canonical(live_part(cell)) for cell in CELLS)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # an identity contracted: conv(conv(x)) by way of node 1 or node 2
        ((3, 0, 0, 0, 3, 0), (0, 3, 0, 0, 0, 3), True),
        # isomorphic nodes 1 and 2
        ((3, 2, 0, 0, 4, 1), (2, 3, 0, 0, 1, 4), True),
        # pooling distributes over a sum: pool(x + conv(x)) = pool(x) + pool(conv(x))
        ((3, 1, 1, 0, 0, 4), (3, 0, 0, 4, 4, 0), True),
        # order matters: conv(pool(x)) is not pool(conv(x))
        ((4, 0, 0, 0, 3, 0), (3, 0, 0, 0, 4, 0), False),
        # one convolution used twice is not two convolutions
        ((3, 1, 0, 0, 3, 0), (3, 3, 0, 0, 3, 3), False),
        ((3, 0, 1, 0, 1, 1), (3, 3, 0, 0, 1, 1), False),
        # doubling survives: x + x is not x
        ((1, 0, 0, 1, 1, 0), (1, 0, 0, 0, 1, 0), False),
        # nothing reaches the output
        ((3, 3, 3, 0, 0, 0), (0, 0, 0, 0, 3, 3), True),
    ],
)
def test_known_pairs(space, one, other, same):
    assert (space.canonical(one) == space.canonical(other)) == same
    assert (family(one) == family(other)) == same


# -- real modules -----------------------------------------------------------------------------


def real_cell(arch, rng):
    """A cell with everything learnable drawn at random, so that nothing is equal by chance.

    But for the shifts of convolutions of zero, which are as initialised: they count as zero.
    """
    cell = Cell(arch, channels=3).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
        for edge in set(range(len(EDGE_NAMES))) - set(live_edges(arch)):
            if arch[edge] in (CONV_1X1, CONV_3X3):
                cell.operations[EDGE_NAMES[edge]].bn.bias.zero_()
    return cell


def live_convolutions(arch, cell):
    modules = [cell.operations[EDGE_NAMES[edge]] for edge in live_edges(arch)]
    return [module for module in modules if isinstance(module, ReLUConvBN)]


def can_be_made_equal(one, other, rng):
    """Whether some exchange of weights makes the second cell compute what the first does."""
    images = torch.from_numpy(rng.normal(size=(2, 3, 5, 5)))
    first, second = real_cell(one, rng), real_cell(other, rng)
    wanted = first(images)
    givers, takers = live_convolutions(one, first), live_convolutions(other, second)
    if len(givers) != len(takers):
        return False
    for order in itertools.permutations(givers):
        pairs = list(zip(takers, order, strict=True))
        if any(t.conv.kernel_size != g.conv.kernel_size for t, g in pairs):
            continue
        for taker, giver in pairs:
            taker.load_state_dict(giver.state_dict())
        if torch.allclose(second(images), wanted, rtol=1e-9, atol=1e-9):
            return True
    return False


def test_cells_of_one_family_can_share_weights_and_are_equal(members):
    rng = np.random.default_rng(0)
    shared = [cells for cells in members.values() if len(cells) > 1 and convolutions(cells[0]) <= 4]
    for index in rng.choice(len(shared), 150, replace=False):
        one, other = (shared[index][i] for i in rng.choice(len(shared[index]), 2, replace=False))
        assert can_be_made_equal(one, other, rng), (one, other)


def test_no_weights_make_cells_of_two_families_equal(members):
    rng = np.random.default_rng(1)
    alike = defaultdict(list)
    for cell in members:
        if convolutions(cell) <= 4:
            alike[cell.count(CONV_1X1), cell.count(CONV_3X3)].append(cell)
    groups = [cells for cells in alike.values() if len(cells) > 1]
    for _ in range(150):
        cells = groups[rng.integers(len(groups))]
        one, other = (cells[i] for i in rng.choice(len(cells), 2, replace=False))
        assert not can_be_made_equal(one, other, rng), (one, other)


# -- all cells, numerically -------------------------------------------------------------------

CHANNELS, SIDE = 2, 4
PIXELS = list(itertools.product(range(SIDE), repeat=2))
WIDTH = CHANNELS * len(PIXELS)


def convolution_matrix(kernel):
    """Write a padded convolution, kernel [out, in, k, k], as a matrix over pixels."""
    reach = kernel.shape[-1] // 2
    matrix = np.zeros((CHANNELS, len(PIXELS), CHANNELS, len(PIXELS)))
    for (p, (y, x)), (q, (v, u)) in itertools.product(enumerate(PIXELS), repeat=2):
        if max(abs(v - y), abs(u - x)) <= reach:
            matrix[:, p, :, q] = kernel[:, :, v - y + reach, u - x + reach]
    return matrix.reshape(WIDTH, WIDTH)


def pooling_matrix():
    """Average over the 3x3 window, leaving the padding out of the count."""
    window = convolution_matrix(np.eye(CHANNELS)[:, :, None, None] * np.ones((3, 3)))
    return window / window.sum(axis=1, keepdims=True)


class RandomCells:
    """Cells on one random image, with six random sets of weights for each kind of convolution."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.image = rng.normal(size=WIDTH)
        self.pool = pooling_matrix()
        self.weights = {
            operation: np.array(
                [
                    convolution_matrix(rng.normal(size=(CHANNELS, CHANNELS, kernel, kernel)))
                    for _ in EDGES
                ]
            )
            for operation, kernel in ((CONV_1X1, 1), (CONV_3X3, 3))
        }
        self.look = rng.normal(size=WIDTH)

    def convolve(self, values, weights):
        maps = np.einsum("aij,aj->ai", weights, np.maximum(values, 0))
        maps = maps.reshape(len(maps), CHANNELS, len(PIXELS))
        centred = maps - maps.mean(axis=2, keepdims=True)
        return (centred / np.sqrt(maps.var(axis=2, keepdims=True) + 1e-5)).reshape(values.shape)

    def signature(self, cell):
        """The smallest output, seen in one direction, over all ways to hand out the weights."""
        live = live_edges(cell)
        by_kind = [[e for e in live if cell[e] == operation] for operation in CONVOLUTIONS]
        orders = [list(itertools.permutations(range(len(edges)))) for edges in by_kind]
        handed = np.array([[*a, *b] for a, b in itertools.product(*orders)], dtype=np.intp)
        column = {edge: i for i, edge in enumerate(itertools.chain(*by_kind))}
        nodes = [np.tile(self.image, (len(handed), 1))]
        nodes += [np.zeros_like(nodes[0]) for _ in range(3)]
        for edge in live:
            target, source = EDGES[edge]
            value = nodes[source]
            if cell[edge] == AVG_POOL:
                value = value @ self.pool.T
            elif cell[edge] in CONVOLUTIONS:
                weights = self.weights[cell[edge]][handed[:, column[edge]]]
                value = self.convolve(value, weights)
            nodes[target] += value
        return (nodes[3] @ self.look).min()


def test_numeric_families_of_all_cells_are_the_canonical_classes(space):
    random = RandomCells(seed=0)
    signatures = {part: random.signature(part) for part in {live_part(cell) for cell in CELLS}}
    values = np.sort(list(signatures.values()))
    gaps = np.diff(values)
    assert not ((gaps > 1e-11) & (gaps < 1e-9)).any(), "equal and different must be told apart"
    starts = values[np.concatenate(([True], gaps > 1e-10))]
    numeric = {
        cell: int(np.searchsorted(starts, signatures[live_part(cell)] + 1e-10)) for cell in CELLS
    }
    pairs = {(numeric[cell], space.canonical(cell)) for cell in CELLS}
    assert len(starts) == len(pairs) == len({representative for _, representative in pairs})
    assert len(pairs) == FAMILIES
