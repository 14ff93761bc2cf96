from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch.nn import functional

from conf.errors import UsageError
from proxies import score_model
from proxies.batch import pictures
from spaces import TableBenchmark
from spaces.darts import DARTS
from spaces.darts.cell import (
    AVG_POOL,
    DIL_CONV_3X3,
    DIL_CONV_5X5,
    EDGES,
    MAX_POOL,
    NODES,
    NOISE,
    NONE,
    OPERATIONS,
    SEP_CONV_3X3,
    SEP_CONV_5X5,
    SKIP,
    SUBSPACES,
    Edge,
    Input,
    edges,
    same,
)
from spaces.darts.network import Cell, FactorizedReduce, Network, Noise, ReLUConvBN
from spaces.darts.table import FILE
from tests.spaces.conformance import SpaceConformance

SMALL = {"layers": 3, "channels": 4}

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
PDARTS = (
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), "
    "('dil_conv_5x5', 4)], normal_concat=range(2, 6), reduce=[('avg_pool_3x3', 0), "
    "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)
PC_DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), "
    "('dil_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), "
    "('dil_conv_3x3', 1)], normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 1), "
    "('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], reduce_concat=range(2, 6))"
)

# What searches in the sub-spaces found, published with the code of Zela et al. 2020.
FOUND = {
    "s1": "Genotype(normal=[('skip_connect', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), "
    "('skip_connect', 0), ('dil_conv_3x3', 3), ('sep_conv_3x3', 2), ('sep_conv_3x3', 0), "
    "('dil_conv_3x3', 2)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('dil_conv_5x5', 3), "
    "('max_pool_3x3', 0), ('dil_conv_5x5', 4), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))",
    "s2": "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('sep_conv_3x3', 2), "
    "('skip_connect', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 2), ('sep_conv_3x3', 4), "
    "('sep_conv_3x3', 3)], normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 2), ('sep_conv_3x3', 0), ('sep_conv_3x3', 3), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 4), ('sep_conv_3x3', 3)], reduce_concat=range(2, 6))",
    "s4": "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('noise', 2), ('noise', 3), ('noise', 1), ('noise', 4), ('noise', 3)], "
    "normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 0), ('sep_conv_3x3', 2), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], reduce_concat=range(2, 6))",
}


def rng(seed):
    return np.random.default_rng(seed)


class TestConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=["full", "s1", "s2", "s3", "s4", "s5"])
    def space(self, request):
        return DARTS(request.param, "none", **SMALL)


class TestConformanceOfTables(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=["trained", "surrogate"])
    def space(self, request):
        return DARTS(table=request.param, **SMALL)

    def test_every_choice_is_drawn(self, space):
        drawn = zip(*space.sample(rng(0), 20_000), strict=True)
        present = zip(*space.enumerate(), strict=True)
        assert [set(column) for column in drawn] == [set(column) for column in present]

    def test_a_mutation_is_a_neighbour(self, space, archs):
        assert all(space.neighbours(arch) == [] for arch in archs)
        with pytest.raises(UsageError, match=f"^space.table={space.source} has single genotypes"):
            space.mutate(archs[0], rng(0))

    test_mutation_is_decided_by_the_generator = None
    test_mutation_reaches_every_neighbour = None


# -- the space --------------------------------------------------------------------------------


def test_number_of_genotypes():
    """7^8 operations and 1 x 3 x 6 x 10 choices of inputs a cell, and 2^8 orders of them."""
    assert DARTS("s5", "none").size == (180 * 7**8) ** 2 * 2**8
    assert pytest.approx(1e18, rel=0.1) == (180 * 7**8) ** 2
    assert DARTS("full", "none").size == (180 * 8**8) ** 2 * 2**8
    assert DARTS("s1", "none").size == DARTS("s2", "none").size == (180 * 2**8) ** 2 * 2**8


