"""Trained proxies: what little training tells, under the same interface as zero-cost ones.

Abdelfattah et al. 2021, section 3, compare zero-cost proxies with training for fewer epochs. Where
a benchmark's table has such trainings, they are looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxies.registry import register

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from spaces.table import Table


@register(
    "early_accuracy",
    reads="table",
    paper="Abdelfattah et al. 2021",
    level="architecture",
    needs_weights=False,
    dtype="float32",
    epochs=12,
)
def early_accuracy(table: Table) -> NDArray[np.float32]:
    """Read the validation accuracy after 12 epochs from the space's table; costs their training.

    Deviation: (1) trainings of 12 epochs with a schedule of their own, as NAS-Bench-201 has them,
    rather than the first 12 epochs of long ones.
    """
    assert table.val is not None
    return table.val
