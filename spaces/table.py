"""What a benchmark table holds, whatever file it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from spaces.base import Architecture


class NoTableError(UsageError):
    """The space, as it is set, has no table of trained results."""


@dataclass(frozen=True)
class Table:
    """The trained results of a space's architectures on one dataset at one fidelity.

    Arrays have one entry per row, float32, NaN where the table has none; a column that the table
    lacks altogether is None. Accuracies are in ``unit``; ``train_seconds`` is the time of one
    training at this fidelity. ``val_seeds`` is [rows, seeds]; ``runs`` says of how many trainings
    ``val`` and ``test`` tell.

    ``costs`` names what the table knows of the cost of running an architecture, such as ``params``,
    ``flops`` or ``latency_ms(raspi4)``; each is read when :meth:`cost` asks for it.
    """

    source: str
    epochs: int
    runs: str
    rows: Callable[[Sequence[Architecture]], NDArray[np.int64]]
    val: NDArray[np.float32] | None
    val_seeds: NDArray[np.float32] | None
    test: NDArray[np.float32] | None
    train_seconds: NDArray[np.float32]
    metric: str = "accuracy"
    unit: str = "%"
    higher_is_better: bool = True
    targets: tuple[float, ...] = field(default=())
    costs: Mapping[str, Callable[[], NDArray[np.float64]]] = field(default_factory=dict)

    def cost(self, name: str) -> NDArray[np.float64]:
        """Read one of ``costs``: float64 [rows], NaN where the table has none.

        :mod:`spaces.costs` says what they count. Raises :class:`UsageError` for another name.
        """
        if name not in self.costs:
            raise unknown_name("cost", name, self.costs)
        return self.costs[name]()


def open_npz(path: Path, needed: Sequence[str]) -> dict[str, NDArray[np.generic]]:
    """Read the ``needed`` arrays of an ``.npz`` file, and only those, without unpickling.

    Raises :class:`UsageError` where the file is missing, damaged, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            absent = [name for name in needed if name not in file.files]
            arrays = {name: np.asanyarray(file[name]) for name in needed if name in file.files}
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist; give the path of a table file (.npz).") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None
    except Exception:  # a foreign or damaged file fails in any of a dozen ways
        raise UsageError(
            f"{path} cannot be read as a table (.npz): it is damaged or of another format."
        ) from None
    if absent:
        raise UsageError(f"{path} is not such a table: it lacks {', '.join(absent)}.")
    return arrays
