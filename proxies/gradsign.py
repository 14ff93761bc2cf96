"""GradSign: gradients of single examples that point the same way.

Zhang and Jia 2022, "GradSign: Model Performance Inference with Theoretical Insights".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    from torch import Tensor

    from proxies.passes import Layers


@register("gradsign", reads="signs", paper="Zhang and Jia 2022", needs_data=True, needs_labels=True)
def gradsign(record: Layers) -> Tensor:
    """Sum over weights of |sum over examples of the sign of the example's gradient|.

    The gradient is of the cross entropy of one example, with respect to the weights of
    convolutions and linear layers. :func:`proxies.passes.parts.signs` says how examples run.
    """
    return record.total(lambda weight, signs: signs.abs())
