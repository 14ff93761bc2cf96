from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import spaces.training
from benchmarks.simulated_device import DEVICE, simulated_device
from conf.errors import UsageError
from proxies import datasets
from spaces import Evaluation, SearchSpace, training_loop
from spaces.base import Decision
from spaces.nasbench201 import NASBench201
from spaces.training import Results, TrainingBenchmark
from spaces.training_data import read
from tests.proxies import pickles
from tests.proxies.test_unpickling import Calls


class Tiny(SearchSpace):
    """Networks with all that a resumed training has to bring back: momentum, BatchNorm, dropout."""

    name = "tiny"
    decisions = (Decision("width", ("2", "4", "6")),)
    dataset, classes, image_size = "cifar10", 10, 8

    def network(self, arch, classes=None, *, running_stats=True):
        width = 2 * (arch[0] + 1)
        return nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.Dropout(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes or self.classes),
        )


@pytest.fixture
def make(tmp_path):
    """Make a benchmark of tiny networks that keeps its trainings in ``where``."""

    def benchmark(where="trainings", space=None, **settings):
        defaults = {"epochs": 3, "batch_size": 100, "device": "cpu"}
        directory = str(tmp_path / where)
        return TrainingBenchmark(space or Tiny(), directory=directory, **defaults | settings)

    return benchmark


