from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from spaces import TableBenchmark
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench1shot1.blocks import PARENTS, cells
from spaces.nasbench101 import NASBench101
from spaces.nasbench101.cell import EDGES, OPERATIONS, adjacency, architecture, live, pruned
from spaces.nasbench101.network import Convolution
from tests.spaces.conformance import SpaceConformance

CELLS = NASBench101()
NUMBERS = (1, 2, 3)

# Zela et al. 2020, table 1: architectures with loose ends, and without.
PUBLISHED = {1: (6_240, 2_487), 2: (29_160, 3_609), 3: (363_648, 24_066)}


def rng(seed):
    return np.random.default_rng(seed)


def graphs(number):
    """Every choice of parents: a tuple of sources for each block and the output."""
    return itertools.product(
        *(
            itertools.combinations(range(target), parents)
            for target, parents in enumerate(PARENTS[number], start=1)
        )
    )


class TestConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=[(1, "all"), (2, "all"), (3, "all"), (2, "validated")], ids=str)
    def space(self, request):
        return NASBench1Shot1(*request.param)

    def test_every_choice_is_drawn(self, space):
        """In the subset, every one that a validated cell has."""
        if space.subset == "all":
            super().test_every_choice_is_drawn(space)
            return
        drawn = zip(*space.sample(rng(0), 20_000), strict=True)
        present = zip(*space.enumerate(), strict=True)
        assert [set(column) for column in drawn] == [set(column) for column in present]


# -- the space --------------------------------------------------------------------------------


def test_decisions_are_parents_and_operations():
    names = [[d.name for d in NASBench1Shot1(number).decisions] for number in NUMBERS]
    assert names[0][:4] == ["parents 3", "parents 4", "parents output", "operation 1"]
    assert names[1][:5] == ["parents 2", "parents 3", "parents 4", "parents output", "operation 1"]
    assert names[2][-1] == "operation 5"
    assert NASBench1Shot1(2).decisions[3].choices[:2] == ("0,1,2", "0,1,3")


@pytest.mark.parametrize(("number", "size"), [(1, 14_580), (2, 29_160), (3, 1_312_200)])
def test_sizes(number, size):
    space = NASBench1Shot1(number)
    assert space.size == size == 3 ** len(PARENTS[number][1:]) * len(list(graphs(number)))
    assert len(cells(number)) == {1: 2_685, 2: 7_773, 3: 55_854}[number]


def test_published_numbers_with_loose_ends_count_the_operations_of_blocks_that_feed_something():
    """So for spaces 1 and 3; that of space 2 counts the operations of all blocks."""
    counted = {
        number: sum(3 ** len(set().union(*graph) - {0}) for graph in graphs(number))
        for number in NUMBERS
    }
    assert {n: counted[n] for n in (1, 3)} == {n: PUBLISHED[n][0] for n in (1, 3)}
    assert counted[2] == 16_632
    assert NASBench1Shot1(2).size == PUBLISHED[2][0]


def without_loose_ends(number):
    """Cells as the benchmark's code lists them to count them, isomorphic ones apart.

    It goes from the output back: adds the parents of a vertex one by one, and after each turns to
    that parent, until every vertex with an edge has its number of parents. What it added on the
    way to one parent is forgotten at the next, so that it misses some graphs.
    """
    needed = (0, *PARENTS[number])
    last = len(needed) - 1

    def complete(edges):
        fed = {t for _, t in edges}
        feeding = {s for s, _ in edges}
        return (
            0 in feeding
            and feeding - {0} == fed - {last} != set()
            and last in fed
            and all(sum(t == v for _, t in edges) == needed[v] for v in fed)
        )

    def grow(edges, vertex):
        if complete(edges):
            yield edges
            return
        present = {s for s, t in edges if t == vertex}
        free = [s for s in range(vertex) if s not in present]
        for parents in itertools.combinations(free, max(needed[vertex] - len(present), 0)):
            grown = edges
            for parent in parents:
                grown = grown | {(parent, vertex)}
                yield from grow(grown, parent)

    for edges in grow(frozenset(), last):
        inner = sorted({s for s, _ in edges} - {0})
        matrix = np.zeros((last + 1, last + 1), int)
        matrix[tuple(zip(*edges, strict=True))] = 1
        for chosen in itertools.product(range(3), repeat=len(inner)):
            names = ["input", *[OPERATIONS[0]] * (last - 1), "output"]
            for vertex, operation in zip(inner, chosen, strict=True):
                names[vertex] = OPERATIONS[operation]
            yield architecture(matrix, names)


