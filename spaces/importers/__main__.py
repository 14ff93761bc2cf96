"""Import official benchmark files into tables that ``benchmark.path`` reads.

python -m spaces.importers nasbench101 nasbench_full.tfrecord --out nasbench101.npz
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.importers import Imported, from_nats, from_pth, from_tfrecord
from spaces.importers.imported import checked_target

_TRUST = "read what names more than numbers, which may run any code"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after a mistake in the request."""
    args = _parser().parse_args(argv)
    try:
        checked_target(args.out)
        imported = args.read(args)
        imported.save(args.out)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    _report(imported, args.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spaces.importers",
        description="Import official benchmark files into tables that benchmark.path reads.",
    )
    commands = parser.add_subparsers(required=True, metavar="BENCHMARK")

    def command(
        name: str, read: Callable[[argparse.Namespace], Imported], file: str, trust: bool
    ) -> None:
        summary = (read.__doc__ or "").splitlines()[0]
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(read=read)
        added.add_argument("file", type=Path, metavar="FILE", help=file)
        added.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
        if trust:
            added.add_argument("--trust", action="store_true", help=_TRUST)

    command(
        "nasbench101", _nasbench101, "nasbench_full.tfrecord or nasbench_only108.tfrecord", False
    )
    command("nasbench201", _nasbench201, "NAS-Bench-201-v1_1-096897.pth or an older one", True)
    command(
        "nats", _nats, "NATS-tss-…pickle.pbz2, NATS-sss-…pickle.pbz2, or a folder …-simple", True
    )
    return parser


def _nasbench101(args: argparse.Namespace) -> Imported:
    """NAS-Bench-101, from its .tfrecord; TensorFlow is not needed."""
    return from_tfrecord(args.file)


def _nasbench201(args: argparse.Namespace) -> Imported:
    """NAS-Bench-201, from its .pth."""
    return from_pth(args.file, trust=args.trust)


def _nats(args: argparse.Namespace) -> Imported:
    """NATS-Bench, topology or size space, from its archive or folder."""
    return from_nats(args.file, trust=args.trust)


def _report(imported: Imported, out: Path) -> None:
    """Print what was imported, and in how many architectures it is as in the shipped table."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    agreements = {agreement.column: agreement for agreement in imported.agreements}
    table = Table(box=SIMPLE_HEAD)
    table.add_column("column", no_wrap=True)
    for heading in ("values", "lowest", "highest", "as shipped"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in imported.columns.items():
        table.add_row(name, *_range(values), _said(agreements.pop(name, None)))
    for name, agreement in agreements.items():
        table.add_row(name, "", "", "", _said(agreement))
    console = Console(highlight=False)
    console.print(table)
    for remark in imported.remarks:
        console.print(remark, markup=False)
    console.print(
        f"{imported.architectures:,} architectures of {imported.space} -> {out} "
        f"({out.stat().st_size / 1e6:.1f} MB); use it with space={imported.space} "
        f"benchmark.path={out}",
        markup=False,
        soft_wrap=True,
    )


def _range(values: NDArray[Any]) -> tuple[str, str, str]:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return f"{known.size:,}", f"{known.min():.6g}", f"{known.max():.6g}"


def _said(agreement: Any) -> str:
    return "" if agreement is None else f"{agreement.same:,} of {agreement.compared:,}"


if __name__ == "__main__":
    sys.exit(main())
