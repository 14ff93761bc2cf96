import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.results import (
    COLUMNS,
    SUMMARY_KEYS,
    curves,
    read_run,
    summarise,
    write_summary,
    write_trajectory,
)
from conf.errors import UsageError
from tests.analysis.synthetic import METADATA, random_traces, trace, write_run

NAN = float("nan")
values = st.one_of(st.just(NAN), st.integers(0, 5).map(float))
models = st.lists(st.tuples(values, values), min_size=1, max_size=12)
trials = st.lists(models, min_size=1, max_size=4)


def build(trials):
    return [trace([v for v, _ in trial], [t for _, t in trial]) for trial in trials]


def test_curves_by_hand():
    found = curves([trace([3, 1, 3, 5], [7, 9, 8, 6])])
    np.testing.assert_array_equal(found.best_val, [[3, 3, 3, 5]])
    np.testing.assert_array_equal(found.best_test_so_far, [[7, 9, 9, 9]])
    # A tie in validation keeps the first model; a better validation may have a worse test.
    np.testing.assert_array_equal(found.test_of_best_val, [[7, 7, 7, 6]])


def test_smaller_may_be_better():
    found = curves([trace([3, 4, 2], [5, 1, 6])], higher_is_better=False)
    np.testing.assert_array_equal(found.best_val, [[3, 3, 2]])
    np.testing.assert_array_equal(found.best_test_so_far, [[5, 1, 1]])
    np.testing.assert_array_equal(found.test_of_best_val, [[5, 5, 6]])


def test_shorter_trials_keep_their_last_incumbent():
    found = curves([trace([1, 2], [3, 4]), trace([1, 2, 3], [3, 4, 5])])
    np.testing.assert_array_equal(found.best_val, [[1, 2, 2], [1, 2, 3]])
    np.testing.assert_array_equal(found.test_of_best_val, [[3, 4, 4], [3, 4, 5]])


def test_a_trial_may_end_before_its_first_model():
    found = curves([trace([]), trace([1, 2], [3, 4])])
    assert np.isnan(found.best_val[0]).all()
    assert np.isnan(curves([trace([])]).test_of_best_val).all()


@pytest.mark.parametrize("protocol", ["test", None])
def test_test_values_steer_where_there_are_no_others(protocol):
    found = curves([trace([NAN] * 3, [2, 1, 3])], protocol=protocol)
    np.testing.assert_array_equal(found.test_of_best_val, [[2, 2, 3]])
    np.testing.assert_array_equal(found.best_test_so_far, [[2, 2, 3]])
    assert np.isnan(found.best_val).all()


def test_without_test_values_validation_alone_is_known():
    found = curves([trace([2, 1, 3])])
    np.testing.assert_array_equal(found.best_val, [[2, 2, 3]])
    assert np.isnan(found.test_of_best_val).all()
    assert np.isnan(found.best_test_so_far).all()


@given(trials, st.booleans(), st.sampled_from(["validation", "test"]))
def test_curves_equal_a_plain_loop(trials, higher, protocol):
    found = curves(build(trials), protocol=protocol, higher_is_better=higher)
    longest = max(map(len, trials))
    for row, trial in enumerate(trials):
        best_val = best_test = steering = incumbent_test = NAN
        for step in range(longest):
            if step < len(trial):
                val, test = trial[step]
                new = test if protocol == "test" else val

                def beats(a, b):
                    return not np.isnan(a) and (np.isnan(b) or (a > b if higher else a < b))

                best_val = val if beats(val, best_val) else best_val
                best_test = test if beats(test, best_test) else best_test
                if beats(new, steering):
                    steering, incumbent_test = new, test
            np.testing.assert_equal(found.best_val[row, step], best_val)
            np.testing.assert_equal(found.best_test_so_far[row, step], best_test)
            np.testing.assert_equal(found.test_of_best_val[row, step], incumbent_test)


@given(trials)
def test_best_values_never_fall_and_bound_the_honest_curve(trials):
    found = curves(build(trials))
    for curve in (found.best_val, found.best_test_so_far):
        step = np.diff(curve)
        assert (step[~np.isnan(step)] >= 0).all()
    known = ~np.isnan(found.test_of_best_val)
    assert (found.test_of_best_val[known] <= found.best_test_so_far[known]).all()


def test_summary_by_hand():
    traces = [trace([1, 2], [70, 74]), trace([2, 1], [73, 80]), trace([1, 3], [60, 61])]
    found = summarise(
        traces, protocol="validation", higher_is_better=True, targets=(73, 94.22), budget_models=2
    )
    assert found["final"]["test_of_best_val"] == pytest.approx(
        {
            "mean": 208 / 3,
            "std": np.std([74, 73, 61]),
            "median": 73,
            "q25": 67,
            "q75": 73.5,
        }
    )
    assert found["final"]["best_test_so_far"]["mean"] == pytest.approx((74 + 80 + 61) / 3)
    assert found["final"]["best_val"]["median"] == 2
    # Reached at step 2, at step 1, and never, which counts as 3.
    assert found["models_to_target"]["73.0"] == pytest.approx(
        {"mean": 2.0, "median": 2.0, "solved_fraction": 2 / 3}
    )
    assert found["models_to_target"]["94.22"] == {"mean": 3, "median": 3, "solved_fraction": 0}


