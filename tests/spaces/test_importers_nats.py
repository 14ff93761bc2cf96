"""Tiny files of NAS-Bench-201 and NATS-Bench, made by the benchmarks' own packages."""

from __future__ import annotations

import bz2
import collections
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

from conf.errors import UsageError
from spaces import TableBenchmark
from spaces.importers import from_nats, from_pth, nats, pickles
from spaces.importers.__main__ import main
from spaces.nasbench201 import NASBench201
from spaces.nats_size import NATSSize

nats_bench = pytest.importorskip("nats_bench", reason="needs assay[nasbench201]")
nas_201_api = pytest.importorskip("nas_201_api", reason="needs assay[nasbench201]")
torch = pytest.importorskip("torch")

from nas_201_api import api_utils as old_utils  # noqa: E402
from nats_bench import api_utils as new_utils  # noqa: E402

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
TRAININGS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
    "ImageNet16-120": ("x-valid", "x-test", "ori-test"),
}
TINY = 5


class TinyTopology(NASBench201):
    size = TINY


class TinySize(NATSSize):
    size = TINY

    def table(self, *args):
        return NATSSize(self.dataset).table(*args)

    def column(self, *args):
        return NATSSize(self.dataset).column(*args)


@pytest.fixture
def tiny(monkeypatch):
    """Benchmarks of the first five architectures that are drawn."""
    for name, space in (("_TOPOLOGY", TinyTopology), ("_SIZE", TinySize)):
        benchmark = getattr(nats, name)
        monkeypatch.setattr(
            nats,
            name,
            nats._Benchmark(space, benchmark.budgets, benchmark.listing, benchmark.describe),
        )


def names(space, n=TINY):
    archs = dict.fromkeys(space.sample(np.random.default_rng(3), 4 * n))
    return [space.format(arch) for arch in itertools.islice(archs, n)]


def trial(utils, rng, name, training, seed, epochs):
    """One training, with NumPy's scalars in it as the official files have them."""
    params, flops = np.float64(0.073306 + len(name) / 1000), 15.7 + len(training)
    result = utils.ResultsCount(training, None, {}, {}, params, flops, None, seed, epochs, None)
    result.arch_config = {"channel": 16, "num_cells": 5, "arch_str": name, "class_num": 10}
    seconds = rng.uniform(5, 30)
    result.update_train_info(
        dict.fromkeys(range(epochs), 50.0),
        dict.fromkeys(range(epochs), 90.0),
        dict.fromkeys(range(epochs), 1.0),
        dict.fromkeys(range(epochs), seconds),
    )
    keys = [f"{images}@{e}" for images in TRAININGS[training] for e in range(epochs)]
    accuracies = {key: rng.uniform(10, 95) for key in keys}
    last = {key: np.float64(a) for key, a in accuracies.items() if key.endswith(f"@{epochs - 1}")}
    result.update_eval(accuracies | last, dict.fromkeys(keys, 1.5), dict.fromkeys(keys, 0.3))
    result.update_latency([rng.uniform(0.01, 0.03)])
    return result


def results(utils, rng, number, name, epochs, seeds):
    """All trainings of an architecture with one budget, as the packages write them."""
    made = utils.ArchResults(number, name)
    for training in TRAININGS:
        for seed in seeds:
            made.update(training, seed, trial(utils, rng, name, training, seed, epochs))
    return made.state_dict()


def archive(utils, names, budgets, seeds=lambda number: (777, 888, 999)[: 1 + number % 3]):
    rng = np.random.default_rng(7)
    full = max(budgets.values())
    return {
        "meta_archs": list(names),
        "total_archs": len(names),
        "evaluated_indexes": set(range(len(names))),
        "arch2infos": {
            number: {
                budget: results(
                    utils, rng, number, name, epochs, seeds(number) if epochs == full else (777,)
                )
                for budget, epochs in budgets.items()
            }
            for number, name in enumerate(names)
        },
    }


OLD = {"less": 12, "full": 200}
TOPOLOGY = {"12": 12, "200": 200}
SIZE = {"01": 1, "12": 12, "90": 90}


def old():
    return archive(old_utils, names(NASBench201()), OLD)


