"""What the numbers of a group of runs say, in sentences; nothing is said that they do not bear."""

from __future__ import annotations

from analysis.groups import PROTOCOLS, Entry, Group


def findings(group: Group) -> list[str]:
    """Return the key findings of ``group``, the most important first, as plain sentences."""
    sentences = _leader(group)
    for target in group.targets:
        sentences += _target(group, target)
    sentences += _guidance(group)
    sentences += _optimism(group)
    return sentences


def _leader(group: Group) -> list[str]:
    leader, *others = group.ranked()
    protocol = group.protocols[0]
    best = group.spread(leader, protocol, None)
    if best is None:
        return []
    text = (
        f"{capital(leader.label)} {'ends best' if others else 'ends'} at "
        f"{group.number(best.mean)} ± {group.number(best.std)} {_unit(group)}"
        f"({PROTOCOLS[protocol]}) after {leader.run.steps} trained models"
    )
    second = group.spread(others[0], protocol, None) if others else None
    if second is None:
        return [text + "."]
    return [f"{text}, before {others[0].label} at {group.number(second.mean)}."]


def _target(group: Group, name: str) -> list[str]:
    goal = f"{name} {_unit(group)}".strip()
    reached = {entry.label: group.target(entry, name) for entry in group.entries}
    order = sorted(reached, key=lambda label: reached[label].models.mean)
    first, last = order[0], order[-1]
    best, worst = reached[first], reached[last]
    if not any(target.solved for target in reached.values()):
        return [f"No run reaches {goal} within its budget."]
    mean = best.models.mean
    text = (
        f"{capital(first)} reaches {goal} first, after {mean:.0f} trained "
        f"model{'' if mean == 1 else 's'} on average {best.models.ends('{:.0f}'.format)}"
    )
    if best.solved < 1:
        return [f"{text}, and in {best.solved:.0%} of its trials."]
    if first == last:
        return [f"{text}."]
    if not worst.solved:
        return [f"{text}; {last} never does."]
    at_least = "at least " if worst.solved < 1 else ""
    ratio = worst.models.mean / mean
    return [f"{text}; {last} needs {at_least}{ratio:.1f} times as many."]


def _guidance(group: Group) -> list[str]:
    """Say how often guidance helped, at each step, where runs with and without it match."""
    entries = {entry.label: entry for entry in group.entries}
    pairs = [
        pair
        for pair in group.pairs
        if entries[pair.first].searcher == entries[pair.second].searcher
        and entries[pair.first].guidance != "none" == entries[pair.second].guidance
    ]
    if not pairs:
        return []
    sign = 1 if group.higher_is_better else -1
    parts = []
    for step in sorted({pair.step for pair in pairs}):
        gains = [
            sign * pair.result.difference.mean if pair.result.p < 0.05 else 0.0
            for pair in pairs
            if pair.step == step
        ]
        better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
        parts.append(f"after {step} models {better} of {len(gains)} are better and {worse} worse")
    return [
        f"Guided runs against the same searcher without guidance: {'; '.join(parts)} "
        "(significant at 5 % by paired Wilcoxon tests, Holm-corrected)."
    ]


def _optimism(group: Group) -> list[str]:
    """Say how much the curve that peeks at the test set flatters."""
    if group.protocols != ["test_of_best_val", "best_test_so_far"]:
        return []

    def gap(entry: Entry) -> float:
        honest = group.spread(entry, "test_of_best_val", None)
        peeking = group.spread(entry, "best_test_so_far", None)
        return abs(peeking.mean - honest.mean) if honest and peeking else 0.0

    entry = max(group.entries, key=gap)
    if not gap(entry):
        return []
    points = "points" if group.summary["unit"] == "%" else f"in {group.summary['metric']}"
    return [
        "Reporting the best test so far instead of the test of the best validated model would "
        f"flatter the searches by up to {group.number(gap(entry))} {points} ({entry.label})."
    ]


def _unit(group: Group) -> str:
    unit = str(group.summary["unit"] or "")
    return f"{unit} " if unit else ""


def capital(text: str) -> str:
    """Begin ``text`` with a capital, leaving the rest as it is."""
    return text[:1].upper() + text[1:]