def colours(path, classes=3, each=20, shuffled=False):
    """Noisy pictures whose class is their colour, or has nothing to do with it."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    images = rng.integers(0, 60, (len(labels), 8, 8, 3))
    images[np.arange(len(labels)), ..., labels % 3] += 150
    if shuffled:
        labels = rng.permutation(labels)
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return str(path)


def weights(benchmark, arch):
    return benchmark._trained(arch)[0].state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# -- evaluation -------------------------------------------------------------------------------


def test_it_learns_what_there_is_to_learn(make, tmp_path):
    settings = {"epochs": 15, "batch_size": 10, "weight_decay": 0.0}
    learnt = make(data=colours(tmp_path / "a.npz"), **settings).evaluate((2,))
    assert learnt.objective == learnt.val == learnt.test == 100
    assert 0 < learnt.train_seconds < 60
    noise = make(data=colours(tmp_path / "b.npz", shuffled=True), **settings).evaluate((2,))
    assert noise.val < 80


@pytest.mark.filterwarnings("ignore:.*model.onnx was not written")
def test_accuracy_is_that_of_the_exported_weights(make, tmp_path):
    benchmark = make(data=colours(tmp_path / "a.npz"), epochs=2)
    found = benchmark.evaluate((1,))
    benchmark.export((1,), tmp_path / "out")
    network = Tiny().network((1,), classes=3)
    network.load_state_dict(torch.load(tmp_path / "out" / "state_dict.pt", weights_only=True))
    network.eval()
    train = benchmark.data.train.images / 255
    mean, std = (f((0, 2, 3))[:, None, None] for f in (train.mean, train.std))
    for part, value in ((benchmark.data.validation, found.val), (benchmark.data.test, found.test)):
        inputs = torch.from_numpy((part.images / 255 - mean) / std).float()
        right = network(inputs).argmax(1).numpy() == part.labels
        assert value == pytest.approx(100 * right.mean())


def test_the_recipe_is_sgd_with_nesterov_momentum_and_a_cosine(make, tmp_path):
    """One step an epoch, so that order has no say, against torch's own schedule."""
    path = colours(tmp_path / "a.npz")
    space = Tiny()
    whole = make(data=path, space=space, epochs=4, batch_size=10**6, augment=False)
    built = []
    plain = Tiny.network

    def remember(arch, **options):
        network = plain(space, arch, **options)
        network[2] = nn.Identity()
        built.append({k: v.clone() for k, v in network.state_dict().items()})
        return network

    space.network = remember
    found = weights(whole, (0,))
    network = plain(space, (0,), classes=3)
    network[2] = nn.Identity()
    network.load_state_dict(built[0])
    data = whole.data
    mean, std = data.mean[:, None, None], data.std[:, None, None]
    inputs = torch.from_numpy((data.train.images / np.float32(255) - mean) / std)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
    for _ in range(4):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(inputs), torch.from_numpy(data.train.labels)).backward()
        optimiser.step()
        schedule.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_falls_step_by_step(make, monkeypatch, tmp_path):
    rates = []
    step = torch.optim.SGD.step

    def spy(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    make(data=colours(tmp_path / "a.npz"), epochs=2, batch_size=8, learning_rate=0.4).evaluate((0,))
    steps = 2 * 4  # 30 pictures to train on
    expected = 0.2 * (1 + np.cos(np.pi * np.arange(steps) / steps))
    np.testing.assert_allclose(rates, expected)


def test_crops_and_flips_are_of_the_padded_picture():
    torch.manual_seed(0)
    picture = torch.arange(1, 3 * 16 * 16 + 1).remainder(251).byte().reshape(1, 3, 16, 16)
    padded = nn.functional.pad(picture[0], (2, 2, 2, 2))
    legal = {}
    for top in range(5):
        for left in range(5):
            crop = padded[:, top : top + 16, left : left + 16]
            legal[crop.numpy().tobytes()] = (top, left, False)
            legal[crop.flip(2).contiguous().numpy().tobytes()] = (top, left, True)
    found = training_loop._crop_and_flip(picture.expand(800, -1, -1, -1))
    assert {legal[one.contiguous().numpy().tobytes()] for one in found} == set(legal.values())


def test_pictures_of_another_side_are_resized(make):
    images, labels = make()._pictures["train"].batch(torch.arange(4))
    assert (images.shape, images.dtype) == ((4, 3, 8, 8), torch.float32)
    assert labels.shape == (4,)


def test_description_and_contract(make):
    benchmark = make()
    assert (benchmark.protocol, benchmark.metric, benchmark.unit) == ("validation", "accuracy", "%")
    assert benchmark.higher_is_better
    found = json.loads(json.dumps(benchmark.describe()))
    assert found["kind"] == "training"
    assert found["pictures"] == "320 to train, 160 to validate, 160 to test"
    assert (found["epochs"], found["batch_size"], found["weight_decay"]) == (3, 100, 5e-4)


def test_foreign_architectures_are_refused(make, tmp_path):
    for act in (make().evaluate, lambda arch: make().export(arch, tmp_path)):
        with pytest.raises(UsageError, match=r"\(3,\) is no architecture of tiny\."):
            act((3,))


# -- reproducibility --------------------------------------------------------------------------


def test_a_training_depends_on_seed_and_architecture_alone(make, tmp_path):
    torch.manual_seed(1)
    first = make("a")
    one, other = (weights(first, arch) for arch in ((0,), (1,)))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = make("b")
    found = [weights(second, arch) for arch in ((1,), (0,))]
    assert torch.equal(torch.get_rng_state(), before)
    assert same(found[0], other)
    assert same(found[1], one)
    assert not same(weights(make("b", seed=1), (0,)), one)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("epochs_before", [0, 1, 3])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(
    make, tmp_path, monkeypatch, epochs_before
):
    settings = {"epochs": 4, "batch_size": 50}
    whole = make("whole", **settings)
    expected = whole.evaluate((2,))
    run, epochs = training_loop._epoch, []

    def dies(*arguments):
        epochs.append(arguments[-1])
        if len(epochs) > epochs_before:
            run(*arguments)  # what it did is lost
            raise _Killed
        run(*arguments)

    monkeypatch.setattr(training_loop, "_epoch", dies)
    with pytest.raises(_Killed):
        make("killed", **settings).evaluate((2,))
    epochs.clear()
    monkeypatch.setattr(training_loop, "_epoch", lambda *a: (epochs.append(a[-1]), run(*a)))
    resumed = make("killed", **settings)
    found = resumed.evaluate((2,))
    assert epochs == list(range(epochs_before, 4))
    assert (found.objective, found.val, found.test) == (
        expected.objective,
        expected.val,
        expected.test,
    )
    assert same(weights(resumed, (2,)), weights(whole, (2,)))


@pytest.mark.parametrize("augment", [True, False])
def test_on_a_device_it_is_the_same(make, monkeypatch, augment):
    def evaluated(where):
        return make(where, epochs=2, augment=augment).evaluate((1,))

    expected = evaluated("here")
    monkeypatch.setattr(spaces.training, "device_of", lambda *_: DEVICE)
    with simulated_device() as calls:
        found = evaluated("there")
    assert calls.launches
    assert (found.val, found.test) == (expected.val, expected.test)


def test_seconds_are_those_of_all_epochs(make, monkeypatch):
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr(training_loop.time, "perf_counter", lambda: float(next(clock)))
    run = training_loop._epoch

    def dies(*arguments):
        if arguments[-1] == 2:
            raise _Killed
        run(*arguments)

    monkeypatch.setattr(training_loop, "_epoch", dies)
    with pytest.raises(_Killed):
        make().evaluate((0,))
    monkeypatch.setattr(training_loop, "_epoch", run)
    assert make().evaluate((0,)).train_seconds == 15


# -- what is kept -----------------------------------------------------------------------------


def test_nothing_is_trained_twice(make, monkeypatch):
    found = make().evaluate((1,))

    def never(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(training_loop, "train", never)
    assert make().evaluate((1,)) == found
    with pytest.raises(AssertionError):
        make().evaluate((2,))


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 2},
        {"batch_size": 99},
        {"learning_rate": 0.2},
        {"weight_decay": 0.0},
        {"augment": False},
        {"seed": 1},
        {"held_out": 0.4},
        {"space": NASBench201("cifar10", channels=2, cells=1)},
    ],
    ids=lambda s: next(iter(s)),
)
def test_another_setting_is_another_training(make, settings):
    assert make(**settings)._folder != make()._folder


