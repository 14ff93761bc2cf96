from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from conf.errors import UsageError
from proxies import score_model
from proxies.batch import pictures
from spaces import TableBenchmark
from spaces.nasbench_macro import NASBenchMacro
from spaces.nasbench_macro.network import Mixture, Network
from spaces.nasbench_macro.table import FILE
from tests.spaces.conformance import SpaceConformance

EVERY_OPERATION = [(0, 1, 2)] * 8


class TestConformance(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture
    def space(self):
        return NASBenchMacro()


@pytest.fixture(scope="module")
def space():
    return NASBenchMacro()


# -- the space --------------------------------------------------------------------------------


def test_notation(space):
    assert space.size == 6561
    assert space.parse("02012100") == (0, 2, 0, 1, 2, 1, 0, 0)
    assert space.format((2,) * 8) == "22222222"
    for text in ("0201210", "020121003", "02012103", "0201210a", "0201210²"):
        with pytest.raises(UsageError, match="write 8 digits from 0 to 2, as 02012100"):
            space.parse(text)


@given(st.text(alphabet="0123 ", max_size=10))
def test_any_text_parses_or_is_refused(text):
    space = NASBenchMacro()
    try:
        arch = space.parse(text)
    except UsageError:
        return
    assert space.format(arch) == text.strip()


def test_graph_is_a_chain_of_blocks(space):
    graph = space.graph((0, 2, 0, 1, 2, 1, 0, 0))
    names = [space.graph_operations[o] for o in graph.operations]
    assert names[:4] == ["identity", "MB6_K5", "identity", "MB3_K3"]
    np.testing.assert_array_equal(graph.adjacency, np.eye(8, k=1, dtype=bool))


def test_space_and_table_need_no_torch():
    program = (
        "import sys; from spaces.nasbench_macro import NASBenchMacro; s = NASBenchMacro(); "
        "s.table(); s.canonical((0,) * 8); s.graph((0,) * 8); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- canonical forms --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("02012100", "02012100"),
        ("00000001", "00000010"),
        ("00001000", "00010000"),
        ("01001002", "01010020"),
        ("00022012", "00022012"),
    ],
)
def test_identities_move_to_the_end_of_their_stage(space, text, canonical):
    assert space.format(space.canonical(space.parse(text))) == canonical


def test_as_many_networks_as_the_benchmark_trained(space):
    assert len({space.canonical(arch) for arch in space.enumerate()}) == 3969


def test_the_benchmark_trained_equal_architectures_once(space):
    rows = space.table().rows
    archs = list(space.enumerate())
    forms = rows([space.canonical(arch) for arch in archs])
    for name in ("test_seeds", "params", "flops"):
        column = space.column(name)
        np.testing.assert_array_equal(column[rows(archs)], column[forms])


def test_canonical_forms_differ_in_their_results(space):
    """Three seeds, parameters and multiply-adds together tell almost all of them apart."""
    rows = space.table().rows(sorted({space.canonical(arch) for arch in space.enumerate()}))
    results = np.column_stack([space.column("test_seeds"), space.column("params")])[rows]
    assert len(np.unique(results, axis=0)) == 3969


@pytest.mark.parametrize("arch", [(0, 0, 1, 0, 2, 0, 0, 2), (2, 1, 0, 0, 1, 1, 0, 1)])
def test_canonical_networks_compute_the_same(space, arch):
    assert space.canonical(arch) != arch
    images = torch.randn(4, 3, 16, 16)
    outputs = []
    for form in (arch, space.canonical(arch)):
        torch.manual_seed(0)
        outputs.append(space.network(form, running_stats=False)(images))
    torch.testing.assert_close(*outputs)


# -- the table --------------------------------------------------------------------------------


def test_published_accuracies(space):
    table = space.table()
    assert table.test.max() == pytest.approx(93.127, abs=5e-4)
    assert np.median(table.test) == pytest.approx(90.99, abs=5e-3)
    assert table.test.mean() == pytest.approx(90.25, abs=5e-3)
    assert table.test.min() == pytest.approx(45.36, abs=5e-3)
    best = np.flatnonzero(table.test > 93.126)
    assert set(table.rows([space.parse(t) for t in ("22212220", "22212202")])) <= set(best)


