"""The seven tasks of TransNAS-Bench-101 and how success in them is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Task:
    """One task, on pictures of rooms from Taskonomy.

    Attributes:
        outputs: classes, or numbers to predict, for each picture or each of its pixels.
        epochs: of training.
        metric: what the table holds; the larger the better.
        unit: of the metric.
        micro: targets of searches in the space of cells.
        macro: targets of searches in the space of skeletons.
        tiles: into how many tiles a picture is cut.
        dense: whether each pixel is predicted: the network's head then stands in for a decoder.
    """

    outputs: int
    epochs: int
    metric: str
    unit: str
    micro: tuple[float, ...]
    macro: tuple[float, ...]
    tiles: int = 1
    dense: bool = False


TASKS: Final = {
    "class_scene": Task(47, 25, "accuracy", "%", (54.0, 54.5, 54.9), (55.5, 56.5, 57.0)),
    "class_object": Task(75, 25, "accuracy", "%", (44.0, 44.5, 45.5), (45.5, 46.5, 47.0)),
    "autoencoder": Task(3, 30, "SSIM", "", (0.53, 0.55, 0.57), (0.61, 0.69, 0.74), dense=True),
    "normal": Task(3, 30, "SSIM", "", (0.555, 0.565, 0.58), (0.59, 0.60, 0.62), dense=True),
    "jigsaw": Task(1000, 10, "accuracy", "%", (94.0, 94.5, 95.0), (96.0, 96.5, 96.9), tiles=9),
    "room_layout": Task(
        9, 25, "negative L2 loss", "", (-0.65, -0.63, -0.61), (-0.63, -0.61, -0.59)
    ),
    "segmentsemantic": Task(
        17, 30, "pixel accuracy", "%", (94.4, 94.5, 94.6), (94.65, 94.75, 94.8), dense=True
    ),
}
"""By their names in the benchmark, in its order."""
