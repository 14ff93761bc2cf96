from __future__ import annotations

import hashlib
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from conf.errors import UsageError
from spaces import TableBenchmark
from spaces.nasbench101 import NASBench101
from spaces.nasbench101.cell import (
    CONV_1X1,
    CONV_3X3,
    EDGES,
    MAX_POOL,
    OPERATIONS,
    adjacency,
    channels,
    live,
    operations,
    pruned,
)
from spaces.nasbench101.network import Cell, ConvBNReLU, Convolution, Network
from tests.spaces.conformance import SpaceConformance

SPACE = NASBench101()
VALIDATED = NASBench101("validated")
CELLS = 423_624

# The inception-like cell of the benchmark's own documentation.
INCEPTION = {
    "matrix": [
        [0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    "ops": [
        "input",
        "conv1x1-bn-relu",
        "conv3x3-bn-relu",
        "conv3x3-bn-relu",
        "conv3x3-bn-relu",
        "maxpool3x3",
        "output",
    ],
}
INPUT_TO_OUTPUT = SPACE.parse('{"matrix":[[0,1],[0,0]],"ops":["input","output"]}')


def rng(seed):
    return np.random.default_rng(seed)


def draw(seed):
    return SPACE.sample(rng(seed), 1)[0]


cells = st.integers(0, CELLS - 1).map(draw)


def write(matrix, names):
    return json.dumps({"matrix": np.asarray(matrix).astype(int).tolist(), "ops": list(names)})


class TestConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=["all", "validated"])
    def space(self, request):
        return NASBench101(request.param)

    def test_every_choice_is_drawn(self, space):
        """Every one that a cell has: vertex 1 hears the input wherever there are inner vertices."""
        drawn = np.array(space.sample(rng(0), 20_000)).T
        if space.subset == "all":
            once = [d.name for d in space.decisions].index("1<-0")
            present = [set(range(len(d.choices))) for d in space.decisions]
            present[once] = {1}
        else:
            present = [set(column) for column in zip(*space.enumerate(), strict=True)]
        assert [set(column.tolist()) for column in drawn] == present


# -- the space --------------------------------------------------------------------------------


def test_decisions_are_edges_and_operations():
    names = [d.name for d in SPACE.decisions]
    assert names[:4] == ["1<-0", "2<-0", "2<-1", "3<-0"]
    assert names[20:] == ["6<-5", *(f"operation {vertex}" for vertex in range(1, 6))]
    assert {d.choices for d in SPACE.decisions[:21]} == {("absent", "present")}
    assert {d.choices for d in SPACE.decisions[21:]} == {OPERATIONS}
    assert (SPACE.dataset, SPACE.classes, SPACE.image_size) == ("cifar10", 10, 32)


def test_unknown_subsets_are_refused():
    with pytest.raises(
        UsageError, match=r"^space\.subset=some is unknown; choose one of: all, val"
    ):
        NASBench101("some")


def test_lists_every_cell_once_in_order():
    everything = list(SPACE.enumerate())
    assert len(everything) == SPACE.size == CELLS
    assert all(one < other for one, other in itertools.pairwise(everything))
    assert SPACE.table().rows(everything).tolist() == list(range(CELLS))


def test_cells_by_number_of_vertices():
    """As the benchmark counts them, input and output included."""
    live = [pruned(adjacency(a))[1:].any(axis=1).sum() + 2 for a in SPACE.sample(rng(0), 4000)]
    shares = np.bincount(live, minlength=8) / 4000
    expected = np.array([0, 0, 1, 6, 84, 2441, 62_010, 359_082]) / CELLS
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / 4000**0.5)


def test_samples_are_uniform_over_cells():
    rows = SPACE.table().rows(SPACE.sample(rng(0), 50_000))
    counts = np.histogram(rows, bins=50, range=(0, CELLS))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 85  # chi square of 49 degrees, p = 0.001


@pytest.mark.parametrize("space", [SPACE, VALIDATED], ids=["all", "validated"])
def test_operations_may_always_change(space):
    for arch in space.sample(rng(1), 100):
        edited = {n[21:] for n in space.neighbours(arch) if n[:21] == arch[:21]}
        assert len(edited) == 10


