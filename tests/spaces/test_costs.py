from __future__ import annotations

import numpy as np
import pytest
import torch

from conf.errors import UsageError
from proxies import ScoringService, registry
from proxies.store import Row
from spaces import Benchmark, Choices, TableBenchmark
from spaces.costs import agreed, counted, from_table, full_name
from spaces.model_zoo import catalogue
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench101 import NASBench101
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.nats_size import NATSSize
from spaces.transnas import TransNASMicro

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
ROW_0 = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|"
    "+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
)


def test_hw_nas_bench_of_the_first_cell_as_in_its_example():
    """The example of HW-NAS-Bench's README: index 0 of NAS-Bench-201 on cifar10."""
    space = NASBench201("cifar10")
    table, arch = space.table(), space.parse(ROW_0)
    row = table.rows([arch])[0]
    example = {
        "latency_ms(edgegpu)": 5.807418537139893,
        "energy_mj(edgegpu)": 24.226614330768584,
        "latency_ms(raspi4)": 10.481976820010459,
        "latency_ms(edgetpu)": 0.9571811309997429,
        "latency_ms(pixel3)": 3.6058499999999998,
        "latency_ms(eyeriss)": 3.645620000000001,
        "energy_mj(eyeriss)": 0.6872827644999999,
        "latency_ms(fpga)": 2.57296,
        "energy_mj(fpga)": 18.01072,
    }
    for name, value in example.items():
        assert table.cost(name)[row] == pytest.approx(value, abs=5.01e-4), name


@pytest.mark.parametrize("dataset", DATASETS)
def test_measured_costs(dataset):
    table = NASBench201(dataset).table()
    latencies = [name for name in table.costs if name.startswith("latency_ms(")]
    assert len(latencies) == (6 if dataset == "ImageNet16-120" else 29)
    assert sum(name.startswith("energy_mj(") for name in table.costs) == 3
    for name in latencies:
        values = table.cost(name)
        assert (values.shape, values.dtype) == ((15625,), np.float64)
        missing = np.isnan(values).sum()
        assert missing == (4699 if "edgetpu" in name else 0), name
        assert np.nanmin(values) > 0
        correlation = np.corrcoef(np.nan_to_num(values), table.cost("flops"))[0, 1]
        assert "edgetpu" in name or correlation > 0.2, name


def test_a_larger_minibatch_takes_longer():
    table = NASBench201("cifar100").table()
    for gpu in ("1080ti", "2080ti", "titan_rtx", "titanx", "titanxp"):
        one, many = (np.median(table.cost(f"latency_ms({gpu}_{n})")) for n in (1, 256))
        assert many > 1.5 * one


