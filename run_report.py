"""Compare finished runs: tables, figures and one self-contained HTML page.

python run_report.py outputs/ multirun/ --out report
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conf.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.groups import Group


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after a mistake in the request."""
    args = _parser().parse_args(argv)
    from rich.console import Console

    try:
        return _report(args, Console(highlight=False))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_report.py",
        description="Compare finished runs of run_search.py: tables, figures, one HTML page.",
    )
    parser.add_argument(
        "directories",
        metavar="DIR",
        nargs="+",
        type=Path,
        help="where to look for finished runs, at any depth",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("report"), help="directory to write to (default: report)"
    )
    parser.add_argument(
        "--steps",
        type=_steps,
        default=(50, 100),
        metavar="N,N",
        help="numbers of trained models at which to compare, besides the last (default: 50,100)",
    )
    return parser


def _steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(int(word) for word in text.split(",") if word)
    except ValueError:
        steps = (0,)
    if any(step < 1 for step in steps):
        raise argparse.ArgumentTypeError(
            f"{text} is not possible; give positive numbers of trained models, as 50,100"
        )
    return steps


def _report(args: argparse.Namespace, console: Console) -> int:
    from analysis.groups import collect

    report = collect(args.directories, args.steps)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)

    from analysis.report import write_report

    page = write_report(report, args.out)
    for group in report.groups:
        _print(group, console)
    console.print(f"Wrote {page}.", markup=False, soft_wrap=True)
    return 0


def _print(group: Group, console: Console) -> None:
    """Print the means by the protocol to judge by; the files have spreads and the other one."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from analysis.groups import PROTOCOLS, step_name

    protocol = group.protocols[0]
    table = Table(
        title=escape(f"{group.title}: {group.metric}, mean {PROTOCOLS[protocol]}"),
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("run")
    for step in group.steps:
        table.add_column(f"@ {step_name(step)}", justify="right", no_wrap=True)
    for name in group.targets:
        table.add_column(f"models to {name}", justify="right", no_wrap=True)
    for entry in group.entries:
        row = [escape(entry.label)]
        for step in group.steps:
            value = group.spread(entry, protocol, step)
            row.append(group.number(value.mean) if value else "-")
        for name in group.targets:
            target = group.target(entry, name)
            row.append(f"{target.models.mean:.0f} ({target.solved:.0%})")
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