def test_validity_is_of_what_is_left_after_pruning():
    ten = [(target, source) in {(6, 5)} or target == source + 1 for target, source in EDGES]
    chain = tuple(map(int, ten))
    assert SPACE.is_valid((*chain, 0, 0, 0, 0, 0))
    more = list(chain)
    for edge in ((2, 0), (3, 0), (4, 0)):
        more[EDGES.index(edge)] = 1
    assert SPACE.is_valid((*more, 0, 0, 0, 0, 0))
    more[EDGES.index((5, 0))] = 1
    assert not SPACE.is_valid((*more, 0, 0, 0, 0, 0))
    more[EDGES.index((6, 5))] = 0
    more[EDGES.index((6, 4))] = 1  # vertex 5 is dead now, with its two edges
    assert SPACE.is_valid((*more, 0, 0, 0, 0, 0))
    assert not SPACE.is_valid((0,) * 26)


def test_reads_the_benchmarks_notation():
    arch = SPACE.parse(json.dumps(INCEPTION))
    assert json.loads(SPACE.format(arch)) == INCEPTION
    small = SPACE.parse(
        '{"matrix":[[0,1,0],[0,0,1],[0,0,0]],"ops":["input","maxpool3x3","output"]}'
    )
    assert small[21:] == (MAX_POOL, 0, 0, 0, 0)
    assert [edge for edge, there in zip(EDGES, small, strict=False) if there] == [(1, 0), (6, 1)]


@given(cells, st.integers(0, 100))
def test_every_writing_round_trips(arch, seed):
    """What a search trains is read again from its journal."""
    for _ in range(3):
        arch = SPACE.mutate(arch, rng(seed))
        assert SPACE.parse(SPACE.format(arch)) == arch


