"""Compare finished runs: tables, figures and one self-contained HTML page.

python run_report.py outputs/ multirun/ --out report
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from conf.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.groups import Entry, Group


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
    from analysis.groups import PROTOCOLS, step_name

    def value(entry: Entry, step: int | None) -> str:
        spread = group.spread(entry, group.protocols[0], step)
        return group.number(spread.mean) if spread else "-"

    def models(entry: Entry, name: str) -> str:
        target = group.target(entry, name)
        return f"{target.models.mean:.0f} ({target.solved:.0%})"

    _print_table(
        console,
        f"{group.title}: {group.metric}, mean {PROTOCOLS[group.protocols[0]]} after models",
        [step_name(step) for step in group.steps],
        {e.label: [value(e, step) for step in group.steps] for e in group.entries},
    )
    if group.targets:
        _print_table(
            console,
            f"{group.title}: mean models to a target (solved trials)",
            group.targets,
            {e.label: [models(e, name) for name in group.targets] for e in group.entries},
        )


def _print_table(
    console: Console, title: str, heads: Sequence[str], rows: Mapping[str, Sequence[str]]
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for label, cells in rows.items():
        table.add_row(escape(label), *cells)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
