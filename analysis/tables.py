"""The tables of a report: as text cells, as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
import math

from analysis.groups import PROTOCOLS, Entry, Group, Report, step_name


def heads(group: Group) -> list[str]:
    """Column heads of :func:`cells`."""
    values = [f"{PROTOCOLS[p]} @ {step_name(s)}" for p in group.protocols for s in group.steps]
    return [
        *("run", "searcher", "guidance", "proxy", "trials", "budget"),
        *values,
        *(f"models to {target}" for target in group.targets),
        *(f"hypervolume {t.cost} ({t.unit_of_hypervolume})" for t in group.trades),
    ]


def cells(group: Group, entry: Entry) -> list[str]:
    """One run as text: mean ± std of each value, mean [interval] and solved share of targets."""
    texts = [entry.label, entry.searcher, entry.guidance, entry.proxy]
    texts += [str(entry.run.summary["trials"]), str(entry.run.budget)]
    for protocol in group.protocols:
        for step in group.steps:
            value = group.spread(entry, protocol, step)
            texts.append(
                f"{group.number(value.mean)} ± {group.number(value.std)}" if value else "-"
            )
    for name in group.targets:
        target = group.target(entry, name)
        models = target.models
        texts.append(f"{models.mean:.1f} {models.ends('{:.1f}'.format)}, {target.solved:.0%}")
    for trade in group.trades:
        area = trade.spread(entry)
        texts.append(f"{trade.number(area.mean)} ± {trade.number(area.std)}" if area else "-")
    return texts


def table_markdown(report: Report) -> str:
    """Return ``table.md``: a heading and a table for each group."""
    parts = []
    for group in report.groups:
        titles = heads(group)
        align = ["---"] * 4 + ["---:"] * (len(titles) - 4)
        rows = [titles, align, *(cells(group, entry) for entry in group.entries)]
        lines = ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows]
        parts.append(
            f"## {group.title}\n\n{group.metric}; {group.benchmark}.\n\n" + "\n".join(lines)
        )
    return "\n\n".join(parts) + "\n"


def table_csv(report: Report) -> str:
    """Return ``table.csv``: one row per run, numbers apart from each other, blank where none."""
    rows = [_numbers(group, entry) for group in report.groups for entry in group.entries]
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _numbers(group: Group, entry: Entry) -> dict[str, object]:
    run = entry.run
    row: dict[str, object] = {
        **{key: run.summary[key] for key in ("space", "dataset")},
        "settings": group.settings,
        "benchmark": group.benchmark,
        **{key: run.summary[key] for key in ("protocol", "metric", "unit")},
        **{
            "run": entry.label,
            "searcher": entry.searcher,
            "guidance": entry.guidance,
            "proxy": entry.proxy,
        },
        **{"trials": run.summary["trials"], "seed": run.summary["seed"], "budget": run.budget},
    }
    for protocol in group.protocols:
        for step in group.steps:
            value = group.spread(entry, protocol, step)
            name = f"{protocol}_{step_name(step)}"
            row[f"{name}_mean"] = f"{value.mean:.7g}" if value else ""
            row[f"{name}_std"] = f"{value.std:.7g}" if value else ""
    for name in group.targets:
        target = group.target(entry, name)
        for part, number in target.models._asdict().items():
            row[f"models_to_{name}_{part}"] = "" if math.isnan(number) else f"{number:.7g}"
        row[f"models_to_{name}_solved"] = f"{target.solved:.7g}"
    for trade in group.trades:
        area = trade.spread(entry)
        row[f"hypervolume_{trade.cost}_mean"] = f"{area.mean:.7g}" if area else ""
        row[f"hypervolume_{trade.cost}_std"] = f"{area.std:.7g}" if area else ""
    row["directory"] = run.path.as_posix()
    return row