def test_other_pictures_are_another_training(make, tmp_path):
    path = tmp_path / "a.npz"
    first = make(data=colours(path))._folder
    assert make(data=colours(path))._folder == first
    assert make(data=colours(tmp_path / "renamed.npz"))._folder == first
    assert make(data=colours(path, shuffled=True))._folder != first


def test_making_a_benchmark_writes_nothing(make, tmp_path):
    make()
    assert not list(tmp_path.iterdir())


def test_a_torn_line_is_dropped_and_those_after_it_are_kept(tmp_path):
    file = tmp_path / "results.jsonl"
    entries = {name: Evaluation(v, v, v + 1, 2.5) for name, v in (("a", 50.0), ("b", 60.0))}
    Results(file).add("a", entries["a"])
    os.truncate(file, file.stat().st_size - 4)
    assert Results(file).find("a") is None
    other = Results(file)
    Results(file).add("b", entries["b"])
    assert other.find("b") == entries["b"]
    other.add("a", entries["a"])
    assert Results(file).find("a") == entries["a"]


@pytest.mark.parametrize("damage", ["truncated", "foreign", "malicious"])
def test_a_damaged_checkpoint_is_refused(make, tmp_path, damage):
    benchmark = make()
    benchmark.evaluate((0,))
    (checkpoint,) = (tmp_path / "trainings").rglob("*.pt")
    if damage == "truncated":
        os.truncate(checkpoint, 1000)
    elif damage == "foreign":
        torch.save({"epochs": 1, "seconds": 1.0, "network": {}, "optimiser": {}}, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(Calls(os.abort), 2))
    with pytest.raises(UsageError, match=r"is no checkpoint of this training; remove it"):
        benchmark.export((0,), tmp_path / "out")


def test_no_checkpoint_is_left_half_written(make, tmp_path, monkeypatch):
    def dies(content, path):
        path.write_bytes(b"half")
        raise _Killed

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(_Killed):
        make().evaluate((0,))
    assert not list((tmp_path / "trainings").rglob("*.pt*"))


# -- several at once --------------------------------------------------------------------------


class Fragile(Tiny):
    """Its fourth network cannot be built, and its fifth ends its process."""

    decisions = (Decision("width", ("2", "4", "6", "8", "10")),)

    def network(self, arch, classes=None, *, running_stats=True):
        if arch == (3,):
            raise UsageError("it has no network.")
        if arch == (4,):
            os._exit(1)
        return super().network(arch, classes=classes, running_stats=running_stats)


