import csv
import io
import os

import numpy as np
import pytest

from analysis.findings import findings
from analysis.groups import collect
from analysis.page import inline_svg
from analysis.tables import cells, heads, table_csv, table_markdown
from conf.errors import UsageError
from tests.analysis.synthetic import random_traces, trace, write_run


def steady(value, steps=30, trials=4):
    """Trials that have ``value`` from the first model on."""
    return [trace([value] * steps, [value] * steps) for _ in range(trials)]


def test_runs_are_found_at_any_depth_once_and_grouped(tmp_path):
    write_run(tmp_path / "a" / "b", random_traces(), searcher="random")
    write_run(tmp_path / "c", random_traces(), searcher="evolution")
    write_run(tmp_path / "d", random_traces(), dataset="cifar10")
    write_run(tmp_path / "e", random_traces(), benchmark={"kind": "table", "epochs": 12})
    report = collect([tmp_path, tmp_path / "a"])
    assert [g.summary["dataset"] for g in report.groups] == ["cifar10", "cifar100", "cifar100"]
    assert sorted(len(g.entries) for g in report.groups) == [1, 1, 2]
    assert report.warnings == []


def test_order_and_labels(tmp_path):
    for number, (searcher, guidance, proxy) in enumerate(
        [
            ("random", "none", "synflow"),
            ("evolution", "warmup_move", "snip"),
            ("evolution", "move", "synflow"),
            ("evolution", "none", None),
            ("evolution", "none", None),
        ]
    ):
        folder = tmp_path / f"run{number}"
        names = {"searcher": searcher, "guidance": guidance, "proxy": proxy}
        write_run(folder, random_traces(), **names)
    [group] = collect([tmp_path]).groups
    assert [entry.label for entry in group.entries] == [
        "evolution (run3)",
        "evolution (run4)",
        "evolution + move, synflow",
        "evolution + warmup + move, snip",
        "random",
    ]


def guided(**sizes):
    """Settings of the guidance as a summary has them."""
    keys = {"warmup": "pool", "move": "candidates"}
    parts = {part: {"enabled": part in sizes, key: sizes.get(part)} for part, key in keys.items()}
    return {"guidance": parts, "benchmark": {"seeds": "mean"}}


def test_guidance_is_named_by_its_size_where_sizes_differ(tmp_path):
    for size in (256, 1000, "all"):
        config = guided(warmup=size)
        names = {"searcher": "random", "guidance": "warmup", "proxy": "synflow"}
        write_run(tmp_path / f"w{size}", random_traces(), config=config, **names)
    config = guided(move=10)
    write_run(tmp_path / "m", random_traces(), guidance="move", proxy="synflow", config=config)
    [group] = collect([tmp_path]).groups
    assert [entry.label for entry in group.entries] == [
        "random + warmup 256",
        "random + warmup 1000",
        "random + warmup all",
        "random + move",
    ]


def test_published_points_stand_beside_runs_of_the_same_search(tmp_path):
    for size in (1000, 3000):
        names = {"searcher": "random", "guidance": "warmup", "proxy": "synflow"}
        config = guided(warmup=size)
        traces = steady(73.2, steps=60)
        write_run(tmp_path / f"{size}", traces, config=config, budget={"models": 60}, **names)
    write_run(tmp_path / "other", steady(70.0, steps=60), searcher="tpe")
    [group] = collect([tmp_path]).groups
    found = [(b.label, b.point.models, b.point.value, b.ours.mean) for b in group.beside]
    assert found == [
        ("random + warmup 3000", 50, 73.0, pytest.approx(73.2)),
        ("random + warmup 3000", 45, 73.0, pytest.approx(73.2)),
    ]


EVOLUTION = {"population": 64, "tournament": 10}
OTHERWISE = {
    "epochs": {"benchmark": {"kind": "table", "table": "nasbench201", "epochs": 12}},
    "table": {"config": {"benchmark": {"seeds": "mean", "path": "own.npz"}, "searcher": EVOLUTION}},
    "training": {"benchmark": {"kind": "training", "epochs": 200}},
    "words": {"benchmark": "a table"},
    "limit": {"budget": {"models": 60, "max_params": 1e6}},
    "time": {"budget": {"models": 60, "max_params": None, "train_seconds": 1e5}},
    "seeds": {"config": {"benchmark": {"seeds": "random"}, "searcher": EVOLUTION}},
    "searcher": {
        "config": {"benchmark": {"seeds": "mean"}, "searcher": EVOLUTION | {"tournament": 1}}
    },
    "not recorded": {"config": None},
}