def topology():
    return archive(new_utils, names(NASBench201()), TOPOLOGY)


def size():
    return archive(new_utils, names(NATSSize()), SIZE)


def write(path, content):
    path.write_bytes(bz2.compress(pickle.dumps(content, protocol=4), 1))
    return path


def folder(path, content):
    path.mkdir()
    write(path / "meta.pickle.pbz2", {k: v for k, v in content.items() if k != "arch2infos"})
    for number, infos in content["arch2infos"].items():
        write(path / f"{number:06d}.pickle.pbz2", infos)
    return path


@pytest.fixture
def pth(tmp_path):
    path = tmp_path / "NAS-Bench-201-v1_1-096897.pth"
    torch.save(old(), path, _use_new_zipfile_serialization=False)
    return path


def answers(api, number, budget, dataset):
    """What the package itself answers: validation and test accuracy, seconds, costs."""
    validation = "cifar10-valid" if dataset == "cifar10" else dataset
    first = api.get_more_info(number, validation, None, hp=budget, is_random=False)
    second = api.get_more_info(number, dataset, None, hp=budget, is_random=False)
    costs = api.get_cost_info(number, dataset, hp=budget)
    return {
        "val": first["valid-accuracy"],
        "test": second["test-accuracy"],
        "train_seconds": first["train-all-time"],
        "latency_seconds": costs["latency"],
        "flops_M": costs["flops"],
        "params": round(costs["params"] * 1e6),
    }


def check(imported, api, budgets):
    """Every accuracy and cost is what the package answers."""
    full = max(budgets.values())
    for budget, epochs in budgets.items():
        for dataset in DATASETS:
            for number in range(len(api)):
                for name, expected in answers(api, number, budget, dataset).items():
                    if name in ("val", "test"):
                        found = imported.columns[f"{dataset}/{name}_{epochs}"]
                    elif epochs == full:
                        found = imported.columns[f"{dataset}/{name}"]
                    else:
                        continue
                    assert found[number] == pytest.approx(expected, rel=1e-6), (dataset, name)


def check_listing(imported, content):
    if "ops" in imported.columns:
        space, listed = NASBench201(), imported.columns["ops"].tolist()
        assert [space.format(tuple(arch)) for arch in listed] == content["meta_archs"]
    else:
        listed = imported.columns["channels"].tolist()
        assert [":".join(map(str, channels)) for channels in listed] == content["meta_archs"]


# -- what is imported -------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("trust", [False, True])
def test_pth_gives_what_its_package_answers(tiny, tmp_path, zipped, trust):
    content, path = old(), tmp_path / "NAS-Bench-201.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    imported = from_pth(path, trust=trust)
    check(imported, nas_201_api.NASBench201API(content, verbose=False), {"12": 12, "200": 200})
    check_listing(imported, content)
    assert (imported.space, imported.architectures) == ("nasbench201", TINY)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_topology_gives_what_its_package_answers(tiny, tmp_path, kind, trust):
    content = topology()
    path = {"archive": write, "folder": folder}[kind](tmp_path / "tss.pickle.pbz2", content)
    imported = from_nats(path, trust=trust)
    check(imported, nats_bench.api_topology.NATStopology(content, verbose=False), TOPOLOGY)
    check_listing(imported, content)
    assert imported.space == "nasbench201"


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_size_gives_what_its_package_answers(tiny, tmp_path, kind):
    content = size()
    path = {"archive": write, "folder": folder}[kind](tmp_path / "sss.pickle.pbz2", content)
    imported = from_nats(path)
    check(imported, nats_bench.api_size.NATSsize(content, verbose=False), SIZE)
    check_listing(imported, content)
    assert imported.space == "nats_size"


def test_single_seeds(tiny, tmp_path):
    """In order of the seeds, NaN where an architecture has fewer than others."""
    content = topology()
    columns = from_nats(write(tmp_path / "tss.pickle.pbz2", content)).columns
    for dataset, training in zip(DATASETS, ("cifar10-valid", *DATASETS[1:]), strict=True):
        for number in range(TINY):
            trials = content["arch2infos"][number]["200"]["all_results"]
            expected = [
                trials[training, seed]["eval_acc1es"]["x-valid@199"]
                for seed in (777, 888, 999)[: 1 + number % 3]
            ]
            found = columns[f"{dataset}/val_200_seeds"][number]
            np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-6)
            assert np.isnan(found[len(expected) :]).all()


