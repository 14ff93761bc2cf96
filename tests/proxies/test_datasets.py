import os
import pickle

import numpy as np
import pytest

from conf.errors import UsageError
from proxies import datasets, unpickling
from tests.proxies import pickles
from tests.proxies.test_unpickling import Calls


@pytest.mark.parametrize("writer", pickles.WRITERS)
def test_cifar10_is_read_whole_and_in_order(tmp_path, writer):
    found = datasets.read_cifar(pickles.cifar10(tmp_path / "data", writer))
    parts = [pickles.examples(i, 20, 10, 32)["data"] for i in range(1, 6)]
    assert np.array_equal(found.values, np.concatenate(parts).reshape(100, 3, 32, 32))
    assert found.labels.tolist() == list(range(10)) * 10
    assert found.dataset is datasets.CIFAR10
    assert found.origin == "data_batch_1 to 5"


@pytest.mark.parametrize("writer", pickles.WRITERS)
def test_cifar100_has_fine_labels(tmp_path, writer):
    found = datasets.read_cifar(pickles.cifar100(tmp_path / "data", writer))
    assert found.values.shape == (200, 3, 32, 32)
    assert found.labels.tolist() == list(range(100)) * 2
    assert found.dataset is datasets.CIFAR100


@pytest.mark.parametrize("name,files", [("train", 10), ("val", 1)])
def test_imagenet16_keeps_its_first_120_classes(tmp_path, name, files):
    found = datasets.read_imagenet16(pickles.imagenet16(tmp_path / "data", name=name))
    assert found.values.shape == (120 * files, 3, 16, 16)
    assert found.labels.tolist() == list(range(120)) * files
    last = pickles.examples(files, 150, 1000, 16)["data"]
    assert np.array_equal(found.values[-120:].reshape(120, -1), last[:120])


def test_planes_are_red_green_and_blue_row_by_row(tmp_path):
    folder = pickles.cifar100(tmp_path / "data", count=1)
    row = np.repeat(np.array([10, 20, 30], np.uint8), 1024)
    row[32:64] = 99  # the second row of the red plane
    pickles.write(folder / "train", {"data": row[None], "fine_labels": [7]})
    (image,) = datasets.read_cifar(folder).values
    assert image.max((1, 2)).tolist() == [99, 20, 30]
    assert (image[0, 1] == 99).all()


def change(folder, file, **content):
    """Replace entries of a file; None removes one."""
    new = unpickling.load(folder / file) | content
    pickles.write(folder / file, {k: v for k, v in new.items() if v is not None}, "protocol4")


