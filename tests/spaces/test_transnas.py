from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from conf.errors import UsageError
from proxies import score_model
from proxies.batch import pictures
from spaces import TableBenchmark
from spaces.nasbench201.canonical import family
from spaces.nasbench201.cell import CONV_1X1, CONV_3X3, EDGE_NAMES, EDGES, NODES, NONE, SKIP
from spaces.transnas import TransNASMacro, TransNASMicro
from spaces.transnas.canonical import derive
from spaces.transnas.cell import CELLS, REPRESENTATIVES
from spaces.transnas.network import BasicBlock, FactorizedReduce, MicroCell
from spaces.transnas.space import modules
from spaces.transnas.table import FILE
from spaces.transnas.tasks import TASKS
from tests.spaces.cells import live_edges
from tests.spaces.conformance import SpaceConformance

SPACES = (TransNASMicro, TransNASMacro)

cells = st.tuples(*[st.integers(0, 3)] * 6)


class TestMicroConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=[("class_object", 32), ("jigsaw", 24)])
    def space(self, request):
        return TransNASMicro(*request.param)


class TestMacroConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=[("class_scene", 16), ("normal", 16)])
    def space(self, request):
        return TransNASMacro(*request.param)


@pytest.fixture(params=SPACES)
def make(request):
    return request.param


@pytest.fixture(params=TASKS)
def task(request):
    return request.param


# -- the spaces -------------------------------------------------------------------------------


def test_tasks_and_image_sizes():
    for make, usual in ((TransNASMicro, 64), (TransNASMacro, 96)):
        sizes = {task: make(task).image_size for task in TASKS}
        assert sizes == {task: 192 if task == "jigsaw" else usual for task in TASKS}
        classes = {task: make(task).classes for task in ("class_scene", "class_object", "jigsaw")}
        assert classes == {"class_scene": 47, "class_object": 75, "jigsaw": 1000}
        assert make("class_object", image_size=256).image_size == 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "cifar10"}, r"^space\.dataset=cifar10 is unknown; choose one of: autoenc"),
        ({"image_size": 0}, r"^space\.image_size=0 is not possible; give a positive number\.$"),
        ({"dataset": "jigsaw", "image_size": 64}, "image_size=64 .* give a multiple of 3"),
        ({"dataset": "jigsaw", "image_size": -3}, "image_size=-3 .* give a multiple of 3"),
    ],
)
def test_impossible_settings_are_refused(make, settings, message):
    with pytest.raises(UsageError, match=message):
        make(**settings)


def test_networks_that_differ_have_keys_that_differ(make):
    assert make("normal").network_key() == make("autoencoder").network_key()
    keys = [make(task).network_key() for task in ("class_scene", "jigsaw", "normal")]
    keys += [make("class_scene", image_size=128).network_key()]
    assert len({tuple(sorted(key.items())) for key in keys}) == 4


def test_scores_of_former_skeletons_are_not_found():
    assert TransNASMacro().network_key()["version"] == 2
    assert "version" not in TransNASMicro().network_key()


def test_notation_of_cells():
    space = TransNASMicro()
    assert space.parse("64-41414-1_02_333") == (1, 0, 2, 3, 3, 3)
    assert space.format((1, 0, 2, 3, 3, 3)) == "64-41414-1_02_333"
    assert space.size == 4096
    for text in ("64-41414-1_02_334", "64-41414-10_2_333", "64-1234-basic", "32-41414-1_02_333"):
        with pytest.raises(UsageError, match="write it as 64-41414-1_02_333"):
            space.parse(text)


def test_notation_of_skeletons():
    space = TransNASMacro()
    assert space.parse("64-1234-basic") == (0, 1, 2, 3, 4, 4)
    assert space.format((0, 1, 2, 3, 0, 4)) == "64-12341-basic"
    assert modules((0, 1, 2, 3, 0, 4)) == (1, 2, 3, 4, 1)


@pytest.mark.parametrize(
    "digits", ["123", "1234111", "1235", "1111", "1222", "1333", "444411", "433333", "433331", ""]
)
def test_impossible_skeletons_are_refused(digits):
    """Too short or long; nothing doubled or halved; doubled four times, halved five times."""
    with pytest.raises(UsageError, match="no architecture of transnas_macro: write it as 64-1234"):
        TransNASMacro().parse(f"64-{digits}-basic")


