"""Ways to run a module: each changes how its parts behave inside, and changes them back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxies.stack import Stack

BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@contextlib.contextmanager
def training(stack: Stack, mode: bool = True) -> Iterator[None]:
    """Put every part of ``stack`` in training mode, or in evaluation mode, and back."""
    flags = [(part, part.training) for part in stack.parts.values()]
    try:
        for part, _ in flags:
            part.training = mode
        yield
    finally:
        for part, flag in flags:
            part.training = flag


@contextlib.contextmanager
def normalising_by_batch(stack: Stack) -> Iterator[None]:
    """Put every part in evaluation mode, but BatchNorm, which normalises by the batch.

    So does everything else that would normalise by running statistics.
    """
    with training(stack, False):
        for part in stack.parts.values():
            if hasattr(part, "running_mean"):
                part.training = True
        yield


@contextlib.contextmanager
def without_batch_norm(stack: Stack) -> Iterator[None]:
    """Make every BatchNorm of ``stack`` the identity, and back.

    The identity returns a new tensor, as BatchNorm does, so that an activation that works in
    place on it leaves its input alone.
    """
    with _replacing(_batch_norms(stack), lambda norm: torch.clone):
        yield


@contextlib.contextmanager
def initial_statistics(stack: Stack) -> Iterator[None]:
    """Let each BatchNorm without running statistics use mean 0 and variance 1, and back."""
    norms = [norm for norm in _batch_norms(stack) if norm.running_mean is None]
    with _replacing(norms, lambda norm: functools.partial(_normalise_as_new, norm)):
        yield


def _batch_norms(stack: Stack) -> list[Any]:
    return [part for part in stack.parts.values() if isinstance(part, BATCH_NORMS)]


def _normalise_as_new(norm: Any, features: Tensor) -> Tensor:
    mean = features.new_zeros(norm.num_features)
    return functional.batch_norm(features, mean, mean + 1, norm.weight, norm.bias, eps=norm.eps)


@contextlib.contextmanager
def _replacing(
    parts: list[Any], substitute: Callable[[Any], Callable[..., Tensor]]
) -> Iterator[None]:
    """Give each of ``parts`` another ``forward``, and its own back."""
    own = [vars(part).get("forward") for part in parts]
    try:
        for part in parts:
            vars(part)["forward"] = substitute(part)
        yield
    finally:
        for part, forward in zip(parts, own, strict=True):
            if forward is None:
                vars(part).pop("forward", None)
            else:
                vars(part)["forward"] = forward


@contextlib.contextmanager
def out_of_place(stack: Stack) -> Iterator[None]:
    """Keep activations from overwriting what they are given, and back."""
    parts = [part for part in stack.parts.values() if getattr(part, "inplace", False) is True]
    try:
        for part in parts:
            vars(part)["inplace"] = False
        yield
    finally:
        for part in parts:
            vars(part)["inplace"] = True