def test_several_at_once_come_out_as_one_by_one(make):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = make("alone", space=Fragile())
        expected = [alone.evaluate(arch) for arch in ((0,), (1,), (2,))]
    finally:
        torch.set_num_threads(threads)
    together = make("together", space=Fragile(), at_once=2)
    together.evaluate((1,))
    found = together.evaluate_all([(0,), (1,), (0,)])
    assert [(f.val, f.test) for f in found] == [
        (expected[i].val, expected[i].test) for i in (0, 1, 0)
    ]
    with pytest.raises(UsageError, match="it has no network"):
        together.evaluate_all([(3,), (2,)])
    assert together._journal.find("6").val == expected[2].val, "the other was not finished"
    assert same(weights(together, (2,)), weights(alone, (2,)))
    lines = (together._folder / "results.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)[0] for line in lines) == ["2", "4", "6"]
    with pytest.raises(UsageError, match="a process that trains could not start or has died"):
        together.evaluate_all([(4,), (3,)])


def test_a_space_that_cannot_be_pickled_is_told(make):
    class Local(Tiny):
        pass

    with pytest.raises(UsageError, match=r"benchmark\.at_once needs a space that can be pickled"):
        make(space=Local(), at_once=2).evaluate_all([(0,), (1,)])


# -- curves -----------------------------------------------------------------------------------


def test_curves_for_tensorboard_change_nothing(make):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plain, watched = make("plain"), make("watched", tensorboard=True)
    found, expected = watched.evaluate((1,)), plain.evaluate((1,))
    assert (found.val, found.test) == (expected.val, expected.test)
    assert same(weights(watched, (1,)), weights(plain, (1,)))
    (folder,) = (watched._folder / "tensorboard").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    tags = ("loss/train", "learning_rate", "accuracy/validation")
    curves = {tag: [s.value for s in events.Scalars(tag)] for tag in tags}
    assert {len(curve) for curve in curves.values()} == {3}
    assert curves["accuracy/validation"][-1] == pytest.approx(found.val)


def test_without_tensorboard_it_says_what_to_install(make, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"run pip install 'assay\[tensorboard\]'"):
        make(tensorboard=True)


# -- export -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "problem", [ImportError("No module named 'onnxscript'"), RuntimeError("no")]
)
def test_export_without_onnx_says_so(make, tmp_path, monkeypatch, problem):
    def fails(*_, **__):
        raise problem

    monkeypatch.setattr(torch.onnx, "export", fails)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.onnx").write_bytes(b"of another architecture")
    with pytest.warns(UserWarning, match=f"model.onnx was not written: .*{problem}"):
        files = make().export((1,), tmp_path / "out")
    assert sorted(p.name for p in files) == ["notation.txt", "state_dict.pt"]
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert (tmp_path / "out" / "notation.txt").read_text() == "4\n"


