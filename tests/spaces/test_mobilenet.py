from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from conf.errors import UsageError
from proxies import score_model
from proxies.batch import pictures
from spaces import TableBenchmark
from spaces.mobilenet import MobileNet, Proxyless
from spaces.mobilenet.blocks import MNASNET, PROXYLESS, SKIP, Layer, Operation
from spaces.mobilenet.network import InvertedResidual, Network
from spaces.mobilenet.table import FILE
from spaces.nasbench_macro.network import Mixture
from tests.spaces.conformance import SpaceConformance

TRAINED = MobileNet()
ALL = MobileNet("all")
PROXY = Proxyless()

EFFICIENTNET_B0 = "e1k3l1se-e6k3l2se-e6k5l2se-e6k3l3se-e6k5l3se-e6k5l4se-e6k3l1se"

# SHA-256 of the source's params_M and macs_M, little-endian float32, in the table's order of rows.
PUBLISHED_PARAMS = "7d4f56b386eb042352078f38aac0f561767569124e5c2ff67d0ba63b06fc63a3"
PUBLISHED_MACS = "ee6def33f193a72c22d02f1b72c545a53b37451f4e1e3b49ffbde104830a3cba"


def rng(seed=0):
    return np.random.default_rng(seed)


class TestAll(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture
    def space(self):
        return MobileNet("all")


class TestProxyless(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture
    def space(self):
        return Proxyless()


class TestTrained(SpaceConformance):
    """No two trained architectures are one edit apart, so that nothing can be mutated."""

    has_graph = True
    has_network = True

    @pytest.fixture
    def space(self):
        return MobileNet()

    def test_a_mutation_is_a_neighbour(self, space, archs):
        with pytest.raises(UsageError, match=r"space\.subset=trained .* choose searcher=random"):
            space.mutate(archs[0], rng())

    def test_mutation_is_decided_by_the_generator(self):
        pytest.skip("nothing can be mutated")

    def test_mutation_reaches_every_neighbour(self, space):
        assert not any(space.neighbours(arch) for arch in space.enumerate())


# -- the spaces -------------------------------------------------------------------------------


def test_sizes():
    assert TRAINED.size == len(list(TRAINED.enumerate())) == 5125
    assert ALL.size == 36**7 * 4 // 3 == 104_485_552_128
    assert PROXY.size == 6**6 * 7**15
    for space in (TRAINED, ALL, PROXY):
        assert (space.dataset, space.classes, space.image_size) == ("imagenet", 1000, 64)


def test_decisions_are_named_as_by_the_benchmark():
    names = [d.name for d in ALL.decisions]
    assert names[:5] == ["block0_e", "block0_k", "block0_l", "block0_se", "block1_e"]
    depths = [len(d.choices) for d in ALL.decisions if d.name.endswith("_l")]
    assert depths == [3, 3, 3, 3, 3, 4, 3]


def test_settings_that_are_not_possible_are_refused():
    with pytest.raises(UsageError, match=r"space\.subset=some is unknown; choose one of: all"):
        MobileNet("some")
    with pytest.raises(UsageError, match=r"space\.image_size=0 is not possible"):
        MobileNet(image_size=0)
    with pytest.raises(UsageError, match=r"space\.max_flops=1e\+08 leaves hardly any"):
        Proxyless(max_flops=100e6)


def test_notation_of_blocks():
    arch = ALL.parse(EFFICIENTNET_B0)
    assert arch[:8] == (0, 0, 0, 1, 2, 0, 1, 1)
    assert ALL.format(arch) == EFFICIENTNET_B0
    with pytest.raises(UsageError, match="only the sixth block can have four layers"):
        ALL.parse(EFFICIENTNET_B0.replace("l1", "l4"))
    with pytest.raises(UsageError, match=r"space\.subset=trained has only those"):
        TRAINED.parse(EFFICIENTNET_B0)


def test_notation_of_layers():
    arch = PROXY.parse("0 1 -1 -1 2 -1 -1 -1 3 -1 -1 -1 4 -1 -1 -1 5 -1 -1 -1 0")
    assert arch[:5] == (0, 1, 6, 6, 2)
    assert [PROXY.graph_operations[a] for a in arch[:3]] == ["MB3_K3", "MB6_K3", "skip"]
    with pytest.raises(UsageError, match="it skips a layer that changes the shape"):
        PROXY.parse("-1 " * 21)
    with pytest.raises(UsageError, match=r"write 21 numbers from 0 to 5, or -1"):
        PROXY.parse("6 " * 21)
    with pytest.raises(UsageError, match=r"1,036,673,856 multiply-adds, .*max_flops=6e\+08"):
        PROXY.parse("5 " * 21)
    assert Proxyless(max_flops=None).parse("5 " * 21) == (5,) * 21


@given(st.integers(0, 2**32))
def test_no_architecture_exceeds_the_limit(seed):
    archs = PROXY.sample(rng(seed), 3)
    archs += [edit for arch in archs for edit in PROXY.neighbours(arch)]
    archs += [PROXY.mutate(archs[0], rng(seed))]
    assert (PROXY.costs(archs).macs <= 600e6).all()


def test_the_limit_keeps_what_is_below_it():
    """Rejection leaves the uniform draw of the limitless space, cut off."""
    free = Proxyless(max_flops=None)
    macs = free.costs(free.sample(rng(), 20_000)).macs
    assert (macs <= 600e6).mean() == pytest.approx(0.20, abs=0.01)
    below = np.sort(macs[macs <= 600e6])
    assert np.median(PROXY.costs(PROXY.sample(rng(1), 4000)).macs) == pytest.approx(
        np.median(below), rel=0.005
    )


def test_skips_of_a_stage_move_to_its_end():
    text = "0 -1 1 -1 2 -1 -1 3 3 0 0 0 4 -1 -1 5 5 -1 -1 0 0"
    expected = "0 1 -1 -1 2 3 -1 -1 3 0 0 0 4 5 -1 -1 5 0 -1 -1 0"
    arch = PROXY.parse(text)
    assert PROXY.format(PROXY.canonical(arch)) == expected
    images = torch.randn(4, 3, 32, 32)
    outputs = []
    for form in (arch, PROXY.canonical(arch)):
        torch.manual_seed(0)
        outputs.append(PROXY.network(form, running_stats=False)(images))
    torch.testing.assert_close(*outputs)


def test_graphs_are_chains_of_layers():
    graph = ALL.graph(ALL.parse(EFFICIENTNET_B0))
    names = [ALL.graph_operations[label] for label in graph.operations]
    assert len(names) == 22
    assert names[:6] == ["MB1_K3_SE", "skip", "skip", "MB6_K3_SE", "MB6_K3_SE", "skip"]
    np.testing.assert_array_equal(graph.adjacency, np.eye(22, k=1, dtype=bool))


def test_spaces_and_table_need_no_torch():
    program = (
        "import sys; from spaces.mobilenet import MobileNet, Proxyless; s = MobileNet(); "
        "s.table(); s.graph(next(s.enumerate())); Proxyless(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- the table --------------------------------------------------------------------------------


def test_accuracies():
    table = TRAINED.table()
    best = int(table.val.argmax())
    assert table.val[best] == pytest.approx(67.052, abs=5e-4)
    assert TRAINED.format(list(TRAINED.enumerate())[best]) == (
        "e4k3l3-e4k5l3-e6k3l3se-e6k5l1se-e6k5l3se-e6k5l3-e6k5l2se"
    )
    assert table.val.min() == pytest.approx(42.85, abs=5e-4)
    assert np.median(table.val) == pytest.approx(60.72, abs=5e-3)
    top5 = TRAINED.column("val_top5")
    assert (np.nanmean(top5, axis=1) > table.val).all()
    assert np.nanmin(TRAINED.column("train_seconds")) == pytest.approx(1064.1, abs=0.05)


def test_there_are_validation_accuracies_alone():
    benchmark = TableBenchmark(TRAINED)
    found = benchmark.evaluate(next(TRAINED.enumerate()), rng())
    assert benchmark.protocol == "validation"
    assert found.objective == found.val
    assert math.isnan(found.test)
    assert found.train_seconds > 1000
    assert benchmark.describe()["test"] is None
    with pytest.raises(UsageError, match=r"benchmark\.epochs=200 .* choose 16"):
        TRAINED.table(epochs=200)
    with pytest.raises(UsageError, match=r"space\.subset=all has architectures without results"):
        ALL.table()
    with pytest.raises(UsageError, match="column=test is unknown"):
        TRAINED.column("test")


def test_thirteen_were_trained_twice():
    runs = TRAINED.column("val_top1")
    twice = ~np.isnan(runs[:, 1])
    assert twice.sum() == 13
    assert not np.isnan(runs[:, 0]).any()
    np.testing.assert_allclose(TRAINED.table().val[twice], runs[twice].mean(axis=1), rtol=1e-6)
    assert np.abs(np.diff(runs[twice])).max() == pytest.approx(1.276, abs=5e-4)


def test_rows():
    table = TRAINED.table()
    archs = list(TRAINED.enumerate())
    assert table.rows(archs).tolist() == list(range(5125))
    assert table.rows([]).tolist() == []
    with pytest.raises(UsageError, match="is not in the table"):
        table.rows([archs[0], ALL.parse(EFFICIENTNET_B0)])


def test_a_table_of_ones_own(tmp_path):
    with np.load(FILE) as shipped:
        columns = {name: shipped[name][100:200] for name in shipped.files}
    np.savez(tmp_path / "own.npz", **columns)
    own = ALL.table(tmp_path / "own.npz")
    archs = list(TRAINED.enumerate())[100:200]
    np.testing.assert_array_equal(own.val[own.rows(archs)], TRAINED.table().val[100:200])
    columns["blocks"] = columns["blocks"][::-1]
    np.savez(tmp_path / "own.npz", **columns)
    with pytest.raises(UsageError, match="blocks must hold architectures, 28 choices each"):
        ALL.table(tmp_path / "own.npz")


def test_parameters_and_multiply_adds_of_every_trained_network_are_the_published_ones():
    """The benchmark counts four for each number that a BatchNorm is given, and poolings, too."""

    def digest(count):
        return hashlib.sha256((count / 1e6).astype("<f4").tobytes()).hexdigest()

    costs = TRAINED.costs(list(TRAINED.enumerate()))
    assert digest(costs.params) == PUBLISHED_PARAMS
    assert digest(costs.macs + 4 * costs.normalised + costs.pooled) == PUBLISHED_MACS


# -- the networks -----------------------------------------------------------------------------


def test_efficientnet_b0_has_its_published_size():
    """5,288,548 parameters and .39 billion multiply-adds (Tan and Le 2019)."""
    costs = ALL.costs([ALL.parse(EFFICIENTNET_B0)])
    assert costs.params == 5_288_548
    assert costs.macs[0] / 1e9 == pytest.approx(0.39, abs=0.005)


@pytest.mark.parametrize("space", [ALL, TRAINED, PROXY], ids=["all", "trained", "proxyless"])
def test_costs_of_built_networks(space):
    archs = space.sample(rng(3), 3)
    costs = space.costs(archs)
    with torch.device("meta"):
        images = torch.randn(2, 3, 224, 224)
        for number, arch in enumerate(archs):
            network = space.network(arch)
            seen = {nn.BatchNorm2d: 0, nn.AdaptiveAvgPool2d: 0}

            def count(module, inputs, output, seen=seen):
                pooled = isinstance(module, nn.AdaptiveAvgPool2d)
                seen[type(module)] += inputs[0].numel() + pooled * output.numel()

            for module in network.modules():
                if type(module) in seen:
                    module.register_forward_hook(count)
            with FlopCounterMode(display=False) as counter:
                network(images)
            assert costs.params[number] == sum(p.numel() for p in network.parameters())
            assert costs.macs[number] == counter.get_total_flops() / 2 / len(images)
            assert costs.normalised[number] == seen[nn.BatchNorm2d] / len(images)
            assert costs.pooled[number] == seen[nn.AdaptiveAvgPool2d] / len(images)


def test_costs_do_not_depend_on_the_image_size():
    archs = PROXY.sample(rng(), 5)
    for one, other in zip(PROXY.costs(archs), Proxyless(image_size=32).costs(archs), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("space", [ALL, PROXY], ids=["mobilenet", "proxyless"])
def test_weights_are_drawn_by_their_outputs(space):
    torch.manual_seed(0)
    kernels = [
        m for m in space.network(space.sample(rng(), 1)[0]).modules() if type(m) is nn.Conv2d
    ]
    for kernel in kernels:
        if kernel.weight.numel() > 5000:
            std = math.sqrt(2 / (kernel.kernel_size[0] ** 2 * kernel.out_channels))
            assert kernel.weight.std().item() == pytest.approx(std, rel=0.05)
        assert kernel.bias is None or not kernel.bias.any()


def test_squeeze_and_excitation_weighs_channels():
    network = ALL.network(ALL.parse(EFFICIENTNET_B0))
    squeeze = network.body[0].layers[3]
    features = torch.randn(3, 32, 5, 5)
    weights = squeeze(features) / features
    torch.testing.assert_close(weights, weights[:, :, :1, :1].expand_as(weights))
    assert weights.min() > 0
    assert weights.max() < 1
    hidden = [m.out_channels for m in squeeze.gate if isinstance(m, nn.Conv2d)]
    assert hidden == [8, 32]


def test_activations():
    relu, relu6 = ALL.network(ALL.sample(rng(), 1)[0]), PROXY.network(PROXY.sample(rng(), 1)[0])
    kinds = [
        {type(m) for m in n.modules() if isinstance(m, nn.ReLU | nn.ReLU6)} for n in (relu, relu6)
    ]
    assert kinds == [{nn.ReLU}, {nn.ReLU6}]
    for network in (relu, relu6):
        assert not any(getattr(module, "inplace", False) for module in network.modules())


def test_blocks_leave_out_what_is_skipped():
    assert len(ALL.network(ALL.parse(EFFICIENTNET_B0)).blocks()) == 16
    arch = PROXY.parse("0 1 -1 -1 2 -1 -1 -1 3 -1 -1 -1 4 -1 -1 -1 5 -1 -1 -1 0")
    assert len(PROXY.network(arch).blocks()) == 7


@pytest.mark.parametrize("space", [TRAINED, PROXY], ids=["mobilenet", "proxyless"])
def test_networks_can_be_scored(space):
    batch = pictures(space, size=4)
    assert batch.stand_in is not None
    network = space.network(space.sample(rng(), 1)[0])
    scores = score_model(
        network, batch.inputs, batch.targets, proxies=["snip", "synflow", "naswot"]
    )
    assert all(math.isfinite(score) for score in scores.values())


# -- supernets --------------------------------------------------------------------------------


def everything(space):
    skeleton = space.skeleton.layers
    return [
        [o for o in space.operations if o is not SKIP or layer.keeps_shape] for layer in skeleton
    ]


def test_a_mixture_is_the_mean_of_its_operations():
    torch.manual_seed(0)
    supernet = Network(PROXYLESS, everything(PROXY), 10, running_stats=False)
    assert [len(m.candidates) for m in supernet.body] == [len(d.choices) for d in PROXY.decisions]
    mixture = supernet.body[1]
    assert isinstance(mixture, Mixture)
    features = torch.randn(2, 32, 8, 8)
    outputs = torch.stack([operation(features) for operation in mixture.candidates])
    torch.testing.assert_close(mixture(features), outputs.mean(dim=0))
    assert supernet(torch.randn(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("space", "skeleton"), [(TRAINED, MNASNET), (PROXY, PROXYLESS)])
def test_a_supernet_narrowed_to_one_operation_a_layer_is_its_network(space, skeleton):
    torch.manual_seed(0)
    arch = space.sample(rng(2), 1)[0]
    held = [space.operations[index] for index in space.layers([arch])[0]]
    left = [
        {*every[:2], operation} for every, operation in zip(everything(space), held, strict=True)
    ]
    left = [sorted(names, key=str) for names in left]
    supernet = Network(skeleton, left, 10, running_stats=False)
    network = space.network(arch, classes=10, running_stats=False)
    network.stem.load_state_dict(supernet.stem.state_dict())
    network.head.load_state_dict(supernet.head.state_dict())
    images = torch.randn(4, 3, 32, 32)
    features = supernet.stem(images)
    for layer, mixture, names, operation in zip(
        network.body, supernet.body, left, held, strict=True
    ):
        chosen = mixture.candidates[names.index(operation)] if len(names) > 1 else mixture
        layer.load_state_dict(chosen.state_dict())
        features = chosen(features)
    torch.testing.assert_close(network(images), supernet.head(features))


def test_a_layer_that_changes_the_shape_cannot_be_skipped():
    left = [[Operation(3, 3)]] * 21
    with pytest.raises(ValueError, match="cannot be skipped"):
        Network(PROXYLESS, [[SKIP], *left[1:]], 10)
    assert not Layer(24, 32, 2).keeps_shape
    assert isinstance(Network(PROXYLESS, left, 10).body[0], InvertedResidual)