@pytest.mark.parametrize("change", OTHERWISE)
def test_published_points_do_not_stand_beside_another_search(tmp_path, change):
    config = {"benchmark": {"seeds": "mean"}, "searcher": EVOLUTION}
    same = {"searcher": "evolution", "budget": {"models": 60}, "config": config}
    write_run(tmp_path / "same", steady(73.2, steps=60), **same)
    write_run(tmp_path / "other", steady(73.2, steps=60), **same | OTHERWISE[change])
    groups = collect([tmp_path]).groups
    beside = {entry.run.path.name: entry.published() for g in groups for entry in g.entries}
    assert [point.models for point in beside["same"]][:2] == [50, 100]
    assert beside["other"] == []


def test_runs_on_differently_set_spaces_are_apart(tmp_path):
    for name, number in (("a", 1), ("b", 3), ("c", 3)):
        space = {"_target_": "x", "dataset": "cifar100", "number": number, "limit": None}
        write_run(tmp_path / name, steady(70), searcher=name, config={"space": space})
    write_run(tmp_path / "unknown", steady(70))
    report = collect([tmp_path])
    assert [(g.title, len(g.entries)) for g in report.groups] == [
        ("nasbench201 · cifar100", 1),
        ("nasbench201 · cifar100 · number 1", 1),
        ("nasbench201 · cifar100 · number 3", 2),
    ]
    assert report.groups[1].slug == "nasbench201-cifar100-number-1"
    rows = csv.DictReader(io.StringIO(table_csv(report)))
    assert [row["settings"] for row in rows] == ["", "number 1", "number 3", "number 3"]


@pytest.mark.parametrize("kind", ["table", "training"])
def test_the_size_of_networks_tells_runs_apart_where_these_are_trained(tmp_path, kind):
    for number in (1, 5):
        config = {"space": {"channels": 16, "cells": number, "image_size": None}}
        folder = tmp_path / str(number)
        write_run(folder, steady(70), benchmark={"kind": kind}, config=config)
    titles = [group.title for group in collect([tmp_path]).groups]
    alike = ["nasbench201 · cifar100"]
    apart = [f"{alike[0]} · channels 16, cells {number}" for number in (1, 5)]
    assert titles == (alike if kind == "table" else apart)


def test_a_long_title_is_no_long_file_name(tmp_path):
    config = {"space": {"statistics": ["weight_gradient_noise"] * 22}}
    write_run(tmp_path / "run", steady(70), config=config)
    [group] = collect([tmp_path]).groups
    assert "weight_gradient_noise" in group.title
    assert len(group.slug) <= 100


def test_hours_count_trainings_and_the_scores_asked_for(tmp_path):
    """Ten seconds a model; the n-th model of a trial has asked for n scores of a minute each."""
    late = [trace([70.0] * 9 + [72.0] * 21, [70.0] * 9 + [72.0] * 21) for _ in range(4)]
    write_run(tmp_path / "a", late, seconds_per_score=60.0)
    write_run(tmp_path / "b", late)
    [group] = collect([tmp_path]).groups
    cost = group.cost(group.entries[0])
    assert cost.training == pytest.approx(30 * 10 / 3600)
    assert cost.scoring == pytest.approx(30 * 60 / 3600)
    assert cost.targets["71.0"].mean == pytest.approx(10 * 70 / 3600)
    assert group.cost(group.entries[1]) is None


def test_a_target_that_is_never_reached_takes_all_hours(tmp_path):
    write_run(tmp_path / "a", steady(70.0), seconds_per_score=0.0)
    [group] = collect([tmp_path]).groups
    assert group.cost(group.entries[0]).targets["71.0"].mean == pytest.approx(300 / 3600)


def test_runs_are_ranked_within_trials_of_equal_seed(tmp_path):
    for name, value in (("a", 70.0), ("b", 71.0), ("c", 72.0)):
        write_run(tmp_path / name, steady(value), searcher=name)
    write_run(tmp_path / "d", steady(73.0, trials=5), searcher="d")
    [group] = collect([tmp_path], steps=(10,)).groups
    assert [ranking.step for ranking in group.rankings] == [10, 30]
    assert group.rankings[0].labels == ["a", "b", "c"]
    assert group.rankings[0].ranks.means.tolist() == [3.0, 2.0, 1.0]


def test_runs_of_one_name_are_told_apart_by_the_settings_in_which_they_differ(tmp_path):
    for number, (population, seed) in enumerate([(16, 0), (8, 0), (128, 0), (8, 1)]):
        searcher = {"_target_": "a.B", "population": population, "tournament": 5}
        config = {"searcher": searcher, "seed": seed, "trials": 3}
        write_run(tmp_path / str(number), random_traces(), searcher="evolution", config=config)
    write_run(tmp_path / "other", random_traces(), searcher="tpe", config={"seed": 0})
    report = collect([tmp_path])
    labels = [entry.label for entry in report.groups[0].entries]
    assert labels == [
        "evolution (population 8, seed 0)",
        "evolution (population 8, seed 1)",
        "evolution (population 16, seed 0)",
        "evolution (population 128, seed 0)",
        "tpe",
    ]
    assert all(f"| {label} | " in table_markdown(report) for label in labels)
    rows = csv.DictReader(io.StringIO(table_csv(report)))
    assert [row["run"] for row in rows] == labels


