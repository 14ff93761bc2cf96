"""Second derivatives of a network along two directions of its weights, forwards only.

Let the weights W move as W(s, t) = W + s A + t B. The operators of a forward pass are gone through
once more, and each gives, beside its result x, the derivatives dx/ds, dx/dt and d2x/dsdt at
s = t = 0. That takes five convolutions for each of the network's, and no graph.

Where the gradient of a loss with respect to x is known, d2x/dsdt, as far as it arises there, is
multiplied by it there and then: the products sum up to the second derivative of the loss. Nothing
is left to carry on, and four convolutions do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from proxies.passes.tape import Operation


class NoRuleError(Exception):
    """An operator has no rule for second derivatives."""


class Jet(NamedTuple):
    """Derivatives of one tensor, each of its shape; None is zero."""

    s: Tensor | None = None
    t: Tensor | None = None
    st: Tensor | None = None


JetOf = Callable[[Any], Jet]
Rule = Callable[[Operation, JetOf], Jet]

_ZERO: Final = Jet()
_RULES: Final[dict[Any, Rule]] = {}
_aten = torch.ops.aten

_BENDING: Final = (_aten.convolution, _aten.native_batch_norm, _aten.cudnn_batch_norm)

_VIEWS: Final = (
    _aten.view,
    _aten._unsafe_view,
    _aten.reshape,
    _aten.t,
    _aten.transpose,
    _aten.permute,
    _aten.unsqueeze,
    _aten.squeeze,
    _aten.expand,
    _aten.slice,
    _aten.select,
    _aten.alias,
)


def bending(operations: Sequence[Operation]) -> list[Tensor]:
    """Return the results of convolutions and BatchNorms as they still are, all of one graph."""
    return [
        operation.output
        for operation in operations
        if operation.operator in _BENDING and operation.intact and operation.output.requires_grad
    ]


def second_order(
    operations: Sequence[Operation],
    moves: Mapping[Tensor, tuple[Tensor, Tensor]],
    output: Tensor,
    adjoints: Mapping[Tensor, Tensor],
) -> tuple[Jet, Tensor]:
    """Return the derivatives of ``output``, the result of one of ``operations``.

    ``moves`` gives, for each tensor that moves, its two directions; ``adjoints`` the gradient of a
    loss with respect to results of ``operations``. What arises of the second derivative in those is
    left out of that of ``output``, and its share of the loss is returned beside, float64 []. Raises
    :class:`NoRuleError` for an operator that has no rule, or that writes on what has views.
    """
    known = {id(tensor): adjoint for tensor, adjoint in adjoints.items()}
    share = torch.zeros((), dtype=torch.float64, device=output.device)
    jets = {id(tensor): Jet(*directions) for tensor, directions in moves.items()}
    left = Counter(id(tensor) for operation in operations for tensor in operation.tensors())
    left[id(output)] += 1
    viewed: set[int] = set()

    def jet(value: Any) -> Jet:
        return jets.get(id(value), _ZERO)

    for operation in operations:
        given = list(operation.tensors())
        if any(id(tensor) in jets for tensor in given):
            rule = _RULES.get(operation.operator)
            in_place = any(operation.output is tensor for tensor in given)
            if rule is None or (in_place and id(operation.output) in viewed):
                raise NoRuleError(str(operation.operator))
            if operation.operator in _VIEWS:
                viewed.update(map(id, (*given, operation.output)))
            found = rule(operation, jet)
            if found.st is not None and id(operation.output) in known:
                share += (found.st * known[id(operation.output)]).sum()
                found = found._replace(st=None)
            jets[id(operation.output)] = found
        for tensor in given:
            left[id(tensor)] -= 1
            if not left[id(tensor)]:
                jets.pop(id(tensor), None)
    return jet(output), share


def _rule(*operators: Any) -> Callable[[Rule], Rule]:
    def enter(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(operators, rule))
        return rule

    return enter


def _map(jet: Jet, function: Callable[[Tensor], Tensor]) -> Jet:
    return Jet(*(None if part is None else function(part) for part in jet))


def _sum(*terms: Tensor | None) -> Tensor | None:
    """Add what is not zero, into the first such term, which must be the caller's own."""
    given = [term for term in terms if term is not None]
    for other in given[1:]:
        given[0].add_(other)
    return given[0] if given else None


