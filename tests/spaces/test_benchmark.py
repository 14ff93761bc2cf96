from __future__ import annotations

import math
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conf.errors import UsageError
from spaces import Choices, TableBenchmark
from spaces.benchmark import Unknown, if_known
from spaces.nasbench201 import NASBench201
from spaces.nasbench201.table import FILE
from spaces.table import Table, open_npz

BEST = (3, 3, 3, 1, 3, 2)


@pytest.fixture
def space():
    return NASBench201("cifar10")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def columns():
    with np.load(FILE, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


# -- evaluation -------------------------------------------------------------------------------


def test_mean_over_seeds(space, rng):
    benchmark = TableBenchmark(space)
    found = benchmark.evaluate(BEST, rng)
    assert found.objective == found.val == pytest.approx(91.607, abs=5e-4)
    assert found.test == pytest.approx(94.373, abs=5e-4)
    assert found.train_seconds == pytest.approx(space.column("train_seconds")[6111])
    assert benchmark.protocol == "validation"
    assert (benchmark.metric, benchmark.unit, benchmark.higher_is_better) == ("accuracy", "%", True)
    assert benchmark.targets == (93.5, 94.0, 94.3)


def test_the_mean_takes_nothing_from_the_generator(space, rng):
    benchmark = TableBenchmark(space)
    state = rng.bit_generator.state
    assert benchmark.evaluate(BEST, rng) == benchmark.evaluate(BEST, rng)
    assert rng.bit_generator.state == state


def test_random_seeds_draw_each_seed_alike(space, rng):
    benchmark = TableBenchmark(space, seeds="random")
    mean = TableBenchmark(space).evaluate(BEST, rng)
    found = [benchmark.evaluate(BEST, rng) for _ in range(600)]
    seeds = space.table().val_seeds[6111]
    values, times = np.unique([f.val for f in found], return_counts=True)
    np.testing.assert_array_equal(values, np.unique(seeds[~np.isnan(seeds)]))
    assert times.min() > 600 / len(values) * 0.75
    assert all(f.objective == f.val for f in found)
    assert {(f.test, f.train_seconds) for f in found} == {(mean.test, mean.train_seconds)}


def test_random_seeds_are_decided_by_the_generator(space):
    benchmark = TableBenchmark(space, seeds="random")

    def evaluate(seed):
        rng = np.random.default_rng(seed)
        return [benchmark.evaluate(BEST, rng).val for _ in range(20)]

    assert evaluate(0) == evaluate(0) != evaluate(1)


def test_a_generator_is_needed_where_there_is_chance_alone(space, rng):
    benchmark = TableBenchmark(space)
    assert benchmark.evaluate(BEST) == benchmark.evaluate(BEST, rng)
    with pytest.raises(ValueError, match=r"^benchmark\.seeds=random .* give rng\.$"):
        TableBenchmark(space, seeds="random").evaluate(BEST)
    assert math.isnan(Unknown().evaluate(BEST).objective)


def test_cells_with_two_seeds_never_give_nan(space, rng):
    table = space.table()
    archs = space.sample(rng, 300)
    assert np.isnan(table.val_seeds[table.rows(archs)]).any()
    benchmark = TableBenchmark(space, seeds="random")
    assert not any(math.isnan(benchmark.evaluate(arch, rng).val) for arch in archs)


def test_twelve_epochs(space, rng):
    benchmark = TableBenchmark(space, epochs=12)
    full = TableBenchmark(space, epochs=200)
    found = benchmark.evaluate(BEST, rng)
    assert found.val == space.column("val_12")[6111]
    assert found.test == space.column("test_12")[6111]
    assert found.train_seconds == pytest.approx(0.06 * full.evaluate(BEST, rng).train_seconds)


def test_says_which_accuracy_is_meant(space):
    assert TableBenchmark(space, seeds="random").describe() == {
        "kind": "table",
        "table": "nasbench201",
        "dataset": "cifar10",
        "epochs": 200,
        "validation": "one seed, drawn at random",
        "test": "mean over seeds",
    }
    assert TableBenchmark(NASBench201("cifar100"), epochs=12).describe()["epochs"] == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 90}, r"^benchmark\.epochs=90 is not in the table; choose one of: 12, 200\.$"),
        ({"epochs": 0}, r"benchmark\.epochs=0 "),
        ({"seeds": "all"}, r"^benchmark\.seeds=all is unknown; choose one of: mean, random\.$"),
        ({"epochs": 12, "seeds": "random"}, "none at 12 epochs; choose benchmark.seeds=mean"),
    ],
)
def test_impossible_settings_are_refused(space, settings, message):
    with pytest.raises(UsageError, match=message):
        TableBenchmark(space, **settings)