@pytest.mark.parametrize(
    ("number", "graphs_found", "graphs_there", "distinct"),
    [(1, 49, 66, 2_127), (2, 65, 190, 3_258), (3, 234, 876, 17_940)],
)
def test_published_numbers_without_loose_ends(number, graphs_found, graphs_there, distinct):
    listed = list(without_loose_ends(number))
    found = {arch[: len(EDGES)] for arch in listed}
    space = NASBench1Shot1(number)
    operations = [0] * (len(PARENTS[number]) - 1)
    opened = [range(len(d.choices)) for d in space.decisions[: -len(operations)]]
    there = {
        pruned(adjacency(space.cell((*parents, *operations)))).tobytes()
        for parents in itertools.product(*opened)
    }
    assert {adjacency(edges).tobytes() for edges in found} <= there
    assert (len(found), len(there)) == (graphs_found, graphs_there)
    assert len(set(listed)) == len(listed) == PUBLISHED[number][1]
    assert len(set(CELLS.table().rows(listed).tolist())) == distinct


def test_published_errors_of_space_1():
    """Mean and least of the mean test errors that others computed from the benchmark."""
    table = CELLS.table()
    errors = 100 - table.test[table.rows(list(without_loose_ends(1)))]
    assert errors.mean() == pytest.approx(9.51, abs=0.005)
    assert errors.min() == pytest.approx(5.80, abs=0.005)


def test_validated_architectures_are_those_without_loose_ends_and_their_equals():
    table, space = CELLS.table(), NASBench1Shot1(2, "validated")
    listed = set(table.rows(list(without_loose_ends(2))).tolist())
    found = set(table.rows([space.cell(a) for a in space.enumerate()]).tolist())
    assert found == listed
    assert (len(listed), space.size) == (3_258, 12_393)
    everything = [a for a in NASBench1Shot1(2).enumerate() if space.is_valid(a)]
    assert everything == list(space.enumerate())


