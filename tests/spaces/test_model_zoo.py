from __future__ import annotations

import importlib.util
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from conf.errors import UsageError
from proxies import score_model
from proxies.batch import pictures
from spaces import TableBenchmark
from spaces.model_zoo import ModelZoo, catalogue
from tests.spaces.conformance import SpaceConformance

installed = pytest.mark.skipif(
    importlib.util.find_spec("pytorchcv") is None, reason="needs the extra zoo"
)

DATASETS = ("cifar10", "cifar100", "svhn", "imagenet")


def test_a_missing_package_is_named(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(catalogue.resources, "files", absent)
    catalogue.models.cache_clear()
    with pytest.raises(UsageError, match=r"needs pytorchcv, .* install 'assay\[zoo\]'"):
        ModelZoo()


def test_a_package_without_its_catalogue_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue.resources, "files", lambda _: tmp_path)
    catalogue.models.cache_clear()
    with pytest.raises(UsageError, match=r"no catalogue in pytorchcv .* install 'assay\[zoo\]'"):
        ModelZoo()


def test_unknown_datasets_are_refused():
    with pytest.raises(
        UsageError, match=r"space\.dataset=mnist is unknown; choose one of: cifar10"
    ):
        ModelZoo("mnist")


@installed
class TestConformance(SpaceConformance):
    has_network = True

    @pytest.fixture(params=["cifar10", "cifar100"])
    def space(self, request):
        return ModelZoo(request.param, max_params=300_000)


@installed
@pytest.mark.parametrize("dataset", DATASETS)
def test_models_are_ordered_by_size(dataset):
    space = ModelZoo(dataset)
    params = [model.params for model in space.models]
    assert params == sorted(params)
    small = ModelZoo(dataset, max_params=params[20])
    assert small.models == tuple(m for m in space.models if m.params <= params[20])
    assert small.models == space.models[: small.size]
    with pytest.raises(UsageError, match=f"the smallest has {params[0]} parameters"):
        ModelZoo(dataset, max_params=1)


@installed
@pytest.mark.parametrize("dataset", DATASETS)
def test_scores_are_shared_between_limits_and_not_between_datasets(dataset):
    key = ModelZoo(dataset).network_key()
    assert key == ModelZoo(dataset, max_params=2_000_000).network_key()
    others = [ModelZoo(other).network_key() for other in DATASETS if other != dataset]
    assert key not in others


@installed
@pytest.mark.parametrize(
    ("dataset", "name", "accuracy"),
    [
        ("cifar10", "resnet20_cifar10", 94.03),
        ("cifar100", "resnet20_cifar100", 70.36),
        ("svhn", "resnet20_svhn", 96.57),
        ("imagenet", "resnet18", 91.04),
    ],
)
def test_published_accuracies(dataset, name, accuracy):
    space = ModelZoo(dataset)
    benchmark = TableBenchmark(space)
    found = benchmark.evaluate(space.parse(name), np.random.default_rng(0))
    assert found.test == found.objective == pytest.approx(accuracy, abs=1e-4)
    assert math.isnan(found.val)
    assert benchmark.protocol == "test"
    assert benchmark.describe()["epochs"] is None
    assert benchmark.metric == ("top-5 accuracy" if dataset == "imagenet" else "accuracy")


@installed
@pytest.mark.parametrize("dataset", DATASETS)
def test_models_of_a_dataset_are_enough_to_correlate(dataset):
    space = ModelZoo(dataset)
    assert space.size >= {"imagenet": 280}.get(dataset, 60)
    assert 60 < space.table().test.min() < space.table().test.max() < 98


@installed
def test_what_the_catalogue_does_not_tell_is_refused(tmp_path):
    space = ModelZoo()
    with pytest.raises(UsageError, match=r"benchmark\.epochs=200 is not known"):
        space.table(epochs=200)
    with pytest.raises(UsageError, match=r"benchmark\.path=.* leave it null"):
        space.table(tmp_path / "own.npz")


