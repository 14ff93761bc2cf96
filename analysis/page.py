"""The report as one self-contained HTML page: inline style, inline pictures, no request."""

from __future__ import annotations

import functools
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Final

from analysis.figures import INK
from analysis.findings import capital, findings
from analysis.groups import PROTOCOLS, Entry, Group, Ranking, Report, step_name
from analysis.published import SOURCES


@dataclass(frozen=True)
class Picture:
    """A figure on the page: its caption and its files, an SVG among them."""

    caption: str
    paths: Sequence[Path]

    @property
    def svg(self) -> Path:
        """The file that is put into the page."""
        return next(path for path in self.paths if path.suffix == ".svg")


_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --ink: #24292f; --soft: #59636e; --paper: #fbfaf8; --card: #fff; --line: #e3e0da;
  --accent: #0072b2; --best: #e3f1f9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e6e1; --soft: #a5adb6; --paper: #15181c; --card: #1c2025; --line: #333941;
    --accent: #6cb8e6; --best: #16384c;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem) 4rem; max-width: 78rem;
  font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; margin: .2rem 0 .6rem; }
h2 { margin: 3rem 0 .2rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { margin: 2rem 0 .6rem; font-size: 1.05rem; }
p { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
.brand { color: var(--accent); font-weight: 600; letter-spacing: .02em; margin: 0; }
ul.findings { padding: 0; list-style: none; max-width: 54rem; }
ul.findings li { margin: .5rem 0; padding: .7rem 1rem; background: var(--card);
  border: 1px solid var(--line); border-left: 4px solid var(--accent); border-radius: 6px; }
.figures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 29rem), 1fr)); }
figure { margin: 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; display: flex; flex-direction: column; justify-content: space-between; }
figure div { overflow-x: auto; }
figure svg { display: block; width: 100%; min-width: 27rem; height: auto; color: var(--ink); }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px;
  background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .86rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .75rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tr:last-child td, tr:last-child th { border-bottom: 0; }
thead th { color: var(--soft); font-weight: 600; }
thead .over { text-align: center; border-left: 1px solid var(--line); color: var(--ink); }
th[scope=row] { text-align: left; font-weight: 500; position: sticky; left: 0;
  background: var(--card); }
th.left, td.left { text-align: left; }
td.best { background: var(--best); font-weight: 600; }
td small { color: var(--soft); font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; max-width: 50rem; }
dt { color: var(--soft); } dd { margin: 0; }
details { margin: .8rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; padding: .7rem 1rem; background: var(--card); font-size: .82rem;
  border: 1px solid var(--line); border-radius: 6px; }