def test_exported_onnx_computes_what_the_network_does(make, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    pytest.importorskip("onnxscript")

    benchmark = make()
    *_, file = benchmark.export((1,), tmp_path / "out")
    model = onnx.load(file)
    network = Tiny().network((1,)).eval()
    network.load_state_dict(torch.load(tmp_path / "out" / "state_dict.pt", weights_only=True))
    inputs = benchmark._pictures["test"].batch(torch.arange(5))[0]
    (found,) = reference.ReferenceEvaluator(model).run(
        None, {model.graph.input[0].name: inputs.numpy()}
    )
    np.testing.assert_allclose(found, network(inputs).detach().numpy(), rtol=1e-4, atol=1e-5)


# -- pictures ---------------------------------------------------------------------------------


def parts(data):
    return data.train, data.validation, data.test


def rows(part):
    return [image.tobytes() for image in part.images]


def test_shipped_pictures_are_divided_class_by_class():
    data = read(None, 0.5, Tiny())
    assert [len(p) for p in parts(data)] == [320, 160, 160]
    for part in parts(data):
        assert set(np.bincount(part.labels)) == {len(part) // 10}
    everything = datasets.read_shipped().values
    assert sorted(row for part in parts(data) for row in rows(part)) == sorted(
        i.tobytes() for i in everything
    )
    assert [len(p) for p in parts(read(None, 0.25, Tiny()))] == [480, 80, 80]


def test_labels_stay_with_their_pictures():
    examples = datasets.read_shipped()
    of = {i.tobytes(): label for i, label in zip(examples.values, examples.labels, strict=True)}
    for part in parts(read(None, 0.5, Tiny())):
        assert [of[row] for row in rows(part)] == part.labels.tolist()


def test_the_official_test_file_is_the_test_part(tmp_path):
    folder = pickles.cifar10(tmp_path / "data")
    without = read(str(folder), 0.4, Tiny())
    assert [len(p) for p in parts(without)] == [60, 20, 20]
    content = pickles.examples(9, 30, 10, 32)
    pickles.write(folder / "test_batch", content)
    data = read(str(folder), 0.4, Tiny())
    assert [len(p) for p in parts(data)] == [60, 40, 30]
    assert np.array_equal(data.test.images.reshape(30, -1), content["data"])
    assert np.array_equal(data.test.labels, content["labels"])
    assert data.fingerprint != without.fingerprint


def test_cifar100_has_a_test_file_of_another_name(tmp_path):
    space = NASBench201("cifar100", channels=2, cells=1)
    folder = pickles.cifar100(tmp_path / "data", count=400)
    content = pickles.examples(9, 100, 100, 32)
    pickles.write(folder / "test", {"data": content["data"], "fine_labels": content["labels"]})
    data = read(str(folder), 0.5, space)
    assert [len(p) for p in parts(data)] == [200, 200, 100]
    assert data.classes == 100


def test_own_pictures_are_normalised_by_those_trained_on(tmp_path):
    data = read(colours(tmp_path / "a.npz"), 0.5, Tiny())
    train = data.train.images / 255
    np.testing.assert_allclose(data.mean, train.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(data.std, train.std((0, 2, 3)), rtol=1e-5)
    assert data.classes == 3


# -- mistakes ---------------------------------------------------------------------------------

MISTAKES = {
    "epochs": (0, "benchmark.epochs=0 must be at least 1."),
    "batch_size": (-1, "benchmark.batch_size=-1 must be at least 1."),
    "learning_rate": (0, "benchmark.learning_rate=0.0 must be positive and finite."),
    "weight_decay": (-1, "benchmark.weight_decay=-1.0 must be 0 or more, and finite."),
    "held_out": (1, "benchmark.held_out=1 must be between 0 and 1."),
    "seed": (-1, "benchmark.seed=-1 must not be negative."),
    "at_once": (0, "benchmark.at_once=0 must be at least 1."),
    "device": ("tpu", "benchmark.device=tpu is unknown; choose one of: auto, cpu, cuda."),
    "data": ("no/such", "benchmark.data=no/such cannot be read: No such file or directory."),
}


@pytest.mark.parametrize("setting", MISTAKES)
def test_mistakes_are_told_in_one_sentence(make, setting):
    value, sentence = MISTAKES[setting]
    with pytest.raises(UsageError) as caught:
        make(**{setting: value})
    assert str(caught.value) == sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told(make):
    with pytest.raises(UsageError, match=r"benchmark\.device=cuda is not possible: torch sees no"):
        make(device="cuda")


def archive(path, **arrays):
    np.savez(path, **arrays)


PICTURES = np.zeros((8, 4, 4, 3), np.uint8)
DATA = {
    "an empty folder": (lambda p: p.mkdir(), "holds neither data_batch_1"),
    "no archive": (lambda p: p.write_bytes(b"PK\x03\x04"), "is no readable .npz archive"),
    "no labels": (lambda p: archive(p, images=PICTURES), "must hold images and labels"),
    "inputs": (
        lambda p: archive(p, inputs=PICTURES.astype(np.float32), labels=np.arange(8) % 2),
        "must hold images and labels",
    ),
    "too few": (
        lambda p: archive(p, images=PICTURES, labels=np.arange(8) // 3),
        r"leaves a part without any of the 2 pictures of class 2 in benchmark\.data=",
    ),
    "another dataset": (
        pickles.cifar100,
        r"holds CIFAR-100, and networks of tiny are for space\.dataset=cifar10",
    ),
}


@pytest.mark.parametrize("mistake", DATA)
def test_unfit_pictures_are_told_in_one_sentence(make, tmp_path, mistake):
    write, sentence = DATA[mistake]
    path = tmp_path / "data.npz"
    write(path)
    with pytest.raises(UsageError, match=sentence) as caught:
        make(data=str(path))
    assert "benchmark." in str(caught.value)
    assert "batch.path" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_a_file_is_told(make, tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/deeper"):
        with pytest.raises(UsageError, match=r"benchmark\.directory=.* cannot be written"):
            make(name)


def test_importing_it_loads_no_torch():
    code = "import sys, spaces.training; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
