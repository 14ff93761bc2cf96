"""What pytorchcv says of its models, read from its files without importing any of them.

The package names the module of each model in the imports of ``model_provider.py``, which imports
them all and with them torchvision, and their errors in ``model_metainfos.csv``.
"""

from __future__ import annotations

import ast
import csv
import functools
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from typing import Final

from conf.errors import UsageError

_SMALL: Final = "cf"  # the catalogue's word for CIFAR-10, CIFAR-100 and SVHN
_UNKNOWN: Final = "NA"


@dataclass(frozen=True)
class Dataset:
    """What models are made for.

    Attributes:
        classes: of the dataset.
        image_size: pixels of the pictures for which errors are published.
        metric: what the errors are of.
    """

    classes: int
    image_size: int
    metric: str


DATASETS: Final = {
    "cifar10": Dataset(10, 32, "accuracy"),
    "cifar100": Dataset(100, 32, "accuracy"),
    "svhn": Dataset(10, 32, "accuracy"),
    "imagenet": Dataset(1000, 224, "top-5 accuracy"),
}


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        name: by which the package knows it.
        module: dotted path of the module with a function of that name, which builds it.
        params: learnable parameters, as the catalogue says.
        error: published, in hundredths of a percent.
    """

    name: str
    module: str
    params: int
    error: int


@functools.cache
def models(dataset: str) -> tuple[Model, ...]:
    """List the models of ``dataset`` with a published error, by number of parameters and name.

    Of the models for ImageNet only those that are evaluated on pictures of 224 pixels.

    Raises :class:`UsageError` where the package is not installed, or lacks its catalogue.
    """
    files = _package()
    try:
        modules = _modules(files.joinpath("model_provider.py").read_text(encoding="utf-8"))
        catalogue = files.joinpath("models", "common", "model_metainfos.csv")
        rows = list(csv.DictReader(catalogue.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise UsageError(
            f"space=model_zoo finds no catalogue in pytorchcv ({error}); install 'assay[zoo]'."
        ) from None
    found = (
        Model(name, modules[name], int(row["net_weights"]), int(row["error_value"]))
        for row in rows
        if (name := row["model_name"]) in modules
        and row["error_value"] != _UNKNOWN
        and _is_of(row, dataset)
    )
    return tuple(sorted(found, key=lambda model: (model.params, model.name)))


def version() -> str:
    """Return the version of the package, of which networks are."""
    return metadata.version("pytorchcv")


def _package() -> Traversable:
    try:
        return resources.files("pytorchcv")
    except ModuleNotFoundError:
        raise UsageError(
            "space=model_zoo needs pytorchcv, which is not installed: install 'assay[zoo]'."
        ) from None


def _modules(source: str) -> dict[str, str]:
    """Read which module each name is imported from."""
    return {
        imported.name: f"pytorchcv.{statement.module}"
        for statement in ast.parse(source).body
        if isinstance(statement, ast.ImportFrom)
        for imported in statement.names
    }


def _is_of(row: dict[str, str], dataset: str) -> bool:
    if dataset == "imagenet":
        size = str(DATASETS[dataset].image_size)
        return row["test_dataset"] == "in1k" and row["img_size"] == size
    return row["test_dataset"] == _SMALL and row["model_name"].endswith(f"_{dataset}")