def test_settings_that_say_nothing_are_left_out_of_names(tmp_path):
    for number, config in enumerate(
        [
            {"cost": None, "searcher": {"repeats": True}, "benchmark": {"epochs": None}},
            {"cost": "flops", "searcher": {"repeats": False}, "benchmark": {"epochs": 200}},
        ]
    ):
        write_run(tmp_path / str(number), random_traces(), config=config)
    labels = [entry.label for entry in collect([tmp_path]).groups[0].entries]
    assert labels == ["random (cost flops, repeats false)", "random (repeats true)"]


def test_runs_of_one_name_in_equally_named_directories_are_told_apart(tmp_path):
    for parent in ("x", "y"):
        write_run(tmp_path / parent / "run", random_traces())
    labels = [entry.label for entry in collect([tmp_path]).groups[0].entries]
    assert len(set(labels)) == 2


def test_damaged_and_unfinished_runs_are_passed_over(tmp_path):
    write_run(tmp_path / "good", random_traces())
    (write_run(tmp_path / "unfinished", random_traces()) / "summary.json").unlink()
    (write_run(tmp_path / "damaged", random_traces()) / "trajectory.csv").write_text("x")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "journal.jsonl").write_text("{}\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("not a run")
    report = collect([tmp_path])
    assert [len(g.entries) for g in report.groups] == [1]
    assert len(report.warnings) == 3
    assert all(
        any(name in warning for warning in report.warnings)
        for name in ("unfinished", "damaged", "begun")
    )


def test_no_run_and_no_directory_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no finished run"):
        collect([tmp_path])
    with pytest.raises(UsageError, match="nowhere does not exist"):
        collect([tmp_path / "nowhere"])
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is no directory"):
        collect([tmp_path / "file"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UsageError, match="cannot be read"):
        collect([tmp_path])


def test_a_directory_whose_listing_fails_is_refused(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("analysis.groups.os.scandir", scandir)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        collect([tmp_path])


def test_steps_beyond_every_run_are_left_out_and_shorter_runs_have_a_dash(tmp_path):
    write_run(tmp_path / "long", steady(70, steps=30))
    write_run(tmp_path / "short", steady(71, steps=5), searcher="tpe")
    [group] = collect([tmp_path], steps=[10, 20, 30, 50]).groups
    assert group.steps == [10, 20, None]
    texts = dict(zip(heads(group), cells(group, group.entries[1]), strict=True))
    assert texts["test of best val @ 10"] == "-"
    assert texts["test of best val @ end"] == "71.00 ± 0.00"


def test_table_by_hand(tmp_path):
    traces = [trace([1, 2], [70, 74]), trace([2, 1], [73, 80])]
    write_run(tmp_path / "run", traces, budget={"models": 2}, targets=[73.5, 99])
    report = collect([tmp_path], steps=[1])
    [group] = report.groups
    texts = dict(zip(heads(group), cells(group, group.entries[0]), strict=True))
    assert texts["test of best val @ 1"] == "71.50 ± 1.50"
    assert texts["test of best val @ end"] == "73.50 ± 0.50"
    assert texts["best test so far @ end"] == "77.00 ± 3.00"
    assert texts["models to 73.5"] == "2.0 [2.0, 2.0], 100%"
    assert texts["models to 99.0"] == "3.0 [3.0, 3.0], 0%"
    [row] = csv.DictReader(io.StringIO(table_csv(report)))
    assert row["test_of_best_val_end_mean"] == "73.5"
    assert row["best_test_so_far_1_std"] == "1.5"
    assert row["models_to_73.5_solved"] == "1"
    assert row["directory"] == (tmp_path / "run").as_posix()
    lines = table_markdown(report).splitlines()
    assert lines[0] == "## nasbench201 · cifar100"
    assert len({line.count("|") for line in lines[4:]}) == 1


def test_the_protocol_decides_what_is_reported(tmp_path):
    write_run(tmp_path / "v", random_traces(test=False), dataset="no test")
    values = [trace([np.nan] * 5, [70, 71, 72, 73, 74.0])]
    write_run(tmp_path / "t", values, dataset="only test", protocol="test")
    write_run(tmp_path / "b", random_traces(), dataset="zz both")
    protocols = [group.protocols for group in collect([tmp_path]).groups]
    assert protocols == [
        ["best_val"],
        ["best_test_so_far"],
        ["test_of_best_val", "best_test_so_far"],
    ]


def test_giving_up_early_is_no_way_to_reach_a_target_first(tmp_path):
    late = [trace([70] * 20 + [75] * 10, [70] * 20 + [75] * 10)]
    write_run(tmp_path / "late", late, targets=[74])
    quick = [trace([70] * 5, [70] * 5)]
    write_run(tmp_path / "quick", quick, targets=[74], budget={"models": 5}, searcher="tpe")
    [group] = collect([tmp_path]).groups
    assert [group.target(e, "74.0").models.mean for e in group.entries] == [21, 31]
    assert "Random reaches 74.0 % first, after 21" in " ".join(findings(group))


def test_guided_runs_are_paired_with_their_own_searcher(tmp_path):
    for searcher in ("evolution", "random"):
        write_run(tmp_path / searcher, random_traces(seed=1), searcher=searcher)
        guided = {"guidance": "warmup", "proxy": "synflow", "searcher": searcher}
        write_run(tmp_path / f"{searcher}+", random_traces(mean=73, seed=1), **guided)
    [group] = collect([tmp_path], steps=[10]).groups
    assert [(p.first, p.second, p.step) for p in group.pairs] == [
        (f"{s} + warmup", s, step) for s in ("evolution", "random") for step in (10, 30)
    ]
    for pair in group.pairs:
        assert pair.result.difference.mean == pytest.approx(3)
        assert pair.result.wins == 1


def test_without_guidance_the_best_run_is_compared_with_the_others(tmp_path):
    for name, value in (("a", 70), ("b", 72), ("c", 71)):
        write_run(tmp_path / name, steady(value), searcher=name)
    [group] = collect([tmp_path]).groups
    assert [(p.first, p.second) for p in group.pairs] == [("b", "a"), ("b", "c")]


def test_runs_of_other_seeds_or_trials_are_not_paired(tmp_path):
    write_run(tmp_path / "a", steady(70), searcher="a")
    write_run(tmp_path / "b", steady(71), searcher="b", seed=1)
    write_run(tmp_path / "c", steady(72, trials=5), searcher="c")
    assert collect([tmp_path]).groups[0].pairs == []


def test_findings_say_what_the_numbers_say(tmp_path):
    slow = [trace([70] * 20 + [74] * 10, [70] * 20 + [74] * 10) for _ in range(12)]
    write_run(tmp_path / "slow", slow, targets=[73], searcher="evolution")
    guided = {"searcher": "evolution", "guidance": "warmup", "proxy": "synflow"}
    fast = [trace([70] * 4 + [75] * 26, [80] + [70] * 3 + [75] * 26) for _ in range(12)]
    write_run(tmp_path / "fast", fast, targets=[73, 99], **guided)
    [group] = collect([tmp_path], steps=[10]).groups
    assert findings(group) == [
        "Evolution + warmup ends best at 75.00 ± 0.00 % (test of best val) after 30 trained "
        "models, before evolution at 74.00.",
        "Evolution + warmup reaches 73.0 % first, after 1 trained model on average [1, 1]; "
        "evolution needs 21.0 times as many.",
        "No run reaches 99.0 % within its budget.",
        "Guided runs against the same searcher without guidance: after 10 models 1 of 1 are "
        "better and 0 worse; after 30 models 1 of 1 are better and 0 worse (significant at 5 % "
        "by paired Wilcoxon tests, Holm-corrected).",
        "Reporting the best test so far instead of the test of the best validated model would "
        "flatter the searches by up to 5.00 points (evolution + warmup).",
    ]


def test_smaller_is_better_all_the_way(tmp_path):
    metric = {"higher_is_better": False, "metric": "error", "unit": ""}
    write_run(tmp_path / "a", steady(0.3), searcher="a", targets=[0.25], **metric)
    write_run(tmp_path / "b", steady(0.2), searcher="b", targets=[0.25], **metric)
    [group] = collect([tmp_path]).groups
    assert group.leader().label == "b"
    text = " ".join(findings(group))
    assert "B ends best at 0.2000 ± 0.0000 (test of best val)" in text
    assert "B reaches 0.25 first" in text
    assert group.pairs[0].result.wins == 1


def test_inline_svg_keeps_references_together():
    text = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "http://www.w3.org/x.dtd">\n'
        '<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="9pt" height="8pt" '
        'viewBox="0 0 9 8" xmlns="http://www.w3.org/2000/svg" version="1.1">'
        '<metadata>http://x</metadata><g id="a" style="fill: #24292f"/>'
        '<use xlink:href="#a" clip-path="url(#a)"/></svg>'
    )
    assert inline_svg(text, "p") == (
        '<svg viewBox="0 0 9 8"><g id="p-a" style="fill: currentColor"/>'
        '<use xlink:href="#p-a" clip-path="url(#p-a)"/></svg>'
    )