def test_decisions_are_entries_of_genotypes():
    space = DARTS("s3", "none")
    assert [d.name for d in space.decisions[:3]] == [
        "normal 2 first",
        "normal 2 second",
        "normal 3 first",
    ]
    assert space.decisions[-1].name == "reduce 5 second"
    assert space.decisions[0].choices == (
        *("none~0", "skip_connect~0", "sep_conv_3x3~0"),
        *("none~1", "skip_connect~1", "sep_conv_3x3~1"),
    )
    assert [len(d.choices) for d in DARTS().decisions] == [16, 16, 24, 24, 32, 32, 40, 40] * 2


def test_operations_of_the_first_subspace_are_those_of_the_edge():
    normal, reduce = SUBSPACES["s1"]
    assert len(normal) == len(reduce) == len(EDGES) == 14
    assert all(len(set(operations)) == 2 for operations in normal + reduce)
    assert normal[EDGES.index((2, 0))] == (SKIP, DIL_CONV_3X3)
    assert normal[EDGES.index((4, 0))] == (MAX_POOL, SKIP)
    assert normal[EDGES.index((5, 4))] == (DIL_CONV_3X3, DIL_CONV_5X5)
    assert reduce[EDGES.index((2, 1))] == (MAX_POOL, DIL_CONV_3X3)
    assert reduce[EDGES.index((4, 1))] == (MAX_POOL, SEP_CONV_3X3)
    assert reduce[EDGES.index((5, 4))] == (SKIP, DIL_CONV_5X5)
    used = {o for operations in normal + reduce for o in operations}
    assert used == {MAX_POOL, AVG_POOL, SKIP, SEP_CONV_3X3, DIL_CONV_3X3, DIL_CONV_5X5}


@pytest.mark.parametrize("subspace", FOUND)
def test_published_genotypes_are_read(subspace):
    space = DARTS(subspace, "none")
    text = FOUND[subspace]
    assert space.format(space.parse(text)) == text
    for other in {"s1", "s2", "s4"} - {subspace}:
        with pytest.raises(UsageError, match=r"no architecture of darts: .* can be .*, not "):
            DARTS(other, "none").parse(text)


def test_every_way_to_write_the_concatenation_is_read():
    space = DARTS("s5", "none")
    arch = space.parse(DARTS_V2)
    assert space.parse(DARTS_V2.replace("[2, 3, 4, 5]", "range(2, 6)")) == arch
    assert space.parse(DARTS_V2.replace("[2, 3, 4, 5]", "(2,3, 4,5)").replace(" ", "")) == arch
    assert space.cells(arch)[0][-1] == Input(DIL_CONV_3X3, 2)


BAD = {
    "concat": DARTS_V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=range(3, 6)"),
    "name": DARTS_V2.replace("Genotype", "genotype"),
    "order": DARTS_V2.replace("normal", "x").replace("reduce", "normal").replace("x", "reduce"),
    "missing": DARTS_V2.replace("('skip_connect', 2), ", "", 1),
    "text": DARTS_V2.replace("2)", "'2')"),
    "call": DARTS_V2.replace("('sep_conv_3x3', 0)", "exit()", 1),
    "positional": "Genotype(" + DARTS_V2.removeprefix("Genotype(normal="),
    "deep": "Genotype(normal=" + "-" * 50_000 + "1)",
    "dotted": "Genotype(normal=a" + ".a" * 50_000 + ")",
    "dict": DARTS_V2.replace("[(", "{[]: 1}, [("),
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_genotype_is_refused(text):
    with pytest.raises(UsageError, match=r"no architecture of darts: .*write it as Genotype"):
        DARTS("s5", "none").parse(text)


def test_what_is_no_genotype_of_the_space_is_refused():
    space = DARTS("s5", "none")
    with pytest.raises(UsageError, match=r"normal 2 first can be max_pool_3x3~0, .*, not none~0"):
        space.parse(DARTS_V2.replace("sep_conv_3x3', 0", "none', 0", 1))
    with pytest.raises(UsageError, match=r"normal 2 first can be .*, not sep_conv_3x3~2"):
        space.parse(DARTS_V2.replace("sep_conv_3x3', 0", "sep_conv_3x3', 2", 1))
    with pytest.raises(UsageError, match="two inputs of a node must come from different nodes"):
        space.parse(DARTS_V2.replace("sep_conv_3x3', 0", "sep_conv_3x3', 1", 1))
    with pytest.raises(UsageError, match=r"space\.table=surrogate does not have it"):
        DARTS(table="surrogate").parse(DARTS_V2)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"subspace": "s6"}, "subspace=s6 is unknown; choose one of: full, s1, s2, s3, s4, s5"),
        ({"table": "all"}, "table=all is unknown; choose one of: none, surrogate, trained"),
        ({"subspace": "s2"}, r"table=trained has no rows of space\.subspace=s2; choose"),
        ({"layers": 2}, "layers=2 is not possible; give 3 or more"),
        ({"channels": 5}, "channels=5 is not possible; give an even number, 2 or more"),
        ({"channels": 0}, "channels=0 is not possible; give an even number, 2 or more"),
    ],
)
def test_impossible_settings_are_refused(chosen, message):
    with pytest.raises(UsageError, match=f"^space.{message}"):
        DARTS(**chosen)


