"""Files in the format of NAS-Bench-101, written here by the words of the format alone."""

from __future__ import annotations

import base64
import copy
import json
import re
import struct
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.errors import UsageError
from spaces import TableBenchmark
from spaces.importers import Imported, from_nasbench, from_tfrecord, tfrecord
from spaces.importers.__main__ import main
from spaces.nasbench101 import NASBench101
from spaces.nasbench101.cell import adjacency, architecture, live, operations

SPACE = NASBench101()
BUDGETS = (4, 12, 36, 108)
IMAGES = 9984
NAMES = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")


# -- a writer of the format -------------------------------------------------------------------


def crc32c(data):
    """Bit by bit, by the definition."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data):
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def varint(number):
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def evaluation(epoch, seconds, train, val, test):
    values = enumerate((epoch, seconds, train, val, test), start=1)
    return b"".join(varint(n << 3 | 1) + struct.pack("<d", value) for n, value in values)


def metrics(evaluations, parameters, seconds):
    inner = [evaluation(*e) for e in evaluations]
    parts = [varint(1 << 3 | 2) + varint(len(e)) + e for e in inner]
    parts.append(varint(2 << 3) + varint(parameters))
    parts.append(varint(3 << 3 | 1) + struct.pack("<d", seconds))
    return b"".join(parts)


def record(cell, epochs, run):
    encoded = base64.b64encode(
        metrics(
            [
                (0.0, 0.0, 0.1, 0.1, 0.1),
                (epochs / 2, run["seconds"] / 2, 0.2, 0.3, 0.4),
                (float(epochs), run["seconds"], 0.99, run["val"], run["test"]),
            ],
            cell["parameters"],
            run["seconds"],
        )
    ).decode()
    return json.dumps(
        [cell["hash"], epochs, cell["adjacency"], ",".join(cell["operations"]), encoded]
    ).encode()


# -- cells and trainings ----------------------------------------------------------------------


def share(rng):
    """An accuracy, rounded to float32 as the benchmark's are."""
    return float(np.float32(rng.integers(IMAGES + 1) / IMAGES))


def cell_of(arch):
    """A cell as the benchmark writes it: without dead vertices."""
    joined = adjacency(arch)
    kept = live(joined)
    labels = ("input", *(NAMES[o] for o in operations(arch)), "output")
    return {
        "hash": SPACE.hash(arch),
        "matrix": joined[np.ix_(kept, kept)].astype(int),
        "adjacency": "".join(map(str, joined[np.ix_(kept, kept)].astype(int).ravel())),
        "operations": [labels[v] for v in kept],
        "arch": arch,
    }


def make_cells(budgets=BUDGETS, n=12):
    """Cells with three trainings a budget, among them the smallest one."""
    rng = np.random.default_rng(5)
    archs = [next(SPACE.enumerate()), *SPACE.sample(rng, n - 1)]
    parameters = SPACE.column("params")[SPACE.table().rows(archs)]
    cells = [cell_of(arch) for arch in archs]
    for cell, number in zip(cells, parameters, strict=True):
        cell["parameters"] = int(number)
        cell["runs"] = {
            epochs: [
                {"val": share(rng), "test": share(rng), "seconds": rng.uniform(1, 4000)}
                for _ in range(3)
            ]
            for epochs in budgets
        }
    return cells


def frames_of(cells, seed=0):
    """All records, shuffled; trainings of one cell and budget stay in their order."""
    queues = [
        [frame(record(cell, epochs, run)) for run in runs]
        for cell in cells
        for epochs, runs in cell["runs"].items()
    ]
    turns = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(queues)), 3))
    iterators = [iter(queue) for queue in queues]
    return [next(iterators[turn]) for turn in turns]


@pytest.fixture(scope="module")
def cells():
    return make_cells()


@pytest.fixture(scope="module")
def written(cells):
    return frames_of(cells)


@pytest.fixture
def file(tmp_path, written):
    path = tmp_path / "nasbench_full.tfrecord"
    path.write_bytes(b"".join(written))
    return path


