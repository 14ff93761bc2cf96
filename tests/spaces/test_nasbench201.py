from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from conf.errors import UsageError
from spaces.nasbench201 import NASBench201
from spaces.nasbench201.cell import (
    AVG_POOL,
    CELLS,
    CONV_1X1,
    CONV_3X3,
    EDGE_NAMES,
    EDGES,
    NONE,
    OPERATIONS,
    SKIP,
)
from spaces.nasbench201.network import Cell, Network
from tests.spaces.cells import live_edges
from tests.spaces.conformance import SpaceConformance

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
CLASSES = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}
FIRST = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
    "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
)
BEST = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|"
    "+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)

cells = st.tuples(*[st.integers(0, 4)] * 6)


class TestConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture(params=DATASETS)
    def space(self, request):
        return NASBench201(request.param)


# -- the space --------------------------------------------------------------------------------


def test_datasets():
    sizes = {"cifar10": 32, "cifar100": 32, "ImageNet16-120": 16}
    for dataset in DATASETS:
        space = NASBench201(dataset)
        found = space.dataset, space.classes, space.image_size
        assert found == (dataset, CLASSES[dataset], sizes[dataset])


def test_unknown_dataset_is_refused():
    message = r"^space\.dataset=mnist is unknown; choose one of: ImageNet16-120, cifar10, cifar100"
    with pytest.raises(UsageError, match=message):
        NASBench201("mnist")


def test_decisions_are_the_edges():
    space = NASBench201()
    assert [d.name for d in space.decisions] == ["1<-0", "2<-0", "2<-1", "3<-0", "3<-1", "3<-2"]
    choices = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    assert all(d.choices == choices for d in space.decisions)
    assert space.size == len(list(space.enumerate())) == 15_625


def test_arch_strings():
    space = NASBench201()
    assert space.parse(FIRST) == (4, 2, 1, 2, 1, 1)
    assert space.format((4, 2, 1, 2, 1, 1)) == FIRST
    assert len({space.format(cell) for cell in CELLS}) == 15_625


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BEST.replace("~2", "~1"), r"write it as \|op~0\|\+\|op~0\|op~1\|\+\|op~0\|op~1\|op~2\|"),
        (BEST[:-1], "write it as"),
        (BEST + "+" + BEST, "write it as"),
        (BEST.replace("skip_connect", "skip"), "3<-0 can be none, .*avg_pool_3x3, not 'skip'"),
        (BEST.replace("nor_conv_3x3~0|+", "~0|+"), "1<-0 can be .* not ''"),
    ],
)
def test_damaged_arch_strings_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        NASBench201().parse(text)


@given(st.text())
def test_any_text_parses_or_is_refused(text):
    space = NASBench201()
    try:
        arch = space.parse(text)
    except UsageError:
        return
    assert space.format(arch) == text.strip()


@given(cells)
def test_graph_says_what_the_cell_says(arch):
    space = NASBench201()
    graph = space.graph(arch)
    names = [space.graph_operations[label] for label in graph.operations]
    assert names == ["input", *(OPERATIONS[a] for a in arch), "output"]
    assert not graph.adjacency.flags.writeable
    for node, (target, source) in enumerate(EDGES, start=1):
        feeds = {later for later, (_, start) in enumerate(EDGES, start=1) if start == target}
        assert set(np.flatnonzero(graph.adjacency[node])) == (feeds or {7})
        assert graph.adjacency[0, node] == (source == 0)


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.nasbench201 import NASBench201; s = NASBench201(); "
        "s.table(); s.canonical((0,) * 6); s.graph((0,) * 6); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- the table --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=DATASETS)
def dataset(request):
    return request.param


@pytest.fixture(scope="module")
def counts():
    """How often each operation occurs in each cell, int64 [15625, 5], in row order."""
    rows = NASBench201().table().rows(CELLS)
    found = np.empty((len(CELLS), len(OPERATIONS)), np.int64)
    found[rows] = np.stack([(np.array(CELLS) == o).sum(1) for o in range(len(OPERATIONS))], 1)
    return found