def test_a_space_without_table_is_refused():
    with pytest.raises(UsageError, match="choices has no benchmark table"):
        TableBenchmark(Choices(depth=[1, 2]))


def test_what_is_known_is_looked_up_and_damage_is_told(tmp_path, monkeypatch, space):
    assert isinstance(if_known(space), TableBenchmark)
    assert isinstance(if_known(Choices(depth=[1, 2])), Unknown)
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(FILE.read_bytes()[:10_000])
    monkeypatch.setattr("spaces.nasbench201.table.FILE", damaged)
    with pytest.raises(UsageError, match=r"damaged\.npz cannot be read as a table"):
        if_known(space)


@pytest.mark.parametrize("arch", [(), (0,) * 5, (0, 0, 0, 0, 0, 5), (0, 0, 0, 0, 0, -1)])
def test_no_architectures_are_refused(space, rng, arch):
    with pytest.raises(UsageError, match="no architecture of nasbench201"):
        TableBenchmark(space).evaluate(arch, rng)


def test_survives_pickling(space, rng):
    benchmark = pickle.loads(pickle.dumps(TableBenchmark(space)))
    assert benchmark.evaluate(BEST, rng) == TableBenchmark(space).evaluate(BEST, rng)


class OwnTable(Choices):
    """A space of two, with a table of its own making."""

    def __init__(self, **columns):
        super().__init__(depth=[1, 2])
        self.columns = columns

    def table(self, path=None, epochs=None):
        found = {"val": None, "val_seeds": None, "test": None, **self.columns}
        return Table(
            runs="one run",
            source="own",
            epochs=1,
            rows=lambda archs: np.array([a[0] for a in archs]),
            train_seconds=np.ones(2, np.float32),
            **found,
        )


def test_test_values_steer_where_there_are_no_others(rng):
    benchmark = TableBenchmark(OwnTable(test=np.float32([1, 2])))
    found = benchmark.evaluate((1,), rng)
    assert benchmark.protocol == "test"
    assert (found.objective, found.test) == (2, 2)
    assert math.isnan(found.val)
    assert benchmark.describe()["validation"] is None


def test_validation_alone_leaves_test_empty(rng):
    benchmark = TableBenchmark(OwnTable(val=np.float32([1, 2])))
    found = benchmark.evaluate((1,), rng)
    assert benchmark.protocol == "validation"
    assert found.objective == found.val == 2
    assert math.isnan(found.test)
    assert benchmark.describe()["test"] is None


@pytest.mark.parametrize("seeds", ["mean", "random"])
def test_objective_is_the_larger_the_better(rng, seeds):
    space = OwnTable(
        val=np.float32([3, 1]), val_seeds=np.float32([[3], [1]]), higher_is_better=False
    )
    benchmark = TableBenchmark(space, seeds=seeds)
    worse, better = benchmark.evaluate((0,), rng), benchmark.evaluate((1,), rng)
    assert better.objective > worse.objective
    assert (worse.val, better.val) == (3, 1)


# -- files ------------------------------------------------------------------------------------


def test_a_table_of_ones_own_in_another_order(tmp_path, space, columns, rng):
    order = rng.permutation(15_625)
    path = tmp_path / "own.npz"
    np.savez(path, **{name: column[order] for name, column in columns.items()})
    own, shipped = TableBenchmark(space, str(path)), TableBenchmark(space)
    assert own.describe()["table"] == str(path)
    for arch in space.sample(rng, 200):
        assert own.evaluate(arch, rng) == shipped.evaluate(arch, rng)