def api_of(cells):
    """An object as ``nasbench.api.NASBench`` is."""
    fixed, computed = {}, {}
    for cell in cells:
        fixed[cell["hash"]] = {
            "module_adjacency": cell["matrix"].astype(np.int8),
            "module_operations": list(cell["operations"]),
            "trainable_parameters": cell["parameters"],
        }
        computed[cell["hash"]] = {
            epochs: [
                {
                    "halfway_training_time": run["seconds"] / 2,
                    "halfway_train_accuracy": 0.2,
                    "halfway_validation_accuracy": 0.3,
                    "halfway_test_accuracy": 0.4,
                    "final_training_time": run["seconds"],
                    "final_train_accuracy": 0.99,
                    "final_validation_accuracy": run["val"],
                    "final_test_accuracy": run["test"],
                }
                for run in runs
            ]
            for epochs, runs in cell["runs"].items()
        }
    return SimpleNamespace(
        fixed_statistics=fixed, computed_statistics=computed, valid_epochs={4, 12, 36, 108}
    )


def check(table_of, cells, epochs):
    """Every number, run by run."""
    table = table_of(epochs)
    rows = table.rows([cell["arch"] for cell in cells])
    for row, cell in zip(rows, cells, strict=True):
        runs = cell["runs"][epochs]
        val, test, seconds = (
            np.array([run[name] for run in runs]) for name in ("val", "test", "seconds")
        )
        np.testing.assert_allclose(table.val_seeds[row], 100 * val, rtol=1e-6)
        assert table.val[row] == pytest.approx(100 * val.mean(), rel=1e-6)
        assert table.test[row] == pytest.approx(100 * test.mean(), rel=1e-6)
        assert table.train_seconds[row] == pytest.approx(seconds.mean(), rel=1e-6)


# -- the format -------------------------------------------------------------------------------


def test_checksum_of_the_standard():
    """The check value of CRC-32C, which its catalogues give for these nine digits."""
    assert crc32c(b"123456789") == 0xE3069283
    assert tfrecord.masked_checksums([b"123456789"]) == [masked(b"123456789")]


@given(st.lists(st.binary(min_size=4, max_size=60), min_size=1, max_size=8))
def test_checksums_of_many(messages):
    assert tfrecord.masked_checksums(messages).tolist() == [masked(m) for m in messages]


@given(st.integers(0, 2**63), st.floats(allow_nan=False), st.binary(max_size=200))
def test_fields_of_every_kind(number, real, data):
    message = b"".join(
        (
            varint(2 << 3) + varint(number),
            varint(3 << 3 | 1) + struct.pack("<d", real),
            varint(300 << 3 | 2) + varint(len(data)) + data,
            varint(4 << 3 | 5) + b"abcd",
        )
    )
    assert list(tfrecord.fields(message)) == [(2, number), (3, real), (300, data), (4, b"abcd")]


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_refused(message):
    try:
        list(tfrecord.fields(message))
    except ValueError:
        return


@given(data=st.data())
def test_a_message_cut_off_is_refused(data):
    message = metrics([(1.0, 2.0, 0.1, 0.2, 0.3)] * 3, 8_555_530, 7.0)
    whole = list(tfrecord.fields(message))
    end = data.draw(st.integers(1, len(message) - 1))
    try:
        part = list(tfrecord.fields(message[:end]))
    except ValueError:
        return
    assert part == whole[: len(part)]
    assert len(part) < len(whole)


# -- what is imported -------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", BUDGETS)
def test_imports_every_number(file, cells, epochs, tmp_path):
    target = tmp_path / "own.npz"
    from_tfrecord(file, partial=True).save(target)
    check(lambda e: NASBench101("validated").table(target, e), cells, epochs)


@pytest.mark.parametrize("epochs", BUDGETS)
def test_imports_every_number_of_an_api(cells, epochs, tmp_path):
    target = tmp_path / "own.npz"
    from_nasbench(api_of(cells), partial=True).save(target)
    check(lambda e: NASBench101("validated").table(target, e), cells, epochs)


def test_file_and_api_make_the_same_table(file, cells):
    one, other = from_tfrecord(file, partial=True), from_nasbench(api_of(cells), partial=True)
    assert one.columns.keys() == other.columns.keys()
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], other.columns[name])
    assert (one.space, one.architectures) == (other.space, other.architectures)
    assert (one.space, one.architectures) == ("nasbench101", len(cells))


def test_columns_of_an_imported_table(file, cells, tmp_path):
    target = tmp_path / "own.npz"
    from_tfrecord(file, partial=True).save(target)
    space = NASBench101("validated")
    rows = space.table(target).rows([cell["arch"] for cell in cells])
    assert space.column("params", target)[rows].tolist() == [c["parameters"] for c in cells]
    for epochs in BUDGETS:
        table = space.table(target, epochs)
        seeds = space.column(f"val_{epochs}_seeds", target)
        assert seeds.shape == (len(cells), 3)
        np.testing.assert_allclose(space.column(f"val_{epochs}", target), seeds.mean(axis=1))
        np.testing.assert_allclose(space.column(f"test_{epochs}", target), table.test, rtol=1e-6)
        np.testing.assert_array_equal(
            space.column(f"train_seconds_{epochs}", target), table.train_seconds
        )
    with pytest.raises(
        UsageError, match="column=val_5 is unknown; choose one of: params, test_108"
    ):
        space.column("val_5", target)
    with pytest.raises(UsageError, match=r"epochs=5 is not in .* choose one of: 4, 12, 36, 108\."):
        space.table(target, 5)


