"""Write the report files: the page, its figures and its tables."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from analysis.efficiency import Floats
from analysis.files import write_text
from analysis.findings import capital
from analysis.groups import PROTOCOLS, Group, Report, Trade
from analysis.page import Picture, render
from analysis.pareto import bought_by_cost
from analysis.tables import table_csv, table_markdown
from conf.errors import UsageError


def write_report(report: Report, out: Path | str) -> Path:
    """Write ``index.html``, ``figures/*.png`` and ``*.svg``, ``table.csv`` and ``table.md``.

    Everything is made before the page, which is written last and so never shows what is not
    there. Files of other names in ``out`` are left alone. Returns the path of the page. Raises
    :class:`UsageError` where ``out`` cannot be written.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures: list[list[Picture]] = []
        slugs: list[str] = []
        for group in report.groups:
            slugs.append(group.slug)
            again = slugs.count(group.slug)
            stem = group.slug if again == 1 else f"{group.slug}-{again}"
            pictures.append(_draw(group, out / "figures", stem))
        write_text(out / "table.csv", table_csv(report))
        write_text(out / "table.md", table_markdown(report))
        write_text(out / "index.html", render(report, pictures))
    except OSError as error:
        raise UsageError(f"--out={out} cannot be written: {error.strerror or error}.") from None
    return out / "index.html"


def _draw(group: Group, folder: Path, stem: str) -> list[Picture]:
    from analysis.figures import Dot, Line, curves_figure, save_figure, targets_figure

    pictures = []
    for protocol in group.protocols:
        lines = [
            Line(e.label, e.searcher, e.guidance, e.proxy, getattr(e.run.curves, protocol))
            for e in group.entries
            if not np.isnan(getattr(e.run.curves, protocol)).all()
        ]
        figure = curves_figure(
            lines,
            ylabel=f"{PROTOCOLS[protocol]}, {group.metric}",
            higher_is_better=group.higher_is_better,
        )
        paths = save_figure(figure, folder / f"{stem}-{protocol}")
        caption = f"{capital(PROTOCOLS[protocol])}: mean and interquartile band over trials."
        pictures.append(Picture(caption, paths))
    pictures += [
        picture for trade in group.trades for picture in _draw_trade(group, trade, folder, stem)
    ]
    searchers = [entry.searcher for entry in group.entries]
    for name in group.targets:
        dots = []
        for entry in group.entries:
            target = group.target(entry, name)
            dots.append(
                Dot(entry.label, entry.searcher, entry.guidance, target.models, target.solved)
            )
        goal = f"{name} {group.summary['unit']}".strip()
        figure = targets_figure(dots, target=goal, budget=group.budget, searchers=searchers)
        caption = (
            f"Trained models until {goal}, fewest on top: mean over trials and its 95 % "
            "interval. An unsolved trial counts as the budget + 1; where some are, the share of "
            "solved trials stands in parentheses."
        )
        pictures.append(Picture(caption, save_figure(figure, folder / f"{stem}-models_to_{name}")))
    return pictures


def _draw_trade(group: Group, trade: Trade, folder: Path, stem: str) -> list[Picture]:
    """Draw how the hypervolume grows, and which values which costs buy."""
    from analysis.figures import Line, curves_figure, fronts_figure, save_figure

    steers = "test" if group.summary["protocol"] == "test" else "val"
    slug = re.sub(r"[^a-z0-9]+", "_", trade.cost.lower()).strip("_")

    def lines(curves: Iterable[Floats]) -> list[Line]:
        runs = zip(trade.entries, curves, strict=True)
        return [Line(e.label, e.searcher, e.guidance, e.proxy, curve) for e, curve in runs]

    grown = curves_figure(
        lines(trade.curves),
        ylabel=f"hypervolume, {trade.unit_of_hypervolume}",
    )
    prices, bought = bought_by_cost(
        [
            [(getattr(t, steers), t.costs[trade.cost]) for t in entry.run.traces]
            for entry in trade.entries
        ],
        higher_is_better=group.higher_is_better,
    )
    fronts = fronts_figure(
        prices,
        lines(bought),
        xlabel=f"{trade.cost}, {trade.unit}",
        ylabel=f"best {steers} at most so dear, {group.metric}",
        higher_is_better=group.higher_is_better,
    )
    return [
        Picture(
            f"Hypervolume of {steers} and {trade.cost}: the area that the trained models dominate; "
            "mean and interquartile band over trials.",
            save_figure(grown, folder / f"{stem}-hypervolume_{slug}"),
        ),
        Picture(
            f"Pareto fronts: the best {steers} among a trial's models that cost at most so much; "
            "mean and interquartile band over trials.",
            save_figure(fronts, folder / f"{stem}-front_{slug}"),
        ),
    ]