@_rule(
    *_VIEWS,
    _aten.clone,
    _aten.mean,
    _aten.sum,
    _aten.avg_pool1d,
    _aten.avg_pool2d,
    _aten.avg_pool3d,
    _aten._adaptive_avg_pool2d,
    _aten.constant_pad_nd,
    _aten.neg,
    _aten.index_select,
)
def _linear(operation: Operation, jet: JetOf) -> Jet:
    """Linear in the first argument, which alone may move."""
    x, *others = operation.args
    return _map(jet(x), lambda part: operation.operator(part, *others, **operation.kwargs))


@_rule(_aten.as_strided_)
def _restrided(operation: Operation, jet: JetOf) -> Jet:
    """Rewrite the strides of axes of length 1, as torch does after global pooling."""
    x, size, strides, *_ = operation.args
    pairs = zip(size, strides, torch.empty(size, device="meta").stride(), strict=True)
    if any(length > 1 and stride != dense for length, stride, dense in pairs):
        raise NoRuleError(str(operation.operator))
    return _map(jet(x), lambda part: part.reshape(size))


@_rule(_aten.detach, _aten.ones_like, _aten.zeros_like)
def _constant(*_: Any) -> Jet:
    return _ZERO


@_rule(_aten.cat)
def _concatenated(operation: Operation, jet: JetOf) -> Jet:
    tensors, *others = operation.args
    parts: list[Tensor | None] = []
    for moves in zip(*(jet(tensor) for tensor in tensors), strict=True):
        if all(move is None for move in moves):
            parts.append(None)
            continue
        pairs = zip(moves, tensors, strict=True)
        whole = [torch.zeros_like(tensor) if move is None else move for move, tensor in pairs]
        parts.append(operation.operator(whole, *others, **operation.kwargs))
    return Jet(*parts)


@_rule(_aten.add, _aten.add_, _aten.sub, _aten.sub_)
def _added(operation: Operation, jet: JetOf) -> Jet:
    sign = operation.kwargs.get("alpha", 1)
    if operation.operator in (_aten.sub, _aten.sub_):
        sign = -sign
    left, right = operation.args
    shape = operation.output.shape
    parts: list[Tensor | None] = []
    for first, second in zip(jet(left), jet(right), strict=True):
        if first is not None and second is not None:
            parts.append(torch.add(first, second, alpha=sign))
        elif second is not None:
            parts.append((second if sign == 1 else second * sign).expand(shape))
        else:
            parts.append(None if first is None else first.expand(shape))
    return Jet(*parts)


@_rule(_aten.mul, _aten.mm, _aten.bmm, _aten.linear)
def _product(operation: Operation, jet: JetOf) -> Jet:
    x, y, *bias = operation.args
    if any(jet(value) is not _ZERO for value in bias):
        raise NoRuleError(str(operation.operator))
    return _bilinear(operation.operator, x, y, jet)


@_rule(_aten.addmm)
def _affine(operation: Operation, jet: JetOf) -> Jet:
    bias, x, y = operation.args
    if operation.kwargs or jet(bias) is not _ZERO:
        raise NoRuleError(str(operation.operator))
    return _bilinear(torch.mm, x, y, jet)


@_rule(_aten.div)
def _quotient(operation: Operation, jet: JetOf) -> Jet:
    x, divisor = operation.args
    if operation.kwargs or jet(divisor) is not _ZERO:
        raise NoRuleError(str(operation.operator))
    return _map(jet(x), lambda part: part / divisor)


@_rule(_aten.convolution)
def _convolution(operation: Operation, jet: JetOf) -> Jet:
    """Convolve: u = x * W. Where W moves along itself, x * dW/ds is u without its bias."""
    weight: Tensor
    x, weight, bias, *geometry = operation.args
    if jet(bias) is not _ZERO:
        raise NoRuleError(str(operation.operator))

    def convolve(features: Tensor, kernel: Tensor) -> Tensor:
        value: Tensor = operation.operator(features, kernel, None, *geometry)
        return value

    x_s, x_t, x_st = jet(x)
    weight_s, weight_t, weight_st = jet(weight)
    if weight_s is not weight or weight_t is None or weight_st is not None or bias is not None:
        return _bilinear(convolve, x, weight, jet)
    own = operation.result if operation.intact else convolve(x, weight)
    through = None if x_t is None else convolve(x_t, weight)
    return Jet(
        own if x_s is None else convolve(x_s, weight).add_(own),
        _sum(convolve(x, weight_t), through),
        _sum(
            None if x_s is None else convolve(x_s, weight_t),
            None if x_st is None else convolve(x_st, weight),
            through,
        ),
    )


