"""Proxies that read the input Jacobian: how differently examples are seen by the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.loss import Jacobian

_K: Final = 1e-5


@register("jacob_cov", reads="jacobian", paper="Mellor et al. 2020", needs_data=True)
def jacob_cov(record: Jacobian) -> Tensor:
    """Minus the sum of log(v + k) + 1 / (v + k), v the eigenvalues of the Jacobians' correlation.

    The N x N matrix correlates the rows of the examples, in float64; k = 1e-5. Values of different
    N cannot be compared. Deviation: (1) eigenvalues of a symmetric matrix, which are real.
    """
    import torch

    if record.rows.shape[1] < 2:
        raise ValueError("one example has no other to correlate with; give two or more")
    correlations = torch.stack([torch.corrcoef(rows) for rows in record.rows.double()])
    defined = correlations.isfinite().flatten(1).all(1)
    shifted = torch.linalg.eigvalsh(correlations[defined]) + _K
    score = correlations.new_full((len(defined),), torch.nan)
    score[defined] = -(shifted.log() + 1 / shifted).sum(1)
    return score
