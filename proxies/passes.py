"""The passes: each runs a stack once and records what proxies read.

A pass takes a stack of K networks and a minibatch, and returns a record. It works on the device
of ``batch.inputs``, on tensors of its own, and leaves the stack's module exactly as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from proxies.batch import Minibatch
from proxies.stack import Stack

Pass = Callable[[Stack, Minibatch], Any]

_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

# -- records --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One scored weight: ``weight`` and ``gradient`` [m, ...]; ``members`` int64 [m] in 0..K-1."""

    name: str
    weight: Tensor
    gradient: Tensor
    members: Tensor


@dataclass(frozen=True)
class Layers:
    """The scored weights of a stack of ``size`` = K networks."""

    size: int
    layers: list[Layer]

    def total(self, term: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Sum ``term(weight, gradient)`` over elements and layers, each network for itself.

        ``term`` maps two [m, ...] to [m, ...] of any further shape. Returns float64 [K].
        """
        total = torch.zeros(self.size, dtype=torch.float64)
        for layer in self.layers:
            value = term(layer.weight, layer.gradient)
            rows = value.reshape(len(value), -1).sum(1, dtype=torch.float64)
            total.index_add_(0, layer.members, rows.cpu())
        return total


@dataclass(frozen=True)
class Count:
    """A number of each network of the stack, float64 [K]."""

    number: Tensor


# -- passes ---------------------------------------------------------------------------------------


def synflow(stack: Stack, batch: Minibatch) -> Layers:
    """Gradient of the synaptic flow R, in float64, with respect to the weights.

    Every parameter and buffer is replaced by its absolute value, BatchNorm by the identity; the
    input is one example of ones in the shape of the minibatch's; R is the sum of the outputs. A
    weight that R does not depend on has gradient 0.

    Deviations from the published code: (1) every BatchNorm is the identity, where the published
    NAS-Bench-201 network keeps four of 186; (2) the network is in evaluation mode, so that
    dropout takes no part; (3) layers are also Conv1d, Conv3d and transposed convolutions.
    """
    weights = stack.weights()
    tensors = {
        name: tensor.abs().to(batch.inputs.device, torch.float64)
        if tensor.is_floating_point()
        else tensor.to(batch.inputs.device, copy=True)
        for name, tensor in stack.tensors().items()
    }
    leaves = [tensors[weight.name].requires_grad_() for weight in weights]
    ones = torch.ones((1, *batch.inputs.shape[1:]), dtype=torch.float64, device=leaves[0].device)
    with evaluating(stack), without_batch_norm(stack):
        flow = stack(tensors, ones).sum()
    if flow.requires_grad:
        gradients = torch.autograd.grad(flow, leaves, materialize_grads=True)
    else:
        gradients = tuple(map(torch.zeros_like, leaves))
    return Layers(
        stack.size,
        [
            Layer(w.name, stack.rows(w, leaf.detach()), stack.rows(w, gradient), w.members)
            for w, leaf, gradient in zip(weights, leaves, gradients, strict=True)
        ],
    )


def parameters(stack: Stack, batch: Minibatch) -> Count:
    """Count trainable parameters."""
    _only_one(stack)
    number = sum(p.numel() for p in stack.module.parameters() if p.requires_grad)
    return Count(torch.tensor([number], dtype=torch.float64))


def operations(stack: Stack, batch: Minibatch) -> Count:
    """Count the multiply-adds of one example in evaluation mode, whatever code asks for them.

    A multiply-add of a convolution, matrix product or attention counts 1; normalisation 2 an
    element; an activation 1 an element; pooling 1 an element of each window. Sums of branches and
    biases are free. These are the conventions of the NAS-Bench-201 table.

    Counted on the operators that torch dispatches rather than on modules, so that functional
    code counts too; and on a real example, since convolutional networks run faster on one image
    than on torch's ``meta`` device.
    """
    _only_one(stack)
    device = batch.inputs.device
    tensors = {name: t.to(device, copy=True) for name, t in stack.tensors().items()}
    dtype = next((t.dtype for t in tensors.values() if t.is_floating_point()), torch.float32)
    ones = torch.ones((1, *batch.inputs.shape[1:]), dtype=dtype, device=device)
    counter = _OperationCounter()
    with evaluating(stack), torch.no_grad(), counter:
        stack(tensors, ones)
    return Count(torch.tensor([counter.total], dtype=torch.float64))


PASSES: Final[dict[str, Pass]] = {
    "synflow": synflow,
    "parameters": parameters,
    "operations": operations,
}
"""Every pass by name; a proxy outside this package may add its own."""

# -- ways to run a module -------------------------------------------------------------------------


@contextlib.contextmanager
def evaluating(stack: Stack) -> Iterator[None]:
    """Put every part of ``stack`` in evaluation mode, and back."""
    flags = [(part, part.training) for part in stack.parts.values()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, flag in flags:
            part.training = flag


@contextlib.contextmanager
def without_batch_norm(stack: Stack) -> Iterator[None]:
    """Make every BatchNorm of ``stack`` the identity, and back.

    The identity returns a new tensor, as BatchNorm does, so that an activation that works in
    place on it leaves its input alone.
    """
    norms = [part for part in stack.parts.values() if isinstance(part, _BATCH_NORMS)]
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


# -- counting -------------------------------------------------------------------------------------

_aten = torch.ops.aten


def _operators(*names: str) -> list[Any]:
    return [getattr(_aten, name) for name in names if hasattr(_aten, name)]


_NORMS: Final = _operators(
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_batch_norm_no_update",
    "cudnn_batch_norm",
    "native_layer_norm",
    "native_group_norm",
)
_ACTIVATIONS: Final = _operators(
    *(
        name + suffix
        for name in (
            "relu",
            "hardtanh",
            "leaky_relu",
            "elu",
            "gelu",
            "silu",
            "mish",
            "sigmoid",
            "tanh",
            "hardswish",
            "hardsigmoid",
            "celu",
            "softplus",
            "_prelu_kernel",
        )
        for suffix in ("", "_")
    )
)
_POOLS: Final = {
    dimensions: _operators(*names)
    for dimensions, names in {
        1: ("avg_pool1d", "max_pool1d_with_indices"),
        2: ("avg_pool2d", "max_pool2d_with_indices"),
        3: ("avg_pool3d", "max_pool3d_with_indices"),
    }.items()
}
_GLOBAL_POOLS: Final = _operators("mean", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d")


def _first(result: Any) -> Tensor:
    tensor: Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


def _pooling(dimensions: int) -> Callable[..., int]:
    def count(features: Tensor, kernel: Any, *_: Any, result: Any, **__: Any) -> int:
        sides = list(kernel) if isinstance(kernel, (list, tuple)) else [kernel]
        window = 1
        for side in sides * (dimensions if len(sides) == 1 else 1):
            window *= int(side)
        return window * _first(result).numel()

    return count


_COUNTS: Final[Mapping[Any, Callable[..., int]]] = {
    **dict.fromkeys(_NORMS, lambda *_, result, **__: 2 * _first(result).numel()),
    **dict.fromkeys(_ACTIVATIONS, lambda *_, result, **__: _first(result).numel()),
    **dict.fromkeys(_GLOBAL_POOLS, lambda features, *_, **__: features.numel()),
    **{pool: _pooling(n) for n, pools in _POOLS.items() for pool in pools},
}


class _OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up what runs inside; products by torch's own formulas, which count 2 a multiply-add."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        operator = func.overloadpacket
        if operator in flop_registry:
            self.total += flop_registry[operator](*args, **kwargs, out_val=result) // 2
        elif operator in _COUNTS:
            self.total += _COUNTS[operator](*args, **kwargs, result=result)
        return result


def _only_one(stack: Stack) -> None:
    if stack.size != 1:
        raise ValueError("costs are counted one network at a time")