def test_a_subspace_is_too_large_to_list():
    with pytest.raises(UsageError, match=r"^space\.subspace=s2 has 5\.4e\+11 architectures"):
        DARTS("s2", "none").enumerate()


def test_samples_are_uniform():
    """Over the pairs of entries that a node may have: node 3 of S2 has 6 x 4 of them."""
    drawn = np.array(DARTS("s2", "none").sample(rng(0), 24_000))[:, 2:4]
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 49  # chi square of 23 degrees, p = 0.001


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.darts import DARTS; s = DARTS(); s.table(); "
        "a = next(s.enumerate()); s.canonical(a); s.graph(a); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_graph_by_example():
    graph = DARTS("s5", "none").graph(DARTS("s5", "none").parse(DARTS_V2))
    names = [DARTS.graph_operations[label] for label in graph.operations]
    assert names[:5] == ["input", "input", "sep_conv_3x3", "sep_conv_3x3", "sep_conv_3x3"]
    assert (names[9], names[10], names[21]) == ("dil_conv_3x3", "output", "output")
    joined = graph.adjacency
    assert not joined[:11, 11:].any()
    assert np.flatnonzero(joined[:, 2]).tolist() == [0]
    assert np.flatnonzero(joined[:, 9]).tolist() == [2, 3]  # on node 2, of entries 0 and 1
    assert np.flatnonzero(joined[:, 10]).tolist() == list(range(2, 10))


# -- canonical form ---------------------------------------------------------------------------


def renamed(cell, order, swaps):
    """Put the nodes into another order, and swap the inputs of some; None where that is illegal."""
    name = {0: 0, 1: 1} | {NODES[old]: NODES[new] for new, old in enumerate(order)}
    moved = []
    for new, old in enumerate(order):
        pair = [Input(o, name[s]) for o, s in cell[2 * old : 2 * old + 2]]
        if any(s >= NODES[new] for _, s in pair):
            return None
        moved += pair[::-1] if swaps[new] else pair
    return tuple(moved)


ORDERS = list(itertools.permutations(range(4)))
CASES = ("full", "s3", "s4", "s5")
subspaces, seeds = st.sampled_from(CASES), st.integers(0, 2**31)


@given(subspaces, seeds)
def test_renamed_and_swapped_cells_are_one(subspace, seed):
    space, draw = DARTS(subspace, "none"), rng(seed)
    arch = space.sample(draw, 1)[0]
    normal, reduce = space.cells(arch)
    swaps = draw.integers(2, size=4).astype(bool)
    others = [c for order in ORDERS if (c := renamed(normal, order, swaps))]
    for other in others:
        text = space.format(arch)
        for kind, cell in (("normal", other), ("reduce", reduce)):
            entries = ", ".join(f"('{OPERATIONS[o]}', {s})" for o, s in cell)
            start = text.index(f"{kind}=[") + len(kind) + 2
            text = text[:start] + entries + text[text.index("]", start) :]
        assert space.canonical(space.parse(text)) == space.canonical(arch)