def test_missing_file(tmp_path, space):
    with pytest.raises(UsageError, match=r"none\.npz does not exist"):
        TableBenchmark(space, str(tmp_path / "none.npz"))


def test_a_folder_is_no_table(tmp_path, space):
    with pytest.raises(UsageError, match="cannot be read"):
        TableBenchmark(space, str(tmp_path))


def foreign_files(folder):
    folder.joinpath("empty").write_bytes(b"")
    folder.joinpath("text").write_text("accuracy,1\n")
    folder.joinpath("pickle").write_bytes(pickle.dumps({"val": [1, 2]}))
    np.save(folder / "array.npy", np.zeros(3))
    with zipfile.ZipFile(folder / "archive", "w") as archive:
        archive.writestr("ops.npy", b"no array")
        archive.writestr("ops", b"no array")
        for name in ("val_200", "test_200", "val_200_seeds", "train_seconds"):
            archive.writestr(f"cifar10/{name}.npy", b"no array")
    np.savez(folder / "objects.npz", ops=np.array([None, {}], dtype=object))
    return ("empty", "text", "pickle", "array.npy", "archive", "objects.npz")


def test_foreign_files(tmp_path, space):
    for name in foreign_files(tmp_path):
        with pytest.raises(UsageError, match=f"{name} (cannot be read as a|is not such a) table"):
            TableBenchmark(space, str(tmp_path / name))


def test_objects_are_never_unpickled(tmp_path):
    path = tmp_path / "objects.npz"
    np.savez(path, ops=np.array([None, {}], dtype=object))
    with pytest.raises(UsageError, match="damaged or of another format"):
        open_npz(path, ["ops"])


def test_another_table_lacks_columns(tmp_path, space, columns):
    path = tmp_path / "part.npz"
    np.savez(path, ops=columns["ops"], **{"cifar100/val_200": columns["cifar100/val_200"]})
    with pytest.raises(UsageError, match="it lacks cifar10/val_200, cifar10/test_200"):
        TableBenchmark(space, str(path))


def repeat_a_cell(ops):
    ops = ops.copy()
    ops[7] = ops[8]
    return ops


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ops", repeat_a_cell, "ops must list each of 15625 cells once"),
        ("ops", lambda ops: ops + 1, "ops must list each of 15625 cells once"),
        ("ops", lambda ops: ops[:, :5], "ops must list each of 15625 cells once"),
        ("ops", lambda ops: ops[:-1], r"ops has the shape \(15624, 6\)"),
        ("ops", lambda ops: ops.astype(float), "ops is of type float64"),
        ("cifar10/val_200", lambda val: val[:-1], r"val_200 has the shape \(15624,\)"),
        ("cifar10/val_200", lambda val: val.astype(str), "val_200 is of type <U"),
        ("cifar10/val_200_seeds", lambda seeds: seeds[:, 0], r"seeds has the shape \(15625,\)"),
        ("cifar10/val_200_seeds", lambda seeds: seeds / 100, "seeds is of type float64"),
    ],
)
def test_wrong_columns_are_refused(tmp_path, space, columns, name, change, message):
    path = tmp_path / "wrong.npz"
    np.savez(path, **{**columns, name: change(columns[name])})
    with pytest.raises(UsageError, match=message):
        TableBenchmark(space, str(path))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_truncated_file(tmp_path, space, kept):
    path = tmp_path / "truncated.npz"
    content = FILE.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UsageError, match=r"truncated\.npz cannot be read as a table"):
        TableBenchmark(space, str(path))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, FILE.stat().st_size - 1), st.integers(1, 255))
def test_damage_is_refused_or_harmless(tmp_path, columns, place, change):
    content = bytearray(FILE.read_bytes())
    content[place] ^= change
    path = tmp_path / "damaged.npz"
    path.write_bytes(content)
    try:
        found = open_npz(path, list(columns))
    except UsageError as error:
        assert "damaged.npz" in str(error)
        return
    for name, column in columns.items():
        np.testing.assert_array_equal(found[name], column)
