"""What torch keeps for the whole process: set for a while, then again as the caller had it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def own_chance(device: torch.device) -> Iterator[None]:
    """Draw random numbers of one's own inside, the same whatever was drawn before.

    Of the GPUs only the current one is seeded, and only where ``device`` is a GPU.
    """
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
        torch.default_generator.manual_seed(0)
        if on_gpu:
            torch.cuda.manual_seed(0)
        yield


@contextlib.contextmanager
def usual_defaults() -> Iterator[None]:
    """Make new tensors float32 on the CPU inside, and multiply matrices in full float32."""
    with contextlib.ExitStack() as restoring:
        restoring.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            restoring.enter_context(torch.device("cpu"))
        backends: Any = torch.backends
        if hasattr(backends.cuda.matmul, "fp32_precision"):
            for matmul in (backends.cuda.matmul, backends.mkldnn.matmul):
                restoring.callback(setattr, matmul, "fp32_precision", matmul.fp32_precision)
                matmul.fp32_precision = "ieee"
        else:  # torch before 2.9
            precision = torch.get_float32_matmul_precision()
            restoring.callback(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("highest")
        yield