code { overflow-wrap: anywhere; }
@media (max-width: 34rem) { th[scope=row] { white-space: normal; min-width: 7.5rem; } }
</style>
</head>
<body>
<header>
<p class="brand">Assay report</p>
<h1>$headline</h1>
<p class="soft">$scope</p>
</header>
<main>
$groups
</main>
</body>
</html>
""")

_GROUP: Final = Template("""<section>
<h2>$title</h2>
<p class="soft">$about</p>
<ul class="findings">
$findings
</ul>
<div class="figures">
$figures
</div>
<h3>Every run</h3>
$table
<p class="soft">Mean ± standard deviation over trials; the best mean of each column is marked.
$targets</p>
$beside
$costs
$ranks
$pairs
<h3>How to read the values</h3>
<p>$protocol</p>
<h3>How to reproduce</h3>
$commands
</section>""")

_MEANING: Final = {
    "test_of_best_val": (
        "<b>Test of best val</b>, the protocol to judge by: after each trained model, the test "
        "value of the model that is best by validation so far. It is what a user of the search "
        "gets. <b>Best test so far</b> is the best test value of all models trained so far; it "
        "looks at the test set to choose, as the curves of many papers do, and so flatters."
    ),
    "best_test_so_far": (
        "This benchmark has test values alone, and they steer the search. <b>Best test so far</b> "
        "is the best value of all models trained so far; no held-out value stands beside it."
    ),
    "best_val": (
        "This benchmark has validation values alone. <b>Best val</b> is the best validation value "
        "of all models trained so far; no held-out value stands beside it."
    ),
}


def render(report: Report, pictures: Sequence[Sequence[Picture]]) -> str:
    """Return the page; ``pictures`` has the figures of each group, in the order of groups."""
    entries = [entry for group in report.groups for entry in group.entries]
    searchers = list(dict.fromkeys(entry.searcher for entry in entries))
    places = list(dict.fromkeys(group.title for group in report.groups))
    trials = sum(int(entry.run.summary["trials"]) for entry in entries)
    models = sum(len(trace) for entry in entries for trace in entry.run.traces)
    scope = (
        f"{_count(len(entries), 'run')}, {_count(trials, 'trial')}, "
        f"{_count(models, 'trained model')}."
    )
    if report.warnings:
        scope += f" Passed over: {_count(len(report.warnings), 'unfinished or damaged run')}."
    what = _listed(searchers) if len(searchers) <= 4 else f"{len(searchers)} searchers"
    headline = f"{capital(what)} on {_listed(places)}"
    groups = [
        _group(group, shown, f"g{number}")
        for number, (group, shown) in enumerate(zip(report.groups, pictures, strict=True))
    ]
    return _PAGE.substitute(
        title=escape(f"{headline} | Assay report"),
        headline=escape(headline),
        scope=escape(scope),
        groups="\n".join(groups),
    )


def inline_svg(text: str, prefix: str) -> str:
    """Make an SVG file's text fit for a page: no prolog, ids of its own, ink that follows the page.

    ``prefix`` keeps the ids of several pictures on one page apart.
    """
    svg = text[text.index("<svg") :]
    svg = re.sub(r'\s(?:xmlns(?::\w+)?|version|width|height)="[^"]*"', "", svg.split(">", 1)[0]) + (
        ">" + svg.split(">", 1)[1]
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = svg.replace('href="#', f'href="#{prefix}-').replace("url(#", f"url(#{prefix}-")
    svg = re.sub(r"fill: #ffffff(?=[;\"])", "fill: none", svg)
    return svg.replace(INK, "currentColor").strip()


def _group(group: Group, pictures: Sequence[Picture], prefix: str) -> str:
    targets = (
        "Models to a target: mean trained models until the "
        f"{'best test so far' if group.protocols != ['best_val'] else 'best val'} reaches it, with "
        "its 95 % interval and the share of trials that did; an unsolved trial counts as "
        "the largest budget of the table + 1."
    )
    about = f"{group.metric}, {'larger' if group.higher_is_better else 'smaller'} is better"
    guided = f" Guidance by {_listed(group.proxies)}." if group.proxies else ""
    return _GROUP.substitute(
        title=escape(group.title),
        about=escape(f"{about}. Benchmark: {group.benchmark}.{guided}"),
        findings="\n".join(f"<li>{escape(text)}</li>" for text in findings(group)),
        figures="\n".join(_figure(p, f"{prefix}-{i}") for i, p in enumerate(pictures)),
        table=_table(group, prefix),
        targets=targets if group.targets else "",
        beside=_beside(group),
        costs=_costs(group),
        ranks=_ranks(group),
        pairs=_pairs(group),
        protocol=_MEANING[group.protocols[0]],
        commands="\n".join(
            _command(entry, group, f"{prefix}-run-{row}") for row, entry in enumerate(group.entries)
        ),
    )


def _figure(picture: Picture, prefix: str) -> str:
    svg = inline_svg(picture.svg.read_text(encoding="utf-8"), prefix)
    label = escape(picture.caption, quote=True)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    return (
        f"<figure>\n<div>{svg}</div>\n<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )


def _table(group: Group, prefix: str) -> str:
    values = [(p, s) for p in group.protocols for s in group.steps]
    spreads = {key: [group.spread(entry, *key) for entry in group.entries] for key in values}
    targets = {name: [group.target(e, name) for e in group.entries] for name in group.targets}
    sign = 1 if group.higher_is_better else -1
    best = {
        key: max((sign * s.mean for s in column if s), default=None)
        for key, column in spreads.items()
    }
    fewest = {name: min(t.models.mean for t in column) for name, column in targets.items()}
    over = ['<th colspan="2"></th>'] + [
        f'<th class="over" colspan="{len(group.steps)}" scope="colgroup">{PROTOCOLS[p]}</th>'
        for p in group.protocols
    ]
    if targets:
        over.append(f'<th class="over" colspan="{len(targets)}" scope="colgroup">models to</th>')
    if group.trades:
        count = len(group.trades)
        over.append(f'<th class="over" colspan="{count}" scope="colgroup">hypervolume</th>')
    names = ["run", "trials &times; budget"]
    names += [f"{'at ' if s else ''}{step_name(s)}" for _, s in values]
    names += [escape(f"{name} {group.summary['unit'] or ''}".strip()) for name in targets]
    names += [escape(f"{t.cost}, {t.unit_of_hypervolume}") for t in group.trades]
    rows = []
    for row, entry in enumerate(group.entries):
        line = [
            f'<th scope="row"><a href="#{prefix}-run-{row}">{escape(entry.label)}</a></th>',
            f"<td>{entry.run.summary['trials']} &times; {entry.run.budget}</td>",
        ]
        for key in values:
            cell = spreads[key][row]
            text = (
                f"{group.number(cell.mean)} <small>± {group.number(cell.std)}</small>"
                if cell
                else "-"
            )
            line.append(_cell(text, cell is not None and sign * cell.mean == best[key]))
        for name, column in targets.items():
            models, solved = column[row].models, column[row].solved
            text = f"{models.mean:.1f} <small>{models.ends('{:.1f}'.format)} · {solved:.0%}</small>"
            line.append(_cell(text, solved > 0 and models.mean == fewest[name]))
        for trade in group.trades:
            area = trade.spread(entry)
            text = (
                f"{trade.number(area.mean)} <small>± {trade.number(area.std)}</small>"
                if area
                else "-"
            )
            line.append(_cell(text, area is not None and area.mean == trade.most))
        rows.append("<tr>" + "".join(line) + "</tr>")
    return (
        f'<div class="scroll"><table>\n<thead><tr>{"".join(over)}</tr>\n<tr>'
        + "".join(
            f'<th scope="col"{" class=left" if i == 0 else ""}>{name}</th>'
            for i, name in enumerate(names)
        )
        + "</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _rows(names: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a table of texts; the first is a row's name, the first ``left`` are set left."""
    head = "".join(
        f'<th scope="col"{" class=left" if i < left else ""}>{n}</th>' for i, n in enumerate(names)
    )
    body = (
        f'<tr><th scope="row">{first}</th>'
        + "".join(
            f'<td class="left">{cell}</td>' if i + 1 < left else f"<td>{cell}</td>"
            for i, cell in enumerate(rest)
        )
        + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>\n"
    )