def test_pickles_of_any_protocol_are_read(tiny, tmp_path):
    content = topology()
    expected = from_nats(write(tmp_path / "tss.pickle.pbz2", content)).columns
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / f"{protocol}.pickle.pbz2"
        path.write_bytes(bz2.compress(pickle.dumps(content, protocol), 1))
        for name, values in from_nats(path).columns.items():
            np.testing.assert_array_equal(values, expected[name])


def test_pickles_of_numpy_1_are_read(tiny, tmp_path):
    """Official files were written by it, and name its modules."""
    content = topology()
    written = pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in written
    path = tmp_path / "tss.pickle.pbz2"
    path.write_bytes(bz2.compress(written))
    expected = from_nats(write(tmp_path / "new.pickle.pbz2", content)).columns
    for name, values in from_nats(path).columns.items():
        np.testing.assert_array_equal(values, expected[name])


def test_ordered_and_default_dictionaries_are_read(tiny, tmp_path):
    content = topology()
    content["arch2infos"] = collections.OrderedDict(
        (n, collections.defaultdict(list, i)) for n, i in content["arch2infos"].items()
    )
    path = tmp_path / "old.pth"
    expected = from_nats(write(tmp_path / "tss.pickle.pbz2", content)).columns
    content["arch2infos"] = {
        n: collections.OrderedDict(less=i["12"], full=i["200"])
        for n, i in content["arch2infos"].items()
    }
    torch.save(content, path)
    for name, values in from_pth(path).columns.items():
        np.testing.assert_array_equal(values, expected[name])


def test_smaller_budgets_with_gaps_are_left_out(tiny, tmp_path):
    """As in the first release, which trained for 12 epochs on one dataset alone."""
    content = old()
    for number, infos in content["arch2infos"].items():
        for training in ("cifar10", "cifar100", *(["ImageNet16-120"] if number else [])):
            del infos["less"]["dataset_seed"][training]
    path = tmp_path / "old.pth"
    torch.save(content, path)
    imported = from_pth(path)
    twelve = sorted(name for name in imported.columns if name.endswith("_12"))
    assert twelve == ["cifar10/val_12"]
    assert imported.remarks == (
        "ImageNet16-120/test_12 is left out: 1 of 5 architectures have it.",
        "ImageNet16-120/val_12 is left out: 1 of 5 architectures have it.",
    )


def test_missing_latencies_are_empty(tiny, tmp_path):
    content = topology()
    for result in content["arch2infos"][2]["200"]["all_results"].values():
        result["latency"] = None
    columns = from_nats(write(tmp_path / "tss.pickle.pbz2", content)).columns
    assert np.flatnonzero(np.isnan(columns["cifar100/latency_seconds"])).tolist() == [2]


def test_where_seeds_disagree_on_counts_one_is_right(tiny, tmp_path):
    """The one that the package of NATS-Bench goes by."""
    content = topology()
    wrong = content["arch2infos"][2]["200"]["all_results"]["cifar100", 999]
    wrong["params"], wrong["flop"] = 2 * wrong["params"], 2 * wrong["flop"]
    imported = from_nats(write(tmp_path / "tss.pickle.pbz2", content))
    check(imported, nats_bench.api_topology.NATStopology(content, verbose=False), TOPOLOGY)
    right = content["arch2infos"][2]["200"]["all_results"]["cifar100", 888]["flop"]
    assert imported.columns["cifar100/flops_M"][2] == pytest.approx(right)


def test_compares_with_the_shipped_table(tiny, tmp_path):
    """Of what is made up here, only what is set to the shipped values agrees."""
    content = topology()
    space = NASBench201("cifar100")
    rows = space.table().rows([space.parse(name) for name in content["meta_archs"]])
    for number, (val, params) in enumerate(
        zip(space.column("val_200")[rows], space.column("params")[rows], strict=True)
    ):
        for key, trial in content["arch2infos"][number]["200"]["all_results"].items():
            if key[0] == "cifar100":
                trial["eval_acc1es"]["x-valid@199"] = val
                trial["params"] = params / 1e6
    imported = from_nats(write(tmp_path / "tss.pickle.pbz2", content))
    found = {a.column: a for a in imported.agreements}
    assert {name for name, a in found.items() if a.same == a.compared == TINY} == {
        "cifar100/val_200",
        "cifar100/params",
    }
    assert len(found) == 3 * 6


