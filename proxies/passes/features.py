"""How far the last features of a network of Gaussian weights move with its input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from proxies.passes.drawing import gaussian, gaussian_weights
from proxies.passes.modes import BATCH_NORMS, normalising_by_batch
from proxies.passes.run import Run, register_pass
from proxies.stack import Stack

_EXAMPLES: Final = 16
_STEP: Final = 0.01


@dataclass(frozen=True)
class Movement:
    """How far the features move, float64 [K], and the variances that BatchNorm divided by.

    ``distance`` is the L1 distance, a mean over examples. ``variances`` has, for each BatchNorm
    in the order of calls, the mean over channels of the variance over the batch, float64 [K].
    """

    distance: Tensor
    variances: list[Tensor]


@register_pass("movement")
def movement(run: Run) -> Movement:
    """Compare the features of inputs x ~ N(0, 1) and x + 0.01 e, e ~ N(0, 1): 16 of each.

    All weights are drawn from N(0, 1) by the pass. BatchNorm normalises by the statistics of the
    16, dropout is off; the variances are those of x.

    The features are the last tensor [N, channels, positions...] of more than one position that
    any operator of the forward pass returned: what global pooling or flattening is given. They
    are found on the operators that torch dispatches, so that functional code counts too. Raises
    ``ValueError`` where there is no such tensor.
    """
    stack = run.stack
    tensors = gaussian_weights(run, lambda _: 1.0)
    shape = (_EXAMPLES, *run.batch.inputs.shape[1:])
    inputs = gaussian(run, *shape)
    moved = inputs + _STEP * gaussian(run, *shape)
    variances: list[Tensor] = []
    with normalising_by_batch(stack), torch.no_grad():
        with _measuring(stack, variances), _LastFeatures() as here:
            stack(tensors, inputs)
        with _LastFeatures() as there:
            stack(tensors, moved)
    difference = (here.features() - there.features()).abs().flatten(1)
    return Movement(difference.sum(1, dtype=torch.float64).mean().unsqueeze(0), variances)


class _LastFeatures(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps the last tensor with positions that is returned inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._last: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        value = result[0] if isinstance(result, tuple) else result
        if isinstance(value, Tensor) and _has_positions(value.shape):
            self._last = value
        return result

    def features(self) -> Tensor:
        if self._last is None:
            raise ValueError("the network has no features with positions, [N, channels, ...]")
        return self._last


def _has_positions(shape: torch.Size) -> bool:
    return len(shape) > 2 and shape[0] == _EXAMPLES and shape[2:].numel() > 1


@contextmanager
def _measuring(stack: Stack, variances: list[Tensor]) -> Iterator[None]:
    """Append the mean variance of what each BatchNorm is given."""

    def measure(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (given,) = inputs
        centred = given - given.mean((0, *range(2, given.dim())), keepdim=True)
        variances.append(centred.square().mean().double().unsqueeze(0))

    norms = [part for part in stack.parts.values() if isinstance(part, BATCH_NORMS)]
    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
