"""Proxies that are programs: formulas over the statistics of a network's units.

Akhauri et al. 2022, "EZNAS: Evolving Zero-Cost Proxies for Neural Architecture Scoring". The score
is the mean over units of the mean over the elements that the formula gives;
:mod:`spaces.proxy_programs` defines the language, :mod:`proxies.passes.statistics` the statistics.

The released code freezes its programs by the numbers of their arguments, and counts these from one
too few: its argument 8 is the gradient at the unit's input under data, where the list of names
beside it, and the paper, mean the gradient of the weight under noise. ``eznas_a`` is what the
released code computes, which has the published correlations on NAS-Bench-201; ``eznas_a_paper`` is
the other reading, which has not (``docs/eznas.md``). The other frozen programs are given as the
released code computes them, too; by the other reading most of them do not fit together.

Deviations: (1) a unit whose shapes a formula is not defined for is left out, as in the released
code, but a network without any other unit has no score; (2) 16 inputs everywhere; (3) those of
the operations and of the statistics.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from conf.errors import UsageError
from proxies.registry import register
from spaces.proxy_programs.formula import parse

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.statistics import Statistics
    from proxies.ranking import ProxyScorer
    from proxies.service import ScoringService

_PAPER: Final = "Akhauri et al. 2022"

EZNAS_A: Final = "frobenius(sigmoid(logdet(sign(input_gradient_data))))"
"""The paper's program, evolved on DARTS networks."""

EZNAS_WIDE: Final = "sum_over_units(abslog(mean_abs(det(square(weight)))))"
"""What ``experiment=eznas_wide`` found, evolved on six spaces other than NAS-Bench-201."""


def _normalise(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: str(parse(formula)) for name, formula in settings.items()}


@register(
    "program",
    reads="statistics",
    paper=_PAPER,
    level="architecture",
    needs_data=True,
    needs_weights=False,
    normalise=_normalise,
)
def program(record: Statistics, *, formula: str = EZNAS_A) -> Tensor:
    """Mean over the units of a network of what a formula of your own gives.

    ``formula`` is an expression over the 22 statistics of a unit, for instance
    ``mean_abs(multiply(weight, weight_gradient_data))``; :mod:`spaces.proxy_programs.formula` has
    the words, and reading it raises :class:`UsageError` with the position of what is wrong.
    """
    from spaces.proxy_programs.evaluation import evaluate

    read = parse(formula)
    words = {node.name.rpartition("_")[2] for node in read.walk()}
    scenario = "data" if words & {"data", "perturbed"} else "noise"
    return evaluate(read, record.groups(scenario), 1)


_released = functools.partial(
    register, reads="statistics", paper=_PAPER, level="architecture", needs_weights=False
)


@_released("eznas_a", needs_data=True)
def eznas_a(record: Statistics) -> Tensor:
    """Norm of sigmoid of log-determinant of the signs of gradients at the units' inputs."""
    return program(record, formula=EZNAS_A)


@_released("eznas_a_paper")
def eznas_a_paper(record: Statistics) -> Tensor:
    """Compute the same of the gradients of weights under noise, as the paper prints it."""
    return program(record, formula="frobenius(sigmoid(logdet(sign(weight_gradient_noise))))")


@_released("eznas_top")
def eznas_top(record: Statistics) -> Tensor:
    """Square of the norm of preactivations under noise: the released program "topprog"."""
    return program(record, formula="square(abs(frobenius(preactivation_noise)))")


@_released("eznas_enas", needs_data=True)
def eznas_enas(record: Statistics) -> Tensor:
    """Invert norms of perturbed activations: the program released for ENAS."""
    return program(
        record,
        formula="invert(add(frobenius(activation_perturbed), "
        "exp(frobenius(log(sigmoid(log(sigmoid(activation_perturbed))))))))",
    )


@_released("eznas_pnas", needs_data=True)
def eznas_pnas(record: Statistics) -> Tensor:
    """Divergence of gradients' signs from their perturbation: the program released for PNAS."""
    return program(
        record,
        formula="kl(standardise(standardise(standardise(activation_gradient_perturbed))), "
        "positive(activation_gradient_data))",
    )


@_released("eznas_nasnet", needs_data=True)
def eznas_nasnet(record: Statistics) -> Tensor:
    """Count negative logarithms of perturbed activations: the program released for NASNet."""
    return program(
        record,
        formula="frobenius(negative(log(add(log(activation_perturbed), input_noise))))",
    )


@register(
    "eznas_wide",
    reads="statistics",
    paper="ours, after Akhauri et al. 2022",
    needs_weights=False,
)
def eznas_wide(record: Statistics) -> Tensor:
    """Sum over units how small determinants of squared kernels are: evolved here.

    A sum, to which units that are cut off add nothing, so that architectures that compute the
    same share it.
    """
    return program(record, formula=EZNAS_WIDE)


def scorer(
    service: ScoringService, formula: str | None = None, file: str | None = None
) -> ProxyScorer:
    """Make the scorer of a formula, or of the formula that a text file holds.

    Raises :class:`UsageError` where it cannot be read, and unless one of the two is given.
    """
    from proxies.ranking import ProxyScorer

    if (formula is None) == (file is None):
        raise UsageError("proxy=program needs either proxy.formula='…' or proxy.file=….")
    return ProxyScorer(service, "program", formula=formula if file is None else read(file))


def read(file: str) -> str:
    """Return the formula that a text file holds; lines that start with # are remarks.

    Raises :class:`UsageError` where the file cannot be read.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"proxy.file={file} cannot be read: {error}.") from None
    return " ".join(line for line in lines if not line.lstrip().startswith("#")).strip()