# -- tables with the columns of an import -----------------------------------------------------


def test_single_seeds_of_nasbench201_may_be_percent(tmp_path):
    from spaces.nasbench201.table import FILE

    with np.load(FILE) as file:
        columns = dict(file)
    for dataset in DATASETS:
        seeds = columns[f"{dataset}/val_200_seeds"].astype(np.float32) / 100
        columns[f"{dataset}/val_200_seeds"] = np.where(seeds == 0, np.nan, seeds)
    np.savez(tmp_path / "own.npz", **columns)
    for dataset in DATASETS:
        own, shipped = (NASBench201(dataset).table(p) for p in (tmp_path / "own.npz", None))
        np.testing.assert_allclose(own.val_seeds, shipped.val_seeds, rtol=1e-6)


def test_nats_size_is_searched_by_validation_accuracy_where_there_is_one(tmp_path):
    from spaces.nats_size.table import FILE

    rng = np.random.default_rng(0)
    with np.load(FILE) as file:
        columns = {"channels": file["channels"]}
    for dataset in DATASETS:
        for epochs in (1, 12, 90):
            for name in ("val", "test"):
                columns[f"{dataset}/{name}_{epochs}"] = rng.uniform(1, 99, 8**5).astype("f4")
        for name in ("train_seconds", "latency_seconds", "flops_M", "params"):
            columns[f"{dataset}/{name}"] = rng.uniform(1, 99, 8**5)
    path = tmp_path / "own.npz"
    np.savez(path, **columns)
    for dataset, epochs in itertools.product(DATASETS, (1, 12, 90)):
        space = NATSSize(dataset)
        benchmark = TableBenchmark(space, str(path), epochs)
        assert benchmark.protocol == "validation"
        row = 3 * 8**4 + 5
        found = benchmark.evaluate((3, 0, 0, 0, 5), rng)
        assert found.objective == found.val == columns[f"{dataset}/val_{epochs}"][row]
        assert found.test == columns[f"{dataset}/test_{epochs}"][row]
        seconds = columns[f"{dataset}/train_seconds"][row] * epochs / 90
        assert found.train_seconds == pytest.approx(seconds, rel=1e-6)
        for name in (f"val_{epochs}", "train_seconds", "latency_seconds", "flops_M"):
            np.testing.assert_array_equal(space.column(name, path), columns[f"{dataset}/{name}"])
    with pytest.raises(UsageError, match=r"epochs=200 is not in .* choose one of: 1, 12, 90\."):
        NATSSize().table(path, 200)


# -- whole tables -----------------------------------------------------------------------------


def whole(space, budgets):
    """An archive of every architecture, whose accuracies tell its number; parts are shared."""
    archs = [space.format(arch) for arch in space.enumerate()]
    order = np.random.default_rng(0).permutation(len(archs)).tolist()
    archs = [archs[place] for place in order]
    templates = {
        budget: results(new_utils, np.random.default_rng(0), 0, "", epochs, (777,))
        for budget, epochs in budgets.items()
    }

    def state(number, name, budget):
        template, epochs = templates[budget], budgets[budget]
        trained = {}
        for place, (key, trial) in enumerate(template["all_results"].items()):
            accuracies = {
                f"{images}@{epochs - 1}": accuracy(number, epochs, place, images)
                for images in TRAININGS[key[0]]
            }
            trained[key] = trial | {"eval_acc1es": accuracies, "params": (number + place) / 1e6}
        return template | {"arch_index": number, "arch_str": name, "all_results": trained}

    return archs, {
        "meta_archs": archs,
        "evaluated_indexes": set(range(len(archs))),
        "arch2infos": {
            number: {budget: state(number, name, budget) for budget in budgets}
            for number, name in enumerate(archs)
        },
    }


