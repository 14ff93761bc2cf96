"""Zen-score: how far a network of Gaussian weights can move its features.

Lin et al. 2021, "Zen-NAS: A Zero-Shot NAS for High-Performance Image Recognition".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes.features import Movement


@register("zen", reads="movement", paper="Lin et al. 2021", needs_weights=False)
def zen(record: Movement) -> Tensor:
    """Log distance of features of x and x + 0.01 e, plus log deviations that BatchNorm took out.

    log mean |f(x) - f(x + 0.01 e)| + sum over BatchNorms of log sqrt(mean variance); f are the
    features before global pooling and |.| is L1. :func:`proxies.passes.features.movement` defines
    both. It draws weights of its own, so that those of the network take no part.

    Deviations: (1) residual connections stay, where the paper's definition removes them and its
    code cannot on networks of others; (2) variances are those of the minibatch x, as in the
    paper, where the code reads running statistics, a tenth of which each pass renews; (3) one
    draw of weights and inputs, where the paper averages 32.
    """
    distance = record.distance.log()
    return distance + sum(0.5 * variance.log() for variance in record.variances)
