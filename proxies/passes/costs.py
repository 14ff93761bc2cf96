"""What a network costs: parameters, and the multiply-adds of one example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from proxies.passes.modes import training
from proxies.passes.run import Run, register_pass


@dataclass(frozen=True)
class Count:
    """A number of each network of the stack, float64 [K]."""

    number: Tensor


@register_pass("parameters")
def parameters(run: Run) -> Count:
    """Count trainable parameters."""
    number = sum(p.numel() for p in run.single.module.parameters() if p.requires_grad)
    return Count(torch.tensor([number], dtype=torch.float64))


@register_pass("operations")
def operations(run: Run) -> Count:
    """Count the multiply-adds of one example in evaluation mode, whatever code asks for them.

    A multiply-add of a convolution, matrix product or attention counts 1; normalisation 2 an
    element; an activation 1 an element; pooling 1 an element of each window. Sums of branches and
    biases are free. These are the conventions of the NAS-Bench-201 table. Fused recurrent layers
    count as the products and activations that they are made of. Raises ``ValueError`` for products
    that no rule counts, and for operators of libraries other than torch.

    Counted on the operators that torch dispatches rather than on modules, so that functional
    code counts too; and on a real example, since convolutional networks run faster on one image
    than on torch's ``meta`` device.
    """
    stack, inputs = run.single, run.batch.inputs
    ones = inputs.new_ones((1, *inputs.shape[1:]))
    counter = _OperationCounter()
    with training(stack, False), torch.no_grad(), counter:
        stack(run.tensors(), ones)
    return Count(torch.tensor([counter.total], dtype=torch.float64))


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
_UNCOUNTED: Final = _operators(
    "_trilinear",
    "addbmm",
    "_grouped_mm",
    "_native_multi_head_attention",
    "_transformer_encoder_layer_fwd",
)
_LSTM: Final = 5
"""Activations of each unit and step."""

_GRU: Final = 3
_CUDNN_MODES: Final = (1, 1, _LSTM, _GRU)
_NAMESPACES: Final = ("aten", "prim", "prims", "profiler")


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


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    pairs = query.shape[:-1].numel() * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _cell(activations: int) -> Callable[..., int]:
    return lambda *_, result, **__: activations * _first(result).numel()


def _onednn_lstm(features: Tensor, of_input: Tensor, of_state: Tensor, *_: Any, **__: Any) -> int:
    units = of_state.shape[1]
    step = of_input.numel() + of_state.numel() + _LSTM * units
    return features.shape[:-1].numel() * step


def _cudnn_rnn(
    features: Tensor,
    weights: list[Tensor],
    stride: int,
    buffer: Tensor | None,
    state: Tensor,
    cell: Tensor | None,
    mode: int,
    units: int,
    *_: Any,
    **__: Any,
) -> int:
    products = sum(weight.numel() for weight in weights if weight.dim() == 2)
    step = products + _CUDNN_MODES[mode] * units * len(state)
    return features.shape[:-1].numel() * step


_COUNTS: Final[Mapping[Any, Callable[..., int]]] = {
    **dict.fromkeys(_NORMS, lambda *_, result, **__: 2 * _first(result).numel()),
    **dict.fromkeys(_ACTIVATIONS, lambda *_, result, **__: _first(result).numel()),
    **dict.fromkeys(_GLOBAL_POOLS, lambda features, *_, **__: features.numel()),
    **{pool: _pooling(n) for n, pools in _POOLS.items() for pool in pools},
    **dict.fromkeys(_operators("mv", "dot"), lambda factor, *_, **__: factor.numel()),
    **dict.fromkeys(_operators("addmv"), lambda term, factor, *_, **__: factor.numel()),
    **dict.fromkeys(_operators("_thnn_fused_lstm_cell"), _cell(_LSTM)),
    **dict.fromkeys(_operators("_thnn_fused_gru_cell"), _cell(_GRU)),
    **dict.fromkeys(_operators("_scaled_dot_product_flash_attention_for_cpu"), _attention),
    **dict.fromkeys(_operators("mkldnn_rnn_layer"), _onednn_lstm),
    **dict.fromkeys(_operators("_cudnn_rnn"), _cudnn_rnn),
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
        elif operator in _UNCOUNTED or func.namespace not in _NAMESPACES:
            raise ValueError(f"the multiply-adds of {operator} cannot be counted")
        return result