def accuracy(number, epochs, training, images):
    """A number below 100 that says of what it is."""
    return 5 + number / 1000 + epochs / 10 + 3 * training + 0.5 * (images == "x-test")


PLACES = {
    "cifar10": ((0, "x-valid"), (1, "ori-test")),
    "cifar100": ((2, "x-valid"), (2, "x-test")),
    "ImageNet16-120": ((3, "x-valid"), (3, "x-test")),
}


@pytest.mark.parametrize(
    ("make", "budgets"), [(NASBench201, TOPOLOGY), (NATSSize, SIZE)], ids=["topology", "size"]
)
@pytest.mark.slow
def test_whole_tables_by_command(make, budgets, tmp_path, capsys):
    archs, content = whole(make(), budgets)
    source, target = tmp_path / "archive.pickle.pbz2", tmp_path / "own.npz"
    write(source, content)
    del content
    assert main(["nats", str(source), "--out", str(target)]) == 0
    printed = capsys.readouterr().out
    assert f"{len(archs):,} architectures of {make.name} -> {target}" in printed
    chosen = range(0, len(archs), 997)
    full = max(budgets.values())
    for dataset, (val, test) in PLACES.items():
        space = make(dataset)
        rows = [space.parse(archs[number]) for number in chosen]
        for epochs in budgets.values():
            benchmark = TableBenchmark(space, str(target), epochs)
            assert benchmark.protocol == "validation"
            for number, arch in zip(chosen, rows, strict=True):
                found = benchmark.evaluate(arch, np.random.default_rng(0))
                assert found.val == pytest.approx(accuracy(number, epochs, *val), rel=1e-6)
                assert found.test == pytest.approx(accuracy(number, epochs, *test), rel=1e-6)
            seconds = {e.train_seconds / epochs for e in map(benchmark._look_up, rows)}
            assert len({round(s, 4) for s in seconds}) == 1
        params = space.column("params", target)[space.table(target).rows(rows)]
        assert params.tolist() == [n + PLACES[dataset][1][0] for n in chosen]
    if make is NASBench201:
        seeds = NASBench201("cifar100").table(target).val_seeds
        assert seeds.shape == (len(archs), 1)
        TableBenchmark(NASBench201("cifar100"), str(target), seeds="random")
    with pytest.raises(UsageError, match=rf"epochs=7 is not in the table; choose .*{full}"):
        make().table(target, 7)


# -- what is refused --------------------------------------------------------------------------


