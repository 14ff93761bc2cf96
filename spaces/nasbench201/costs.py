"""Latencies and energies measured of all 15,625 cells; ``PROVENANCE.md`` says by whom.

HW-NAS-Bench (Li et al., ICLR 2021) gives six devices and three energies on each dataset, HELP (Lee
et al., NeurIPS 2021) 23 further devices and batch sizes on pictures of 32x32 pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spaces.table import open_npz

FILE: Final = Path(__file__).with_name("costs.npz")

_UNITS: Final = {"latency": "latency_ms", "energy": "energy_mj"}
_HW_NAS_BENCH: Final = {
    "latency": ("edgegpu", "edgetpu", "eyeriss", "fpga", "pixel3", "raspi4"),
    "energy": ("edgegpu", "eyeriss", "fpga"),
}
_HELP: Final = (
    *(f"{gpu}_{batch}" for gpu in ("1080ti", "2080ti") for batch in (1, 32, 256)),
    *(f"{gpu}_{batch}" for gpu in ("titan_rtx", "titanx", "titanxp") for batch in (1, 32, 256)),
    *("gold_6226", "gold_6240", "silver_4114", "silver_4210r"),
    *("essential_ph_1", "pixel2", "samsung_a50", "samsung_s7"),
)


def measured(
    dataset: str, cells: NDArray[np.int64]
) -> dict[str, Callable[[], NDArray[np.float64]]]:
    """Name what was measured on ``dataset``, each with its reader: float64, one entry a cell.

    Names are ``latency_ms(device)`` and ``energy_mj(device)``; ``cells`` are the places of the
    table's cells in lexicographic order. A reader returns NaN for what was not measured.
    """
    keys = {
        f"{_UNITS[kind]}({device})": f"{dataset}/{kind}/{device}"
        for kind, devices in _HW_NAS_BENCH.items()
        for device in devices
    }
    if dataset != "ImageNet16-120":
        keys |= {f"latency_ms({device})": f"32x32/latency/{device}" for device in _HELP}
    return {name: functools.partial(_read, key, cells) for name, key in keys.items()}


def _read(key: str, cells: NDArray[np.int64]) -> NDArray[np.float64]:
    thousandths = open_npz(FILE, [key])[key][cells].astype(np.float64)
    return np.where(thousandths == 0, np.nan, thousandths / 1000)