def test_there_are_test_accuracies_alone(space):
    benchmark = TableBenchmark(space)
    found = benchmark.evaluate((0,) * 8, np.random.default_rng(0))
    assert benchmark.protocol == "test"
    assert found.objective == found.test == pytest.approx(45.36, abs=5e-3)
    assert math.isnan(found.val)
    assert math.isnan(found.train_seconds)
    assert benchmark.describe()["test"] == "mean over seeds"
    with pytest.raises(UsageError, match=r"benchmark\.epochs=200 .* choose 50"):
        space.table(epochs=200)


def test_columns(space):
    seeds = space.column("test_seeds")
    assert seeds.shape == (6561, 3)
    np.testing.assert_allclose(seeds.mean(axis=1), space.table().test, atol=1e-5)
    with pytest.raises(UsageError, match="column=val is unknown; choose one of: flops, params"):
        space.column("val")


def test_a_table_of_ones_own_in_another_order(tmp_path, space):
    order = np.random.default_rng(0).permutation(6561)
    with np.load(FILE) as shipped:
        np.savez(tmp_path / "own.npz", **{name: shipped[name][order] for name in shipped.files})
    own, table = space.table(tmp_path / "own.npz"), space.table()
    archs = list(space.enumerate())
    np.testing.assert_array_equal(own.test[own.rows(archs)], table.test[table.rows(archs)])


def test_another_table_is_refused(tmp_path, space):
    with np.load(FILE) as shipped:
        columns = dict(shipped)
    columns["blocks"][3] = columns["blocks"][4]
    np.savez(tmp_path / "own.npz", **columns)
    with pytest.raises(UsageError, match="blocks must list each of 6561 architectures once"):
        space.table(tmp_path / "own.npz")


# -- the network ------------------------------------------------------------------------------


def block_costs(operation, incoming, channels, side, stride):
    """Parameters and multiply-adds of one block, by hand; ``side`` is what it puts out."""
    pixels = side**2
    if operation == 0:
        weights = incoming * channels if stride == 2 else 0
        return weights + (2 * channels if stride == 2 else 0), weights * pixels
    kernel, expansion = {1: (3, 3), 2: (5, 6)}[operation]
    hidden = incoming * expansion
    expand, depthwise, project = incoming * hidden, kernel**2 * hidden, hidden * channels
    params = expand + depthwise + project + 4 * hidden + 2 * channels
    return params, expand * pixels * stride**2 + (depthwise + project) * pixels


def test_parameters_and_flops_of_every_architecture(space):
    """Recounted by hand; multiply-adds are of convolutions and of the classifier."""
    archs = np.array(list(space.enumerate()))
    params = np.full(len(archs), 27 * 32 + 64 + 256 * 1280 + 2 * 1280 + 1281 * 10)
    flops = np.full(len(archs), 27 * 32 * 32**2 + 256 * 1280 * 4**2 + 1280 * 10)
    shapes = [(32, 64, 16, 2), (64, 64, 16, 1), (64, 128, 8, 2), *[(128, 128, 8, 1)] * 2]
    shapes += [(128, 256, 4, 2), *[(256, 256, 4, 1)] * 2]
    for position, shape in enumerate(shapes):
        costs = np.array([block_costs(operation, *shape) for operation in range(3)])
        params += costs[archs[:, position], 0]
        flops += costs[archs[:, position], 1]
    rows = space.table().rows(list(space.enumerate()))
    np.testing.assert_array_equal(space.column("params")[rows], params)
    np.testing.assert_array_equal(space.column("flops")[rows], flops)


def test_parameters_and_flops_of_built_networks(space):
    archs = [*space.sample(np.random.default_rng(0), 20), (0,) * 8, (1,) * 8, (2,) * 8]
    rows = space.table().rows(archs)
    with torch.device("meta"):
        images = torch.randn(2, 3, 32, 32)
        for arch, row in zip(archs, rows, strict=True):
            network = space.network(arch)
            with FlopCounterMode(display=False) as counter:
                network(images)
            params = sum(p.numel() for p in network.parameters())
            assert params == space.column("params")[row]
            assert counter.get_total_flops() / 2 / len(images) == space.column("flops")[row]


