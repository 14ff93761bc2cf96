"""The passes: each runs a stack of networks once and records what proxies read.

A pass is a function of a :class:`~proxies.passes.run.Run`, registered under a name by
:func:`~proxies.passes.run.register_pass`. It works on tensors of its own, on the device of the
minibatch, and leaves the stack's module exactly as it was.
"""

from proxies.passes import (
    activations,
    blocks,
    correlations,
    costs,
    features,
    flow,
    kernels,
    loss,
    parts,
    statistics,
    training,
)
from proxies.passes.run import PASSES, Layer, Layers, Run, register_pass, summed

__all__ = [
    "PASSES",
    "Layer",
    "Layers",
    "Run",
    "activations",
    "blocks",
    "correlations",
    "costs",
    "features",
    "flow",
    "kernels",
    "loss",
    "parts",
    "register_pass",
    "statistics",
    "summed",
    "training",
]