def nature(cell):
    """What the nodes of a cell compute, whatever they are called, as a sorted list of trees."""
    values = {0: "first", 1: "second"}
    for node, pair in zip(NODES, zip(cell[::2], cell[1::2], strict=True), strict=True):
        terms = []
        for operation, source in pair:
            if operation == NOISE:
                terms.append("noise")
            elif operation != NONE and values[source] != "[]":
                terms.append(f"{OPERATIONS[operation]}({values[source]})")
        values[node] = str(sorted(terms))
    return sorted(values[node] for node in NODES)


@given(subspaces, seeds)
def test_canonical_cells_have_the_same_nature(subspace, seed):
    space = DARTS(subspace, "none")
    arch, other = space.sample(rng(seed), 2)
    representative = space.canonical(arch)
    for cell, of in zip(space.cells(representative), space.cells(arch), strict=True):
        assert nature(cell) == nature(of)
    natures = [[nature(cell) for cell in space.cells(a)] for a in (arch, other)]
    if natures[0] != natures[1]:
        assert space.canonical(other) != representative


def run(cell, weights, features):
    """Run a normal cell; ``weights`` are the seeds of its operations."""
    torch.manual_seed(0)
    module = Cell(edges(cell), (4, 4), 4, running_stats=False).double()
    for operation, seed in zip(module.operations, weights, strict=True):
        torch.manual_seed(seed)
        for layer in operation.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.reset_parameters()
    return module(*features).unflatten(1, (4, 4))


@settings(max_examples=25)
@given(seeds)
def test_renamed_cells_compute_the_same(seed):
    draw = rng(seed)
    space = DARTS("full", "none")
    cell = space.cells(space.sample(draw, 1)[0])[0]
    torch.manual_seed(seed)
    features = torch.randn(2, 3, 4, 6, 6, dtype=torch.float64)
    order, other = next(
        (order, moved)
        for order in draw.permutation(ORDERS).tolist()
        if (moved := renamed(cell, order, [True] * 4))
    )
    weights = [2 * old + i for old in order for i in (1, 0)]
    output = run(cell, range(8), features)
    torch.testing.assert_close(run(other, weights, features), output[:, order])