@installed
def test_near_names_are_proposed():
    with pytest.raises(UsageError, match=r"resnet21_cifar10.* such as .*resnet20_cifar10"):
        ModelZoo().parse("resnet21_cifar10")


@installed
def test_the_space_needs_neither_torch_nor_the_models():
    program = (
        "import sys; from spaces.model_zoo import ModelZoo; s = ModelZoo(); s.table(); "
        "assert 'torch' not in sys.modules and 'pytorchcv.model_provider' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# -- networks ---------------------------------------------------------------------------------


@installed
@pytest.mark.parametrize("dataset", ["cifar10", "imagenet"])
def test_networks_have_the_published_parameters(dataset):
    space = ModelZoo(dataset, max_params=1_300_000)
    with torch.device("meta"):
        for arch in space.enumerate():
            model = space.models[arch[0]]
            if model.name.startswith("xdensenet"):
                continue  # the catalogue leaves out the weights that its masks switch off
            network = space.network(arch)
            assert sum(p.numel() for p in network.parameters()) == model.params, model.name


@installed
@pytest.mark.parametrize("running_stats", [False, True])
def test_networks_are_ready_for_proxies(running_stats):
    space = ModelZoo()
    network = space.network(space.parse("resnet20_cifar10"), running_stats=running_stats)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all((norm.running_mean is not None) == running_stats for norm in norms)
    assert not any(getattr(module, "inplace", False) for module in network.modules())


@installed
@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("cifar10", "sepreresnet20_cifar10"),
        ("cifar10", "nin_cifar10"),
        ("cifar10", "rir_cifar10"),
        ("imagenet", "squeezenet_v1_1"),
        ("imagenet", "mobilenetv2_w1"),
    ],
)
def test_any_number_of_classes(dataset, name):
    """Some classify by a convolution, and some of the package's builders know 10 and 100 alone."""
    space = ModelZoo(dataset)
    with torch.device("meta"):
        network = space.network(space.parse(name), classes=7).eval()
        images = torch.randn(2, 3, space.image_size, space.image_size)
        assert network(images).shape == (2, 7)


@installed
def test_pictures_of_another_size():
    own = ModelZoo("imagenet", max_params=5_000_000)
    resized = ModelZoo("imagenet", max_params=5_000_000, image_size=64)
    arch = own.parse("mobilenetv2_w1")
    networks = []
    for space in (own, resized):
        torch.manual_seed(0)
        networks.append(space.network(arch).eval())
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(networks[0](images), networks[1](images))
    assert networks[1](torch.randn(1, 3, 64, 64)).shape == (1, 1000)
    with pytest.raises(RuntimeError):
        networks[0](torch.randn(1, 3, 64, 64))


@installed
def test_networks_can_be_scored():
    space = ModelZoo(max_params=300_000)
    batch = pictures(space, size=8)
    for arch in list(space.enumerate())[:2]:
        network = space.network(arch, running_stats=False)
        scores = score_model(network, batch.inputs, batch.targets, proxies=["snip", "synflow"])
        assert all(math.isfinite(score) and score > 0 for score in scores.values())


@installed
@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("classes", [None, 7])
def test_every_model_maps_images_to_logits(dataset, classes):
    space = ModelZoo(dataset)
    differ = set()
    with torch.device("meta"):
        for arch in space.enumerate():
            model = space.models[arch[0]]
            if model.name.startswith("xdensenet"):
                continue  # draws its connections on the CPU
            network = space.network(arch, classes=classes).eval()
            images = torch.randn(2, 3, space.image_size, space.image_size)
            assert network(images).shape == (2, classes or space.classes), model.name
            if sum(p.numel() for p in network.parameters()) != model.params:
                differ.add(model.name)
    if classes is None:
        assert all(name.startswith("dicenet") for name in differ)
