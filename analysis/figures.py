"""Figures in one house style, fit for a paper: curves, models to a target, score against accuracy.

Figures are plain ``matplotlib`` figures made without pyplot, so that nothing global changes.
Colour tells searchers apart and line style their guidance; where runs differ in other settings,
colour tells those apart (palette: Okabe and Ito 2008, safe for colour-blind readers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.efficiency import Band, Floats, Interval, band
from analysis.files import replacing
from analysis.ranks import spearman

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

INK: Final = "#24292f"
FAINT: Final = "#8c959f"
PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6652")
DASHES: Final[dict[str, Any]] = {
    "none": (0, (1, 1.3)),
    "move": (0, (5, 1.6, 1, 1.6)),
    "warmup": (0, (4.5, 1.8)),
    "warmup_move": "-",
}
MARKERS: Final = "oD^svP"
PANELS_FROM: Final = 7
"""So many lines are split into one panel per searcher."""

_FEW: Final = 50
"""So many prices are all shown."""

_WIDEST: Final = 44
"""Letters of a line of a label."""

_LETTERS: Final = 15
"""Letters of a legend in an inch."""

_ROW: Final = 0.18
"""Inches of a row of a legend."""

_ROWS: Final = 4
"""Rows of a legend for which figures have room."""

STYLE: Final[Any] = {  # matplotlib's type of it lists every key
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "svg.hashsalt": "assay",
}


@dataclass(frozen=True)
class Line:
    """One search in a figure: what it is called and its curve, float64 [trials, steps]."""

    label: str
    searcher: str
    guidance: str
    proxy: str
    curve: Floats


@dataclass(frozen=True)
class Dot:
    """One search in a figure of models to a target: mean, its interval, fraction solved."""

    label: str
    searcher: str
    guidance: str
    models: Interval
    solved: float


def curves_figure(lines: Sequence[Line], *, ylabel: str, higher_is_better: bool = True) -> Figure:
    """Draw mean and interquartile band over trials against the number of trained models.

    Many lines are split into one panel per searcher, on common axes.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    searchers = list(dict.fromkeys(line.searcher for line in lines))
    split = len(lines) >= PANELS_FROM and len(searchers) > 1
    panels = [[s] for s in searchers] if split else [searchers]
    columns = 2 if split else 1
    rows = -(-len(panels) // columns)
    bands = [band(line.curve) for line in lines]
    with rc_context(STYLE):
        figure = Figure(figsize=(6.6, 2.3 * rows + 0.8) if split else (5.6, 4.2))
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        looks = _looks(lines)
        for panel, ax in zip(panels, axes, strict=False):
            for line, strip, look in zip(lines, bands, looks, strict=True):
                if line.searcher in panel:
                    label = _rest(line) or "no guidance" if split else line.label
                    _draw(ax, line, strip, label, *look)
            if split:
                own, _ = looks[[line.searcher for line in lines].index(panel[0])]
                ax.set_title(panel[0], color=INK if _alike(lines) else own)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
            axes[len(panels) - columns].tick_params(labelbottom=True)
        axes[0].set_ylim(*_interesting(bands, higher_is_better))
        axes[0].set_xlim(0, max(line.curve.shape[1] for line in lines) + 0.5)
        if split:
            for ax in axes[max(0, len(panels) - columns) : len(panels)]:
                ax.set_xlabel("trained models")
            figure.supylabel(ylabel, fontsize=9)
            shared = {h.get_label(): h for ax in axes for h in ax.get_lines()}
            legend = _legend(figure, shared, columns=4)
            if not _alike(lines):
                for handle in legend.get_lines():
                    handle.set_color(INK)
        else:
            axes[0].set_xlabel("trained models")
            axes[0].set_ylabel(ylabel)
            _legend(figure, {h.get_label(): h for h in axes[0].get_lines()}, columns=2)
    return figure


def fronts_figure(
    prices: Floats,
    lines: Sequence[Line],
    *,
    xlabel: str,
    ylabel: str,
    higher_is_better: bool = True,
) -> Figure:
    """Draw the best value at each of ``prices``: mean and interquartile band over trials.

    The curves of ``lines`` are float64 [trials, prices]; where a trial has nothing so cheap, NaN.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 4.2))
        ax = figure.subplots()
        bands = [band(line.curve) for line in lines]
        for line, strip, look in zip(lines, bands, _looks(lines), strict=True):
            _draw(ax, line, strip, line.label, *look, prices)
        shown = prices
        if prices.size > _FEW:
            low, high = _interesting(bands, higher_is_better)
            shown = prices[np.any([(b.mean >= low) & (b.mean <= high) for b in bands], axis=0)]
            ax.set_ylim(low, high)
        if shown.size and shown[0] > 0 and shown[-1] > 20 * shown[0]:
            ax.set_xscale("log")
        if shown.size and shown[0] < shown[-1]:
            ax.set_xlim(shown[0], shown[-1])
        ax.set_xlabel(xlabel)
        ax.set_ylabel(ylabel)
        _legend(figure, {h.get_label(): h for h in ax.get_lines()}, columns=2)
    return figure


def targets_figure(
    dots: Sequence[Dot], *, target: str, budget: int, searchers: Iterable[str] = ()
) -> Figure:
    """Draw how many trained models each search needs, the fewest on top, with its interval.

    ``searchers`` fixes the order of colours, so that they agree with those of other figures.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ranked = sorted(dots, key=lambda dot: dot.models.mean, reverse=True)
    colours = _palette([*searchers, *(dot.searcher for dot in dots)])
    with rc_context(STYLE):
        names = [fill(dot.label, _WIDEST) for dot in ranked]
        rows = len(dots) * max(1 + name.count("\n") for name in names)
        figure = Figure(figsize=(5.6, 1.0 + 0.26 * rows))
        ax = figure.subplots()
        ax.grid(visible=False, axis="y")
        ax.axvline(budget, color=FAINT, linewidth=0.8, linestyle=(0, (2, 2)))
        ax.text(budget, len(dots) - 0.35, "budget", color=FAINT, fontsize=7, ha="center")
        for row, dot in enumerate(ranked):
            colour = colours[dot.searcher]
            ax.plot([0, dot.models.mean], [row, row], color=FAINT, linewidth=0.5, alpha=0.5)
            ax.plot([dot.models.low, dot.models.high], [row, row], color=colour, linewidth=2.4)
            ax.plot(dot.models.mean, row, "o", color=colour, markersize=5.5)
            ax.text(
                1.015,
                row,
                f"{dot.models.mean:.0f}" + ("" if dot.solved == 1 else f"  ({dot.solved:.0%})"),
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
        ax.set_yticks(range(len(ranked)), names)
        ax.tick_params(axis="y", length=0)
        ax.set_ylim(-0.6, len(dots) - 0.4)
        ax.set_xlim(0, budget * 1.02 + 1)
        ax.set_xlabel(f"trained models until {target},\nmean and 95 % interval (solved trials)")
    return figure


def rank_scatter(
    scores: Floats, accuracy: Floats, name: str, *, ylabel: str = "accuracy (%)"
) -> Figure:
    """Draw accuracy against the rank of the score (1 = smallest), both given as float64 [n].

    NaN entries are left out. The lowest 5 % of accuracies, often failed trainings, are drawn at
    the lower edge. The title has the name and Spearman's correlation.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from scipy.stats import rankdata

    known = ~(np.isnan(scores) | np.isnan(accuracy))
    scores, accuracy = scores[known], accuracy[known]
    ranks = rankdata(scores)
    floor = float(np.quantile(accuracy, 0.05)) if accuracy.size >= 50 else -np.inf
    shown = np.maximum(accuracy, floor)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.7))
        ax = figure.subplots()
        if scores.size > 3000:
            cells = ax.hexbin(ranks, shown, gridsize=60, bins="log", cmap="viridis", linewidths=0.1)
            bar = figure.colorbar(cells, ax=ax, label="architectures", shrink=0.85)
            bar.outline.set_visible(False)
        else:
            alpha = float(np.clip(200 / max(scores.size, 1), 0.25, 0.8))
            ax.plot(ranks, shown, "o", color=PALETTE[0], markersize=3.5, alpha=alpha, mew=0)
        ax.set_xlabel(f"rank of {name} (1 = smallest)")
        ax.set_ylabel(ylabel)
        ax.set_title(f"{name}: Spearman {spearman(scores, accuracy):.3f}, n = {scores.size:,}")
    return figure


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``figure`` as PNG (200 dots an inch) and SVG beside each other; return the paths."""
    from matplotlib import rc_context

    paths = []
    for suffix, metadata in ((".png", {"Software": None}), (".svg", _NO_METADATA)):
        path = stem.with_name(stem.name + suffix)
        with rc_context(STYLE), replacing(path) as temporary:
            figure.savefig(temporary, format=suffix[1:], metadata=metadata)
        paths.append(path)
    return paths


_NO_METADATA: Final[dict[str, Any]] = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def _draw(
    ax: Axes,
    line: Line,
    strip: Band,
    label: str,
    colour: str,
    marker: str,
    at: Floats | None = None,
) -> None:
    steps = np.arange(1, line.curve.shape[1] + 1) if at is None else at
    single = len(steps) == 1
    ax.fill_between(steps, strip.low, strip.high, color=colour, alpha=0.1, linewidth=0)
    ax.plot(
        steps,
        strip.mean,
        color=colour,
        linestyle=DASHES.get(line.guidance, "-"),
        label=label,
        marker=marker or ("o" if single else ""),
        markevery=max(1, len(steps) // 8),
        markersize=4,
    )


def _palette(names: Iterable[str]) -> dict[str, str]:
    distinct = dict.fromkeys(names)
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(distinct)}


def _rest(line: Line) -> str:
    """Return the label without the searcher."""
    return line.label.removeprefix(line.searcher).strip(" ,")


def _alike(lines: Sequence[Line]) -> bool:
    """Whether searcher, guidance and proxy do not tell all lines apart."""
    return len({(line.searcher, line.guidance, line.proxy) for line in lines}) < len(lines)


def _looks(lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Choose colour and marker of each line.

    The colour is that of the searcher, or, where that does not do, of the rest of the label. Where
    there are more than there are colours, markers tell them apart.
    """
    several = len({line.searcher for line in lines}) > 1
    if several and not _alike(lines):
        keys = [line.searcher for line in lines]
    else:
        keys = [_rest(line) if several else line.label for line in lines]
    distinct, markers, looks = list(dict.fromkeys(keys)), _markers(lines), []
    for line, key in zip(lines, keys, strict=True):
        again, place = divmod(distinct.index(key), len(PALETTE))
        looks.append((PALETTE[place], MARKERS[-again] if again else markers[line.proxy]))
    return looks


def _legend(figure: Figure, handles: dict[Any, Any], *, columns: int) -> Legend:
    """Explain lines below the panels, in as many ``columns`` as their labels leave room for."""
    labels = [fill(str(label), _WIDEST) for label in handles]
    longest = max(len(row) for label in labels for row in label.split("\n"))
    fitting = max(1, min(columns, int(figure.get_figwidth() * _LETTERS) // (longest + 8)))
    rows = -(-len(labels) // fitting) * max(1 + label.count("\n") for label in labels)
    figure.set_figheight(figure.get_figheight() + _ROW * max(0, rows - _ROWS))
    return figure.legend(
        list(handles.values()), labels, loc="outside lower center", ncols=fitting, fontsize=8
    )


def _markers(lines: Sequence[Line]) -> dict[str, str]:
    """Mark proxies only where guided searches of one figure use several."""
    guided = list(dict.fromkeys(line.proxy for line in lines if line.guidance != "none"))
    marks = {line.proxy: "" for line in lines}
    if len(guided) > 1:
        marks.update({proxy: MARKERS[i % len(MARKERS)] for i, proxy in enumerate(guided)})
    return marks


def _interesting(bands: Sequence[Band], higher_is_better: bool) -> tuple[float, float]:
    """Limits that show where searches differ, not how bad their first models are."""
    settled = [b.mean[min(len(b.mean) - 1, max(4, len(b.mean) // 30)) :] for b in bands]
    means = np.concatenate(settled)
    means = means[~np.isnan(means)]
    worst, best = (0.1, 1.0) if higher_is_better else (0.9, 0.0)
    near, far = np.quantile(means, (worst, best))
    edges = np.concatenate([(b.high if higher_is_better else b.low)[-1:] for b in bands])
    far = np.nanmax([far, *edges]) if higher_is_better else np.nanmin([far, *edges])
    margin = 0.06 * (far - near) or 0.01 * abs(far) or 1.0
    low, high = sorted((float(near - margin), float(far + margin)))
    return low, high
