"""Proxies that read which ReLUs are on: how differently a network treats different inputs.

Mellor et al. 2021, "Neural Architecture Search without Training" (naswot); Xiang et al. 2023,
"Zero-Cost Operation Scoring in Differentiable Architecture Search" (its form in evaluation mode);
Peng et al. 2024, "SWAP-NAS" (swap); Chen et al. 2021, "Neural Architecture Search on ImageNet in
Four GPU Hours" (linear_regions).

:mod:`proxies.passes.activations` says what a ReLU is. A pattern has one bit for each ReLU unit:
whether its input is positive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.activations import Kernels, Patterns, Regions, SizedPatterns

MU: Final = 1.5
"""Millions of parameters at which ``reg_swap`` does not damp."""

SIGMA: Final = 1.5
"""Width of its damping, in millions of parameters squared."""

_WORD: Final = 64


@register(
    "naswot",
    reads="activations",
    paper="Mellor et al. 2021",
    needs_data=True,
    aliases=("nwot",),
)
def naswot(record: Patterns) -> Tensor:
    """Logarithm of |det K|, where K[i, j] counts the ReLU units that examples i and j switch alike.

    K is the sum over ReLUs of x x' + (1 - x)(1 - x)', with x the signs [N, units]; BatchNorm
    normalises by the minibatch. Values of different N cannot be compared. Where the patterns are
    linearly dependent, det K = 0 and the score is NaN.

    Deviation: (1) ReLUs of dead branches, which the published code counts, take no part where the
    space can leave them out.
    """
    return _log_determinant(record.kernels)


@register("naswot_eval", reads="activations_eval", paper="Xiang et al. 2023", needs_data=True)
def naswot_eval(record: Patterns | Kernels, *, units: int = 0) -> Tensor:
    """Logarithm of |det K| as in naswot, in evaluation mode, BatchNorm at initial statistics.

    The form that perturbation-based operation scoring uses. A network of less than ``units`` ReLU
    units counts as if it had those that it lacks, and they were never on; so does the authors'
    supernet of NAS-Bench-201, whose removed operations run on zeros. Scores then do not fall with
    the number of ReLUs alone. Deviations: (1) as of naswot; (2) a network whose BatchNorms have
    running statistics is scored with these.
    """
    kernels = record.kernels
    own = kernels.diagonal(dim1=-2, dim2=-1)[..., :1, None]
    return _log_determinant(kernels + (units - own).clamp(min=0))


@register("swap", reads="activations", paper="Peng et al. 2024", needs_data=True)
def swap(record: Patterns) -> Tensor:
    """Count the distinct sign patterns that units of feature maps have over the N examples.

    Each unit of a ReLU on feature maps has a pattern of N bits; at most 2^N differ, so that
    values of different N cannot be compared.

    Deviations: (1) feature maps of one and three dimensions count, too, as do all ReLU-like
    activations, where the published code reads ``nn.ReLU`` on images; (2) as (1) of naswot.
    """
    import torch

    words: list[list[Tensor]] = [[] for _ in range(record.size)]
    for signs in record.calls:
        if signs.on.dim() > 3:
            for member, on in zip(signs.members.tolist(), signs.on, strict=True):
                words[member].append(_packed(on.flatten(1)))
    if not all(words):
        raise ValueError("the network has no ReLU on feature maps")
    return torch.tensor([_distinct(torch.cat(own, 1)) for own in words], dtype=torch.float64)


@register(
    "reg_swap",
    reads="activations_and_parameters",
    paper="Peng et al. 2024",
    level="architecture",
    needs_data=True,
)
def reg_swap(record: SizedPatterns) -> Tensor:
    """Multiply swap by exp(-(p - mu)^2 / sigma), p the trainable parameters in millions.

    The paper sets mu and sigma for each space, p in thousands. Deviation: (1) one default for
    all, mu = sigma = 1.5: about the largest network of NAS-Bench-201 (1.53 million parameters),
    so that there the factor grows with size. For other sizes use :func:`regularised`.
    """
    return regularised(record, MU, SIGMA)


def regularised(record: SizedPatterns, mu: float, sigma: float) -> Tensor:
    """Multiply swap by exp(-(p - mu)^2 / sigma), for a ``reg_swap`` with constants of one's own."""
    millions = record.parameters / 1e6
    factor: Tensor = (-((millions - mu) ** 2) / sigma).exp()
    return swap(record.patterns) * factor


@register("linear_regions", reads="regions", paper="Chen et al. 2021")
def linear_regions(record: Regions) -> Tensor:
    """Count the distinct sign patterns of all ReLUs for 3,000 small random inputs.

    Made for thin networks: TE-NAS scores a copy of one channel and one cell a stage. With
    thousands of units every input lies in a region of its own and the value is 3,000.

    Deviations: (1) the network is scored as it is, not a thin copy; (2) inputs are normal noise
    with the network's own number of channels, and larger than 3 x 3 where it cannot take that.
    """
    import torch

    distinct = {code.tobytes() for code in record.codes}
    return torch.tensor([len(distinct)], dtype=torch.float64)


def _log_determinant(kernels: Tensor) -> Tensor:
    import torch

    examples = kernels.shape[-1]
    eigenvalues = torch.linalg.eigvalsh(kernels)
    dependent = eigenvalues[:, 0] <= examples * torch.finfo(torch.float64).eps * eigenvalues[:, -1]
    if dependent.all():
        raise ValueError("the sign patterns of the examples are linearly dependent: det K = 0")
    return torch.where(dependent, torch.nan, eigenvalues.abs().log().sum(1))


def _distinct(words: Tensor) -> int:
    """Count the distinct columns of int64 [words, units]."""
    import torch

    codes = words[0]
    for word in words[1:]:
        codes = _ranks(codes) * len(word) + _ranks(word)
    return len(torch.unique(codes))


def _ranks(codes: Tensor) -> Tensor:
    """Replace each code by its place among the distinct ones."""
    import torch

    _, ranks = torch.unique(codes, return_inverse=True)
    found: Tensor = ranks
    return found


def _packed(signs: Tensor) -> Tensor:
    """Pack bool [N, units] to int64 [N / 64, units], 64 examples a word, the rest zero."""
    import torch
    from torch.nn import functional

    bits = functional.pad(signs.to(torch.uint8), (0, 0, 0, -len(signs) % _WORD))
    places = torch.arange(8, dtype=torch.uint8, device=signs.device)[:, None]
    octets = (bits.view(-1, 8, 8, bits.shape[1]) << places).sum(2, dtype=torch.uint8)
    return octets.transpose(1, 2).contiguous().view(torch.int64).squeeze(2)