def refused(read, path, *words, **options):
    """The sentence by which a file is refused."""
    with pytest.raises(UsageError) as caught:
        read(path, **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence
    return sentence


class Trap:
    """What a pickle of it does when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def test_code_in_a_pickle_runs_only_where_it_is_trusted(tiny, tmp_path):
    content, trap = topology(), tmp_path / "trap"
    content["note"] = Trap(trap)
    path = write(tmp_path / "tss.pickle.pbz2", content)
    refused(from_nats, path, "it names posix.mkdir", "give --trust")
    assert not trap.exists()
    assert from_nats(path, trust=True).architectures == TINY
    assert trap.exists()


def test_code_in_a_pth_runs_only_where_it_is_trusted(tiny, tmp_path):
    content, trap, path = old(), tmp_path / "trap", tmp_path / "old.pth"
    content["note"] = Trap(trap)
    torch.save(content, path)
    refused(from_pth, path, "it names posix.mkdir", "give --trust")
    assert not trap.exists()
    assert from_pth(path, trust=True).architectures == TINY
    assert trap.exists()


def test_code_in_one_file_of_a_folder_is_refused(tiny, tmp_path):
    content, trap = topology(), tmp_path / "trap"
    content["arch2infos"][3]["12"]["note"] = Trap(trap)
    path = folder(tmp_path / "tss", content)
    refused(from_nats, path, "000003.pickle.pbz2", "it names posix.mkdir")
    assert not trap.exists()


@pytest.mark.parametrize("function", [eval, getattr, np.load, np.dtype("O").type, bytearray])
def test_only_containers_and_numbers_may_be_named(tmp_path, function):
    path = tmp_path / "some.pickle.pbz2"
    path.write_bytes(bz2.compress(pickle.dumps(function)))
    refused(from_nats, path, "it names ", "give --trust")


def test_scalars_of_objects_are_refused(tmp_path):
    """NumPy would unpickle what such a scalar holds."""
    written = pickle.dumps(np.float64(1), protocol=2)
    path = tmp_path / "some.pickle.pbz2"
    path.write_bytes(bz2.compress(written.replace(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8")))
    refused(from_nats, path, "is damaged, cut off or of another format")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_files_cut_off_are_refused(tiny, tmp_path, pth, share):
    data = pth.read_bytes()
    pth.write_bytes(data[: int(share * len(data))])
    for trust in (False, True):
        refused(from_pth, pth, "is damaged, cut off or of another format", trust=trust)
    path = write(tmp_path / "tss.pickle.pbz2", topology())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    for trust in (False, True):
        refused(from_nats, path, "is damaged, cut off or of another format", trust=trust)


def same(one, other):
    return one.columns.keys() == other.columns.keys() and all(
        np.array_equal(one.columns[name], other.columns[name], equal_nan=True)
        for name in one.columns
    )


def damaged(read, path, times):
    """Read a file again and again with one flipped bit each; yield what is read all the same."""
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(data), size=times).tolist():
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            yield read(path)
        except UsageError as error:
            assert str(error).endswith(".")
            assert "\n" not in str(error)


@pytest.mark.parametrize("kind", ["archive", "zipped"])
def test_a_flipped_bit_is_refused_or_does_no_harm(tiny, tmp_path, kind):
    path, read = tmp_path / "official", {"archive": from_nats, "zipped": from_pth}[kind]
    if kind == "archive":
        write(path, topology())
    else:
        torch.save(old(), path)
    intact = read(path)
    for found in damaged(read, path, 20):
        assert same(found, intact)


def test_a_flipped_bit_of_an_old_pth_is_told_if_it_shows(tiny, pth):
    """The old format has no checksum: a digit of a number may change unseen, no more than that."""
    intact = from_pth(pth)
    for found in damaged(from_pth, pth, 3):
        assert found.columns.keys() == intact.columns.keys()
        np.testing.assert_array_equal(found.columns["ops"], intact.columns["ops"])


@pytest.mark.parametrize("content", [b"text", b"PK\x03\x04" * 9, bytes(range(256)) * 9])
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "some"
    path.write_bytes(content)
    for read in (from_pth, from_nats):
        refused(read, path, "is damaged, cut off or of another format")
    path.write_bytes(bz2.compress(content))
    refused(from_nats, path, "is damaged, cut off or of another format")


@pytest.mark.parametrize("content", [{"weight": 1.0}, [1, 2], {"meta_archs": []}, None])
def test_other_contents_are_refused(tmp_path, content):
    path = write(tmp_path / "some.pickle.pbz2", content)
    refused(from_nats, path, "is no file of NAS-Bench-201 or NATS-Bench")
    torch.save(content, path)
    refused(from_pth, path, "is no file of NAS-Bench-201 or NATS-Bench")


def test_the_size_space_is_not_in_a_pth(tiny, tmp_path):
    path = tmp_path / "sss.pth"
    torch.save(size(), path)
    refused(from_pth, path, "is no file of NAS-Bench-201 or NATS-Bench")


def test_a_huge_file_is_refused_before_it_fills_the_memory(tiny, tmp_path, pth, monkeypatch):
    monkeypatch.setattr(pickles, "memory", lambda: 1 << 16)
    path = write(tmp_path / "bomb.pickle.pbz2", "0" * 10_000_000)
    assert path.stat().st_size < 1000
    refused(from_nats, path, "is too large", "more than 6.55e-05 GB")
    refused(from_pth, pth, "is too large", "more than 6.55e-05 GB")


def test_some_architectures_are_no_benchmark(tmp_path):
    path = write(tmp_path / "tss.pickle.pbz2", topology())
    refused(from_nats, path, "is not complete: it has 5 of 15,625 architectures")
    path = write(tmp_path / "sss.pickle.pbz2", size())
    refused(from_nats, path, "is not complete: it has 5 of 32,768 architectures")


def test_missing_results_are_refused(tiny, tmp_path):
    content = topology()
    del content["arch2infos"][4]
    path = write(tmp_path / "tss.pickle.pbz2", content)
    refused(from_nats, path, "it has 4 of 5 architectures")
    path = folder(tmp_path / "tss", content)
    refused(from_nats, path, "it has 4 of 5 architectures")
    (path / "meta.pickle.pbz2").unlink()
    refused(from_nats, path, "it lacks meta.pickle.pbz2")


def test_an_architecture_twice_is_refused(tiny, tmp_path):
    content = topology()
    content["meta_archs"][2] = content["meta_archs"][0]
    path = write(tmp_path / "tss.pickle.pbz2", content)
    refused(from_nats, path, "it lists an architecture twice")


def test_results_of_another_architecture_are_refused(tiny, tmp_path):
    content = topology()
    infos = content["arch2infos"]
    infos[1], infos[2] = infos[2], infos[1]
    path = write(tmp_path / "tss.pickle.pbz2", content)
    refused(from_nats, path, "architecture 1: its results of 12 epochs are of |")


WRONG = {
    "epochs": (
        lambda state: [r.update(epochs=100) for r in state["all_results"].values()],
        "its results on cifar10-valid are not of 200 epochs",
    ),
    "percent": (
        lambda state: state["all_results"]["cifar100", 777]["eval_acc1es"].update(
            {"x-test@199": 101.0}
        ),
        "its accuracies on cifar100 are not from 0 to 100",
    ),
    "nan": (
        lambda state: state["all_results"]["cifar100", 777]["eval_acc1es"].update(
            {"x-valid@199": float("nan")}
        ),
        "its accuracies on cifar100 are not from 0 to 100",
    ),
    "form": (lambda state: state.update(all_results=[]), "its results are of another form"),
    "seed": (
        lambda state: state["all_results"].pop(("cifar10", 777)),
        "its results are of another form",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_results_that_contradict_themselves_are_refused(tiny, tmp_path, change, message):
    content = topology()
    change(content["arch2infos"][3]["200"])
    path = write(tmp_path / "tss.pickle.pbz2", content)
    refused(from_nats, path, f"because of architecture 3: {message}")


def test_missing_accuracies_are_refused(tiny, tmp_path):
    content = topology()
    del content["arch2infos"][3]["200"]["dataset_seed"]["cifar100"]
    path = write(tmp_path / "tss.pickle.pbz2", content)
    refused(from_nats, path, "it has 4 of 5 architectures in cifar100/test_200")
    for infos in content["arch2infos"].values():
        infos["200"]["dataset_seed"].pop("cifar100", None)
    write(path, content)
    refused(from_nats, path, "it lacks cifar100/val_200, cifar100/test_200")


def test_missing_files_are_refused(tmp_path):
    for read in (from_pth, from_nats):
        refused(read, tmp_path / "none", "none does not exist")
    refused(from_pth, tmp_path, "cannot be read: Is a directory")


def test_torch_before_2_6_reads_trusted_files_alone(tiny, pth, monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    refused(from_pth, pth, "by torch 2.5.1+cpu only with --trust")
    assert from_pth(pth, trust=True).architectures == TINY


@pytest.mark.parametrize("read", [from_pth, from_nats])
def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch, read):
    for name in ("nas_201_api", "nats_bench"):
        monkeypatch.setitem(sys.modules, f"{name}.api_utils", None)
    refused(read, tmp_path / "none", "pip install 'assay[nasbench201]'")


def test_the_command_refuses_in_one_sentence_and_leaves_nothing(tmp_path, pth):
    command = [sys.executable, "-m", "spaces.importers", "nasbench201", str(pth)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "own.npz")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == f"{pth} is not complete: it has 5 of 15,625 architectures.\n"
    assert [path.name for path in tmp_path.iterdir()] == [pth.name]


def test_the_command_imports(tiny, tmp_path, pth, capsys):
    target = tmp_path / "own.npz"
    assert main(["nasbench201", str(pth), "--out", str(target), "--trust"]) == 0
    printed = capsys.readouterr().out
    assert f"5 architectures of nasbench201 -> {target}" in printed
    assert f"space=nasbench201 benchmark.path={target}" in printed
    with np.load(target) as arrays:
        assert arrays["ops"].shape == (TINY, 6)
