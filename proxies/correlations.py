"""Proxies that read correlations: of input Jacobians within classes, and of channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.correlations import ClassJacobian, FeatureMaps

_K: Final = 1e-5
_MANY_CLASSES: Final = 100


@register(
    "epe_nas",
    reads="class_jacobian",
    paper="Lopes et al. 2021",
    needs_data=True,
    needs_labels=True,
)
def epe_nas(record: ClassJacobian) -> Tensor:
    """How little the input Jacobians of examples of the same class correlate.

    For each class of the minibatch, s = sum of log(|r| + k) over the entries r of the correlation
    matrix of its examples' rows; k = 1e-5. Up to 100 classes the score is the sum of |s|, to which
    a class with one example adds k. Beyond, s is divided by the number of examples, classes with
    one are left out, and the score is the sum of |s - s'| over ordered pairs of classes, divided
    by the number of classes seen. Correlations are taken in float64.

    Lopes et al. 2021, "EPE-NAS: Efficient Performance Estimation Without Training for Neural
    Architecture Search".
    """
    import torch

    many = record.classes > _MANY_CLASSES
    present, counts = torch.unique(record.targets, return_counts=True)
    if many:
        present = present[counts > 1]
    if not len(present):
        raise ValueError("epe_nas of more than 100 classes needs two examples of one class")
    found = []
    for rows in record.rows.double():
        correlations = [torch.corrcoef(rows[record.targets == c]) for c in present]
        logs = [(r.abs() + _K).log() for r in correlations]
        if many:
            sums = torch.stack([log.sum() / len(log) for log in logs])
            found.append((sums[:, None] - sums).abs().sum() / len(sums))
        else:
            found.append(torch.stack([log.sum().abs() for log in logs]).sum())
    return torch.stack(found)


@register("meco", reads="feature_maps", paper="Jiang et al. 2023")
def meco(record: FeatureMaps) -> Tensor:
    """Sum over modules of the smallest eigenvalue of the correlations between channels.

    For one noise input and each module that returns feature maps, the Pearson matrix of the
    channels over positions; correlations with a constant channel count 0, as published. A matrix
    of more channels than positions is singular and adds 0.

    Jiang et al. 2023, "MeCo: Zero-Shot NAS with One Data and Single Forward Pass via Minimum
    Eigenvalue of Correlation". As in the published code every module counts, containers as well
    as the layers inside, so that values depend on how the code of a network is divided.

    Deviations: (1) the input has the shape of the network's inputs, where the published code takes
    3 x 64 x 64; (2) eigenvalues of a symmetric matrix, in float64; (3) as (1) of naswot.
    """
    return _smallest_eigenvalues(record)


@register("meco_64", reads="feature_maps_64", paper="Jiang et al. 2023")
def meco_64(record: FeatureMaps) -> Tensor:
    """Sum as in meco, for an input of 64 x 64 whatever the network is meant for, as published.

    More positions keep fewer matrices singular. A network that takes one size alone has no score.
    Deviations: (2) and (3) of :func:`meco`.
    """
    return _smallest_eigenvalues(record)


def _smallest_eigenvalues(record: FeatureMaps) -> Tensor:
    import torch

    total = torch.zeros(1, dtype=torch.float64)
    for features in record.maps:
        channels = len(features)
        if features[0].numel() < 2:  # one position: nothing varies, and the matrix is zero
            continue
        matrix = torch.corrcoef(features.double()).reshape(channels, channels)
        total += torch.linalg.eigvalsh(matrix.nan_to_num(0, 0, 0))[0].cpu()
    return total
