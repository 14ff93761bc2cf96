"""What scoring a space costs on many workers, from measured rates.

``python -m benchmarks.scaling FILE [--driver N]`` reads what ``python -m benchmarks.scoring --json
FILE`` wrote and prints, for each case, how long 10^5 and 10^7 architectures of a large space take,
and a sample of 10^6 of a space of 10^18, on 1, 8 and 1,000 workers as fast as the measured one.
Times that the driver bounds, at ``--driver`` architectures a second
(:mod:`benchmarks.saturation`), are marked with a star.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

SIZES = {"10^5": 10**5, "10^7": 10**7, "10^6 of 10^18": 10**6}
WORKERS = (1, 8, 1000)


def words(seconds: float) -> str:
    """Write a duration in its natural unit."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each case and size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path)
    parser.add_argument("--driver", type=float, required=True, help="architectures a second")
    wanted = parser.parse_args(arguments)
    rows = json.loads(wanted.file.read_text(encoding="utf-8"))
    print(f"{'case':<10}{'architectures':<16}" + "".join(f"{n:>12} workers" for n in WORKERS))
    for case, row in rows.items():
        for label, size in SIZES.items():
            line = f"{case:<10}{label:<16}"
            for workers in WORKERS:
                rate = row["ours_per_second"] * workers
                star = "*" if rate > wanted.driver else ""
                line += f"{words(size / min(rate, wanted.driver)) + star:>20}"
            print(line)


if __name__ == "__main__":
    main()
