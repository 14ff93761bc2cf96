"""What the operations of proxy programs compute, for many units at once.

Each operation is total: it gives a value for whatever it is given, infinities and NaN included,
or raises :class:`MisfitError` where shapes do not allow it. It works on G units of the same shapes
at once and treats each alike, whatever the others are.

Akhauri et al. 2022. Deviations from the released code: (1) ``log`` and ``abslog`` leave their
argument alone, and take everything that is not positive for 1; (2) ``cosine`` compares row by row
(the released one fails); (3) ``kl`` counts a target that is not positive as 0, where the released
one gives NaN if it is negative; (4) ``eigenratio`` is that of A At, as in the released code, which
its symmetric kin shares, so that the two are equal; (5) ``softmax`` is over channels; (6)
``subtract``, which the released code defines and does not use, is among them, and a program may be
summed over units; (7) adding noise and drawing normal numbers, which the released code defines and
does not use either, are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from spaces.proxy_programs.formula import ARITIES


class MisfitError(ValueError):
    """An operation was given tensors of shapes that it is not defined for."""


@dataclass(frozen=True)
class Values:
    """One tensor of each of G units: ``data`` [G, ...], a number of each unit if it is [G].

    ``count`` float [G] says how many elements the tensor of each unit has. That is more than
    ``data`` holds where it is a sample.
    """

    data: Tensor
    count: Tensor

    @property
    def rank(self) -> int:
        """Dimensions of the tensor of one unit."""
        return self.data.dim() - 1

    def like(self, data: Tensor) -> Values:
        """Return other elements, as many."""
        return Values(data, self.count)


def number(data: Tensor) -> Values:
    """Return a number of each unit, [G]."""
    return Values(data, torch.ones_like(data))


def mean(a: Values) -> Values:
    """Mean over the elements of each unit."""
    return number(a.data.flatten(1).mean(1) if a.rank else a.data)


def _sum(a: Values) -> Values:
    """Sum over the elements of each unit, extrapolated from the sample."""
    return number(mean(a).data * a.count)


def _elementwise(function: Callable[[Tensor], Tensor]) -> Callable[[Values], Values]:
    return lambda a: a.like(function(a.data))


def _pairwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Values, Values], Values]:
    def apply(a: Values, b: Values) -> Values:
        if a.rank and b.rank:
            if a.data.shape != b.data.shape or not torch.equal(a.count, b.count):
                raise MisfitError("two tensors must have the same shape")
            return a.like(function(a.data, b.data))
        larger = a if a.rank else b
        shape = (-1, *[1] * larger.rank)
        left = a.data if a.rank else a.data.view(shape)
        right = b.data if b.rank else b.data.view(shape)
        return larger.like(function(left, right))

    return apply


def _log(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1).log()


def _standardise(a: Values) -> Values:
    flat = a.data.flatten(1) if a.rank else a.data.unsqueeze(1)
    deviation = flat.std(1, keepdim=True) if flat.shape[1] > 1 else torch.zeros_like(flat)
    z = (flat - flat.mean(1, keepdim=True)) / deviation
    return a.like(torch.where(z.isnan(), 0, z).view_as(a.data))


def _frobenius(a: Values) -> Values:
    return number(_sum(a.like(a.data.square())).data.sqrt())


def _square_matrices(a: Values) -> Tensor:
    if a.rank < 2 or a.data.shape[-1] != a.data.shape[-2]:
        raise MisfitError("the last two dimensions must be square")
    return torch.where(a.data.isfinite(), a.data, 0)


def _of_matrices(a: Values, each: Tensor) -> Values:
    return Values(each, a.count / a.data.shape[-1] ** 2)


def _det(a: Values) -> Values:
    return _of_matrices(a, torch.linalg.det(_square_matrices(a)))


def _logdet(a: Values) -> Values:
    """Log of each determinant: -inf for 0, and 0 where it is negative."""
    sign, size = torch.linalg.slogdet(_square_matrices(a))
    return _of_matrices(a, torch.where(sign < 0, 0, size))


def _eigenratio(a: Values) -> Values:
    """Largest to smallest eigenvalue of A At, A the tensor as a matrix of as many rows."""
    if not a.rank:
        return number(torch.zeros_like(a.data))
    matrix = torch.where(a.data.isfinite(), a.data, 0).flatten(2 if a.rank > 1 else 1)
    matrix = matrix if matrix.dim() == 3 else matrix.unsqueeze(2)
    product = matrix @ matrix.mT
    eigenvalues = torch.linalg.eigvalsh(torch.where(product.isfinite(), product, 0))
    return number(eigenvalues[:, -1] / eigenvalues[:, 0])


def _matmul(a: Values, b: Values) -> Values:
    if a.rank < 2 or a.data.shape != b.data.shape or a.data.shape[-1] != a.data.shape[-2]:
        raise MisfitError("matmul needs two tensors of the same square matrices")
    return a.like(a.data @ b.data)


def _hamming(a: Values, b: Values) -> Values:
    return _sum(_pairwise(lambda x, y: ((x > 0) != (y > 0)).to(x.dtype))(a, b))


def _kl(a: Values, b: Values) -> Values:
    """Divergence of the target b from a, which holds logarithms: a sum over b (log b - a)."""
    terms = _pairwise(lambda x, y: torch.where(y > 0, y * (_log(y) - x), 0))(a, b)
    rows = terms.data.shape[1] if terms.rank else 1
    return number(_sum(terms).data / rows)


def _cosine(a: Values, b: Values) -> Values:
    """Sum over rows of the cosine of the angle between the rows of two tensors."""
    if not a.rank or a.data.shape != b.data.shape:
        raise MisfitError("cosine needs two tensors of the same shape")
    x, y = (v.data.reshape(*v.data.shape[:2], -1) for v in (a, b))
    return number(torch.nn.functional.cosine_similarity(x, y, dim=-1).sum(1))


def _softmax(a: Values) -> Values:
    if not a.rank:
        return a.like(torch.ones_like(a.data))
    return a.like(a.data.softmax(2 if a.rank > 1 else 1))


def _as_number(condition: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *x: condition(*x).to(x[0].dtype)


OPERATIONS: Final[Mapping[str, Callable[..., Values]]] = {
    "add": _pairwise(torch.add),
    "subtract": _pairwise(torch.sub),
    "multiply": _pairwise(torch.mul),
    "matmul": _matmul,
    "less": _pairwise(_as_number(torch.lt)),
    "greater": _pairwise(_as_number(torch.gt)),
    "equal": _pairwise(_as_number(torch.eq)),
    "log": _elementwise(_log),
    "abslog": _elementwise(lambda x: _log(x).abs()),
    "abs": _elementwise(torch.abs),
    "square": _elementwise(torch.square),
    "exp": _elementwise(torch.exp),
    "standardise": _standardise,
    "relu": _elementwise(torch.relu),
    "sign": _elementwise(torch.sign),
    "heaviside": _elementwise(_as_number(lambda x: x > 0)),
    "invert": _elementwise(torch.reciprocal),
    "frobenius": _frobenius,
    "det": _det,
    "logdet": _logdet,
    "symmetric_eigenratio": _eigenratio,
    "eigenratio": _eigenratio,
    "mean": mean,
    "mean_abs": lambda a: mean(a.like(a.data.abs())),
    "hamming": _hamming,
    "kl": _kl,
    "cosine": _cosine,
    "softmax": _softmax,
    "sigmoid": _elementwise(torch.sigmoid),
    "ones": _elementwise(torch.ones_like),
    "zeros": _elementwise(torch.zeros_like),
    "positive": _elementwise(_as_number(lambda x: x > 0)),
    "negative": _elementwise(_as_number(lambda x: x < 0)),
    "numel": lambda a: number(a.count),
}
"""The operations by name: functions of as many :class:`Values` as :data:`ARITIES` says."""

assert OPERATIONS.keys() == ARITIES.keys()