def test_skeletons_are_counted_as_published():
    space = TransNASMacro()
    every = list(space.enumerate())
    assert len(every) == space.size == 3256
    assert Counter(len(modules(arch)) for arch in every) == {4: 210, 5: 750, 6: 2296}
    assert Counter(sum(d in (2, 4) for d in modules(a)) for a in every).keys() == {1, 2, 3}
    halvings = Counter(sum(d in (3, 4) for d in modules(a)) for a in every)
    assert halvings == {1: 427, 2: 949, 3: 1126, 4: 754}


def test_modules_are_absent_at_the_end_alone():
    space = TransNASMacro()
    assert space.is_valid((0, 1, 2, 3, 4, 4))
    assert not space.is_valid((0, 1, 2, 3, 4, 0))
    assert not space.is_valid((0, 1, 2, 4, 4, 4))
    assert (0, 1, 2, 3, 0, 4) in space.neighbours((0, 1, 2, 3, 4, 4))


def test_every_skeleton_is_drawn_alike():
    drawn = Counter(TransNASMacro().sample(np.random.default_rng(0), 50 * 3256))
    assert len(drawn) == 3256
    assert 15 < min(drawn.values()) < max(drawn.values()) < 100


@given(st.text(alphabet="0123456-_basic ", max_size=20))
def test_any_text_parses_or_is_refused(text):
    for make, form in ((TransNASMicro, "64-41414-{}"), (TransNASMacro, "64-{}-basic")):
        for candidate in (text, form.format(text)):
            try:
                arch = make().parse(candidate)
            except UsageError:
                continue
            assert make().format(arch) == candidate.strip()


def test_graphs():
    graph = TransNASMicro().graph((1, 0, 2, 3, 3, 3))
    names = [TransNASMicro.graph_operations[o] for o in graph.operations]
    assert names == ["input", "skip", "none", "conv1x1", *["conv3x3"] * 3, "output"]
    for node, (target, source) in enumerate(EDGES, start=1):
        feeds = {later for later, (_, start) in enumerate(EDGES, start=1) if start == target}
        assert set(np.flatnonzero(graph.adjacency[node])) == (feeds or {7})
        assert graph.adjacency[0, node] == (source == 0)
    chain = TransNASMacro().graph((0, 1, 2, 3, 4, 4))
    names = [TransNASMacro.graph_operations[o] for o in chain.operations]
    assert names == ["normal", "channels", "resolution", "both", "absent", "absent"]
    np.testing.assert_array_equal(chain.adjacency, np.eye(6, k=1, dtype=bool))


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.transnas import TransNASMacro, TransNASMicro\n"
        "for s in (TransNASMacro(), TransNASMicro()):\n"
        "    a = next(s.enumerate()); s.table(); s.canonical(a); s.graph(a)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- canonical forms --------------------------------------------------------------------------


def test_shipped_representatives_are_the_derived_ones():
    shipped = np.load(REPRESENTATIVES, allow_pickle=False)
    assert shipped.dtype == np.uint16
    np.testing.assert_array_equal(shipped, derive())


def live_part(cell):
    live = live_edges(cell)
    return tuple(operation if edge in live else NONE for edge, operation in enumerate(cell))


class RandomCells:
    """Cells on a random vector, with weights v -> tanh(W v) drawn at random and handed out.

    In a reducing cell the input is shorter than the nodes, and a skip out of it has weights.
    """

    def __init__(self, reducing):
        rng = np.random.default_rng(int(reducing))
        self.reducing = reducing
        self.image = rng.normal(size=3 if reducing else 4)
        self.look = rng.normal(size=4)
        self.weights = {
            (operation, width): rng.normal(size=(len(EDGES), 4, width))
            for operation, width in itertools.product((SKIP, CONV_1X1, CONV_3X3), (3, 4))
        }

    def kind(self, cell, edge):
        """Edges of one kind can exchange their weights; None: the edge has no weights."""
        width = 3 if self.reducing and EDGES[edge][1] == 0 else 4
        return None if cell[edge] == SKIP and width == 4 else (cell[edge], width)

    def signature(self, cell):
        """The smallest output, seen in one direction, over all ways to hand out the weights."""
        kinds = {edge: self.kind(cell, edge) for edge in live_edges(cell)}
        groups = [[e for e in kinds if kinds[e] == kind] for kind in {*kinds.values()} - {None}]
        orders = [list(itertools.permutations(range(len(edges)))) for edges in groups]
        handed = np.array([[*itertools.chain(*ways)] for ways in itertools.product(*orders)], int)
        column = {edge: i for i, edge in enumerate(itertools.chain(*groups))}
        nodes = [np.tile(self.image, (len(handed), 1))]
        nodes += [np.zeros((len(handed), 4)) for _ in range(1, NODES)]
        for edge, kind in kinds.items():
            target, source = EDGES[edge]
            value = nodes[source]
            if kind is not None:
                weights = self.weights[kind][handed[:, column[edge]]]
                value = np.tanh(np.einsum("pij,pj->pi", weights, value))
            nodes[target] += value
        return (nodes[-1] @ self.look).min()