def _beside(group: Group) -> str:
    if not group.beside:
        return ""
    rows = [
        (
            escape(beside.label),
            escape(beside.point.source),
            str(beside.point.models),
            group.number(beside.point.value),
            f"{group.number(beside.ours.mean)} <small>{beside.ours.ends(group.number)}</small>",
            _signed(group, beside.ours.mean - beside.point.value),
            "-" if math.isnan(beside.reached) else f"{beside.reached:.0%}",
        )
        for beside in group.beside
    ]
    names = ("run", "source", "models", "published", "here", "difference", "reached by")
    sources = dict.fromkeys(beside.point.source for beside in group.beside)
    return (
        "<h3>Beside published numbers</h3>\n"
        + _rows(names, rows, left=2)
        + '<p class="soft">Average best test so far after so many trained models, here with its '
        "95 % interval. Reached by: the share of means of as many trials as were "
        "published, drawn from those here, that are as good. "
        f"{escape(' '.join(f'{source}: {SOURCES[source]}.' for source in sources))}</p>"
    )


def _costs(group: Group) -> str:
    costs = {entry.label: group.cost(entry) for entry in group.entries}
    rows = [
        (
            escape(label),
            f"{cost.training:.2f}",
            f"{cost.scoring:.2f}",
            *(
                f"{hours.mean:.2f} <small>{hours.ends('{:.2f}'.format)}</small>"
                for hours in cost.targets.values()
            ),
        )
        for label, cost in costs.items()
        if cost
    ]
    if not rows:
        return ""
    unit = group.summary["unit"] or ""
    names = ["run", "training", "scoring"]
    names += [escape(f"to {name} {unit}".strip()) for name in group.targets]
    return (
        "<h3>Hours</h3>\n"
        + _rows(names, rows)
        + '<p class="soft">Simulated hours of a trial, means over trials: what its trainings took '
        "when the benchmark was made, and what computing every score that it asked for takes here; "
        "then both together until the best test so far reaches a target, with the 95 % interval. "
        "A trial that never does counts with all its hours.</p>"
    )


