"""Random weights and inputs of a pass's own, for proxies that never look at the network's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from proxies.passes.modes import BATCH_NORMS
from proxies.passes.run import Run

_NORMS = (*BATCH_NORMS, nn.GroupNorm, nn.LayerNorm)


def gaussian(run: Run, *shape: int) -> Tensor:
    """Draw N(0, 1) from torch's generator, alike on every device and in every precision."""
    numbers = torch.randn(shape, dtype=torch.float32, device="cpu")
    return run.laid_out(numbers.to(run.batch.inputs))


def gaussian_weights(run: Run, deviation: Callable[[int], float]) -> dict[str, Tensor]:
    """Copy the tensors of a network, weights drawn from N(0, deviation(fan in) ** 2).

    Fan in is how many weights belong to one channel of the output. Biases of convolutions and
    linear layers are 0, and normalisation neither scales nor shifts. Other parameters stay as
    they are. Raises ``ValueError`` for more networks than one.
    """
    stack, tensors, nothing = run.single, run.tensors(), torch.empty(0)
    weights = stack.weights()
    layers = {module for weight in weights for module in weight.modules}
    for path, part in stack.parts.items():
        prefix = f"{path}." if path else ""
        if part in layers or isinstance(part, _NORMS):
            tensors.get(f"{prefix}bias", nothing).zero_()
        if isinstance(part, _NORMS):
            tensors.get(f"{prefix}weight", nothing).fill_(1)
    for weight in weights:
        shape = tensors[weight.name].shape
        tensors[weight.name] = gaussian(run, *shape).mul_(deviation(stack.per_channel(weight)))
    return tensors