def _bilinear(product: Callable[[Any, Any], Tensor], x: Any, y: Any, jet: JetOf) -> Jet:
    (x_s, x_t, x_st), (y_s, y_t, y_st) = jet(x), jet(y)

    def times(left: Any, right: Any) -> Tensor | None:
        return None if left is None or right is None else product(left, right)

    return Jet(
        _sum(times(x_s, y), times(x, y_s)),
        _sum(times(x_t, y), times(x, y_t)),
        _sum(times(x_st, y), times(x_s, y_t), times(x_t, y_s), times(x, y_st)),
    )


@_rule(_aten.relu, _aten.relu_)
def _rectified(operation: Operation, jet: JetOf) -> Jet:
    mask = operation.result
    if not operation.intact:
        raise NoRuleError(str(operation.operator))
    return _map(jet(operation.args[0]), lambda part: _aten.threshold_backward(part, mask, 0))


@_rule(_aten.hardtanh, _aten.hardtanh_)
def _clipped(operation: Operation, jet: JetOf) -> Jet:
    low, high = operation.args[1:] or (-1.0, 1.0)
    if not operation.intact:
        raise NoRuleError(str(operation.operator))
    inside = (operation.result > low) & (operation.result < high)
    return _map(jet(operation.args[0]), lambda part: part * inside)


@_rule(_aten.max_pool2d_with_indices)
def _pooled(operation: Operation, jet: JetOf) -> Jet:
    values, places = operation.result
    return _map(
        jet(operation.args[0]),
        lambda part: part.flatten(2).gather(2, places.flatten(2)).view(values.shape),
    )


@_rule(_aten.native_batch_norm, _aten.cudnn_batch_norm)
def _normalised(operation: Operation, jet: JetOf) -> Jet:
    """Normalise: y = g n + b with n = (u - mean) / deviation over the batch.

    With J(v) = (v - mean(v) - n mean(n v)) / deviation and q(v) = mean(n v) / deviation, the
    derivatives are n_s = J(u_s), n_t = J(u_t) and
    n_st = J(u_st) - q(u_t) n_s - q(u_s) n_t - n (mean(n_s n_t) + e q(u_s) q(u_t)),
    e being BatchNorm's eps over the variance that it divides by. J is symmetric: the operator that
    gives BatchNorm's gradients computes it.
    """
    u, gain, bias, _, _, training, _, eps = operation.args
    mean, inverse = operation.result[1:3]
    moving = jet(u)
    if not training or jet(gain) is not _ZERO or jet(bias) is not _ZERO:
        raise NoRuleError(str(operation.operator))
    ones = torch.ones_like(mean)
    positions = u.numel() // u.shape[1]

    def project(v: Tensor) -> tuple[Tensor, Tensor]:
        value, inner, _ = _aten.native_batch_norm_backward(
            v, u, ones, None, None, mean, inverse, True, eps, [True, True, False]
        )
        return value, inner * inverse / positions

    (n_s, q_s), (n_t, q_t) = (
        (None, None) if part is None else project(part) for part in (moving.s, moving.t)
    )
    n_st = None if moving.st is None else project(moving.st)[0]
    if n_s is not None and n_t is not None:
        assert q_s is not None and q_t is not None
        shape = (1, -1, *[1] * (u.dim() - 2))
        axes = [0, *range(2, u.dim())]
        share = (n_s * n_t).mean(axes) + eps * inverse.square() * q_s * q_t
        scale = -share * inverse
        bent = torch.addcmul((-scale * mean).view(shape), u, scale.view(shape))
        bent.addcmul_(n_s, q_t.view(shape), value=-1).addcmul_(n_t, q_s.view(shape), value=-1)
        n_st = _sum(n_st, bent)
    if gain is None or bool((gain == 1).all()):
        return Jet(n_s, n_t, n_st)
    gains = gain.view(1, -1, *[1] * (u.dim() - 2))
    return _map(Jet(n_s, n_t, n_st), lambda part: part * gains)