@pytest.mark.parametrize("number", [1, 3])
def test_no_validated_architectures_elsewhere(number):
    with pytest.raises(UsageError, match=r"of space 2 alone; choose space\.number=2"):
        NASBench1Shot1(number, "validated")
    cells_of_2 = set(CELLS.table().rows(list(NASBench101("validated").enumerate())).tolist())
    assert not cells_of_2 & set(cells(number).numbers.tolist())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"number": 4}, r"^space\.number=4 is unknown; choose one of: 1, 2, 3\.$"),
        ({"subset": "some"}, r"^space\.subset=some is unknown; choose one of: all, validated\.$"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        NASBench1Shot1(**settings)


numbers, seeds = st.sampled_from(NUMBERS), st.integers(0, 2**31)


@given(numbers, seeds)
def test_cells_have_the_chosen_parents_and_operations(number, seed):
    space = NASBench1Shot1(number)
    arch = space.sample(rng(seed), 1)[0]
    chosen = {d.name: d.choices[a] for d, a in zip(space.decisions, arch, strict=True)}
    fields = json.loads(space.format(arch))
    matrix = np.array(fields["matrix"])
    assert matrix.sum(axis=0).tolist() == [0, *PARENTS[number]]
    for block in range(1, len(matrix)):
        name = "output" if block == len(matrix) - 1 else str(block)
        parents = ",".join(map(str, np.flatnonzero(matrix[:, block])))
        assert chosen.get(f"parents {name}", parents) == parents
        assert fields["ops"][block] == chosen.get(f"operation {name}", "output")
    assert CELLS.parse(space.format(arch)) == space.cell(arch)


@given(numbers, seeds)
def test_canonical_architectures_are_one_where_module_hashes_are(number, seed):
    space = NASBench1Shot1(number)
    arch, other = space.sample(rng(seed), 2)
    representative = space.canonical(arch)
    assert representative <= arch
    assert CELLS.hash(space.cell(representative)) == CELLS.hash(space.cell(arch))
    same_hash = CELLS.hash(space.cell(arch)) == CELLS.hash(space.cell(other))
    assert (space.canonical(other) == representative) == same_hash


def test_canonical_form_forgets_loose_ends():
    space = NASBench1Shot1(1)
    arch = space.parse(
        '{"matrix":[[0,1,1,1,1,1],[0,0,1,1,1,1],[0,0,0,0,0,0],[0,0,0,0,0,0],[0,0,0,0,0,0],'
        '[0,0,0,0,0,0]],"ops":["input","maxpool3x3","conv3x3-bn-relu","conv3x3-bn-relu",'
        '"conv3x3-bn-relu","output"]}'
    )
    assert len(live(adjacency(space.cell(arch)))) == 3
    edited = [(*arch[:-2], *operations) for operations in itertools.product(range(3), repeat=2)]
    assert len({space.canonical(edit) for edit in edited}) == 1
    assert len({space.graph(edit).operations.tobytes() for edit in edited}) == 9


def test_reads_the_notation_of_seven_vertices():
    """The benchmark's own code adds an unconnected conv1x1 to the cells of spaces 1 and 2."""
    space = NASBench1Shot1(1)
    arch = space.sample(rng(0), 1)[0]
    fields = json.loads(space.format(arch))
    matrix = np.insert(np.insert(np.array(fields["matrix"]), 5, 0, axis=1), 5, 0, axis=0)
    fields["matrix"] = matrix.tolist()
    fields["ops"].insert(5, "conv1x1-bn-relu")
    assert space.parse(json.dumps(fields)) == arch


def write(edges, size=6):
    matrix = [[int((s, t) in edges) for t in range(size)] for s in range(size)]
    return json.dumps({"matrix": matrix, "ops": ["input", *["maxpool3x3"] * (size - 2), "output"]})


SPACE_1 = {(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (0, 5), (1, 5)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (write(SPACE_1 - {(0, 4)}), "vertex 4 has 1 parents, and must have 2"),
        (write(SPACE_1 - {(0, 4)} | {(2, 5)}), "vertex 4 has 1 parents, and must have 2"),
        (write({(0, 1), (1, 2)}, 3), "vertex 2 has 0 parents, and must have 2"),
        ("{}", "write it as JSON like"),
        (write({(1, 5)}), "its input does not reach its output"),
    ],
)
def test_what_is_no_architecture_is_refused(text, message):
    assert NASBench1Shot1(1).is_valid(NASBench1Shot1(1).parse(write(SPACE_1)))
    with pytest.raises(UsageError, match=f"no architecture of nasbench1shot1: .*{message}"):
        NASBench1Shot1(1).parse(text)


def test_validated_architectures_alone_are_read():
    whole, part = NASBench1Shot1(2), NASBench1Shot1(2, "validated")
    outside = next(a for a in whole.enumerate() if not part.is_valid(a))
    with pytest.raises(UsageError, match=r"space\.subset=validated has only cells of known"):
        part.parse(whole.format(outside))


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.nasbench1shot1 import NASBench1Shot1; s = NASBench1Shot1(); "
        "s.table(); a = next(s.enumerate()); s.canonical(a); s.graph(a); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- table and network ------------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_accuracies_are_those_of_nasbench101(number):
    space, whole = NASBench1Shot1(number), CELLS.table()
    table = space.table()
    archs = space.sample(rng(0), 300)
    found = table.rows(archs)
    np.testing.assert_array_equal(found, whole.rows([space.cell(a) for a in archs]))
    np.testing.assert_array_equal(found, table.rows([space.canonical(a) for a in archs]))
    best = table.test[np.unique(cells(number).numbers)].max()
    assert best == pytest.approx({1: 94.2007, 2: 93.9670, 3: 94.1774}[number], abs=5e-5)
    assert table.targets[-1] < best
    assert table.rows([]).tolist() == []


def test_which_accuracy_steers():
    for subset, protocol in (("all", "test"), ("validated", "validation")):
        space = NASBench1Shot1(2, subset)
        benchmark = TableBenchmark(space)
        assert benchmark.protocol == protocol
        evaluation = benchmark.evaluate(space.sample(rng(0), 1)[0], rng(0))
        assert np.isnan(evaluation.val) == (subset == "all")
        assert 80 < evaluation.test < 95
    seeds = TableBenchmark(NASBench1Shot1(2, "validated"), seeds="random")
    arch = seeds.space.sample(rng(0), 1)[0]
    row = seeds.table.rows([arch])[0]
    drawn = {seeds.evaluate(arch, rng(seed)).val for seed in range(40)}
    assert drawn == {float(value) for value in seeds.table.val_seeds[row]}
    with pytest.raises(UsageError, match=r"benchmark\.epochs=12 is not in .* choose 108"):
        space.table(epochs=12)


@pytest.mark.parametrize("number", NUMBERS)
def test_networks_are_those_of_the_cell(number, monkeypatch):
    monkeypatch.setattr(Convolution, "reset_parameters", lambda self: None)
    space, table = NASBench1Shot1(number), CELLS.table()
    archs = space.sample(rng(0), 10)
    with torch.device("meta"):
        built = [sum(p.numel() for p in space.network(a).parameters()) for a in archs]
    expected = CELLS.column("params")[table.rows([space.cell(a) for a in archs])]
    np.testing.assert_array_equal(built, expected)


def test_keys_of_networks_tell_the_spaces_apart():
    keys = [NASBench1Shot1(number).network_key() for number in NUMBERS]
    assert [key["number"] for key in keys] == [1, 2, 3]
    assert NASBench1Shot1(2, "validated").network_key() == keys[1]


def test_edges_of_a_cell_are_those_of_its_parents():
    """The adjacency of a cell, against the matrix that the architecture is written as."""
    for number in NUMBERS:
        space = NASBench1Shot1(number)
        for arch in space.sample(rng(1), 20):
            joined = adjacency(space.cell(arch))
            graph = space.graph(arch).adjacency
            count = len(graph) - 1
            assert joined.sum() == graph.sum() == 9 == sum(PARENTS[number])
            np.testing.assert_array_equal(joined[:count, :count], graph[:-1, :-1])
            np.testing.assert_array_equal(joined[:count, -1], graph[:-1, -1])
