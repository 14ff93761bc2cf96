"""Ways to run a module: each changes how its parts behave inside, and changes them back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import torch
from torch import nn

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
    """Put every part in evaluation mode, but BatchNorm, which normalises by the batch."""
    with training(stack, False):
        for part in stack.parts.values():
            if isinstance(part, BATCH_NORMS):
                part.training = True
        yield


@contextlib.contextmanager
def without_batch_norm(stack: Stack) -> Iterator[None]:
    """Make every BatchNorm of ``stack`` the identity, and back.

    The identity returns a new tensor, as BatchNorm does, so that an activation that works in
    place on it leaves its input alone.
    """
    norms = [part for part in stack.parts.values() if isinstance(part, BATCH_NORMS)]
    own = [vars(norm).get("forward") for norm in norms]
    try:
        for norm in norms:
            vars(norm)["forward"] = torch.clone
        yield
    finally:
        for norm, forward in zip(norms, own, strict=True):
            if forward is None:
                vars(norm).pop("forward", None)
            else:
                vars(norm)["forward"] = forward


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