def test_only_108_epochs(tmp_path):
    cells = make_cells((108,))
    path, target = tmp_path / "nasbench_only108.tfrecord", tmp_path / "own.npz"
    path.write_bytes(b"".join(frames_of(cells)))
    from_tfrecord(path, partial=True).save(target)
    check(lambda e: NASBench101("validated").table(target, e), cells, 108)
    with pytest.raises(UsageError, match=r"epochs=36 is not in the table; choose 108\."):
        NASBench101("validated").table(target, 36)


def test_another_writing_of_a_cell_has_its_number(cells, tmp_path):
    """The benchmark's matrices are one of many writings; vertices here are renamed."""
    arch = architecture(
        [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]],
        ["input", "maxpool3x3", "conv3x3-bn-relu", "output"],
    )
    assert SPACE.canonical(arch) != arch
    cell = cell_of(arch) | {key: cells[1][key] for key in ("parameters", "runs")}
    path = tmp_path / "some.tfrecord"
    path.write_bytes(b"".join(frames_of([cell])))
    target = tmp_path / "own.npz"
    from_tfrecord(path, partial=True).save(target)
    check(lambda e: NASBench101("validated").table(target, e), [cell], 36)


def test_compares_with_what_is_known(cells):
    """The trainings here are made up, the parameters are not."""
    found = {a.column: a for a in from_nasbench(api_of(cells), partial=True).agreements}
    assert (found["params"].same, found["params"].compared) == (12, 12)
    assert found["test_108"].same < 3
    known = SPACE.table()
    for cell in cells:
        mean = float(SPACE.column("test_108")[known.rows([cell["arch"]])[0]])
        total = round(mean * 3 * IMAGES / 100)
        for run, right in zip(
            cell["runs"][108], (total // 3, (total + 1) // 3, (total + 2) // 3), strict=True
        ):
            run["test"] = right / IMAGES
    changed = from_nasbench(api_of(cells), partial=True)
    assert next(a.same for a in changed.agreements if a.column == "test_108") == 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A table as an import of all cells would write it, in two fidelities."""
    rng = np.random.default_rng(0)
    columns = {"validated": np.arange(SPACE.size, dtype=np.uint32)}
    for epochs in (4, 108):
        for name in ("val", "test"):
            right = rng.integers(IMAGES, size=(SPACE.size, 3))
            columns[f"{name}_{epochs}_seeds"] = right.astype(np.uint16)
        columns[f"train_seconds_{epochs}"] = rng.uniform(1, 9, SPACE.size).astype(np.float32)
    path = tmp_path_factory.mktemp("whole") / "own.npz"
    Imported("nasbench101", SPACE.size, columns, ()).save(path)
    return path, columns


@pytest.mark.parametrize("subset", ["all", "validated"])
@pytest.mark.parametrize("epochs", [4, 108])
def test_all_cells_are_searched_by_validation_accuracy(whole, subset, epochs):
    path, columns = whole
    space = NASBench101(subset)
    benchmark = TableBenchmark(space, str(path), epochs)
    assert benchmark.protocol == "validation"
    assert benchmark.describe()["epochs"] == epochs
    for arch in space.sample(np.random.default_rng(1), 5):
        number = SPACE.table().rows([arch])[0]
        found = benchmark.evaluate(arch, np.random.default_rng(0))
        expected = {
            name: columns[f"{name}_{epochs}_seeds"][number].mean() / IMAGES * 100
            for name in ("val", "test")
        }
        assert found.objective == found.val == pytest.approx(expected["val"], rel=1e-6)
        assert found.test == pytest.approx(expected["test"], rel=1e-6)
        assert found.train_seconds == columns[f"train_seconds_{epochs}"][number]
    single = TableBenchmark(space, str(path), epochs, seeds="random")
    drawn = {single.evaluate(arch, np.random.default_rng(seed)).val for seed in range(30)}
    right = columns[f"val_{epochs}_seeds"][number]
    np.testing.assert_allclose(sorted(drawn), np.unique(right / IMAGES * 100), rtol=1e-6)


# -- what is refused --------------------------------------------------------------------------


def refused(content, tmp_path, *, partial=True):
    """The sentence by which a file is refused."""
    path = tmp_path / "some.tfrecord"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        from_tfrecord(path, partial=partial)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_some_cells_are_no_benchmark(written, tmp_path):
    assert "it has 12 of 423,624 cells" in refused(b"".join(written), tmp_path, partial=False)


@pytest.mark.parametrize("part", ["head", "data", "checksum"])
def test_a_file_cut_off_is_refused(written, tmp_path, part):
    end = {"head": 7, "data": 100, "checksum": len(written[20]) - 1}[part]
    content = b"".join(written[:20]) + written[20][:end]
    assert "is cut off in record 21;" in refused(content, tmp_path)


def test_a_record_too_few_is_refused(written, tmp_path):
    sentence = refused(b"".join(written[:-1]), tmp_path)
    assert re.search("a cell has 2 trainings of (4|12|36|108) epochs", sentence)


def test_a_record_twice_is_refused(written, tmp_path):
    assert "a cell has 4 trainings" in refused(b"".join([*written, written[0]]), tmp_path)


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(written, tmp_path_factory, place, bit):
    content = bytearray(b"".join(written[:6]))
    content[place % len(content)] ^= 1 << bit
    sentence = refused(bytes(content), tmp_path_factory.mktemp("flipped"))
    assert "is damaged" in sentence or "is cut off" in sentence


def test_a_huge_record_is_not_read(written, tmp_path):
    """It is refused by its length, whose checksum is right."""
    length = struct.pack("<Q", 1 << 60)
    content = written[0] + length + struct.pack("<I", masked(length)) + b"x" * 100
    sentence = refused(content, tmp_path)
    assert "record 2 would have 1,152,921,504,606,846,976 bytes" in sentence


def test_foreign_files_are_refused(tmp_path, written):
    assert "holds no results" in refused(b"", tmp_path)
    assert "is damaged or no .tfrecord" in refused(b"PK\x03\x04" * 100, tmp_path)
    assert "is damaged or no .tfrecord" in refused(b"text " * 100, tmp_path)
    example = frame(b"\x0a\x10features of a picture")
    assert "record 1 has another form" in refused(example, tmp_path)
    assert "record 73 has another form" in refused(
        b"".join(written[:72]) + frame(b"[" * 4000), tmp_path
    )


def changed(cells, change):
    """One record of the first cell, changed after it was made."""
    cell = copy.deepcopy(cells[1])
    fields = json.loads(record(cell, 108, cell["runs"][108][0]))
    change(fields)
    return frame(json.dumps(fields).encode())


WRONG = {
    "another hash": (lambda f: f.__setitem__(0, "0" * 32), "is not the hash of its cell"),
    "epochs": (lambda f: f.__setitem__(1, "108"), "record 1 has another form"),
    "no epochs": (lambda f: f.__setitem__(1, 0), "record 1 has another form"),
    "matrix": (lambda f: f.__setitem__(2, f[2][:-1]), "record 1 has another form"),
    "digits": (lambda f: f.__setitem__(2, "2" + f[2][1:]), "record 1 has another form"),
    "operations": (lambda f: f.__setitem__(3, "input,output"), "record 1 has another form"),
    "base64": (lambda f: f.__setitem__(4, "*" + f[4][1:]), "record 1 has another form"),
    "metrics": (
        lambda f: f.__setitem__(4, base64.b64encode(b"\x0a\x00").decode()),
        "record 1 has another form",
    ),
    "short": (lambda f: f.pop(), "record 1 has another form"),
    "types": (lambda f: f.__setitem__(slice(2, 4), [1, 2]), "record 1 has another form"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_records_of_another_form_are_refused(cells, tmp_path, change, message):
    assert message in refused(changed(cells, change), tmp_path)


def test_inconsistent_cells_are_refused(cells, tmp_path):
    other = copy.deepcopy(cells[:2])
    other[1]["hash"] = other[0]["hash"]
    assert "is not the hash of its cell" in refused(b"".join(frames_of(other)), tmp_path)
    first, second = (frames_of([cell])[0] for cell in cells[:2])
    renamed = cells[0] | {"hash": "f" * 32}
    content = first + second + frames_of([renamed])[0]
    assert "a cell has the hashes" in refused(content, tmp_path)


def test_two_writings_of_one_cell_are_refused(cells, tmp_path):
    matrix = [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    names = ["input", "maxpool3x3", "conv3x3-bn-relu", "output"]
    both = [
        cell_of(architecture(matrix, order))
        | {key: cells[1][key] for key in ("parameters", "runs")}
        for order in (names, [names[0], names[2], names[1], names[3]])
    ]
    assert f"{both[0]['hash']} is there twice" in refused(b"".join(frames_of(both)), tmp_path)


def test_cells_of_another_space_are_refused(cells, tmp_path):
    """More edges than nine, all of them on a path, under the hash that it would have."""
    arch = (*[1] * 21, *[0] * 5)
    dense = cell_of(arch) | {key: cells[1][key] for key in ("parameters", "runs")}
    sentence = refused(b"".join(frames_of([dense])), tmp_path)
    assert f"{dense['hash']} is no cell of it" in sentence


def test_accuracies_of_other_images_are_refused(cells, tmp_path):
    other = copy.deepcopy(cells[:2])
    other[1]["runs"][36][2]["val"] = 0.12345
    assert "must be shares of the 9,984 images" in refused(b"".join(frames_of(other)), tmp_path)
    other[1]["runs"][36][2]["val"] = float("nan")
    assert "must be shares of the 9,984 images" in refused(b"".join(frames_of(other)), tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.tfrecord does not exist"):
        from_tfrecord(tmp_path / "none.tfrecord")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        from_tfrecord(tmp_path)


@pytest.mark.parametrize(
    "api",
    [None, SimpleNamespace(), SimpleNamespace(fixed_statistics={"a": {}}, computed_statistics={})],
)
def test_another_object_is_refused(api):
    with pytest.raises(UsageError, match=r"object is no nasbench\.api\.NASBench with its results"):
        from_nasbench(api)


# -- the command line -------------------------------------------------------------------------


def run(*words):
    command = [sys.executable, "-m", "spaces.importers", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_refuses_in_one_sentence_and_leaves_nothing(file, tmp_path):
    done = run("nasbench101", file, "--out", tmp_path / "own.npz")
    assert done.returncode == 2
    assert done.stderr == f"{file} is not complete: it has 12 of 423,624 cells.\n"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_importing_it_needs_neither_torch_nor_the_packages():
    program = (
        "import sys, spaces.importers.__main__; "
        "assert not {'torch', 'nas_201_api', 'nats_bench', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("own.csv", "must end in .npz"),
        ("none/own.npz", "there is no folder"),
        ("folder.npz", "is a folder"),
    ],
)
def test_targets_are_checked_before_anything_is_read(tmp_path, capsys, out, message):
    (tmp_path / "folder.npz").mkdir()
    assert main(["nasbench101", str(tmp_path / "none"), "--out", str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err


def test_a_table_that_fails_to_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "own.npz"
    target.write_bytes(b"old")

    def fail(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(UsageError, match=r"own\.npz cannot be written: No space left on device"):
        Imported("nasbench101", 1, {}, ()).save(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
def test_all_cells_by_command(tmp_path, monkeypatch, capsys):
    """Every cell of the space, from an object whose trainings are the shipped mean."""
    import spaces.importers.__main__ as command

    test = np.rint(SPACE.column("test_108") * 3 * IMAGES / 100).astype(int)
    fixed, computed = {}, {}
    for number, (arch, parameters) in enumerate(
        zip(SPACE.enumerate(), SPACE.column("params").astype(int).tolist(), strict=True)
    ):
        name = SPACE.hash(arch) if number < 1000 else f"{number:032x}"
        cell = cell_of(arch) if number < 1000 else {"matrix": adjacency(arch).astype(int)}
        fixed[name] = {
            "module_adjacency": cell["matrix"],
            "module_operations": cell.get("operations")
            or ["input", *(NAMES[o] for o in operations(arch)), "output"],
            "trainable_parameters": parameters,
        }
        computed[name] = {
            108: [
                {
                    "final_training_time": 1.0,
                    "final_validation_accuracy": 0.5,
                    "final_test_accuracy": (test[number] + extra) // 3 / IMAGES,
                }
                for extra in range(3)
            ]
        }
    api = SimpleNamespace(fixed_statistics=fixed, computed_statistics=computed)
    monkeypatch.setattr(command, "from_tfrecord", lambda path: from_nasbench(api))
    target = tmp_path / "own.npz"
    assert command.main(["nasbench101", "any", "--out", str(target)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("423,624 of 423,624") == 2
    np.testing.assert_allclose(SPACE.table(target).test, SPACE.table().test, rtol=1e-6)
    assert (SPACE.table(target).val == 50).all()