DAMAGE = {
    "missing": (lambda d: (d / "data_batch_3").unlink(), "data_batch_3 cannot be read: No such"),
    "empty": (lambda d: (d / "data_batch_2").write_bytes(b""), "data_batch_2 cannot be read: "),
    "truncated": (
        lambda d: os.truncate(d / "data_batch_5", 9000),
        "data_batch_5 cannot be read: pickle data was truncated",
    ),
    "malicious": (
        lambda d: (d / "data_batch_4").write_bytes(pickle.dumps({"data": Calls(os.abort)})),
        r"data_batch_4 cannot be read: it names posix.abort, which is no array of numbers",
    ),
    "foreign": (lambda d: change(d, "data_batch_1", data=None), "data_batch_1 holds no pictures"),
    "floats": (
        lambda d: change(d, "data_batch_1", data=np.zeros((20, 3072))),
        "its data must be uint8",
    ),
    "narrow": (
        lambda d: change(d, "data_batch_1", data=np.zeros((20, 768), np.uint8)),
        "holds pictures of 16x16 pixels, not of CIFAR-10, whose pictures are 32x32",
    ),
    "unlabelled": (lambda d: change(d, "data_batch_1", labels=None), "holds no labels"),
    "few labels": (lambda d: change(d, "data_batch_1", labels=[1]), "must hold 20 whole numbers"),
    "ragged": (lambda d: change(d, "data_batch_1", labels=[[1], 2]), "must hold 20 whole numbers"),
    "text": (lambda d: change(d, "data_batch_1", labels=["a"] * 20), "must hold 20 whole numbers"),
    "label": (lambda d: change(d, "data_batch_1", labels=[10] * 20), "they must be from 0 to 9"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_copy_is_refused_in_one_sentence(tmp_path, damage):
    folder = pickles.cifar10(tmp_path / "data")
    harm, sentence = DAMAGE[damage]
    harm(folder)
    with pytest.raises(UsageError, match=f"^batch.path={tmp_path}.*{sentence}") as caught:
        datasets.read_cifar(folder)
    text = str(caught.value)
    assert text.endswith(".")
    assert not text.endswith("..")
    assert "\n" not in text


def test_folders_of_something_else_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"batch.path=.*nowhere is no folder"):
        datasets.read_cifar(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"holds neither data_batch_1 .* nor train of"):
        datasets.read_cifar(tmp_path)
    with pytest.raises(UsageError, match="holds neither train_data_batch_1 to 10 nor val_data"):
        datasets.read_imagenet16(tmp_path)


def test_imagenet16_wants_every_training_file_and_labels_from_1(tmp_path):
    folder = pickles.imagenet16(tmp_path / "data")
    change(folder, "train_data_batch_7", labels=list(range(150)))
    with pytest.raises(UsageError, match="labels from 0 to 149; they must be from 1 to 1000"):
        datasets.read_imagenet16(folder)
    (folder / "train_data_batch_2").unlink()
    with pytest.raises(UsageError, match="train_data_batch_2 cannot be read"):
        datasets.read_imagenet16(folder)


def test_imagenet16_without_a_picture_of_the_first_classes_is_refused(tmp_path):
    folder = pickles.imagenet16(tmp_path / "data", name="val")
    change(folder, "val_data", labels=[500] * 150)
    with pytest.raises(UsageError, match="holds no picture of ImageNet16-120"):
        datasets.read_imagenet16(folder)


def test_images_of_an_npz_lie_either_way(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 6, 8), np.uint8)
    for name, stored in (("first", images), ("last", images.transpose(0, 2, 3, 1))):
        np.savez_compressed(tmp_path / f"{name}.npz", images=stored, labels=[4, 0, 1, 2, 3])
        found = datasets.read_npz(tmp_path / f"{name}.npz")
        assert np.array_equal(found.values, images)
        assert found.labels.tolist() == [4, 0, 1, 2, 3]
        assert (found.dataset, found.origin) == (None, f"{name}.npz")


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_inputs_of_an_npz_become_float32(tmp_path, kind):
    np.savez(tmp_path / "own.npz", inputs=np.ones((4, 7), kind), more=np.zeros(3))
    found = datasets.read_npz(tmp_path / "own.npz")
    assert found.values.dtype == np.float32
    assert found.values.shape == (4, 7)
    assert found.labels is None


ARCHIVES = {
    "nothing": ({"other": np.zeros(3)}, "must hold either images or inputs"),
    "both": (
        {"images": np.zeros((2, 4, 4, 3), "u1"), "inputs": np.zeros((2, 3))},
        "must hold either images or inputs",
    ),
    "grey": ({"images": np.zeros((2, 4, 4), "u1")}, r"not uint8 \[2, 4, 4\]"),
    "float images": ({"images": np.zeros((2, 4, 4, 3))}, r"not float64 \[2, 4, 4, 3\]"),
    "whole inputs": ({"inputs": np.zeros((2, 4), int)}, r"not int64 \[2, 4\]"),
    "flat inputs": ({"inputs": np.zeros(2)}, r"not float64 \[2\]"),
    "NaN": ({"inputs": np.full((2, 4), np.nan)}, "holds inputs that are NaN or infinite"),
    "empty": ({"inputs": np.zeros((0, 4))}, "holds no inputs"),
    "few labels": ({"inputs": np.zeros((2, 4)), "labels": [1]}, "must hold 2 whole numbers"),
    "float labels": ({"inputs": np.zeros((2, 4)), "labels": [0.5, 1]}, "must hold 2 whole"),
    "negative": ({"inputs": np.zeros((2, 4)), "labels": [-1, 1]}, "they must be from 0"),
    "objects": (
        {"inputs": np.zeros((2, 4)), "labels": np.array([os.abort, 1], object)},
        "is no readable .npz archive of plain arrays",
    ),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_foreign_archives_are_refused(tmp_path, case):
    arrays, sentence = ARCHIVES[case]
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(UsageError, match=f"^batch.path={tmp_path}/own.npz .*{sentence}"):
        datasets.read_npz(tmp_path / "own.npz")


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_archives_are_refused(tmp_path, compressed):
    path = tmp_path / "own.npz"
    (np.savez_compressed if compressed else np.savez)(path, images=np.zeros((9, 4, 4, 3), "u1"))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:100], whole[:-30], whole[:60] + b"xyz" + whole[63:]):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"is no readable .npz archive"):
            datasets.read_npz(path)
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(UsageError, match=r"is no readable .npz archive"):
        datasets.read_npz(tmp_path / "single.npy")
    with pytest.raises(UsageError, match=r"nowhere.npz cannot be read: No such file"):
        datasets.read_npz(tmp_path / "nowhere.npz")
