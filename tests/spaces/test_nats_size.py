from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from conf.errors import UsageError
from proxies import score_model
from proxies.batch import pictures
from spaces import TableBenchmark
from spaces.nats_size import NATSSize
from spaces.nats_size.network import Cell, Network
from spaces.nats_size.table import FILE
from tests.spaces.conformance import SpaceConformance

CLASSES = {"cifar10": 10, "cifar100": 100, "ImageNet16-120": 120}


class TestConformance(SpaceConformance):
    has_graph = True
    has_network = True
    enumerable_up_to = 40_000

    @pytest.fixture(params=CLASSES)
    def space(self, request):
        return NATSSize(request.param)


@pytest.fixture(params=CLASSES)
def space(request):
    return NATSSize(request.param)


# -- the space --------------------------------------------------------------------------------


def test_datasets():
    for dataset, classes in CLASSES.items():
        space = NATSSize(dataset)
        assert space.dataset == dataset
        assert (space.classes, space.image_size) == (classes, 16 if classes == 120 else 32)
    with pytest.raises(UsageError, match=r"^space\.dataset=mnist is unknown; choose one of: Imag"):
        NATSSize("mnist")


def test_notation():
    space = NATSSize()
    assert space.size == 32_768
    assert space.parse("8:16:24:32:40") == (0, 1, 2, 3, 4)
    assert space.format((7, 7, 7, 7, 7)) == "64:64:64:64:64"
    assert space.channels((0, 1, 2, 3, 7)) == (8, 16, 24, 32, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8:16:24:32", "write it as 8:16:24:32:40"),
        ("8:16:24:32:40:48", "write it as 8:16:24:32:40"),
        ("8:16:24:32:\uff140", "write it as 8:16:24:32:40"),
        ("8:16:24:32:12", "channels can be 8, 16, 24, 32, 40, 48, 56, 64, not 12"),
        ("8:16:24:32:008", "not 008"),
    ],
)
def test_damaged_notation_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        NATSSize().parse(text)


@given(st.text(alphabet="0123456789: 8"))
def test_any_text_parses_or_is_refused(text):
    space = NATSSize()
    try:
        arch = space.parse(text)
    except UsageError:
        return
    assert space.format(arch) == text.strip()


def test_graph_is_a_chain_of_channels():
    space = NATSSize()
    graph = space.graph((7, 0, 1, 2, 3))
    assert [space.graph_operations[o] for o in graph.operations] == ["64", "8", "16", "24", "32"]
    assert np.argwhere(graph.adjacency).tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.nats_size import NATSSize; s = NATSSize(); "
        "s.table(); s.canonical((0,) * 5); s.graph((0,) * 5); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- the table --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "best", "arch"),
    [
        ("cifar10", 93.65, "64:64:56:64:24"),
        ("cifar100", 71.34, "64:64:48:48:64"),
        ("ImageNet16-120", 47.40, "64:64:56:64:56"),
    ],
)
def test_best_accuracies_as_published(dataset, best, arch):
    space = NATSSize(dataset)
    table = space.table()
    assert table.test.max() == pytest.approx(best, abs=5e-4)
    assert table.rows([space.parse(arch)]).tolist() == [table.test.argmax()]


def test_there_are_test_accuracies_of_90_epochs_alone(space):
    benchmark = TableBenchmark(space)
    found = benchmark.evaluate((7,) * 5, np.random.default_rng(0))
    assert benchmark.protocol == "test"
    assert found.objective == found.test > 40
    assert math.isnan(found.val)
    assert math.isnan(found.train_seconds)
    assert benchmark.describe()["epochs"] == 90
    for epochs in (12, 200):
        with pytest.raises(UsageError, match=rf"benchmark\.epochs={epochs} .* choose 90"):
            space.table(epochs=epochs)


def test_accuracies_are_shares_of_the_test_images(space):
    """10,000 on cifar10, 5,000 on cifar100, 3,000 on ImageNet16-120: one run each."""
    images = {10: 10_000, 100: 5_000, 120: 3_000}[space.classes]
    correct = space.table().test.astype(float) * images / 100
    np.testing.assert_allclose(correct, np.rint(correct), atol=5e-4)
    assert correct.min() > images / space.classes


def test_rows_are_in_the_official_order():
    space = NATSSize()
    rows = space.table().rows(list(space.enumerate()))
    np.testing.assert_array_equal(rows, np.arange(32_768))


def test_columns(space):
    np.testing.assert_array_equal(space.column("test_90"), space.table().test)
    with pytest.raises(UsageError, match="column=flops is unknown; choose one of: params, test_90"):
        space.column("flops")


def convolution(incoming, channels, kernel):
    return kernel**2 * incoming * channels + 2 * channels


def test_parameters_of_every_architecture(space):
    """Recounted by hand: stem, three cells, two reductions and head."""
    first, second, third, fourth, last = np.array([space.channels(a) for a in space.enumerate()]).T

    def cell(incoming, channels):
        skip = np.where(incoming == channels, 0, convolution(incoming, channels, 1))
        from_input, inner = (convolution(c, channels, 3) for c in (incoming, channels))
        return 2 * from_input + 3 * inner + skip

    def reduction(incoming, channels):
        residual = convolution(incoming, channels, 3) + convolution(channels, channels, 3)
        return residual + incoming * channels

    head = 2 * last + (last + 1) * space.classes
    expected = convolution(3, first, 3) + cell(first, first) + reduction(first, second)
    expected += cell(second, third) + reduction(third, fourth) + cell(fourth, last) + head
    np.testing.assert_array_equal(space.column("params"), expected)


