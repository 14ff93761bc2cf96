"""Gradients of parts of the minibatch, each seen alone: how much the parts agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from proxies.passes.run import Layers, Run, register_pass


@register_pass("halves")
def halves(run: Run) -> tuple[Layers, Layers]:
    """Gradients of the loss of each half of the minibatch, as if they were two minibatches.

    The first half holds the first N // 2 examples. Raises ``ValueError`` for one example.
    """
    examples = len(run.batch.inputs)
    if examples < 2:
        raise ValueError("one example cannot be halved into two minibatches")
    first, second = _gradients(run, (slice(examples // 2), slice(examples // 2, None)))
    return first, second


@register_pass("signs")
def signs(run: Run) -> Layers:
    """Sum over examples of the signs of their own gradients, given as ``gradient``.

    Each example runs alone, so that BatchNorm normalises it by its own positions.
    """
    each = _gradients(run, (slice(n, n + 1) for n in range(len(run.batch.inputs))))
    total = [
        dataclasses.replace(layer, gradient=layer.gradient.sign()) for layer in next(each).layers
    ]
    for found in each:
        for sum_, layer in zip(total, found.layers, strict=True):
            sum_.gradient.add_(layer.gradient.sign())
    return Layers(run.stack.size, total)


def _gradients(run: Run, parts: Iterable[slice]) -> Iterator[Layers]:
    """Differentiate the loss of each part of the minibatch by itself."""
    for part in parts:
        targets = run.batch.targets
        batch = dataclasses.replace(
            run.batch,
            inputs=run.batch.inputs[part],
            targets=None if targets is None else targets[part],
        )
        yield Run(run.stack, batch, {"gradients"}).record("gradients")