@settings(max_examples=25)
@given(seeds)
def test_operations_on_zero_are_zero(seed):
    """What the canonical form takes for ``none`` brings nothing in a fresh network."""
    draw = rng(seed)
    late = [Input(int(o), 2) for o in draw.integers(NONE, NOISE, 3)]
    cell = (Input(NONE, 0), Input(NONE, 1), late[0], Input(SKIP, 0), late[1], Input(SKIP, 1))
    cell = (*cell, late[2], Input(SEP_CONV_3X3, 1))
    cleared = tuple(Input(NONE, s) if s == 2 else Input(o, s) for o, s in cell)
    torch.manual_seed(seed)
    features = torch.randn(2, 3, 4, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(run(cell, range(8), features), run(cleared, range(8), features))
    assert min(same(cell)) == min(same(cleared))


def test_sources_of_none_and_noise_do_not_matter():
    space = DARTS("s4", "none")
    text = FOUND["s4"]
    one, other = space.parse(text), space.parse(text.replace("('noise', 2)", "('noise', 1)"))
    assert one != other
    assert space.canonical(one) == space.canonical(other)
    kept = space.cells(space.canonical(one))[0]
    assert sum(operation == NOISE for operation, _ in kept) == 5


def test_the_trained_rows_that_compute_nothing_are_one():
    """They are the two worst, with the accuracy of guessing; all others compute other things."""
    space = DARTS()
    table, everything = space.table(), list(space.enumerate())
    twins = [arch for arch in everything if space.canonical(arch) != arch]
    assert len(twins) == 1
    pair = [twins[0], space.canonical(twins[0])]
    assert all(nature(cell) == ["[]"] * 4 for arch in pair for cell in space.cells(arch))
    assert sorted(table.rows(pair)) == sorted(np.argsort(table.val)[:2])
    assert table.val[table.rows(pair)] == pytest.approx(10, abs=0.3)


# -- the tables -------------------------------------------------------------------------------


def test_trained_genotypes():
    space = DARTS()
    table, rows = space.table(), list(space._rows)
    assert space.size == len(table.val) == 1000
    assert (table.epochs, table.runs, table.test, table.val_seeds) == (200, "one run", None, None)
    assert table.val.max() == pytest.approx(86.61)
    assert (table.val < 11).sum() == 2
    assert all(normal == reduce for normal, reduce in map(space.cells, rows))
    np.testing.assert_array_equal(table.rows(rows), np.arange(1000))
    counts = np.zeros(len(OPERATIONS), int)
    for arch in rows:
        np.add.at(counts, [operation for operation, _ in space.cells(arch)[0]], 1)
    assert counts[NOISE] == 0
    assert counts[:NOISE].min() > 900
    sep = [sum(o in (SEP_CONV_3X3, SEP_CONV_5X5) for o, _ in space.cells(a)[0]) for a in rows]
    assert np.corrcoef(sep, table.val)[0, 1] > 0.5


def test_surrogate_genotypes():
    space = DARTS(table="surrogate")
    table, rows = space.table(), list(space._rows)
    assert space.size == len(table.val) == 1218
    assert (table.epochs, table.test) == (100, None)
    assert "surrogate" in table.runs
    assert table.val.min() == pytest.approx(90.727905)
    assert table.val.max() == pytest.approx(94.488884)
    assert all(DARTS("s5", "none").parse(space.format(arch)) for arch in rows[:300])
    pools = [sum(o in (MAX_POOL, AVG_POOL) for o, _ in space.cells(a)[0]) for a in rows]
    assert np.corrcoef(pools, table.val)[0, 1] < -0.4


@pytest.mark.parametrize("source", ["trained", "surrogate"])
def test_a_search_is_steered_by_validation_accuracy(source):
    space = DARTS(table=source)
    benchmark = TableBenchmark(space)
    evaluation = benchmark.evaluate(space.sample(rng(0), 1)[0], rng(0))
    assert benchmark.protocol == "validation"
    assert evaluation.objective == evaluation.val
    assert np.isnan(evaluation.test)
    assert benchmark.describe()["table"] == f"darts {source}"
    with pytest.raises(UsageError, match=r"benchmark\.epochs=12 is not in the table; choose"):
        space.table(epochs=12)
    with pytest.raises(UsageError, match="is not in the table"):
        space.table().rows([(0,) * 16])


def test_without_a_table_there_are_no_accuracies():
    with pytest.raises(UsageError, match=r"^space\.table=none has no accuracies; choose"):
        DARTS(table="none").table()


DAMAGES = {
    "operation": ("trained", lambda a: a + np.uint8([8, 0]), "operations from 0 to 7"),
    "node": ("trained", lambda a: a + np.uint8([0, 5]), "operations from 0 to 7, each with an"),
    "shape": ("trained", lambda a: a[:, :7], "trained must hold operations"),
    "type": ("trained", lambda a: a.astype("S"), "trained must hold operations"),
    "fewer": ("trained", lambda a: a[:-1], "lacks 1 of the genotypes of space.table=trained"),
    "short": ("trained_val", lambda a: a[:-1], "trained_val must hold 1000 numbers"),
    "words": ("trained_val", lambda a: a.astype("S"), "trained_val must hold 1000 numbers"),
    "absent": ("trained_val", None, "it lacks trained_val"),
}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_tables_are_refused(tmp_path, name, damage, message):
    with np.load(FILE) as file:
        columns = dict(file)
    order = rng(0).permutation(1000)
    columns |= {key: columns[key][order] for key in ("trained", "trained_val")}
    whole = tmp_path / "whole.npz"
    np.savez(whole, **columns)
    archs = DARTS().sample(rng(1), 50)
    shipped, shuffled = DARTS().table(), DARTS().table(whole)
    np.testing.assert_array_equal(
        shipped.val[shipped.rows(archs)], shuffled.val[shuffled.rows(archs)]
    )
    if damage is None:
        del columns[name]
    else:
        columns[name] = damage(columns[name])
    np.savez(tmp_path / "damaged.npz", **columns)
    with pytest.raises(UsageError, match=message):
        DARTS().table(tmp_path / "damaged.npz")


# -- the network ------------------------------------------------------------------------------


def parameters(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("genotype", "published"),
    [(DARTS_V2, 3.3e6), (PDARTS, 3_433_798), (PC_DARTS, 3.63e6)],
    ids=["DARTS_V2", "PDARTS", "PC_DARTS"],
)
def test_published_parameters(genotype, published):
    """Of 20 cells and 36 channels, without auxiliary head; of PDARTS to the unit."""
    space = DARTS("s5", "none", layers=20, channels=36)
    with torch.device("meta"):
        built = parameters(space.network(space.parse(genotype)))
    assert built == pytest.approx(published, rel=0 if published == 3_433_798 else 0.02)


def norm(module, value):
    return functional.batch_norm(value, None, None, module.weight, module.bias, True)


def reference_operation(module, operation, stride, value):
    """By the words of Liu et al. 2019, section 3.1.1, and their appendix."""
    if operation in (NONE, NOISE):
        return torch.zeros_like(value[:, :, ::stride, ::stride])
    if operation == MAX_POOL:
        return functional.max_pool2d(value, 3, stride, 1)
    if operation == AVG_POOL:
        ones = torch.ones_like(value)
        total = functional.avg_pool2d(value, 3, stride, 1)
        return total / functional.avg_pool2d(ones, 3, stride, 1)
    if operation == SKIP:
        return value if stride == 1 else reference_reduction(module, value)
    kernel = 3 if operation in (SEP_CONV_3X3, DIL_CONV_3X3) else 5
    dilation = 2 if operation in (DIL_CONV_3X3, DIL_CONV_5X5) else 1
    layers = list(module)
    for start in range(0, len(layers), 4):
        _, depthwise, pointwise, bn = layers[start : start + 4]
        pad = dilation * (kernel // 2)
        assert depthwise.weight.shape == (value.shape[1], 1, kernel, kernel)
        value = functional.conv2d(
            value.relu(), depthwise.weight, None, stride, pad, dilation, value.shape[1]
        )
        value = norm(bn, functional.conv2d(value, pointwise.weight))
        stride = 1
    assert len(layers) == (4 if dilation == 2 else 8)
    return value


def reference_reduction(module, value):
    value = value.relu()
    left = functional.conv2d(value, module.even.weight, None, 2)
    right = functional.conv2d(value[:, :, 1:, 1:], module.odd.weight, None, 2)
    return norm(module.bn, torch.cat([left, right], 1))


def reference_projection(module, value):
    if isinstance(module, FactorizedReduce):
        return reference_reduction(module, value)
    assert isinstance(module, ReLUConvBN)
    return norm(module[2], functional.conv2d(value.relu(), module[1].weight))


def reference_network(network, cells, images, layers):
    before = last = norm(
        network.stem[1], functional.conv2d(images, network.stem[0].weight, None, 1, 1)
    )
    for layer, module in enumerate(network.blocks()):
        halves = layer in (layers // 3, 2 * layers // 3)
        nodes = [
            reference_projection(pre, value)
            for pre, value in zip(module.preprocess, (before, last), strict=True)
        ]
        for node in NODES:
            total = 0
            for place in (2 * (node - 2), 2 * (node - 2) + 1):
                operation, source = cells[halves][place]
                stride = 2 if halves and source < 2 else 1
                total = total + reference_operation(
                    module.operations[place], operation, stride, nodes[source]
                )
            nodes.append(total)
        before, last = last, torch.cat(nodes[2:], 1)
    return functional.linear(last.mean(dim=(2, 3)), *network.head[-1].parameters())


@pytest.mark.parametrize("seed", range(6))
def test_network_equals_the_plain_way(seed):
    layers = 3 + seed
    space = DARTS(table="none", layers=layers, channels=4)
    arch = space.sample(rng(seed), 1)[0]
    torch.manual_seed(seed)
    network = space.network(arch, running_stats=False).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = reference_network(network, space.cells(arch), images, layers)
    torch.testing.assert_close(network(images), expected)
    assert len(network.blocks()) == layers
    assert not any(m.inplace for m in network.modules() if isinstance(m, torch.nn.ReLU))


def test_two_inputs_of_one_source_are_both_there():
    """So in trained rows; there an operation may be twice on an edge, with its own weights."""
    space = DARTS(**SMALL)
    twice = next(
        a
        for a in space.enumerate()
        if any(
            x == y and x[0] == SEP_CONV_3X3
            for x, y in zip(space.cells(a)[0][::2], space.cells(a)[0][1::2], strict=True)
        )
    )
    torch.manual_seed(0)
    network = space.network(twice, running_stats=False).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    expected = reference_network(network, space.cells(twice), images, 3)
    torch.testing.assert_close(network(images), expected)


SUPERNET = [Edge(t, s, tuple(range(NOISE))) for t, s in EDGES]


def test_supernets_run_and_are_scored():
    torch.manual_seed(0)
    network = Network(SUPERNET, SUPERNET, 10, channels=4, layers=4)
    images = torch.randn(4, 3, 16, 16)
    assert network(images).shape == (4, 10)
    scores = score_model(network, images, torch.arange(4), proxies=["naswot", "synflow"])
    assert all(np.isfinite(value) for value in scores.values())
    left = [Edge(2, 0, (NONE, SKIP)), *SUPERNET[1:]]
    assert Network(left, SUPERNET, 7, channels=4, layers=3)(images).shape == (4, 7)


def test_several_operations_on_an_edge_are_averaged():
    torch.manual_seed(0)
    cell = Cell(SUPERNET, (4, 4), 4, running_stats=False, halves=True).double()
    features = torch.randn(2, 3, 4, 8, 8, dtype=torch.float64)
    nodes = [p(f) for p, f in zip(cell.preprocess, features, strict=True)]
    for node in NODES:
        nodes.append(
            sum(
                torch.stack([o(nodes[s]) for o in cell.operations[i].candidates]).mean(dim=0)
                for i, (t, s) in enumerate(EDGES)
                if t == node
            )
        )
    torch.testing.assert_close(cell(*features), torch.cat(nodes[2:], dim=1))


def test_noise_is_drawn_anew_from_the_global_generator():
    features = torch.zeros(64, 4, 16, 16)
    torch.manual_seed(0)
    one, other = Noise(2)(features), Noise(2)(features)
    assert one.shape == (64, 4, 8, 8)
    assert one.mean().abs() < 0.05
    assert one.std() == pytest.approx(1, abs=0.05)
    assert not torch.equal(one, other)
    torch.manual_seed(0)
    assert torch.equal(Noise(2)(features), one)


def test_keys_of_networks():
    keys = [DARTS(s, "none").network_key() for s in SUBSPACES]
    assert [key["subspace"] for key in keys] == list(SUBSPACES)
    assert DARTS().network_key() == keys[0]
    assert DARTS(layers=20, channels=36).network_key() != keys[0]


class OneCell(torch.nn.Module):
    """What Peng et al. 2024 score: a reduction cell on the pictures themselves."""

    def __init__(self, cell):
        super().__init__()
        self.cell = Cell(edges(cell), (3, 3), 6, running_stats=True, halves=True)
        self.head = torch.nn.Linear(24, 10)

    def forward(self, images):
        return self.head(self.cell(images, images).mean(dim=(2, 3)))


@pytest.mark.slow
def test_published_correlation_of_swap():
    """.93 over 1,000 genotypes and 32 initialisations; here 300 and 4."""
    space = DARTS()
    table, batch = space.table(), pictures(space, size=16)
    archs = list(space._rows)[:300]
    scores = np.zeros((len(archs), 4))
    for (row, seed), _ in np.ndenumerate(scores):
        torch.manual_seed(seed)
        network = OneCell(space.cells(archs[row])[1])
        found = score_model(network, batch.inputs, batch.targets, proxies=["swap"])
        scores[row, seed] = found["swap"]
    statistic = spearmanr(scores.mean(axis=1), table.val[:300]).statistic
    print(f"Spearman {statistic:.3f}")
    assert statistic == pytest.approx(0.93, abs=0.05)
