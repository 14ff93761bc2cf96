"""What correlations are taken of: input Jacobians with their classes, and feature maps of noise."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from proxies.passes.drawing import gaussian
from proxies.passes.modes import normalising_by_batch
from proxies.passes.run import Run, register_pass

_SIDE: Final = 64


@dataclass(frozen=True)
class ClassJacobian:
    """Gradient of the sum of the logits by example, ``rows`` [K, N, inputs].

    ``targets`` int64 [N]; ``classes`` is how many logits an example gets.
    """

    rows: Tensor
    targets: Tensor
    classes: int


@dataclass(frozen=True)
class FeatureMaps:
    """What modules return for one example: [channels, positions], call by call."""

    maps: list[Tensor]


@register_pass("class_jacobian")
def class_jacobian(run: Run) -> ClassJacobian:
    """Give the input Jacobian with the targets."""
    targets = run.batch.targets
    assert targets is not None
    return ClassJacobian(
        run.record("jacobian").rows, targets, run.record("forward").logits.shape[-1]
    )


@register_pass("feature_maps")
def feature_maps(run: Run) -> FeatureMaps:
    """Record what every module, the whole network included, returns for one standard normal input.

    The input has the shape of the minibatch's; BatchNorm normalises by it, and dropout is off.
    Outputs without positions (two dimensions) are left out.
    """
    return _feature_maps(run, run.batch.inputs.shape[1:])


@register_pass("feature_maps_64")
def feature_maps_64(run: Run) -> FeatureMaps:
    """As :func:`feature_maps`, for an input of 64 positions along every side."""
    channels, *sides = run.batch.inputs.shape[1:]
    return _feature_maps(run, (channels, *(_SIDE for _ in sides)))


def _feature_maps(run: Run, shape: Sequence[int]) -> FeatureMaps:
    stack = run.single
    maps: list[Tensor] = []

    def record(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() > 2:
            maps.append(output[0].flatten(1).clone())

    with normalising_by_batch(stack), torch.no_grad(), contextlib.ExitStack() as hooks:
        for part in set(stack.parts.values()):
            hooks.callback(part.register_forward_hook(record).remove)
        outputs = stack(run.tensors(), gaussian(run, 1, *shape))
    run.finite(outputs)
    if not maps:
        raise ValueError("no module of the network returns feature maps")
    return FeatureMaps(maps)