BAD = {
    "no JSON": ("matrix", "write it as JSON like"),
    "deep": ("[" * 100_000, "write it as JSON like"),
    "no object": ("[1, 2]", "write it as JSON like"),
    "another key": ('{"matrix":[],"ops":[],"hash":1}', "write it as JSON like"),
    "no rows": ('{"matrix":[1],"ops":["input"]}', "write it as JSON like"),
    "true": ('{"matrix":[[0,true],[0,0]],"ops":["input","output"]}', "write it as JSON like"),
    "one vertex": ('{"matrix":[[0]],"ops":["input"]}', "2 to 7 vertices, not 1"),
    "too many": (write(np.zeros((8, 8)), "i" * 8), "2 to 7 vertices, not 8"),
    "ragged": ('{"matrix":[[0,1],[0]],"ops":["input","output"]}', "2 rows and columns"),
    "two": ('{"matrix":[[0,2],[0,0]],"ops":["input","output"]}', "zeros and ones"),
    "cycle": ('{"matrix":[[0,1],[1,0]],"ops":["input","output"]}', "upper triangular"),
    "no input": ('{"matrix":[[0,1],[0,0]],"ops":["output","input"]}', "begin with input"),
    "operation": (
        '{"matrix":[[0,1,0],[0,0,1],[0,0,0]],"ops":["input","conv5x5","output"]}',
        "an operation can be conv3x3-bn-relu, conv1x1-bn-relu, maxpool3x3, not 'conv5x5'",
    ),
    "torn": ('{"matrix":[[0,0],[0,0]],"ops":["input","output"]}', "does not reach its output"),
    "dense": (
        write(np.triu(np.ones((7, 7)), 1), INCEPTION["ops"]),
        "it has 21 edges, and 9 are allowed",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_what_is_no_cell_is_refused(text, message):
    with pytest.raises(UsageError, match=f"no architecture of nasbench101: .*{message}"):
        SPACE.parse(text)


def test_cells_without_validation_accuracy_are_refused():
    with pytest.raises(UsageError, match=r"space\.subset=validated has only cells of known"):
        VALIDATED.parse(json.dumps(INCEPTION))


@given(cells)
def test_graph_is_the_pruned_cell(arch):
    graph = SPACE.graph(arch)
    names = [SPACE.graph_operations[label] for label in graph.operations]
    joined = pruned(adjacency(arch))
    np.testing.assert_array_equal(graph.adjacency, joined)
    assert (names[0], names[-1]) == ("input", "output")
    for vertex, operation in enumerate(operations(arch), start=1):
        assert names[vertex] == (OPERATIONS[operation] if joined[vertex].any() else "none")


def test_graph_and_canonical_form_forget_what_is_dead():
    one = SPACE.parse(json.dumps(INCEPTION))
    changed = list(one)
    for edge in ((6, 2), (3, 2)):  # vertex 2 feeds nothing
        changed[EDGES.index(edge)] = 0
    others = [(*changed[:22], operation, *changed[23:]) for operation in range(3)]
    assert len({SPACE.canonical(other) for other in others}) == 1
    assert len({SPACE.graph(other).operations.tobytes() for other in others}) == 1


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.nasbench101 import NASBench101; s = NASBench101(); s.table(); "
        "a = next(s.enumerate()); s.canonical(a); s.graph(a); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- the table --------------------------------------------------------------------------------


def test_published_accuracies():
    table = SPACE.table()
    assert table.test.shape == (CELLS,)
    assert table.test.dtype == np.float32
    assert table.test.max() == pytest.approx(94.3176, abs=5e-5)
    row = table.rows([SPACE.parse(json.dumps(INCEPTION))])
    assert table.test[row] == pytest.approx(93.0856, abs=5e-5)
    assert 9.9 < table.test.min() < table.test.max() < 95
    assert (table.val, table.val_seeds) == (None, None)
    assert (table.epochs, table.runs) == (108, "mean over 3 seeds")


def test_a_search_over_all_cells_is_steered_by_test_accuracy():
    arch = SPACE.parse(json.dumps(INCEPTION))
    for space, protocol in ((SPACE, "test"), (VALIDATED, "validation")):
        assert TableBenchmark(space).protocol == protocol
    benchmark = TableBenchmark(SPACE)
    assert benchmark.describe()["validation"] is None
    evaluation = benchmark.evaluate(arch, rng(0))
    assert evaluation.objective == evaluation.test == pytest.approx(93.0856, abs=5e-5)
    assert np.isnan(evaluation.val)
    with pytest.raises(UsageError, match=r"choose benchmark\.seeds=mean"):
        TableBenchmark(SPACE, seeds="random")


def test_validated_cells():
    table = VALIDATED.table()
    assert VALIDATED.size == len(list(VALIDATED.enumerate())) == len(table.val) == 3258
    assert table.val_seeds.shape == (3258, 3)
    assert table.test.max() == pytest.approx(93.9069, abs=5e-5)
    assert VALIDATED.column("test_108_seeds").max() == pytest.approx(94.2208, abs=5e-5)
    np.testing.assert_allclose(table.val_seeds.mean(axis=1), table.val, rtol=1e-6)
    assert np.corrcoef(table.val, table.test)[0, 1] > 0.99


def test_both_sources_agree_on_the_test_accuracy_of_the_validated_cells():
    archs = list(VALIDATED.enumerate())
    table = SPACE.table()
    np.testing.assert_array_equal(VALIDATED.table().test, table.test[table.rows(archs)])


def test_validated_cells_are_of_the_second_space_of_1shot1():
    """One parent for vertices 1 and 2, two for 3 and 4, three for the output."""
    numbers, rows = set(), SPACE.table().rows
    for sources in itertools.product(
        itertools.combinations(range(2), 1),
        itertools.combinations(range(3), 2),
        itertools.combinations(range(4), 2),
        itertools.combinations(range(5), 3),
    ):
        edges = {(1, 0)}
        for target, given_by in zip((2, 3, 4, 6), sources, strict=True):
            edges |= {(target, source) for source in given_by}
        head = tuple(int(edge in edges) for edge in EDGES)
        archs = [(*head, *ops, 0) for ops in itertools.product(range(3), repeat=4)]
        numbers |= set(rows(archs).tolist())
    assert len(numbers) == 7773
    assert np.bincount([len(live(adjacency(a))) for a in VALIDATED.enumerate()]).tolist() == [
        *(0, 0, 0, 0),
        *(2 * 3**2, 12 * 3**3, 36 * 3**4),
    ]
    assert set(rows(list(VALIDATED.enumerate())).tolist()) < numbers


def test_one_seed_at_random():
    benchmark = TableBenchmark(VALIDATED, seeds="random")
    arch = VALIDATED.sample(rng(0), 1)[0]
    seeds = VALIDATED.table().val_seeds[VALIDATED.table().rows([arch])[0]]
    drawn = {benchmark.evaluate(arch, rng(seed)).val for seed in range(40)}
    assert drawn == {float(value) for value in seeds}


def test_rows_of_any_writing():
    table = SPACE.table()
    archs = SPACE.sample(rng(5), 300)
    edited = [n for arch in archs[:30] for n in SPACE.neighbours(arch)]
    np.testing.assert_array_equal(
        table.rows(edited), table.rows([SPACE.canonical(e) for e in edited])
    )
    assert table.rows([]).tolist() == []
    with pytest.raises(UsageError, match="is not in the table"):
        table.rows([archs[0], (0,) * 26])
    with pytest.raises(UsageError, match="is not in the table"):
        VALIDATED.table().rows([SPACE.parse(json.dumps(INCEPTION))])


def test_parameters_of_every_cell_are_the_published_ones():
    """The digest is of the published column, uint32, in the order of the rows."""
    parameters = SPACE.column("params")
    digest = hashlib.sha256(parameters.astype("<u4").tobytes()).hexdigest()
    assert digest == "71afd9cf135b79e4d1f252a8d315106275a7193998c897f4a3a937b41a4f64ff"
    archs = list(VALIDATED.enumerate())
    rows = SPACE.table().rows(archs)
    np.testing.assert_array_equal(VALIDATED.column("params"), parameters[rows])


def test_columns():
    np.testing.assert_allclose(SPACE.column("test_108"), SPACE.table().test, rtol=1e-7)
    for name in ("test", "val"):
        seeds = VALIDATED.column(f"{name}_108_seeds")
        np.testing.assert_allclose(seeds.mean(axis=1), VALIDATED.column(f"{name}_108"))
        counts = seeds * 99.84
        np.testing.assert_allclose(counts, counts.round(), atol=1e-6)
    with pytest.raises(UsageError, match="column=val_108 is unknown; choose one of: params, test"):
        SPACE.column("val_108")


@pytest.mark.parametrize("epochs", [4, 12, 36, 200])
def test_other_epochs_are_refused(epochs):
    with pytest.raises(UsageError, match=rf"benchmark\.epochs={epochs} is not in .* choose 108"):
        SPACE.table(epochs=epochs)


DAMAGES = {
    "short": ("test_108_low", lambda a: a[:-1], "test_108_low has the shape"),
    "type": ("test_108_high", lambda a: a.astype("S"), "test_108_high is of type"),
    "seeds": ("val_108_seeds", lambda a: a[:, :2], "val_108_seeds has the shape"),
    "order": ("validated", lambda a: a[::-1], "validated must hold numbers of cells"),
    "range": ("validated", lambda a: a + np.uint32(CELLS), "validated must hold numbers of cells"),
    "absent": ("test_108_low", None, "it lacks test_108_low"),
}


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_tables_are_refused(tmp_path, name, damage, message):
    from spaces.nasbench101.table import FILE

    with np.load(FILE) as file:
        columns = dict(file)
    whole = tmp_path / "whole.npz"
    np.savez(whole, **columns)
    assert SPACE.table(whole).source == str(whole)
    if damage is None:
        del columns[name]
    else:
        columns[name] = damage(columns[name])
    np.savez(tmp_path / "damaged.npz", **columns)
    with pytest.raises(UsageError, match=message):
        (SPACE if name.startswith("test_108") else VALIDATED).table(tmp_path / "damaged.npz")


# -- the network ------------------------------------------------------------------------------


def parameters_of(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture
def empty(monkeypatch):
    """Networks of which nothing but the shapes are made."""
    monkeypatch.setattr(Convolution, "reset_parameters", lambda self: None)
    with torch.device("meta"):
        yield


def check_parameters(archs):
    built = [parameters_of(SPACE.network(arch)) for arch in archs]
    np.testing.assert_array_equal(built, SPACE.column("params")[SPACE.table().rows(archs)])


def test_parameters_of_built_networks(empty):
    check_parameters([INPUT_TO_OUTPUT, *SPACE.sample(rng(0), 50)])


@pytest.mark.slow
def test_parameters_of_many_built_networks(empty):
    check_parameters(SPACE.sample(rng(1), 2000))


def test_every_writing_of_a_cell_has_the_network_that_was_trained(empty):
    """Of three vertices that share 128 channels, two have 43."""
    arch = SPACE.parse(
        write(
            [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0] * 5],
            ["input", "conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3", "output"],
        )
    )
    writings = [(*arch[:21], *order, 0, 0) for order in itertools.permutations(range(3))]
    assert len({parameters_of(SPACE.network(writing)) for writing in writings}) == 1
    assert len({parameters_of(Network(writing, 10)) for writing in writings}) > 1


def test_channels_are_shared_out_as_published():
    """The rule by examples: division, remainder to the first, and the widest that is fed."""
    inception = pruned(adjacency(SPACE.parse(json.dumps(INCEPTION))))
    assert channels(inception, 128) == [0, 32, 32, 32, 32, 32, 128]
    joined = np.zeros((7, 7), bool)
    edges = ((0, 1), (0, 2), (1, 3), (1, 4), (1, 5), (2, 5), (3, 6), (4, 6), (5, 6))
    for source, target in edges:
        joined[source, target] = True
    assert channels(joined, 128) == [0, 43, 42, 43, 43, 42, 128]
    assert channels(pruned(adjacency(INPUT_TO_OUTPUT)), 128) == [0, 0, 0, 0, 0, 0, 128]


def reference_convolution(block, value):
    conv, norm, _ = block
    value = functional.conv2d(value, conv.weight, None, 1, conv.weight.shape[-1] // 2)
    return functional.batch_norm(value, None, None, norm.weight, norm.bias, True, eps=1e-5).relu()


def reference_cell(cell, arch, features, width):
    """Vertex by vertex, by the words of the benchmark's paper."""
    joined = pruned(adjacency(arch))
    live = [v for v in range(1, 6) if joined[v].any()]
    into = [v for v in live if joined[v, 6]]
    size = {v: width // len(into) + (i < width % len(into)) for i, v in enumerate(into)}
    for v in reversed(live):
        if v not in size:
            size[v] = max(size[w] for w in live if joined[v, w])
    value = {}
    for v in live:
        total = torch.zeros(len(features), size[v], *features.shape[2:], dtype=features.dtype)
        for u in live:
            if joined[u, v]:
                total = total + value[u][:, : size[v]]
        if joined[0, v]:
            total = total + reference_convolution(cell.projections[str(v)], features)
        if operations(arch)[v - 1] == MAX_POOL:
            value[v] = functional.max_pool2d(total, 3, 1, 1)
        else:
            value[v] = reference_convolution(cell.operations[str(v)], total)
    output = torch.cat([value[v] for v in into], 1) if into else 0
    if joined[0, 6]:
        output = output + reference_convolution(cell.projections["6"], features)
    return output


@given(cells, st.integers(0, 2**31))
def test_cells_compute_what_the_paper_says(arch, seed):
    torch.manual_seed(seed)
    cell = Cell(arch, 5, 11, running_stats=False).double()
    features = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(cell(features), reference_cell(cell, arch, features, 11))
    kinds = [operations(arch)[int(name) - 1] for name in cell.operations]
    for kind, module in zip(kinds, cell.operations.values(), strict=True):
        kernel = {CONV_3X3: (3, 3), CONV_1X1: (1, 1)}.get(kind)
        found = module[0].kernel_size if isinstance(module, ConvBNReLU) else None
        assert found == kernel


@pytest.mark.parametrize("arch", [INPUT_TO_OUTPUT, draw(3)], ids=["bare", "random"])
def test_network_equals_the_plain_way(arch):
    torch.manual_seed(0)
    network = SPACE.network(arch, running_stats=False).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    features = reference_convolution(network.stem, images)
    for number, width in enumerate((128, 256, 512)):
        features = functional.max_pool2d(features, 2, 2) if number else features
        for cell in network.blocks()[3 * number : 3 * number + 3]:
            features = reference_cell(cell, arch, features, width)
    plain = network.head[-1](features.mean(dim=(2, 3)))
    torch.testing.assert_close(network(images), plain)
    assert [len(stack) for stack in network.stacks] == [3, 4, 4]
    assert len(network.blocks()) == 9


def test_initialisation_and_normalisation():
    torch.manual_seed(0)
    network = SPACE.network(SPACE.parse(json.dumps(INCEPTION)))
    for module in network.modules():
        if isinstance(module, Convolution):
            deviation = (2 / (module.kernel_size[0] ** 2 * module.out_channels)) ** 0.5
            assert module.bias is None
            weight = module.weight.detach()
            assert weight.std() == pytest.approx(deviation, rel=0.08)
            assert abs(weight.mean()) < 0.1 * deviation
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-5, 0.003)
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        if isinstance(module, torch.nn.ReLU):
            assert not module.inplace
    linear = network.head[-1]
    assert linear.weight.detach().std() == pytest.approx(0.01, rel=0.05)
    assert (linear.bias == 0).all()