def test_targets_are_of_the_validation_where_there_is_no_test():
    found = summarise(
        [trace([1, 5])],
        protocol="validation",
        higher_is_better=True,
        targets=[5],
        budget_models=2,
    )
    assert found["models_to_target"]["5.0"]["mean"] == 2
    assert found["final"]["best_val"]["mean"] == 5
    assert np.isnan(found["final"]["test_of_best_val"]["mean"])


def test_a_float32_that_stands_for_a_target_reaches_it():
    value = float(np.float32(73.02))
    assert value < 73.02
    found = summarise(
        [trace([value], [value])],
        protocol="validation",
        higher_is_better=True,
        targets=[73.02],
        budget_models=1,
    )
    assert found["models_to_target"]["73.02"]["solved_fraction"] == 1


def test_trajectory_has_the_columns_and_only_real_rows(tmp_path):
    path = tmp_path / "trajectory.csv"
    traces = [trace([71.5, 70], [73.25, 72], ['a,"b"', "c"]), trace([60.0])]
    traces[0].proxy_evaluations = [3000, 3010]
    write_trajectory(path, traces)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        list(COLUMNS),
        ["0", "1", 'a,"b"', "71.5", "73.25", "71.5", "73.25", "73.25", "10", "3000"],
        ["0", "2", "c", "70", "72", "71.5", "73.25", "73.25", "10", "3010"],
        ["1", "1", "|op~0|,0", "60", "", "60", "", "", "10", "1"],
    ]
    assert list(COLUMNS) == [
        "trial",
        "step",
        "architecture",
        "val",
        "test",
        "best_val",
        "best_test_so_far",
        "test_of_best_val",
        "train_seconds",
        "proxy_evaluations",
    ]


def test_float32_values_are_written_as_the_decimals_they_stand_for(tmp_path):
    decimals = [73.02, 94.373, 46.733, 0.577235, 10.0]
    write_trajectory(tmp_path / "t.csv", [trace([float(np.float32(d)) for d in decimals])])
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [float(row["val"]) for row in csv.DictReader(file)] == decimals


def test_a_run_reads_back_as_it_was_written(tmp_path):
    traces = [*random_traces(trials=3, steps=8), trace([70.0, 71.0], [NAN, 72.5])]
    folder = write_run(tmp_path / "run", traces, overrides=["searcher=random", "seed=0"])
    run = read_run(folder)
    for got, expected in zip(run.curves, curves(traces), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert [t.architectures for t in run.traces] == [t.architectures for t in traces]
    assert [list(t.proxy_evaluations) for t in run.traces] == [t.proxy_evaluations for t in traces]
    assert run.overrides == ["searcher=random", "seed=0"]
    assert (run.budget, run.steps, run.has_test) == (30, 8, True)
    again = summarise(
        run.traces, protocol="validation", higher_is_better=True, targets=[71.0], budget_models=30
    )
    assert run.summary["final"] == again["final"]
    assert run.summary["models_to_target"] == again["models_to_target"]


def test_runs_share_the_texts_of_architectures_and_hold_numbers_compactly(tmp_path):
    traces = [trace([1.0, 2.0], names=["cell one", "cell two"])] * 2
    runs = [read_run(write_run(tmp_path / name, traces)) for name in "ab"]
    texts = [text for run in runs for t in run.traces for text in t.architectures]
    assert len(texts) == 8
    assert len({*map(id, texts)}) == 2
    [first, _] = runs[0].traces
    assert {memoryview(c).itemsize for c in (first.val, first.test, first.train_seconds)} == {8}


def test_best_model_of_a_run_is_the_one_that_steered(tmp_path):
    traces = [trace([1, 3], [9, 2], "ab"), trace([3, 2], [5, 5], "cd")]
    assert read_run(write_run(tmp_path / "v", traces)).best() == ("b", 3, 2)
    traces = [trace([NAN, NAN], [9, 2], "ab")]
    best = read_run(write_run(tmp_path / "t", traces, protocol="test")).best()
    assert (best.architecture, best.test) == ("a", 9)
    traces = [trace([4, 1], [9, 2], "ab")]
    assert read_run(write_run(tmp_path / "l", traces, higher_is_better=False)).best()[0] == "b"


def test_summary_has_the_keys_in_order_and_keeps_further_ones(tmp_path):
    folder = write_run(tmp_path / "run", random_traces(), config={"searcher": {"size": 64}})
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary) == [*SUMMARY_KEYS, "config"]


def test_a_summary_that_lacks_keys_is_not_written(tmp_path):
    metadata = {k: v for k, v in METADATA.items() if k != "seed"}
    with pytest.raises(ValueError, match="lacks seed"):
        write_summary(tmp_path / "s.json", metadata, {"final": {}, "models_to_target": {}})
    assert not (tmp_path / "s.json").exists()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