def test_cells_share_a_representative_exactly_if_both_kinds_compute_the_same():
    parts = sorted({live_part(cell) for cell in CELLS})
    groups = []
    for reducing in (False, True):
        random = RandomCells(reducing)
        values = np.array([random.signature(part) for part in parts])
        ordered = np.sort(values)
        gaps = np.diff(ordered)
        assert not ((gaps > 1e-12) & (gaps < 1e-10)).any(), "equal and different can be told apart"
        starts = ordered[np.concatenate(([True], gaps > 1e-11))]
        groups.append(np.searchsorted(starts, values + 1e-11))
    numeric = dict(zip(parts, zip(*groups, strict=True), strict=True))
    space = TransNASMicro()
    pairs = {(numeric[live_part(cell)], space.canonical(cell)) for cell in CELLS}
    forms = {representative for _, representative in pairs}
    assert len(pairs) == len(forms) == len(set(numeric.values())) == 1376


def test_cells_that_keep_the_shape_alone_would_tell_fewer_apart():
    assert len({family(cell) for cell in CELLS}) == 1011


def test_representatives_are_the_cheapest():
    def cost(cell):
        convolutions = sum(operation in (CONV_1X1, CONV_3X3) for operation in cell)
        return convolutions, cell.count(SKIP), cell

    space = TransNASMicro()
    for cell in CELLS:
        assert cost(space.canonical(cell)) <= cost(cell)
        assert live_part(space.canonical(cell)) == space.canonical(cell)


def test_a_skip_contracts_only_where_it_has_no_weights():
    space = TransNASMicro()
    one, other = space.parse("64-41414-1_00_030"), space.parse("64-41414-3_00_010")
    assert space.canonical(one) != space.canonical(other)  # the first halves by the skip
    one, other = space.parse("64-41414-3_03_001"), space.parse("64-41414-3_01_003")
    assert space.canonical(one) == space.canonical(other)


def test_skeletons_are_their_own_canonical_forms():
    space = TransNASMacro()
    assert all(space.canonical(arch) == arch for arch in space.enumerate())


# -- the tables -------------------------------------------------------------------------------


OPTIMA = [
    (TransNASMicro, "class_scene", 54.94, 2),
    (TransNASMicro, "class_object", 45.59, 2),
    (TransNASMicro, "autoencoder", 0.5772, 4),
    (TransNASMicro, "normal", 0.5873, 4),
    (TransNASMicro, "jigsaw", 95.37, 2),
    (TransNASMicro, "room_layout", -0.6010, 4),
    (TransNASMicro, "segmentsemantic", 94.61, 2),
    (TransNASMacro, "class_scene", 57.41, 2),
    (TransNASMacro, "class_object", 47.42, 2),
    (TransNASMacro, "autoencoder", 0.7488, 4),
    (TransNASMacro, "normal", 0.6435, 4),
    (TransNASMacro, "jigsaw", 97.02, 2),
    (TransNASMacro, "room_layout", -0.5822, 4),
]


@pytest.mark.parametrize(("make", "task", "best", "digits"), OPTIMA)
def test_published_optima(make, task, best, digits):
    assert round(float(make(task).table().val.max()), digits) == best


def test_best_skeleton_for_segmentation():
    assert TransNASMacro("segmentsemantic").table().val.max() == pytest.approx(94.86, abs=5e-3)


def test_there_are_validation_values_alone(make, task):
    benchmark = TableBenchmark(make(task))
    found = benchmark.evaluate(next(make(task).enumerate()), np.random.default_rng(0))
    assert benchmark.protocol == "validation"
    assert benchmark.higher_is_better
    assert found.objective == found.val
    assert math.isnan(found.test)
    assert math.isnan(found.train_seconds)
    assert benchmark.describe()["test"] is None