def reference_layer(layers, value, stride=1):
    """Convolution without bias, BatchNorm, and ReLU where there is one."""
    convolution, norm, *relu = layers
    weight = convolution.weight
    groups = value.shape[1] // weight.shape[1]
    value = functional.conv2d(value, weight, None, stride, weight.shape[-1] // 2, groups=groups)
    value = functional.batch_norm(value, None, None, norm.weight, norm.bias, True, eps=1e-5)
    return value.relu() if relu else value


def reference_block(block, operation, value, stride):
    """MobileNetV2's block, linear at its end, or an identity that halves by a convolution."""
    if operation == 0:
        return value if stride == 1 else reference_layer(block, value, stride)
    layers = list(block.convolutions)
    kernel, expansion = {1: (3, 3), 2: (5, 6)}[operation]
    assert layers[3].weight.shape == (expansion * value.shape[1], 1, kernel, kernel)
    inner = reference_layer(layers[3:6], reference_layer(layers[:3], value), stride)
    inner = reference_layer(layers[6:], inner)
    return inner if stride == 2 else value + inner


@pytest.mark.parametrize("arch", [(0, 1, 2, 0, 1, 2, 0, 1), (2, 0, 1, 1, 2, 0, 2, 1)])
def test_network_equals_the_plain_way(space, arch):
    torch.manual_seed(0)
    network = space.network(arch, running_stats=False).double()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    value = reference_layer(network.stem, images)
    for place, (operation, block) in enumerate(zip(arch, network.body, strict=True)):
        value = reference_block(block, operation, value, 2 if place in (0, 2, 5) else 1)
    value = reference_layer(network.head[0], value).mean(dim=(2, 3))
    expected = functional.linear(value, *network.head[-1].parameters())
    torch.testing.assert_close(network(images), expected)


def test_blocks_leave_out_what_does_nothing(space):
    assert len(space.network((0,) * 8).blocks()) == 3
    assert len(space.network((1, 0, 2, 0, 1, 2, 1, 0)).blocks()) == 5


def test_no_relu_works_in_place(space):
    relus = [m for m in space.network((2,) * 8).modules() if isinstance(m, nn.ReLU)]
    assert len(relus) == 2 * 8 + 2
    assert not any(relu.inplace for relu in relus)


def test_networks_can_be_scored(space):
    batch = pictures(space, size=8)
    assert batch.stand_in is None
    network = space.network((0, 1, 2, 0, 1, 2, 0, 1))
    scores = score_model(network, batch.inputs, batch.targets, proxies=["snip", "synflow"])
    assert all(math.isfinite(score) and score > 0 for score in scores.values())


# -- supernets --------------------------------------------------------------------------------


def test_a_mixture_is_the_mean_of_its_operations():
    torch.manual_seed(0)
    supernet = Network(EVERY_OPERATION, 10, running_stats=False)
    features = torch.randn(2, 32, 8, 8)
    mixture = supernet.body[0]
    assert isinstance(mixture, Mixture)
    outputs = torch.stack([operation(features) for operation in mixture.candidates])
    assert outputs.shape == (3, 2, 64, 4, 4)
    torch.testing.assert_close(mixture(features), outputs.mean(dim=0))
    assert supernet(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("arch", [(0, 1, 2, 0, 1, 2, 0, 1), (2, 0, 0, 1, 2, 1, 2, 0)])
def test_a_supernet_narrowed_to_one_operation_a_position_is_its_network(arch):
    torch.manual_seed(0)
    supernet = Network(EVERY_OPERATION, 10, running_stats=False)
    network = Network([(operation,) for operation in arch], 10, running_stats=False)
    network.stem.load_state_dict(supernet.stem.state_dict())
    network.head.load_state_dict(supernet.head.state_dict())
    images = torch.randn(4, 3, 16, 16)
    features = supernet.stem(images)
    for block, mixture, operation in zip(network.body, supernet.body, arch, strict=True):
        block.load_state_dict(mixture.candidates[operation].state_dict())
        features = mixture.candidates[operation](features)
    torch.testing.assert_close(network(images), supernet.head(features))


def test_operations_can_be_removed_from_a_position():
    left = [(0, 2), *EVERY_OPERATION[1:]]
    supernet = Network(left, 10)
    assert len(supernet.body[0].candidates) == 2
    assert supernet(torch.randn(2, 3, 32, 32)).shape == (2, 10)