def _ranks(group: Group) -> str:
    if not group.rankings:
        return ""
    steps = group.rankings
    means = [dict(zip(r.labels, r.ranks.means.tolist(), strict=True)) for r in steps]
    labels = sorted(
        {label for ranking in steps for label in ranking.labels},
        key=lambda label: (means[-1].get(label, math.inf), label),
    )

    def cell(label: str, ranking: Ranking, mean: dict[str, float]) -> str:
        if label not in mean:
            return "-"
        near = mean[label] <= min(mean.values()) + ranking.ranks.distance
        return f"<b>{mean[label]:.2f}</b>" if near else f"{mean[label]:.2f}"

    rows = [
        (escape(label), *(cell(label, *pair) for pair in zip(steps, means, strict=True)))
        for label in labels
    ]
    tests = "; ".join(
        f"after {r.step} models {r.ranks.distance:.2f}, p {_p(r.ranks.p)}" for r in steps
    )
    return (
        "<h3>Mean ranks</h3>\n"
        + _rows(["run", *(f"at {ranking.step}" for ranking in steps)], rows)
        + f'<p class="soft">{capital(PROTOCOLS[group.protocols[0]])}: each trial ranks the runs, 1 '
        "for the best, ties sharing a rank; trials of one number had the same seed. Bold: not "
        "worse than the best by more than the critical difference of Nemenyi at 5 %. Critical "
        f"differences, and p of Friedman's test that all are alike: {tests}.</p>"
    )


def _pairs(group: Group) -> str:
    if not group.pairs:
        return ""
    names = ("run", "against", "after", "mean difference", "wins", "p (Holm)")
    rows = []
    for pair in group.pairs:
        mean, signed = pair.result.difference.mean, functools.partial(_signed, group)
        difference = f"{signed(mean)} <small>{pair.result.difference.ends(signed)}</small>"
        wins, p = f"{pair.result.wins:.0%}", _p(pair.result.p)
        first, second = escape(pair.first), escape(pair.second)
        rows.append((first, second, str(pair.step), difference, wins, p))
    return (
        "<h3>Trial by trial</h3>\n"
        + _rows(names, rows, left=2)
        + f'<p class="soft">{capital(PROTOCOLS[group.protocols[0]])}: trial i of a run against '
        "trial i of the other, which had the same seed. Mean difference with its 95 % interval; "
        "share of trials won, a draw counting half; Wilcoxon signed-rank test, corrected for all "
        "rows by Holm's method.</p>"
    )


def _command(entry: Entry, group: Group, anchor: str) -> str:
    run = entry.run
    best = run.best()
    value = best.test if group.protocols[0] != "best_val" else best.val
    steered = "test" if run.summary["protocol"] == "test" else "validation"
    facts = {
        "directory": f"<code>{escape(str(run.path))}</code>",
        f"best by {steered}, all trials": f"<code>{escape(best.architecture)}</code> "
        f"({'val' if group.protocols[0] == 'best_val' else 'test'} {group.number(value)})",
        "seed": escape(str(run.summary["seed"])),
        "seconds": f"{_seconds(run.summary['wall_seconds'])} in all, "
        f"{_seconds(run.summary['proxy_seconds'])} of them for proxies",
        "versions": escape(_versions(run.summary["versions"])),
    }
    command = "the command line is not recorded"
    if run.overrides is not None:
        command = escape(" ".join(["python run_search.py", *map(shlex.quote, run.overrides)]))
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items())
    return (
        f'<details id="{anchor}"><summary>{escape(entry.label)}</summary>\n<pre>{command}</pre>\n'
        f"<dl>{items}</dl></details>"
    )


def _cell(text: str, best: bool) -> str:
    return f'<td class="best">{text}</td>' if best else f"<td>{text}</td>"


def _versions(versions: object) -> str:
    if isinstance(versions, dict):
        return ", ".join(f"{name} {version}" for name, version in versions.items())
    return str(versions)


def _seconds(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, int | float) else "-"


def _signed(group: Group, value: float) -> str:
    return ("" if value < 0 or math.isnan(value) else "+") + group.number(value)


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
