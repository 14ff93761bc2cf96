import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conf import app
from conf.errors import UsageError
from proxies import ScoringService, datasets
from proxies.batch import (
    Minibatch,
    _crop_and_flip,
    cifar,
    gaussian,
    imagenet16,
    npz,
    pictures,
    shown,
)
from spaces.nasbench201.space import NASBench201
from tests.proxies import pickles
from tests.proxies.tiny_space import TinySpace

SPACES = {"cifar10": "cifar10", "cifar100": "cifar100", "imagenet16": "ImageNet16-120"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Tiny official copies, and archives of one's own."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 32, 32, 3), np.uint8)
    np.savez(root / "images.npz", images=images, labels=np.arange(40) % 10)
    np.savez(root / "bare.npz", images=images)
    np.savez(root / "inputs.npz", inputs=rng.random((40, 3, 32, 32)), labels=np.arange(40) % 10)
    return {
        "cifar10": pickles.cifar10(root / "cifar10"),
        "cifar100": pickles.cifar100(root / "cifar100"),
        "imagenet16": pickles.imagenet16(root / "imagenet16"),
        "npz": root / "images.npz",
        "bare": root / "bare.npz",
        "inputs": root / "inputs.npz",
    }


@pytest.fixture
def make(paths):
    def draw(source, space=None, **settings):
        space = NASBench201(space or SPACES.get(source, "cifar10"))
        function = {"imagenet16": imagenet16, "gaussian": gaussian, "pictures": pictures}
        function |= dict.fromkeys(("cifar10", "cifar100"), cifar)
        if source in paths:
            settings["path"] = str(paths[source])
        return function.get(source, npz)(space, **settings)

    return draw


SOURCES = ["pictures", "gaussian", "cifar10", "cifar100", "imagenet16", "npz", "inputs"]
IMAGES = ["pictures", "cifar10", "cifar100", "imagenet16", "npz"]
PER_CLASS = {"cifar100": 100, "imagenet16": 120}


def test_shipped_pictures_are_balanced():
    found = datasets.read_shipped()
    assert found.values.shape == (640, 3, 32, 32)
    assert found.values.dtype == np.uint8
    assert found.labels.dtype == np.int64
    assert np.bincount(found.labels).tolist() == [64] * 10
    assert (datasets.SHIPPED.parent / "PROVENANCE.md").exists()


def test_pictures_are_real_normalised_and_labelled(make):
    batch = make("pictures", size=640)
    assert batch.inputs.shape == (640, 3, 32, 32)
    assert batch.inputs.dtype == torch.float32
    assert batch.stand_in is None
    assert torch.bincount(batch.targets).tolist() == [64] * 10
    assert batch.inputs.mean().abs() < 0.1
    assert batch.inputs.std() == pytest.approx(1.2, abs=0.15)
    # Neighbouring pixels of pictures are alike.
    rows = batch.inputs[..., 1:, :].flatten(), batch.inputs[..., :-1, :].flatten()
    assert torch.corrcoef(torch.stack(rows))[0, 1] > 0.9


@pytest.mark.parametrize("source", SOURCES)
def test_seed_and_every_setting_decide_the_batch(make, source):
    size = PER_CLASS.get(source, 20)
    first, again = make(source, size=size, seed=1), make(source, size=size, seed=1)
    assert torch.equal(first.inputs, again.inputs)
    assert first.fingerprint == again.fingerprint
    assert first.source == again.source
    assert len(first.inputs) == len(first.targets) == size
    assert first.inputs.dtype == torch.float32
    assert first.targets.dtype == torch.int64
    kinds = [{"seed": 2}, {"size": size - 1}, {"sampling": "per_class"}]
    kinds += [{"augment": True}] if source in IMAGES else []
    others = [make(source, **({"size": size, "seed": 1} | kind)) for kind in kinds]
    everything = [first, *others]
    assert len({batch.fingerprint for batch in everything}) == len(everything)
    assert len({batch.source for batch in everything}) == len(everything)


@pytest.mark.parametrize("source", ["cifar10", "cifar100", "imagenet16"])
def test_official_copies_are_normalised_and_keep_picture_and_label_together(make, paths, source):
    if source == "imagenet16":
        found = datasets.read_imagenet16(paths[source])
    else:
        found = datasets.read_cifar(paths[source])
    batch = make(source, size=50, seed=4)
    assert batch.stand_in is None
    mean, std = (np.array(x)[:, None, None] for x in (found.dataset.mean, found.dataset.std))
    pixels = np.rint((batch.inputs.double().numpy() * std + mean) * 255).astype(np.uint8)
    labels = {
        image.tobytes(): label for image, label in zip(found.values, found.labels, strict=True)
    }
    assert [labels[image.tobytes()] for image in pixels] == batch.targets.tolist()
    assert len({image.tobytes() for image in pixels}) == 50


@pytest.mark.parametrize("source", SOURCES)
def test_per_class_is_balanced_and_in_order(make, source):
    classes = PER_CLASS.get(source, 10)
    targets = make(source, size=2 * classes, sampling="per_class").targets
    assert targets.tolist() == [c for c in range(classes) for _ in range(2)]


@pytest.mark.parametrize("source", SOURCES)
def test_per_class_wants_a_multiple_of_the_classes(make, source):
    classes = PER_CLASS.get(source, 10)
    sentence = f"batch.size={classes + 1} is not possible .*; give a multiple of {classes}"
    with pytest.raises(UsageError, match=sentence):
        make(source, size=classes + 1, sampling="per_class")


def test_per_class_is_limited_by_the_smallest_class(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, inputs=np.zeros((5, 2)), labels=[0, 0, 0, 1, 1])
    space = NASBench201("cifar10")
    assert npz(space, path=str(path), size=4, sampling="per_class").targets.tolist() == [0, 0, 1, 1]
    np.savez(path, inputs=np.zeros((6, 2)), labels=[0, 0, 0, 0, 1, 1])
    with pytest.raises(UsageError, match=r"batch.size=6 .* give a multiple of 2 up to 4"):
        npz(space, path=str(path), size=6, sampling="per_class")


@pytest.mark.parametrize(
    "source,title",
    [("pictures", "CIFAR-10"), ("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")],
)
@pytest.mark.parametrize("sampling", ["random", "per_class"])
def test_pictures_of_another_dataset_stand_in_and_say_so(make, source, title, sampling):
    size = 120 if source != "cifar10" else 100
    space = "ImageNet16-120" if size == 120 else "cifar100"
    batch = make(source, space, size=size, sampling=sampling)
    side = NASBench201(space).image_size
    assert batch.inputs.shape == (size, 3, side, side)
    assert batch.stand_in == f"{title} pictures with random labels stand in for {space}"
    assert batch.targets.max() >= size * 0.9
    assert batch.targets.max() < size
    assert batch.describe()["stand_in"] == batch.stand_in


def test_larger_pictures_than_their_own(make):
    batch = make("imagenet16", "cifar10", size=4)
    assert batch.inputs.shape == (4, 3, 32, 32)
    assert batch.stand_in == "ImageNet16-120 pictures with random labels stand in for cifar10"


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)), st.integers(0, 2**32 - 1)
)
def test_every_augmented_picture_is_a_window_of_its_own(shape, seed):
    n, height, width = shape
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 256, (n, 3, height, width), np.uint8)
    pad = [(0, 0), (0, 0), (height // 8,) * 2, (width // 8,) * 2]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(images, pad), (height, width), (2, 3))
    for image, all_windows in zip(_crop_and_flip(images, rng), windows, strict=True):
        crops = all_windows.reshape(3, -1, height, width).swapaxes(0, 1)
        assert any((image == crop).all() or (image == crop[..., ::-1]).all() for crop in crops)


def test_augmentation_takes_every_window_and_both_ways():
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 1, 8, 8).repeat(3, 1)
    seen = _crop_and_flip(image.repeat(500, 0), np.random.default_rng(0))
    counts = np.unique(seen.reshape(500, -1), axis=0, return_counts=True)[1]
    assert len(counts) == 3 * 3 * 2
    assert counts.min() > 10


def test_images_of_ones_own_are_normalised_by_their_own_statistics(make):
    inputs = make("npz", size=40).inputs.double()
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(
        inputs.std((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), atol=1e-5
    )


def test_inputs_of_ones_own_are_taken_as_they_are(make, paths):
    with np.load(paths["inputs"]) as file:
        inputs = file["inputs"].astype(np.float32)
    found = make("inputs", size=40)
    assert {x.tobytes() for x in found.inputs.numpy()} == {x.tobytes() for x in inputs}
    assert found.source == "40 own pictures (inputs.npz), 32x32, seed 0"
    assert found.stand_in is None
    with pytest.raises(UsageError, match=r"batch.augment=true needs images"):
        make("inputs", size=40, augment=True)


def test_pictures_of_one_colour_stay_finite(tmp_path):
    np.savez(tmp_path / "own.npz", images=np.full((2, 8, 8, 3), 7, np.uint8))
    found = npz(NASBench201("cifar10"), path=str(tmp_path / "own.npz"), size=2)
    assert found.inputs.abs().max() < 1e-6


def test_labels_that_are_missing_are_missed_by_proxies_that_need_them(make):
    bare = make("bare", size=8)
    assert bare.targets is None
    assert bare.fingerprint != make("npz", size=8).fingerprint
    space = NASBench201("cifar10")
    service = ScoringService(space, batch=bare, store="memory")
    arch = space.parse("|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    assert np.isfinite(service.values([arch], "jacob_cov")).all()
    with pytest.raises(UsageError, match="proxy=snip needs targets"):
        service.values([arch], "snip")
    with pytest.raises(UsageError, match=r"per_class needs labels, and batch.path holds none"):
        make("bare", size=10, sampling="per_class")


@pytest.mark.parametrize("function", [cifar, imagenet16, npz])
def test_a_missing_path_is_told(function):
    with pytest.raises(UsageError, match=r"batch\.path is missing; give .*\."):
        function(NASBench201("cifar10"))


@pytest.mark.parametrize("size", [0, 641])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(UsageError, match=f"batch.size={size} .* 1 to 640"):
        pictures(NASBench201("cifar10"), size=size)


def test_impossible_settings_are_refused():
    space = NASBench201("cifar10")
    with pytest.raises(UsageError, match=r"batch.seed=-1 must not be negative"):
        gaussian(space, seed=-1)
    with pytest.raises(UsageError, match=r"batch.sampling=grasp is unknown; .*: per_class, random"):
        pictures(space, sampling="grasp")


def test_fingerprint_sees_targets_type_and_shape():
    inputs = torch.zeros(2, 3)
    batches = [
        Minibatch(inputs, None, ""),
        Minibatch(inputs, torch.tensor([0, 1]), ""),
        Minibatch(inputs, torch.tensor([1, 0]), ""),
        Minibatch(inputs.double(), None, ""),
        Minibatch(inputs.reshape(3, 2), None, ""),
        Minibatch(inputs + 1e-30, None, ""),
        Minibatch(inputs.bfloat16(), None, ""),
        Minibatch(inputs.bfloat16() + 1, None, ""),
    ]
    assert len({batch.fingerprint for batch in batches}) == len(batches)


def test_fingerprints_stay_what_they_were():
    """Scores are kept under them, and some come with Assay."""
    inputs = torch.arange(24.0).reshape(2, 3, 2, 2)
    for like in (inputs, inputs.contiguous(memory_format=torch.channels_last)):
        found = Minibatch(like, torch.tensor([3, 1]), "").fingerprint
        assert found == "ddcb75b09a1dd04cfe894cd0a81cf591fdaa8d1d888367429b210fe3746c2371"


def test_a_service_says_what_it_has_shown():
    service = ScoringService(TinySpace(), batch=lambda s: gaussian(s, size=4), store="memory")
    service.values([(3, 2, 1)], "synflow")
    assert shown(service) is None
    service.values([(3, 2, 1)], "jacob_cov")
    assert shown(service) is service.batch


def job(monkeypatch, tmp_path, *arguments):
    """Run a command line in this process and return its directory."""
    from run_score import score
    from run_search import search

    script, *settings = arguments
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.argv", [script, *settings, "hydra.run.dir=run", "service=inline"])
    app.run(*((score, "score") if script == "run_score.py" else (search, "config")))
    return tmp_path / "run"


def test_score_files_say_what_proxies_were_shown(monkeypatch, tmp_path, capsys, make):
    settings = ["archs=2", "space.dataset=cifar100", "batch.size=4"]
    folder = job(monkeypatch, tmp_path, "run_score.py", "proxies=[params]", *settings)
    assert not (folder / "batch.json").exists()
    assert "stand in" not in capsys.readouterr().out
    job(monkeypatch, tmp_path, "run_score.py", "proxies=[params,snip]", *settings)
    expected = make("pictures", "cifar100", size=4).describe()
    assert json.loads((folder / "batch.json").read_text()) == expected
    assert expected["size"] == 4
    assert f"{expected['stand_in']}." in capsys.readouterr().out


@pytest.mark.parametrize("proxy", ["params", "jacob_cov"])
def test_summaries_say_what_proxies_were_shown(monkeypatch, tmp_path, make, paths, proxy):
    folder = job(
        monkeypatch,
        tmp_path,
        "run_search.py",
        *("searcher=random", "budget.models=2", "trials=1"),
        *("guidance=warmup", "guidance.warmup.pool=3", f"proxy={proxy}"),
        *("batch=cifar", f"batch.path={paths['cifar10']}", "batch.size=10", "batch.seed=2"),
        "batch.sampling=per_class",
    )
    drawn = make("cifar10", size=10, sampling="per_class", seed=2).describe()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["batch"] == (None if proxy == "params" else drawn)


def test_a_mistake_in_the_batch_ends_in_one_sentence(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        job(monkeypatch, tmp_path, "run_score.py", "proxies=[snip]", "archs=2", "batch=imagenet16")
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "batch.path is missing; give the folder of ImageNet16's train_data_batch_1" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