def test_rows_are_in_the_official_order():
    space = NASBench201()
    rows = space.table().rows
    assert rows([space.parse(FIRST)]).tolist() == [0]
    assert rows([]).tolist() == []
    assert sorted(rows(CELLS).tolist()) == list(range(15_625))


PUBLISHED_BEST = [
    ("cifar10", 91.607, 94.373),
    ("cifar100", 73.493, 73.513),
    ("ImageNet16-120", 46.733, 47.311),
]


@pytest.mark.parametrize(("dataset", "val", "test"), PUBLISHED_BEST)
def test_best_accuracies_as_published(dataset, val, test):
    table = NASBench201(dataset).table()
    assert table.val.max() == pytest.approx(val, abs=5e-4)
    assert table.test.max() == pytest.approx(test, abs=5e-4)


@pytest.mark.parametrize(
    ("dataset", "index", "arch"),
    [("cifar10", 6111, BEST.replace("3x3~2", "1x1~2")), ("cifar100", 9930, BEST)],
)
def test_best_cells(dataset, index, arch):
    space = NASBench201(dataset)
    table = space.table()
    assert table.rows([space.parse(arch)]).tolist() == [index]
    assert table.val.argmax() == table.test.argmax() == index


def test_best_accuracy_with_each_operation_as_published():
    """Of Zero-Cost-PT's ground truth: best test accuracy of any seed, first and last edge."""
    space = NASBench201("cifar10")
    best = np.nanmax(space.column("test_200_seeds_v10"), axis=1)[space.table().rows(CELLS)]
    cells = np.array(CELLS)

    def by_operation(edge):
        return [round(best[cells[:, edge] == o].max(), 2) for o in range(len(OPERATIONS))]

    assert by_operation(0) == [94.15, 94.18, 94.44, 94.68, 93.86]
    assert by_operation(5) == [94.05, 94.16, 94.68, 94.56, 94.10]


def test_mean_validation_is_the_mean_of_the_seeds(dataset):
    table = NASBench201(dataset).table()
    seeds = (~np.isnan(table.val_seeds)).sum(axis=1)
    assert np.bincount(seeds).tolist() == [0, 0, 7456, 8169]
    np.testing.assert_allclose(np.nanmean(table.val_seeds, axis=1), table.val, atol=0.006)


def test_accuracies_lie_between_chance_and_certainty(dataset):
    space = NASBench201(dataset)
    for epochs in (12, 200):
        table = space.table(epochs=epochs)
        for accuracy in (table.val, table.test):
            assert accuracy.dtype == np.float32
            assert accuracy.shape == (15_625,)
            assert accuracy.min() > 0.9 * 100 / space.classes
            assert accuracy.max() < 95


def test_short_training_is_shorter_and_worse(dataset):
    space = NASBench201(dataset)
    short, full = space.table(epochs=12), space.table()
    assert (short.epochs, full.epochs) == (12, 200)
    assert short.val_seeds is None
    np.testing.assert_allclose(short.train_seconds, full.train_seconds * 0.06, rtol=1e-6)
    assert short.val.max() < full.val.max()
    assert np.corrcoef(short.val, full.val)[0, 1] > 0.7


def test_training_time_goes_with_the_number_of_training_images():
    times = {dataset: NASBench201(dataset).column("train_seconds") for dataset in DATASETS}
    np.testing.assert_allclose(times["cifar100"], 2 * times["cifar10"], rtol=1e-6)
    np.testing.assert_allclose(
        times["ImageNet16-120"], 151_700 / 25_000 * times["cifar10"], rtol=1e-6
    )


