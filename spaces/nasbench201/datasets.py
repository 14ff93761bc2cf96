"""The datasets of NAS-Bench-201, which those of NATS-Bench's size space are, too."""

from __future__ import annotations

from typing import Final, NamedTuple


class Dataset(NamedTuple):
    """Number of classes, and pixels of a side of an image."""

    classes: int
    image_size: int


DATASETS: Final = {
    "cifar10": Dataset(10, 32),
    "cifar100": Dataset(100, 32),
    "ImageNet16-120": Dataset(120, 16),
}