def test_metrics():
    expected = {
        "class_scene": ("accuracy", "%", 25),
        "class_object": ("accuracy", "%", 25),
        "autoencoder": ("SSIM", "", 30),
        "normal": ("SSIM", "", 30),
        "jigsaw": ("accuracy", "%", 10),
        "room_layout": ("negative L2 loss", "", 25),
        "segmentsemantic": ("pixel accuracy", "%", 30),
    }
    for task, (metric, unit, epochs) in expected.items():
        table = TransNASMacro(task).table(epochs=epochs)
        assert (table.metric, table.unit, table.epochs) == (metric, unit, epochs)
        with pytest.raises(UsageError, match=rf"epochs=200 is not in the table; choose {epochs}"):
            TransNASMacro(task).table(epochs=200)


def test_targets_lie_among_the_best(make, task):
    table = make(task).table()
    shares = [(table.val >= target).mean() for target in table.targets]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < 0.01 < shares[0] < 0.15


def test_cells_without_a_path_learn_nothing():
    """All 169 have one and the same result, which settles what digit and what edge is which."""
    space = TransNASMicro("class_scene")
    dead = [cell for cell in space.enumerate() if not live_edges(cell)]
    living = [cell for cell in space.enumerate() if live_edges(cell)]
    assert len(dead) == 169
    results = {}
    for task in ("class_scene", "class_object", "segmentsemantic"):
        table = TransNASMicro(task).table()
        values = np.unique(table.val[table.rows(dead)])
        assert len(values) == 1
        results[task] = values[0]
    table = space.table()
    assert table.val[table.rows(living)].min() > 2 * results["class_scene"]


def test_larger_convolutions_are_better():
    table = TransNASMicro("jigsaw").table()
    uniform = table.val[table.rows([(operation,) * 6 for operation in range(4)])]
    assert uniform[CONV_3X3] > 8 * uniform[CONV_1X1] > 8 * max(uniform[NONE], uniform[SKIP])


@pytest.mark.parametrize(("make", "listing"), [(SPACES[0], "micro"), (SPACES[1], "macro")])
def test_a_table_of_ones_own_in_another_order(tmp_path, make, listing):
    space = make("normal")
    order = np.random.default_rng(0).permutation(space.size)
    with np.load(FILE) as shipped:
        names = [name for name in shipped.files if name.startswith(listing)]
        np.savez(tmp_path / "own.npz", **{name: shipped[name][order] for name in names})
    own, table = space.table(tmp_path / "own.npz"), space.table()
    archs = list(space.enumerate())
    np.testing.assert_array_equal(own.val[own.rows(archs)], table.val[table.rows(archs)])


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (TransNASMicro, "micro/operations", (4, 0, 0, 0, 0, 0)),
        (TransNASMicro, "micro/operations", (255,) * 6),
        (TransNASMacro, "macro/modules", (1, 1, 1, 1, 0, 0)),
        (TransNASMacro, "macro/modules", (1, 2, 3, 0, 0, 0)),
        (TransNASMacro, "macro/modules", (9, 2, 3, 4, 0, 0)),
    ],
)
def test_other_tables_are_refused(tmp_path, make, name, value):
    with np.load(FILE) as shipped:
        columns = dict(shipped)
    columns[name][7] = value
    np.savez(tmp_path / "own.npz", **columns)
    with pytest.raises(UsageError, match=f"{name} must list each of {make().size} architectures"):
        make().table(tmp_path / "own.npz")


# -- the networks -----------------------------------------------------------------------------


def convolution(incoming, channels, kernel):
    return kernel**2 * incoming * channels + 2 * channels


def parameters(network):
    return sum(p.numel() for p in network.parameters())


STEM = 27 * 32 + 2 * 32 + convolution(32, 64, 3)


@given(st.integers(0, 3255))
def test_parameters_of_skeletons(number):
    space = TransNASMacro("class_scene")
    arch = list(space.enumerate())[number]
    channels, expected = 64, STEM
    for digit in modules(arch):
        incoming, channels = channels, channels * (2 if digit in (2, 4) else 1)
        expected += convolution(incoming, channels, 3) + 3 * convolution(channels, channels, 3)
        expected += convolution(incoming, channels, 1) if digit != 1 else 0
    with torch.device("meta"):
        assert parameters(space.network(arch)) == expected + 47 * (channels + 1)