def test_costs_follow_the_rows_of_a_table_of_ones_own(tmp_path):
    space = NASBench201("cifar10")
    own = tmp_path / "own.npz"
    with np.load("spaces/nasbench201/table.npz") as shipped:
        np.savez(own, **{name: shipped[name][::-1] for name in shipped.files})
    archs = space.sample(np.random.default_rng(0), 50)
    for kind, device in (("params", None), ("latency_ms", "raspi4"), ("latency_ms", "pixel2")):
        ours, theirs = (
            from_table(t, space, kind, device) for t in (space.table(own), space.table())
        )
        np.testing.assert_array_equal(ours(archs), theirs(archs))


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (NASBench201("cifar100"), "params"),
        (NATSSize("cifar100"), "params"),
        (NASBenchMacro(), "params"),
        (NASBench101(), "params"),
        (NASBench1Shot1(1), "params"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_table_says_what_is_counted_on_networks(space, kind):
    archs = space.sample(np.random.default_rng(1), 3)
    found = from_table(space.table(), space, kind)
    assert found.at_hand
    np.testing.assert_array_equal(found(archs), counted(space, kind)(archs))


def test_operations_of_the_table_are_those_counted_within_a_percent():
    space = NASBench201("cifar10")
    archs = space.sample(np.random.default_rng(1), 3)
    found = from_table(space.table(), space, "flops")
    np.testing.assert_allclose(found(archs), counted(space, "flops")(archs), rtol=0.01)


def test_what_the_table_lacks_is_counted():
    space = TransNASMicro("class_scene")
    cost = from_table(space.table(), space, "params")
    assert (cost.at_hand, cost.source) == (False, "counted on the network")
    arch = space.sample(np.random.default_rng(0), 1)[0]
    expected = sum(p.numel() for p in space.network(arch).parameters())
    before = torch.get_rng_state()
    assert cost([arch, arch]).tolist() == [expected, expected]
    assert torch.equal(torch.get_rng_state(), before)


class Layer(Choices):
    """One linear layer; notes where its weights were."""

    def __init__(self, reading):
        super().__init__(width=[3, 5])
        self.reading, self.seen = reading, []

    def network(self, arch, classes=None, *, running_stats=True):
        rate = float(torch.linspace(0, 1, 3)[1]) if self.reading else 0.5
        layer = torch.nn.Linear(2, self.values(arch)["width"])
        self.seen.append(layer.weight.device.type)
        return torch.nn.Sequential(layer, torch.nn.Dropout(rate))


@pytest.mark.parametrize(("reading", "device"), [(False, "meta"), (True, "cpu")])
def test_parameters_are_counted_without_drawing_them_where_that_is_possible(reading, device):
    space = Layer(reading)
    assert counted(space, "params")([(0,), (1,), (0,)]).tolist() == [9, 15, 9]
    assert space.seen == [device] * 2


def test_model_zoo_has_the_parameters_of_its_catalogue(monkeypatch):
    pytest.importorskip("pytorchcv")
    from spaces.model_zoo import ModelZoo

    space = ModelZoo()
    assert space.table().cost("params").tolist() == [m.params for m in catalogue.models("cifar10")]


def test_names():
    assert full_name("flops", "raspi4") == full_name("flops", None) == "flops"
    assert full_name("latency_ms", "raspi4") == "latency_ms(raspi4)"


class Nothing(Benchmark):
    def evaluate(self, arch, rng):
        raise NotImplementedError

    def describe(self):
        return {}


MISTAKES = {
    "cost=speed is unknown; choose one of: energy_mj, flops, latency_ms, params.": ("speed", None),
    "latency_ms needs a device; give budget.device=raspi4, for instance.": ("latency_ms", None),
    "budget.device=fridge has no energy_mj on nasbench201 cifar10; "
    "choose one of: edgegpu, eyeriss, fpga.": ("energy_mj", "fridge"),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistakes_are_told_in_one_sentence(sentence):
    with pytest.raises(UsageError) as caught:
        TableBenchmark(NASBench201()).cost(*MISTAKES[sentence])
    assert str(caught.value) == sentence


def test_what_was_not_measured_is_refused():
    with pytest.raises(UsageError, match="latency_ms was not measured of nats_size"):
        TableBenchmark(NATSSize()).cost("latency_ms", "raspi4")
    with pytest.raises(UsageError, match="energy_mj was not measured of choices"):
        counted(Choices(a=[1]), "energy_mj")
    with pytest.raises(UsageError, match="this benchmark does not know flops"):
        Nothing().cost("flops")
    with pytest.raises(UsageError, match="cost=speed is unknown; choose one of: flops, params"):
        NASBenchMacro().table().cost("speed")


def test_a_table_is_believed_where_its_networks_are_ours():
    space = NASBench201()
    archs = space.sample(np.random.default_rng(0), 5)
    cost = agreed(space, "params")
    assert cost is not None
    assert (cost(archs) == from_table(space.table(), space, "params")(archs)).all()
    narrow = NASBench201(channels=4)
    assert agreed(narrow, "params") is None
    assert agreed(space, "accuracy") is None


@pytest.mark.parametrize("proxy", ["flops", "az_complexity", "params"])
def test_what_was_asked_or_stored_before_changes_no_cost(tmp_path, proxy):
    """The table's operations and those of the network differ a little."""
    space = NASBench201()
    archs = space.sample(np.random.default_rng(0), 20)
    kind = "params" if proxy == "params" else "flops"
    expected = from_table(space.table(), space, kind)(archs)
    first = ScoringService(space, store=tmp_path / "scores.sqlite")
    key = first.key(registry.get(proxy))
    rows = {space.format(a): Row(float(n), 1.0) for n, a in enumerate(map(space.canonical, archs))}
    first.store.put_many(first.store.context(key), rows)
    second = ScoringService(space, store=tmp_path / "scores.sqlite")
    for service, asked in ((first, archs), (second, archs[::-1])):
        values = dict(zip(asked, service.values(asked, proxy), strict=True))
        assert [values[arch] for arch in archs] == expected.tolist()
        service.values(asked[:5], proxy)
        assert (service.table_hits, service.hits, service.computed) == (25, 0, 0)
        name = "0 scores computed, 0 from the store, 25 from the table of nasbench201"
        assert service.account() == name


def test_costs_that_are_not_the_tables_are_counted_and_stored(tmp_path):
    narrow = NASBench201(channels=4)
    archs = [(3, 3, 3, 3, 3, 3), (2, 2, 2, 2, 2, 2)]
    for computed in (2, 0):
        service = ScoringService(narrow, store=tmp_path / "scores.sqlite")
        assert service.values(archs, "params").tolist() == counted(narrow, "params")(archs).tolist()
        found = (service.computed, service.hits, service.table_hits)
        assert found == (computed, 2 - computed, 0)


def test_what_the_table_counts_runs_no_network(monkeypatch):
    space = NASBench201()
    archs = list(space.enumerate())
    service = ScoringService(space, store="memory")
    values = service.values(archs, "params")
    assert (values == from_table(space.table(), space, "params")(archs)).all()
    assert service.mean_seconds("params") == 0
