"""Training of a copy of the network on the minibatch, for a little while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from proxies.passes import modes
from proxies.passes.loss import check_logits
from proxies.passes.run import Run, register_pass

LEARNING_RATE: Final = 0.1
MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-4
HELD_OUT: Final = 5
"""One example in so many, class by class, is kept for validation."""


@dataclass(frozen=True)
class Training:
    """What K trainings came to.

    ``losses`` float64 [K, epochs]: the cross entropy of each epoch, a mean over its examples as
    they were met, before the step that they led to. ``accuracy`` float64 [K]: of the held-out
    examples after the last epoch, in percent; NaN if the losses were not finite.
    """

    losses: Tensor
    accuracy: Tensor


@register_pass("training")
def training(run: Run) -> Callable[..., Training]:
    """Give a function that trains in a given way, in each way at most once.

    Its parameters are ``epochs``; ``resolution``, to which sides of pictures [N, channels,
    height, width] that are larger are reduced, each pixel the mean of the area that it covers, or
    None; and ``batch_size``, about how many examples make a step.

    SGD with Nesterov momentum .9, weight decay 5e-4 and a learning rate that falls from .1 to 0
    along a cosine, step by step: the recipe of NAS-Bench-201 (Dong and Yang 2020) and of reduced
    training in Abdelfattah et al. 2021. All parameters are trained, from the values that the
    network has. Every fifth example is held out, in the order of classes; the others are shuffled
    each epoch, by torch's generator, and cut into equally many. Dropout is on in training.
    BatchNorm validates by running statistics where it has them, else by the held-out examples.

    The function raises ``ValueError`` for a single example, and for outputs that are not one row
    of logits of two classes or more per example.
    """

    def train(*, epochs: int, resolution: int | None, batch_size: int) -> Training:
        way = (epochs, resolution, batch_size)
        return run.once(("training", way), lambda: _train(run, *way))

    return train


def _train(run: Run, epochs: int, resolution: int | None, batch_size: int) -> Training:
    stack, targets = run.stack, run.batch.targets
    assert targets is not None
    inputs = _reduced(run.batch.inputs, resolution)
    seen, held_out = _split(targets)
    tensors = run.tensors()
    names = [name for name, _ in stack.module.named_parameters()]
    steps = -(-len(seen) // batch_size)
    optimiser = torch.optim.SGD(
        [tensors[name].requires_grad_() for name in names],
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
        weight_decay=WEIGHT_DECAY,
        nesterov=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    losses = torch.zeros((stack.size, epochs), dtype=torch.float64)
    with modes.training(stack):
        for epoch in range(epochs):
            for chosen in seen[torch.randperm(len(seen))].tensor_split(steps):
                loss = _loss(stack(tensors, inputs[chosen]), targets[chosen])
                optimiser.zero_grad()
                torch.autograd.backward(loss.sum())
                optimiser.step()
                schedule.step()
                losses[:, epoch] += loss.detach().cpu() * (len(chosen) / len(seen))
    with modes.training(stack, False), torch.no_grad():
        predicted = stack(tensors, inputs[held_out]).argmax(-1)
    accuracy = 100 * (predicted == targets[held_out]).double().mean(1).cpu()
    return Training(losses, accuracy.where(losses.isfinite().all(1), torch.nan))


def _reduced(inputs: Tensor, resolution: int | None) -> Tensor:
    if resolution is None or inputs.dim() != 4:
        return inputs
    sides = [min(side, resolution) for side in inputs.shape[2:]]
    return functional.interpolate(inputs, sides, mode="area")


def _split(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which examples to train on, and which to hold out: equally many of each class."""
    by_class = targets.cpu().argsort(stable=True)
    held_out = torch.arange(len(targets)) % HELD_OUT == 0
    if held_out.all():
        raise ValueError("one example cannot be divided into one to train on and one to hold out")
    return by_class[~held_out], by_class[held_out]


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross entropy of each of K networks, [K]."""
    check_logits(logits)
    each = functional.cross_entropy(
        logits.flatten(0, 1), targets.repeat(len(logits)), reduction="none"
    )
    return each.view(len(logits), -1).mean(1)