def test_flops_count_what_the_provenance_says(dataset, counts):
    """Multiply-adds, 3 per element for ReLU and BatchNorm, 9 per element of a pooling."""
    pixels = NASBench201(dataset).image_size ** 2
    stages = [(16, pixels), (32, pixels // 4), (64, pixels // 16)]
    elements = 5 * sum(channels * size for channels, size in stages)
    conv_1x1 = 5 * sum(channels**2 * size for channels, size in stages) + 3 * elements
    conv_3x3 = 9 * (conv_1x1 - 3 * elements) + 3 * elements
    flops = NASBench201(dataset).column("flops_M")
    per_operation = 1e-6 * (
        counts[:, CONV_1X1] * conv_1x1
        + counts[:, CONV_3X3] * conv_3x3
        + counts[:, AVG_POOL] * 9 * elements
    )
    base = {"cifar10": 7.943872, "cifar100": 7.949632, "ImageNet16-120": 1.993792}[dataset]
    np.testing.assert_allclose(flops, base + per_operation, atol=2e-5)


def parameter_formula(dataset, conv_1x1, conv_3x3):
    base = {"cifar10": 73_306, "cifar100": 79_156, "ImageNet16-120": 80_456}[dataset]
    return base + 243_040 * conv_3x3 + 28_000 * conv_1x1


def test_parameters_of_every_cell(dataset, counts):
    parameters = NASBench201(dataset).column("params")
    expected = parameter_formula(dataset, counts[:, CONV_1X1], counts[:, CONV_3X3])
    np.testing.assert_array_equal(parameters, expected)


def test_columns(dataset):
    space = NASBench201(dataset)
    table = space.table()
    np.testing.assert_array_equal(space.column("val_200"), table.val)
    np.testing.assert_array_equal(space.column("test_200"), table.test)
    np.testing.assert_array_equal(space.column("val_200_seeds"), table.val_seeds)
    assert space.column("latency_seconds").dtype == np.float64
    assert 0 < space.column("latency_seconds").min() < space.column("latency_seconds").max() < 0.1
    with pytest.raises(UsageError, match="column=energy is unknown; choose one of: flops_M"):
        space.column("energy")


def test_seeds_of_the_old_release_are_of_cifar10_alone():
    assert NASBench201("cifar10").column("test_200_seeds_v10").shape == (15_625, 3)
    with pytest.raises(UsageError, match="unknown"):
        NASBench201("cifar100").column("test_200_seeds_v10")


# -- the network ------------------------------------------------------------------------------


def test_parameters_of_built_networks(dataset):
    space = NASBench201(dataset)
    parameters = space.column("params")
    archs = space.sample(np.random.default_rng(len(dataset)), 500)
    built = [sum(p.numel() for p in space.network(arch).parameters()) for arch in archs]
    np.testing.assert_array_equal(built, parameters[space.table().rows(archs)])


def reference_cell(cell, arch, features):
    """Run every operation, dead or alive, as the benchmark does."""
    nodes = [features]
    for target in (1, 2, 3):
        total = torch.zeros_like(features)
        for operation, name, (to, source) in zip(arch, EDGE_NAMES, EDGES, strict=True):
            if to != target:
                continue
            value = nodes[source]
            if operation == NONE:
                value = value * 0
            elif operation == AVG_POOL:
                value = functional.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
            elif operation != SKIP:
                value = reference_convolution(cell.operations[name], value, stride=1)
            total = total + value
        nodes.append(total)
    return nodes[3]


def reference_convolution(module, value, stride):
    weight = module.conv.weight
    value = functional.conv2d(value.relu(), weight, None, stride, weight.shape[-1] // 2)
    return reference_norm(module.bn, value)


def reference_norm(module, value):
    return functional.batch_norm(value, None, None, module.weight, module.bias, training=True)


def reference_network(network, arch, images):
    conv, norm = network.stem
    features = reference_norm(norm, functional.conv2d(images, conv.weight, None, 1, 1))
    for number, stage in enumerate(network.stages):
        blocks = list(stage)
        if number:
            reduction = blocks.pop(0)
            first, second = reduction.residual
            residual = reference_convolution(first, features, stride=2)
            residual = reference_convolution(second, residual, stride=1)
            shortcut = functional.avg_pool2d(features, 2, 2)
            features = residual + functional.conv2d(shortcut, reduction.shortcut[1].weight)
        assert len(blocks) == 5
        for cell in blocks:
            features = reference_cell(cell, arch, features)
    features = reference_norm(network.head[0], features).relu().mean(dim=(2, 3))
    return functional.linear(features, network.head[-1].weight, network.head[-1].bias)


@pytest.mark.parametrize("seed", range(8))
def test_forward_and_gradients_equal_the_plain_way(seed):
    arch = NASBench201().sample(np.random.default_rng(seed), 1)[0]
    torch.manual_seed(seed)
    network = Network(arch, 10, running_stats=False).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 10, dtype=torch.float64)
    ours, plain = network(images), reference_network(network, arch, images)
    torch.testing.assert_close(ours, plain)
    leaves = [images, *(p for n, p in network.named_parameters() if not n.endswith("bn.bias"))]
    gradients = [
        torch.autograd.grad((logits * weight).sum(), leaves, allow_unused=True)
        for logits in (ours, plain)
    ]
    for mine, reference in zip(*gradients, strict=True):
        expected = torch.zeros(()) if reference is None else reference
        found = torch.zeros_like(expected) if mine is None else mine
        torch.testing.assert_close(found, expected.expand_as(found), check_dtype=False)


@given(cells, st.integers(0, 2**31))
def test_every_operation_runs_once(arch, seed):
    torch.manual_seed(seed)
    cell = Cell(arch, channels=2)
    run = []
    for name, module in cell.operations.items():
        module.register_forward_hook(lambda *_, name=name: run.append(name))
    features = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(cell(features), reference_cell(cell, arch, features))
    assert sorted(run) == sorted(
        name for name, operation in zip(EDGE_NAMES, arch, strict=True) if operation != NONE
    )


@given(cells)
def test_canonical_cells_have_no_dead_branches(arch):
    representative = NASBench201().canonical(arch)
    alive = [i for i, operation in enumerate(representative) if operation != NONE]
    assert live_edges(representative) == alive


def test_a_zero_cell_gives_zeros_and_keeps_the_graph():
    network = NASBench201().network((0,) * 6)
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    logits = network(images)
    torch.testing.assert_close(logits, network.head[-1].bias.expand(2, 10))
    logits.sum().backward()
    assert not images.grad.any()


def test_no_relu_works_in_place():
    network = NASBench201().network((3,) * 6)
    relus = [module for module in network.modules() if isinstance(module, torch.nn.ReLU)]
    assert len(relus) == 6 * 15 + 4 + 1
    assert not any(relu.inplace for relu in relus)


@pytest.mark.parametrize(("channels", "cells"), [(1, 1), (4, 5), (16, 2)])
def test_thin_networks(channels, cells):
    space = NASBench201("cifar10", channels=channels, cells=cells)
    arch = (3, 2, 1, 0, 4, 3)
    widths = [channels, 2 * channels, 4 * channels]
    convolutions = sum(cells * (2 * 9 + 1) * w**2 for w in widths)
    norms = sum(cells * 3 * 2 * w for w in widths)
    stem = 27 * channels + 2 * channels
    reductions = sum((9 + 1) * w * w // 2 + 9 * w**2 + 4 * w for w in widths[1:])
    head = 2 * widths[-1] + 10 * widths[-1] + 10
    network = space.network(arch)
    total = sum(p.numel() for p in network.parameters())
    assert total == convolutions + norms + stem + reductions + head
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_thin_networks_have_their_own_key_and_the_same_table():
    usual, thin = NASBench201(), NASBench201(channels=4, cells=1)
    assert "channels" not in usual.network_key()
    assert thin.network_key() == usual.network_key() | {"channels": 4, "cells": 1}
    assert NASBench201(channels=16, cells=5).network_key() == usual.network_key()
    assert np.array_equal(thin.table().val, usual.table().val)


@pytest.mark.parametrize("setting", ["channels", "cells"])
def test_impossible_widths_are_refused(setting):
    with pytest.raises(UsageError, match=f"space.{setting}=0 is not possible"):
        NASBench201(**{setting: 0})


def test_modules_have_torchs_default_initialisation():
    torch.manual_seed(0)
    network = NASBench201().network((3,) * 6)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            bound = (module.in_channels * module.kernel_size[0] ** 2) ** -0.5
            assert module.bias is None
            assert 0.8 * bound < module.weight.abs().max() <= bound
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