@given(cells)
def test_parameters_of_cells(arch):
    space = TransNASMicro("class_object")
    expected, channels = STEM + 75 * 513, 64
    for reducing in (True, False, True, False, True):
        incoming, channels = channels, channels * (1 + reducing)
        for first in (True, False):
            for operation, (_, source) in zip(arch, EDGES, strict=True):
                given_channels = incoming if first and source == 0 else channels
                if operation in (CONV_1X1, CONV_3X3):
                    kernel = 1 if operation == CONV_1X1 else 3
                    expected += convolution(given_channels, channels, kernel)
                elif operation == SKIP and given_channels != channels:
                    expected += convolution(given_channels, channels, 1)
    with torch.device("meta"):
        assert parameters(space.network(arch)) == expected


def reference(module, features, stride):
    conv, norm = module.conv, module.bn
    padding = conv.kernel_size[0] // 2
    features = functional.conv2d(features.relu(), conv.weight, None, stride, padding)
    return functional.batch_norm(features, None, None, norm.weight, norm.bias, training=True)


def reference_skip(module, features, stride):
    """Every other pixel from the first on, and from the second on, zero beyond the border."""
    features = features.relu()
    first, second = (conv.weight[:, :, 0, 0] for conv in module.convolutions)
    padded = functional.pad(features, (0, 1, 0, 1))[:, :, 1:, 1:]
    maps = [
        torch.einsum("oc,nchw->nohw", weight, given[:, :, ::stride, ::stride])
        for weight, given in ((first, features), (second, padded))
    ]
    output = torch.cat(maps, dim=1)
    return functional.batch_norm(output, None, None, module.bn.weight, module.bn.bias, True)


@given(cells, st.sampled_from([(4, 4, 1), (4, 8, 2)]), st.integers(0, 2**31))
def test_cells_compute_the_plain_way(arch, shape, seed):
    torch.manual_seed(seed)
    incoming, channels, stride = shape
    cell = MicroCell(arch, incoming, channels, stride).double()
    features = torch.randn(3, incoming, 6, 6, dtype=torch.float64)
    nodes = [features]
    for target in range(1, NODES):
        total = torch.zeros(3, channels, 6 // stride, 6 // stride, dtype=torch.float64)
        for operation, name, (to, source) in zip(arch, EDGE_NAMES, EDGES, strict=True):
            if to != target or operation == NONE:
                continue
            step = stride if source == 0 else 1
            if operation == SKIP:
                given_value = nodes[source]
                if step == 2:
                    given_value = reference_skip(cell.operations[name], given_value, step)
                total = total + given_value
            else:
                total = total + reference(cell.operations[name], nodes[source], step)
        nodes.append(total)
    torch.testing.assert_close(cell(features), nodes[-1])


@given(cells, st.sampled_from([(4, 4, 1), (4, 8, 2)]))
def test_every_operation_runs_once(arch, shape):
    cell, run = MicroCell(arch, *shape), []
    for name, module in cell.operations.items():
        module.register_forward_hook(lambda *_, name=name: run.append(name))
    cell(torch.randn(2, shape[0], 4, 4))
    edges = zip(EDGE_NAMES, arch, strict=True)
    assert sorted(run) == sorted(name for name, operation in edges if operation != NONE)


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 8, 2), (4, 8, 1), (4, 4, 2)])
@pytest.mark.parametrize("side", [7, 8])
def test_shapes_of_cells(shape, side):
    incoming, channels, stride = shape
    features = torch.randn(2, incoming, side, side)
    expected = (2, channels, math.ceil(side / stride), math.ceil(side / stride))
    for arch in ((0,) * 6, (1,) * 6, (2,) * 6, (3,) * 6, (1, 0, 0, 0, 1, 0)):
        assert MicroCell(arch, *shape)(features).shape == expected
    assert BasicBlock(*shape)(features).shape == expected


@pytest.mark.parametrize(("incoming", "channels", "stride"), [(4, 4, 1), (4, 6, 2), (4, 4, 2)])
def test_basic_block_computes_the_plain_way(incoming, channels, stride):
    torch.manual_seed(0)
    block, features = BasicBlock(incoming, channels, stride), torch.randn(3, incoming, 6, 6)
    first, second = block.residual
    expected = reference(second, reference(first, features, stride), 1)
    if (incoming, stride) == (channels, 1):
        expected = expected + features
    else:
        conv, norm = block.shortcut
        short = functional.conv2d(features, conv.weight, None, stride)
        expected = (
            expected
            + (short - short.mean((0, 2, 3), keepdim=True))
            / (short.var((0, 2, 3), unbiased=False, keepdim=True) + 1).sqrt()
        )
        assert norm.momentum == 1
    torch.testing.assert_close(block(features), expected)


