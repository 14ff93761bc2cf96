"""Builds a model of pytorchcv for a proxy to score."""

from __future__ import annotations

import importlib

from torch import nn

from spaces.model_zoo.catalogue import DATASETS, Model


def build(
    model: Model, dataset: str, *, classes: int, image_size: int, running_stats: bool
) -> nn.Module:
    """Build ``model``, which maps float images [n, 3, size, size] to logits [n, classes].

    Weights are drawn by the package's own code, as it does before training; the last layer is
    drawn as torch does by default where ``classes`` are not the published number. Where
    ``image_size`` is not the published one, the last pooling is global, and a few models, whose
    layers count on their own size, raise when they run.

    Numbered deviations: (1) nothing works in place.
    """
    network: nn.Module = getattr(importlib.import_module(model.module), model.name)()
    published = DATASETS[dataset]
    if classes != published.classes:
        _classify(network, published.classes, classes)
    for name, module in list(network.named_modules()):
        if hasattr(module, "inplace"):
            module.inplace = False
        if not running_stats and isinstance(module, nn.modules.batchnorm._BatchNorm):
            _forget_statistics(module)
        is_last_pooling = name.endswith("final_pool") and isinstance(module, nn.AvgPool2d)
        if is_last_pooling and image_size != published.image_size:
            _replace(network, name, nn.AdaptiveAvgPool2d(1))
    return network


def _classify(network: nn.Module, published: int, classes: int) -> None:
    """Exchange the last layer, and a BatchNorm that follows it, for ones with ``classes`` outputs.

    The layer is linear or a 1x1 convolution.
    """
    modules = dict(network.named_modules())
    layers = [name for name, m in modules.items() if isinstance(m, nn.Linear | nn.Conv2d)]
    last = modules[layers[-1]]
    if isinstance(last, nn.Linear):
        assert last.out_features == published
        exchanged: nn.Module = nn.Linear(last.in_features, classes, last.bias is not None)
    else:
        assert isinstance(last, nn.Conv2d)
        assert last.out_channels == published
        exchanged = nn.Conv2d(last.in_channels, classes, 1, bias=last.bias is not None)
    _replace(network, layers[-1], exchanged)
    names = list(modules)
    for name in names[names.index(layers[-1]) :]:
        norm = modules[name]
        if isinstance(norm, nn.BatchNorm2d) and norm.num_features == published:
            _replace(network, name, nn.BatchNorm2d(classes, norm.eps))


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    holder, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(holder), leaf, module)


def _forget_statistics(norm: nn.modules.batchnorm._BatchNorm) -> None:
    norm.track_running_stats = False
    norm.running_mean = norm.running_var = norm.num_batches_tracked = None
