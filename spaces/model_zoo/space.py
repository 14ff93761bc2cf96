"""Models that were designed by hand, as a space of one decision."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, SearchSpace
from spaces.model_zoo.catalogue import DATASETS, models, version
from spaces.rows import unknown_times
from spaces.table import Table

if TYPE_CHECKING:
    from torch import nn

_TARGETS: Final = {
    "cifar10": (96.0, 96.5, 97.0),
    "cifar100": (78.0, 80.0, 82.0),
    "svhn": (97.0, 97.25, 97.5),
    "imagenet": (92.0, 93.0, 94.0),
}


class ModelZoo(SearchSpace):
    """The models of the package pytorchcv, freshly initialised; no weights are downloaded.

    The one decision is the model, and text is its name in the package, ``resnet20_cifar10``. Each
    model is one edit away from every other, so that a move is a leap anywhere.

    Args:
        dataset: cifar10, cifar100, svhn or imagenet (of this only models that are evaluated at
            224 pixels); decides the models, the classes and the errors.
        max_params: keep only models of at most so many parameters.
        image_size: height and width of the pictures that networks are given; by default those of
            the published errors, 32, and 224 for imagenet.

    Raises :class:`UsageError` for another dataset, for settings that are not possible, where no
    model is left, and where pytorchcv is not installed.
    """

    name = "model_zoo"

    def __init__(
        self,
        dataset: str = "cifar10",
        max_params: int | None = None,
        image_size: int | None = None,
    ) -> None:
        if dataset not in DATASETS:
            raise unknown_name("space.dataset", dataset, DATASETS)
        if image_size is not None and image_size < 1:
            raise UsageError(f"space.image_size={image_size} is not possible; give 1 or more.")
        listed = models(dataset)
        self.models = tuple(m for m in listed if max_params is None or m.params <= max_params)
        if not self.models:
            raise UsageError(
                f"space.max_params={max_params} leaves no model for {dataset}; the smallest has "
                f"{listed[0].params} parameters."
            )
        self.decisions = (Decision("model", tuple(model.name for model in self.models)),)
        self.dataset = dataset
        self.classes = DATASETS[dataset].classes
        self.image_size = image_size or DATASETS[dataset].image_size

    def parse(self, text: str) -> Architecture:
        """Read a model's name; raises :class:`UsageError` on anything else."""
        names = self.decisions[0].choices
        if (name := text.strip()) in names:
            return (names.index(name),)
        near = difflib.get_close_matches(name, names, n=3) or names[:3]
        raise UsageError(
            f"'{text}' is no architecture of {self.name}: there are {len(names)} models for "
            f"{self.dataset}, such as {', '.join(near)}."
        )

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the model as the package draws it; see :mod:`spaces.model_zoo.network`."""
        from spaces.model_zoo.network import build

        return build(
            self.models[arch[0]],
            self.dataset,
            classes=classes or self.classes,
            image_size=self.image_size,
            running_stats=running_stats,
        )

    def draw(self, layer: nn.Module) -> None:
        """Refuse: the package draws its models itself."""
        raise UsageError(
            f"service.init=shared is not possible for {self.name}, whose package draws the "
            "weights; choose independent."
        )

    def network_key(self) -> dict[str, Any]:
        """Add the dataset and the package's version, of whose models an architecture is one.

        An architecture is a model's place by size, which ``max_params`` does not change.
        """
        return {**super().network_key(), "dataset": self.dataset, "pytorchcv": version()}

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the published test accuracies, 100 less the error; top-5 for imagenet.

        Raises :class:`UsageError` for ``epochs``, which the package does not tell, and for a
        ``path``.
        """
        if epochs is not None:
            raise UsageError(
                f"benchmark.epochs={epochs} is not known of {self.name}; leave it null."
            )
        if path is not None:
            raise UsageError(
                f"benchmark.path={path} cannot be read for {self.name}, whose table is the "
                "catalogue of pytorchcv; leave it null."
            )
        errors = np.array([model.error for model in self.models], np.float64)
        return Table(
            source=self.name,
            epochs=None,  # type: ignore[arg-type]  # the package does not say
            runs="one run",
            rows=lambda archs: np.array(archs, np.int64).reshape(-1),
            val=None,
            val_seeds=None,
            test=(100 - errors / 100).astype(np.float32),
            train_seconds=unknown_times(len(errors)),
            metric=DATASETS[self.dataset].metric,
            targets=_TARGETS[self.dataset],
            costs={"params": self._params},
        )

    def _params(self) -> NDArray[np.float64]:
        return np.array([model.params for model in self.models], np.float64)
