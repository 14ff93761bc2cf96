"""Trained proxies: what little training tells, under the same interface as zero-cost ones.

Abdelfattah et al. 2021, section 3, compare zero-cost proxies with training for fewer epochs, and
with reduced training after EcoNAS. Where a benchmark's table has such trainings, they are looked
up (``early_accuracy``); the others train the network on the minibatch, by the recipe of
:func:`proxies.passes.training.training`. How many pictures they see is the minibatch's setting,
how wide the network is a setting of the space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from conf.errors import UsageError
from proxies.registry import register

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from proxies.passes.training import Training
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


@register(
    "reduced_training",
    reads="training",
    paper="Zhou et al. 2020",
    needs_data=True,
    needs_labels=True,
)
def reduced_training(
    train: Callable[..., Training],
    *,
    epochs: int = 10,
    resolution: int | None = None,
    batch_size: int = 64,
) -> Tensor:
    """Held-out accuracy in percent after a short training on the minibatch.

    Zhou et al. 2020, "EcoNAS: Finding Proxies for Economical Neural Architecture Search", with
    fewer samples and epochs, smaller pictures and thinner networks.

    Args:
        train: what the pass recorded.
        epochs: over the examples that are not held out.
        resolution: side to which larger pictures are reduced.
        batch_size: about how many examples make a step.

    Deviations: (1) the recipe is that of the reduced training in Abdelfattah et al. 2021, but for
    the batch size; (2) pictures are neither cropped nor flipped, unless the minibatch was.
    """
    return _training(train, epochs, resolution, batch_size).accuracy


@register(
    "tse",
    reads="training",
    paper="Ru et al. 2021",
    higher_is_better=False,
    needs_data=True,
    needs_labels=True,
)
def tse(
    train: Callable[..., Training],
    *,
    epochs: int = 10,
    resolution: int | None = None,
    batch_size: int = 64,
    last: int | None = None,
) -> Tensor:
    """Sum over epochs of the mean training loss, in the training of ``reduced_training``.

    Ru et al. 2021, "Speedy Performance Estimation for Neural Architecture Search". ``last`` leaves
    only so many last epochs in the sum, which is TSE-E. The other settings are those of
    :func:`reduced_training`; with the same ones both read one training.

    Deviation: (1) one training on a minibatch, with its own schedule, rather than the beginning of
    a full one.
    """
    if last is not None and not 1 <= last <= epochs:
        raise UsageError(f"proxy.last={last} must lie between 1 and the {epochs} epochs.")
    losses = _training(train, epochs, resolution, batch_size).losses
    return losses[:, 0 if last is None else epochs - last :].sum(1)


def _training(
    train: Callable[..., Training], epochs: int, resolution: int | None, batch_size: int
) -> Training:
    for name, value in (("epochs", epochs), ("resolution", resolution), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise UsageError(f"proxy.{name}={value} is not possible; give 1 or more.")
    return train(epochs=epochs, resolution=resolution, batch_size=batch_size)