DAMAGE = {
    "no summary": (lambda f: (f / "summary.json").unlink(), "summary.json does not exist"),
    "no trajectory": (lambda f: (f / "trajectory.csv").unlink(), "trajectory.csv does not exist"),
    "torn summary": (lambda f: (f / "summary.json").write_text('{"space": "na'), "is damaged"),
    "other json": (lambda f: (f / "summary.json").write_text("[1]"), "no summary of a search"),
    "lacking key": (lambda f: edit(f / "summary.json", '"seed"', '"sead"'), "lacks seed"),
    "wrong protocol": (
        lambda f: edit(f / "summary.json", '"validation",', '"hope",'),
        "no legal value of protocol",
    ),
    "wrong budget": (
        lambda f: edit(f / "summary.json", '"models": 30', '"models": "30"'),
        "no legal value of budget",
    ),
    "list of proxies": (
        lambda f: edit(f / "summary.json", '"proxy": null', '"proxy": ["synflow"]'),
        "no legal value of proxy",
    ),
    "limit of words": (
        lambda f: edit(f / "summary.json", '"models": 30', '"models": 30, "max_flops": "few"'),
        "no legal value of budget",
    ),
    "wrong target": (
        lambda f: edit(f / "summary.json", '"71.0"', '"much"'),
        "no legal value of models_to_target",
    ),
    "binary": (lambda f: (f / "trajectory.csv").write_bytes(b"\xff\xfe\x00"), "cannot be read"),
    "empty": (lambda f: (f / "trajectory.csv").write_text(""), "is no trajectory"),
    "header only": (
        lambda f: (f / "trajectory.csv").write_text(",".join(COLUMNS) + "\n"),
        "no trained model",
    ),
    "other header": (lambda f: edit(f / "trajectory.csv", "step", "stop"), "is no trajectory"),
    "no number": (lambda f: edit(f / "trajectory.csv", "\n0,1,", "\n0,x,"), "at line 2"),
    "lost first row": (lambda f: edit(f / "trajectory.csv", "\n0,1,", "\n7,1,"), "at line 2"),
    "rows out of order": (lambda f: edit(f / "trajectory.csv", "\n0,2,", "\n0,9,"), "at line 3"),
    "torn trajectory": (
        lambda f: (f / "trajectory.csv").write_text((f / "trajectory.csv").read_text()[:-30]),
        "is damaged at line 121",
    ),
    "lost trial": (
        lambda f: (f / "trajectory.csv").write_text(
            (f / "trajectory.csv").read_text().split("\n3,1,")[0] + "\n"
        ),
        "3 trials where summary.json says 4",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, damage):
    folder = write_run(tmp_path / "run", random_traces())
    read_run(folder)
    harm, sentence = DAMAGE[damage]
    harm(folder)
    with pytest.raises(UsageError, match=sentence) as error:
        read_run(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


REFERENCE = {"value": 1.0, "cost": 2.0, "best": None}
COSTS = {"params": {"unit": "parameters", "source": "counted"}}
UNPRICED = {
    "cost": ({"cost": ["params"]}, "cost, costs"),
    "no costs": ({"costs": None}, "costs"),
    "another cost": ({"costs": {"flops": COSTS["params"]}}, "costs"),
    "no unit": ({"costs": {"params": {}}}, "costs"),
    "no hypervolume": ({"hypervolume": None}, "hypervolume"),
    "no reference": ({"hypervolume": {}}, "hypervolume"),
    "part of a reference": ({"hypervolume": {"reference": {"value": 1.0}}}, "hypervolume"),
    "null": ({"hypervolume": {"reference": REFERENCE | {"value": None}}}, "hypervolume"),
    "text": ({"hypervolume": {"reference": REFERENCE | {"best": "all"}}}, "hypervolume"),
}


@pytest.mark.parametrize("damage", UNPRICED)
def test_a_damaged_cost_is_refused(tmp_path, damage):
    traces = random_traces()
    for each in traces:
        each.costs = {"params": [1.0] * len(each)}
    whole = {"cost": "params", "costs": COSTS, "hypervolume": {"reference": REFERENCE}}
    assert read_run(write_run(tmp_path / "whole", traces, **whole)).cost == "params"
    change, keys = UNPRICED[damage]
    folder = write_run(tmp_path / "run", traces, **whole | change)
    with pytest.raises(UsageError, match=rf"it has no legal value of {keys}\.$"):
        read_run(folder)


def test_a_run_without_any_steering_value_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", [trace([NAN], [70.0])])
    with pytest.raises(UsageError, match="no validation value"):
        read_run(folder)


def test_overrides_that_cannot_be_read_cost_only_the_command(tmp_path):
    folder = write_run(tmp_path / "run", random_traces(), overrides=["a=b"])
    (folder / ".hydra" / "overrides.yaml").write_text("{: [")
    assert read_run(folder).overrides is None
