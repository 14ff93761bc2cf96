"""Inspect, export, merge and prune stores of scores.

python -m proxies.store show
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from conf.errors import UsageError
from proxies.store import Context, Key, Row, Scores, open_scores, open_store
from proxies.store.base import Store

_FIELDS: Final[Mapping[str, Callable[[Key], object]]] = {
    "space": lambda key: key.get("network", {}).get("space"),
    "proxy": lambda key: str(key.get("proxy")).partition("(")[0],
    "version": lambda key: key.get("version"),
    "init": lambda key: key.get("init"),
    "seed": lambda key: key.get("seed"),
    "batch": lambda key: key.get("batch"),
}
"""What contexts can be picked by; of a proxy its name without settings."""

_WIDEST: Final = 1000
_PACKAGES: Final = ("assay", "torch", "numpy")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, or 2 after a mistake in the request."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    picking = argparse.ArgumentParser(add_help=False)
    group = picking.add_argument_group("only the scores of")
    group.add_argument("--space", type=_words, metavar="NAME,…")
    group.add_argument("--proxy", type=_words, metavar="NAME,…")
    group.add_argument("--version", type=_words, metavar="N,…", help="version of the proxy")
    group.add_argument("--init", type=_words, metavar="NAME,…", help="independent or shared")
    group.add_argument("--seed", type=_words, metavar="N,…", help="seed of the initial weights")
    group.add_argument(
        "--batch", type=_words, metavar="START,…", help="start of the minibatch's fingerprint"
    )
    reading = argparse.ArgumentParser(add_help=False)
    reading.add_argument(
        "store", nargs="?", help="file, postgresql:// URL or .npz table (default: your own store)"
    )
    parser = argparse.ArgumentParser(
        prog="python -m proxies.store",
        description="Inspect, export, merge and prune stores of scores.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], *parents: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        summary = (run.__doc__ or "").splitlines()[0]
        added = commands.add_parser(name, parents=parents, help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    show = command("show", _show, reading, picking)
    show.add_argument("--json", action="store_true", help="one line of JSON a context, whole keys")
    export = command("export", _export, reading, picking)
    export.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    export.add_argument("--command", help="how the scores were computed, to be kept in the table")
    merge = command("merge", _merge, picking)
    merge.add_argument("sources", nargs="+", metavar="SOURCE", help="file, URL or .npz table")
    merge.add_argument("--into", metavar="STORE", help="file or URL (default: your own store)")
    prune = command("prune", _prune, reading, picking)
    prune.add_argument("--yes", action="store_true", help="delete; without it, say what would be")
    return parser


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _show(args: argparse.Namespace) -> None:
    """List what a store holds: a line for each proxy, network and setting."""
    with open_scores(args.store) as scores:
        contexts = _some(scores, args) if _picking(args) else list(scores.contexts())
    if args.json:
        for context in contexts:
            print(json.dumps(context._asdict()))
    else:
        _print(contexts)


def _export(args: argparse.Namespace) -> None:
    """Write scores as a compact read-only table, which a space can ship."""
    from proxies.store.shipped import export

    if args.out.suffix != ".npz":
        raise UsageError(f"--out={args.out} must end in .npz.")
    with open_scores(args.store) as scores:
        contexts = _some(scores, args)
        try:
            export(
                ((context.key, scores.get_many(context.number)) for context in contexts),
                args.out,
                command=args.command,
                versions=_versions(),
            )
        except OSError as error:
            raise UsageError(
                f"--out={args.out} cannot be written: {error.strerror or error}."
            ) from None
    size = args.out.stat().st_size / 1024
    print(f"{_count(contexts)} -> {args.out} ({size:,.0f} KiB)")


def _merge(args: argparse.Namespace) -> None:
    """Add the scores of one or more stores to another; what that has stays."""
    with contextlib.ExitStack() as stack:
        sources = [stack.enter_context(open_scores(source)) for source in args.sources]
        picked = [(source, context) for source in sources for context in _some(source, args)]
        store = stack.enter_context(open_store(args.into))
        added = known = other = 0
        for source, context in picked:
            rows = source.get_many(context.number)
            number = store.context(context.key)
            there = store.get_many(number, rows)
            store.put_many(number, rows)
            added += len(rows) - len(there)
            known += len(there)
            other += sum(not _agree(row, rows[arch]) for arch, row in there.items())
    print(
        f"{added:,} scores added to {store.address}; {known:,} were there already, "
        f"{other:,} of them with another value, which stays."
    )


def _prune(args: argparse.Namespace) -> None:
    """Delete scores by space, proxy, version, init, seed or minibatch; needs --yes."""
    if not _picking(args):
        options = ", ".join(f"--{name}" for name in _FIELDS)
        raise UsageError(f"prune needs to know what to delete; give one or more of: {options}.")
    with open_scores(args.store) as store:
        if not isinstance(store, Store):
            raise UsageError(f"{args.store} is a table that is only read; give a store.")
        contexts = _some(store, args)
        _print(contexts)
        if args.yes:
            store.delete([context.number for context in contexts])
            print(f"{_count(contexts)} deleted from {store.address}")
        else:
            print(f"{_count(contexts)} would be deleted from {store.address}; repeat with --yes.")


def _picking(args: argparse.Namespace) -> bool:
    return any(getattr(args, name) for name in _FIELDS)


def _picked(scores: Scores, args: argparse.Namespace) -> list[Context]:
    """Return the contexts that meet every option given."""

    def meets(key: Key) -> bool:
        for name, field in _FIELDS.items():
            if (wanted := getattr(args, name)) is not None:
                value = str(field(key))
                if not any(value.startswith(w) if name == "batch" else value == w for w in wanted):
                    return False
        return True

    return [context for context in scores.contexts() if meets(context.key)]


def _some(scores: Scores, args: argparse.Namespace) -> list[Context]:
    """Return the contexts that meet every option given; none is a mistake."""
    if contexts := _picked(scores, args):
        return contexts
    given = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    options = " ".join(f"--{name}={','.join(words)}" for name, words in given.items())
    raise UsageError(f"there are no scores{' of ' if options else ''}{options} in the store.")


def _agree(one: Row, other: Row) -> bool:
    return one.value == other.value or (one.value != one.value and other.value != other.value)


def _count(contexts: Sequence[Context]) -> str:
    scores = sum(context.scores for context in contexts)
    return f"{scores:,} scores of {len(contexts):,} context{'s' * (len(contexts) != 1)}"


def _print(contexts: Sequence[Context]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for heading in ("space", "classes", "proxy", "version", "dtype", "init", "seed", "batch"):
        table.add_column(heading, no_wrap=True)
    for heading in ("scores", "NaN", "ms each"):
        table.add_column(heading, justify="right", no_wrap=True)
    for context in contexts:
        key = context.key
        table.add_row(
            *(_cell(_FIELDS["space"](key)), _cell(key.get("network", {}).get("classes"))),
            *(_cell(key.get(name)) for name in ("proxy", "version", "dtype", "init", "seed")),
            _cell(str(key.get("batch", "-"))[:8]),
            *(f"{context.scores:,}", f"{context.failed:,}", f"{1000 * context.seconds:.3g}"),
        )
    console = Console(highlight=False)
    everything = console.options.update(max_width=_WIDEST)
    console.width = max(console.width, console.measure(table, options=everything).maximum)
    console.print(table)
    console.print(_count(contexts), markup=False)


def _cell(value: Any) -> str:
    from rich.markup import escape

    return "-" if value is None else escape(str(value))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


if __name__ == "__main__":
    sys.exit(main())
