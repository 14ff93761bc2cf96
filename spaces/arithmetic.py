"""What the operations of networks that run as one do, which a pass may exchange."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Arithmetic:
    """The operations of a forward pass that have weights, choose, or that a pass wants to see.

    Attributes:
        layer: as ``torch.nn.functional.conv2d``.
        norm: maps features [n, channels, height, width] to normalised ones.
        end: is given a network's number and what one of its blocks returns; all that reaches the
            output leads through it. Gives what the next block is to be given.
        pool: as ``torch.nn.functional.max_pool2d``.
        relu: as ``torch.nn.functional.relu``.
    """

    layer: Callable[..., Tensor]
    norm: Callable[[Tensor], Tensor]
    end: Callable[[int, Tensor], Tensor]
    pool: Callable[..., Tensor] = functional.max_pool2d
    relu: Callable[[Tensor], Tensor] = functional.relu


def _by_batch(features: Tensor) -> Tensor:
    return functional.batch_norm(features, None, None, training=True)


TRAINING: Final = Arithmetic(functional.conv2d, _by_batch, lambda _, features: features)
"""What networks do in training mode."""