def test_a_table_of_ones_own_in_another_order(tmp_path):
    space, order = NATSSize(), np.random.default_rng(0).permutation(32_768)
    with np.load(FILE) as shipped:
        np.savez(tmp_path / "own.npz", **{name: shipped[name][order] for name in shipped.files})
    own, table = space.table(tmp_path / "own.npz"), space.table()
    archs = space.sample(np.random.default_rng(1), 100)
    np.testing.assert_array_equal(own.test[own.rows(archs)], table.test[table.rows(archs)])
    assert own.source == str(tmp_path / "own.npz")


@pytest.mark.parametrize("channels", [4, 12, 72, 0])
def test_a_table_of_other_channels_is_refused(tmp_path, channels):
    with np.load(FILE) as shipped:
        columns = dict(shipped)
    columns["channels"][5, 0] = channels
    np.savez(tmp_path / "own.npz", **columns)
    with pytest.raises(UsageError, match="channels must list each of 32768 architectures once"):
        NATSSize().table(tmp_path / "own.npz")


# -- the network ------------------------------------------------------------------------------


def test_parameters_of_built_networks(space):
    archs = space.sample(np.random.default_rng(space.classes), 150)
    with torch.device("meta"):
        built = [sum(p.numel() for p in space.network(a).parameters()) for a in archs]
    np.testing.assert_array_equal(built, space.column("params")[space.table().rows(archs)])


def reference_convolution(module, features, stride=1):
    features = functional.conv2d(features.relu(), module.conv.weight, None, stride, 1)
    return reference_norm(module.bn, features)


def reference_norm(module, features):
    return functional.batch_norm(features, None, None, module.weight, module.bias, True, eps=1e-5)


def reference_cell(cell, features):
    one = reference_convolution(cell.to_1, features)
    two = reference_convolution(cell.to_2, features) + reference_convolution(cell.from_1_to_2, one)
    skip = features
    if features.shape[1] != cell.from_2.conv.out_channels:
        convolution, norm = cell.skip  # NATS-Bench's code has no ReLU here
        skip = reference_norm(norm, functional.conv2d(features, convolution.weight))
    return skip + reference_convolution(cell.from_1, one) + reference_convolution(cell.from_2, two)


def reference_reduction(reduction, features):
    first, second = reduction.residual
    residual = reference_convolution(second, reference_convolution(first, features, 2))
    pooled = functional.avg_pool2d(features, 2)
    return residual + functional.conv2d(pooled, reduction.shortcut[1].weight)


@pytest.mark.parametrize(("incoming", "channels"), [(4, 4), (4, 6)])
def test_the_cell_is_the_best_of_nasbench201(incoming, channels):
    """|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|..~2|."""
    torch.manual_seed(0)
    cell, features = Cell(incoming, channels), torch.randn(3, incoming, 6, 6)
    torch.testing.assert_close(cell(features), reference_cell(cell, features))


def test_the_network_equals_the_plain_way():
    torch.manual_seed(0)
    network, images = Network((8, 16, 24, 24, 16), 10).double(), torch.randn(3, 3, 8, 8).double()
    convolution, norm = network.stem
    features = reference_norm(norm, functional.conv2d(images, convolution.weight, padding=1))
    for place, block in enumerate(network.blocks()):
        features = (reference_reduction if place % 2 else reference_cell)(block, features)
    features = reference_norm(network.head[0], features).relu().mean(dim=(2, 3))
    linear = network.head[-1]
    expected = functional.linear(features, linear.weight, linear.bias)
    torch.testing.assert_close(network(images), expected)


def test_shapes_between_blocks():
    network = Network((8, 24, 16, 40, 32), 10)
    shapes = []
    for block in network.blocks():
        block.register_forward_hook(lambda _, __, output: shapes.append(tuple(output.shape[1:])))
    network(torch.randn(1, 3, 32, 32).repeat(2, 1, 1, 1))
    assert shapes == [(8, 32, 32), (24, 16, 16), (16, 16, 16), (40, 8, 8), (32, 8, 8)]


def test_no_relu_works_in_place():
    for arch in ((0,) * 5, (0, 1, 2, 3, 4)):
        relus = [m for m in NATSSize().network(arch).modules() if isinstance(m, torch.nn.ReLU)]
        assert len(relus) == 3 * 5 + 2 * 2 + 1
        assert not any(relu.inplace for relu in relus)


def test_scores_of_former_networks_are_not_found():
    assert NATSSize().network_key()["version"] == 2


def test_networks_can_be_scored(space):
    batch = pictures(space, size=8)
    network = space.network((0, 7, 1, 6, 2))
    scores = score_model(network, batch.inputs, batch.targets, proxies=["snip", "synflow"])
    assert all(math.isfinite(score) and score > 0 for score in scores.values())