def test_network_equals_the_plain_way(make):
    """Two convolutions of stride 2, with a ReLU between them; cells; pooling, without a ReLU."""
    torch.manual_seed(0)
    space = make("class_scene")
    arch = (1, 2, 3, 1, 0, 3) if make is TransNASMicro else space.parse("64-1234-basic")
    network, images = space.network(arch).double(), torch.randn(3, 3, 64, 64).double()
    convolution, norm, second = network.stem
    features = functional.conv2d(images, convolution.weight, None, 2, 1)
    features = functional.batch_norm(features, None, None, norm.weight, norm.bias, True, eps=1e-5)
    features = reference(second, features, 2)
    for block in network.blocks():
        features = block(features)
    expected = functional.linear(features.mean(dim=(2, 3)), *network.head.parameters())
    torch.testing.assert_close(network(images), expected)
    assert len(network.blocks()) == (10 if make is TransNASMicro else 8)


def test_shapes_between_the_blocks_of_the_published_size():
    """A picture of 256 pixels leaves the cells as 512 maps of 8 x 8."""
    space = TransNASMicro(image_size=256)
    shapes = []
    with torch.device("meta"):
        network = space.network((3,) * 6)
        for block in network.blocks():
            block.register_forward_hook(lambda _, __, output: shapes.append(output.shape[1:]))
        network(torch.randn(2, 3, 256, 256))
    sides = [(128, 32)] * 4 + [(256, 16)] * 4 + [(512, 8)] * 2
    assert [tuple(shape) for shape in shapes] == [(c, side, side) for c, side in sides]


def test_default_pictures_leave_more_than_a_pixel(make):
    """BatchNorm cannot normalise one picture of one pixel, which costs are counted on."""
    space = make()
    archs = [(3,) * 6] if make is TransNASMicro else [space.parse("64-333412-basic")]
    with torch.device("meta"):
        features = torch.randn(2, 3, space.image_size, space.image_size)
        network = space.network(archs[0])
        assert network.body(network.stem(features)).shape[2] == 2


def test_jigsaw_encodes_nine_tiles_with_the_same_weights():
    torch.manual_seed(0)
    space = TransNASMicro("jigsaw", image_size=96)
    network = space.network((3, 0, 1, 0, 1, 2), classes=5, running_stats=False)
    images = torch.randn(2, 3, 96, 96)
    features = []
    for row, column in itertools.product(range(3), repeat=2):
        tile = images[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        features.append(network.body(network.stem(tile)).mean(dim=(2, 3)))
    expected = functional.linear(torch.cat(features, 1), network.head.weight, network.head.bias)
    torch.testing.assert_close(network(images), expected)
    assert network.head.in_features == 9 * 512


def test_convolutions_are_drawn_as_by_the_benchmark():
    torch.manual_seed(0)
    for network in (TransNASMicro().network((1, 2, 3, 1, 2, 3)), TransNASMacro().network((3,) * 4)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] ** 2
                assert module.bias is None
                assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_no_relu_works_in_place():
    relus = [m for m in TransNASMicro().network((3,) * 6).modules() if isinstance(m, nn.ReLU)]
    assert len(relus) == 6 * 10 + 1
    assert not any(relu.inplace for relu in relus)


def test_a_cell_of_nothing_gives_zeros_and_keeps_the_graph():
    network = TransNASMicro(image_size=32).network((0,) * 6)
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    logits = network(images)
    torch.testing.assert_close(logits, network.head.bias.expand(2, 75))
    logits.sum().backward()
    assert not images.grad.any()


def test_the_reducing_skip_needs_a_pixel_more():
    torch.manual_seed(0)
    skip = FactorizedReduce(1, 2, 2, running_stats=False)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 1] = 1  # seen by the shifted half alone
    even, odd = skip(image)[0]
    assert not even.any()
    assert odd.any()


@pytest.mark.parametrize("task", ["class_scene", "jigsaw", "room_layout", "normal"])
def test_networks_can_be_scored(make, task):
    space = make(task, image_size=48)
    batch = pictures(space, size=6)
    assert batch.stand_in == f"CIFAR-10 pictures with random labels stand in for {task}"
    network = space.network(next(iter(space.sample(np.random.default_rng(3), 1))))
    scores = score_model(
        network, batch.inputs, batch.targets, proxies=["snip", "synflow", "naswot", "params"]
    )
    assert all(math.isfinite(score) for score in scores.values())
