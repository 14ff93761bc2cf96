from __future__ import annotations

import contextlib
import csv
import json
import signal
import sqlite3
import time

import pytest

from benchmarks import models_to_best
from benchmarks.models_to_best import settings_of
from run_search import search

SMALL = [
    "searcher=evolution",
    "searcher.population=16",
    "guidance=warmup_move",
    "guidance.warmup.pool=20",
    "guidance.move.candidates=4",
    "proxy=synflow",
    "space.dataset=cifar100",
    "budget.models=24",
    "trials=2",
    "service=inline",
]


def rows(directory):
    with (directory / "trajectory.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_guided_search_writes_its_files(run, tmp_path):
    run("run_search.py", *SMALL, "hydra.run.dir=a")
    run("run_search.py", *SMALL, "hydra.run.dir=b")
    table, summary = rows(tmp_path / "a"), json.loads((tmp_path / "a" / "summary.json").read_text())
    assert list(table[0]) == [
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
    assert [(r["trial"], r["step"]) for r in table] == [
        (str(t), str(s)) for t in range(2) for s in range(1, 25)
    ]
    assert table[0]["proxy_evaluations"] == "20"
    last = [float(r["test_of_best_val"]) for r in table if r["step"] == "24"]
    assert summary["final"]["test_of_best_val"]["mean"] == pytest.approx(sum(last) / 2, abs=1e-3)
    assert summary["protocol"] == "validation"
    assert (summary["searcher"], summary["guidance"], summary["proxy"]) == (
        "evolution",
        "warmup_move",
        "synflow",
    )
    assert set(summary["models_to_target"]) == {"71.0", "72.0", "73.0", "73.5"}
    assert (tmp_path / "a" / "trajectory.csv").read_bytes() == (
        tmp_path / "b" / "trajectory.csv"
    ).read_bytes()


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def stored(path):
    """Count the scores in a store that may be half set up."""
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
        try:
            return connection.execute("SELECT COUNT(*) FROM scores").fetchone()[0]
        except sqlite3.OperationalError:
            return 0


def test_a_formula_guides_a_search(run, tmp_path):
    settings = ["searcher=random", "guidance=warmup", "guidance.warmup.pool=4", "service=inline"]
    settings += ["space.channels=4", "space.cells=1", "budget.models=2", "trials=1"]
    run("run_search.py", *settings, "proxy=program", "proxy.formula='mean(sign(weight))'")
    (summary,) = (json.loads(path.read_text()) for path in tmp_path.rglob("summary.json"))
    assert summary["proxy"] == "program"
    assert summary["config"]["proxy"]["formula"] == "mean(sign(weight))"


def test_a_killed_search_goes_on_as_if_nothing_had_happened(run, command, tmp_path):
    run("run_search.py", *SMALL, "hydra.run.dir=whole")
    own = {"env": {"ASSAY_CACHE": str(tmp_path / "own")}}
    store, journal = tmp_path / "own" / "scores.sqlite", tmp_path / "killed" / "journal.jsonl"
    for measure, enough in (
        (lambda: 0, 0),
        (lambda: stored(store), 1),
        (lambda: lines(journal), 2),
        (lambda: lines(journal), 21),
        (lambda: lines(journal), 40),
    ):
        process = command("run_search.py", *SMALL, "hydra.run.dir=killed", **own)
        while measure() < enough and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kept = stored(store), lines(journal)
    run("run_search.py", *SMALL, "hydra.run.dir=killed", **own)
    assert (stored(store), lines(journal)) >= kept
    assert (tmp_path / "killed" / "trajectory.csv").read_bytes() == (
        tmp_path / "whole" / "trajectory.csv"
    ).read_bytes()
    again = run("run_search.py", *SMALL, "hydra.run.dir=killed", **own)
    assert "finished already" in again.stdout


def test_a_sweep_names_its_directories_by_what_is_swept(run, tmp_path):
    settings = ["searcher=random,reinforce", "guidance=none", "trials=1", "budget.models=5"]
    run("run_search.py", "-m", *settings, "hydra.sweep.dir=sweep")
    found = sorted(p.parent.name for p in (tmp_path / "sweep").glob("*/summary.json"))
    assert found == [
        f"budget.models=5,guidance=none,searcher={name},trials=1"
        for name in ("random", "reinforce")
    ]


def test_list_names_what_there_is(run):
    words = run("run_search.py", "--list").stdout.split()
    assert {"nasbench201", "evolution", "warmup_move", "synflow", "quickstart"} <= set(words)


def test_the_recommended_searcher_reads_scores_as_features(run, tmp_path):
    settings = ["experiment=recommended", "searcher.features=[synflow]", "trials=1"]
    run("run_search.py", *settings, "budget.models=8", "hydra.run.dir=run")
    table = rows(tmp_path / "run")
    assert {row["proxy_evaluations"] for row in table} == {"5044"}
    assert float(table[-1]["best_val"]) > 90
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["searcher"], summary["proxy"]) == ("touchstone", None)
    assert summary["config"]["searcher"]["features"] == ["synflow"]
    assert summary["shipped_hits"] >= 5044
    assert "proxy" not in summary["config"]


def test_models_to_the_best_of_the_table(capsys):
    settings = ["space=darts", "searcher=random", "budget.models=3000", "trials=3"]
    models_to_best.main(settings)
    row = capsys.readouterr().out.splitlines()[2]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    low, high = cells[0].partition("[")[2].rstrip("]").split(",")
    assert 1 <= float(low) <= float(cells[0].split()[0]) <= float(high) <= 3001
    assert int(cells[2].split()[0]) >= 2
    models_to_best.main([*settings, "budget.models=1"])
    assert "| 2.0 [2.0, 2.0] | 2 | 0 of 3 |" in capsys.readouterr().out


def test_seed_of_the_benchmark_and_epochs_are_named_in_the_result(run, tmp_path):
    settings = ["benchmark.seeds=random", "trials=1", "budget.models=70", "space.dataset=cifar100"]
    run("run_search.py", *settings, "hydra.run.dir=random")
    run("run_search.py", *settings[1:], "benchmark.epochs=12", "hydra.run.dir=early")
    random = json.loads((tmp_path / "random" / "summary.json").read_text())["benchmark"]
    early = json.loads((tmp_path / "early" / "summary.json").read_text())["benchmark"]
    assert (random["epochs"], early["epochs"]) == (200, 12)
    assert (random["validation"], random["test"]) == (
        "one seed, drawn at random",
        "mean over seeds",
    )
    assert (early["validation"], early["test"]) == ("one run", "one run")


def test_a_finished_job_counts_to_other_targets_without_searching_again(run, tmp_path):
    settings = ["trials=2", "budget.models=70", "hydra.run.dir=run"]
    run("run_search.py", *settings)
    first = json.loads((tmp_path / "run" / "summary.json").read_text())
    journal = (tmp_path / "run" / "journal.jsonl").read_text()
    assert "finished already" in run("run_search.py", *settings, "targets=[60,99.5]").stdout
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    counted = again.pop("models_to_target")
    assert counted.keys() == {"60.0", "99.5"}
    assert counted["60.0"]["solved_fraction"] == 1
    assert counted["99.5"] == {"mean": 71, "median": 71, "solved_fraction": 0}
    del first["models_to_target"]
    assert again == first
    assert (tmp_path / "run" / "journal.jsonl").read_text() == journal


def test_a_sweep_goes_on_after_a_job_that_is_refused(run, tmp_path):
    settings = ["searcher=nsga2,random,evolution", "trials=1", "budget.models=64"]
    ended = run("run_search.py", "-m", *settings, "hydra.sweep.dir=sweep", status=2)
    assert "error: searcher=nsga2 needs a second objective" in ended.stderr
    assert "error: of the jobs of the sweep 1 were refused" in ended.stderr
    done = {path.parent.name for path in tmp_path.glob("sweep/*/summary.json")}
    assert {name.partition("searcher=")[2].partition(",")[0] for name in done} == {
        "random",
        "evolution",
    }
    assert len(list(tmp_path.glob("sweep/*/"))) == 2


def test_guidance_is_called_by_what_is_on(run, tmp_path):
    settings = ["guidance=warmup", "trials=1", "budget.models=64", "guidance.warmup.pool=64"]
    for place, enabled, name in (("on", "true", "warmup"), ("off", "false", "none")):
        run(
            "run_search.py",
            *settings,
            f"guidance.warmup.enabled={enabled}",
            f"hydra.run.dir={place}",
        )
        assert json.loads((tmp_path / place / "summary.json").read_text())["guidance"] == name


def test_a_finished_job_without_accuracies_says_so(run):
    settings = ["space=darts", "space.table=none", "benchmark=if_known", "searcher=random"]
    settings += ["budget.models=3", "trials=1", "hydra.run.dir=run"]
    run("run_search.py", *settings)
    assert "finished already" in run("run_search.py", *settings).stdout


def test_a_job_keeps_a_log(run, tmp_path):
    settings = ["guidance=warmup", "guidance.warmup.pool=64", "trials=1", "budget.models=64"]
    printed = run("run_search.py", *settings, "hydra.run.dir=run").stdout
    log = (tmp_path / "run" / "run_search.log").read_text()
    assert "evolution warmup: 1 trials, 0 models in the journal" in log
    account = next(line for line in printed.splitlines() if "scores computed" in line)
    assert account in log


def test_the_library_behind_auto_is_part_of_what_is_resumed(monkeypatch):
    settings = settings_of(["searcher=predictor"])
    found = []
    for installed in (True, False):
        monkeypatch.setattr("searchers.predictor.resolve", lambda _, i=installed: str(i))
        found.append(settings.fingerprint()["searcher"]["model"])
    assert found == ["True", "False"]
    assert settings.searcher["model"] == "auto"


MISTAKES = {
    "searcher.popsize=3": "searcher.popsize is no setting of searcher",
    "searcher=annealing": "searcher=annealing is unknown; choose one of: bananas",
    "space=nasbench999": "space=nasbench999 is unknown; choose one of: ",
    "proxy=crystal_ball": "proxy=crystal_ball is unknown; choose one of: ",
    "proxy=tse proxy.epoch=3": "proxy.epoch is no setting of proxy; legal are: name, epochs",
    "guidance=warmup proxy=tse proxy.epochs=many": "proxy.epochs=many must be a whole number",
    "guidance=divine": "guidance=divine is unknown; choose one of: move, none, warmup",
    "searcher=touchstone searcher.features=[vote]": "vote ranks architectures within a set",
    "searcher=hyperband searcher.fidelity=nothing": "proxy=nothing is unknown; choose one of",
    "searcher=hyperband searcher.fidelity=vote": "vote ranks architectures within a set",
    "searcher=touchstone searcher.features=synflow": "searcher.features=synflow must be a list",
    "experiment=nope": "experiment=nope is unknown; choose one of: darts",
    "searcher=null": "searcher=null leaves no searcher; choose one of: bananas",
    "~searcher": "~searcher leaves no searcher; choose one of: bananas",
    "service=3": "service=3 leaves no service; choose one of: inline, processes, ray",
    "searcher._target_=3": "names no class; give searcher._target_=package.module.Name",
    "~space._target_": "names no class; give space._target_=package.module.Name",
    "guidance.warmup=3": "guidance.warmup=3 must be a group of settings: enabled, pool, among",
    "~guidance.move": "guidance.move=None must be a group of settings: enabled, candidates",
    "targets=[.inf]": "targets=['.inf'] must be a list, each entry a number",
    "targets=[73,nan]": "targets=[73, nan] must be a list, each entry a number",
    "searcher.population=many": "searcher.population=many must be a whole number",
    "searcher.population=0": "searcher.population=0 must be at least 1",
    "budget.models=0": "budget.models=0 must be at least 1",
    "budget.models=-1": "budget.models=-1 must be at least 1",
    "budget.train_seconds=0": "budget.train_seconds=0 must be positive",
    "trials=0": "trials=0 must be at least 1",
    "trials=few": "trials=few must be a whole number",
    "seed=-1": "seed=-1 must not be negative",
    "colour=red": "colour is no setting of this command; legal are: space",
    "+colour=red": "colour is no setting of this command",
    "space.dataset=mnist": "space.dataset=mnist is unknown; choose one of: ImageNet16-120",
    "benchmark.path=missing.npz": "missing.npz does not exist",
    "benchmark.path=damaged.npz": "damaged.npz cannot be read as a table",
    "benchmark.epochs=13": "benchmark.epochs=13",
    "benchmark.seeds=all": "benchmark.seeds=all must be one of mean, random",
    "guidance.warmup.pool=lots": "guidance.warmup.pool=lots must be a whole number or all",
    "guidance=warmup guidance.warmup.pool=63": "guidance.warmup.pool=63 is smaller than",
    "guidance=warmup guidance.warmup.among=99": "guidance.warmup.among=99 is less than the pool",
    "guidance=warmup guidance.warmup.among=20000": "among=20000 exceeds the 15625 architectures",
    "space=darts": "space.table=trained has single genotypes, which no edit turns into one another",
    "space=mobilenet": "space.subset=trained has no two architectures that are one edit apart",
    "guidance=warmup guidance.warmup.pool=-5": "guidance.warmup.pool=-5 must be at least 1",
    "guidance=warmup guidance.warmup.pool=0": "guidance.warmup.pool=0 must be at least 1",
    "guidance=move guidance.move.candidates=0": "guidance.move.candidates=0 must be at least 1",
    "guidance=warmup service.store=5": "service.store=5 must be text or a path or null",
    "guidance=move guidance.move.epsilon=2": "guidance.move.epsilon=2",
    "guidance=warmup service.store=damaged.sqlite": "service.store",
    "guidance=warmup service.store=.": "service.store",
    "guidance=warmup service.workers=slaves": "service.workers=slaves must be one of",
    "searcher.repeats=false budget.models=20000": "budget.models=20000 exceeds the 15625",
    "searcher._target_=nowhere.Searcher": "searcher._target_=nowhere.Searcher cannot be imported",
    "space=proxy_programs": "proxy_programs has no benchmark table; choose benchmark=programs",
    "hydra.run.dir=damaged.npz": "hydra.run.dir",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_sentence(mistake, tmp_path, refused):
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "damaged.sqlite").write_bytes(b"not a database at all" * 100)
    arguments = ["trials=2", "budget.models=70", *mistake.split()]
    assert MISTAKES[mistake] in refused(search, "config", *arguments)


def test_the_journal_of_another_configuration_is_left_alone(run, tmp_path):
    settings = ["trials=1", "budget.models=70", "hydra.run.dir=run"]
    run("run_search.py", *settings)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    refused = run("run_search.py", *settings, "seed=1", status=2)
    assert "holds the journal of another configuration" in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_programs_are_evolved_and_a_killed_evolution_goes_on(run, tmp_path):
    settings = [
        "space=proxy_programs",
        "benchmark=programs",
        "searcher=genetic_programming",
        "searcher.population=8",
        "benchmark.train=[nats_size]",
        "benchmark.test=[]",
        "benchmark.networks=4",
        "benchmark.held_out=3",
        "benchmark.finalists=2",
        "benchmark.subsample=3",
        "cost=length",
        f"benchmark.directory={tmp_path / 'statistics'}",
        "budget.models=24",
        "trials=1",
    ]
    printed = run("run_search.py", *settings, "hydra.run.dir=whole").stdout
    found = rows(tmp_path / "whole")
    ((first, second),) = json.loads((tmp_path / "whole/summary.json").read_text())["finalists"]
    assert f"trial 0 found {first['architecture']}\n" in printed
    assert first["held_out"] >= second["held_out"]
    assert first["each"] == {"nats_size": first["held_out"]}
    assert len({row["architecture"] for row in found}) == 24
    assert all(int(row["length"]) > 2 for row in found)
    assert all(-1 <= float(row["val"]) <= 1 for row in found)
    (tmp_path / "killed").mkdir()
    lines = (tmp_path / "whole" / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "killed" / "journal.jsonl").write_text("".join(lines[:12]) + lines[12][:20])
    resumed = run("run_search.py", *settings, "hydra.run.dir=killed")
    assert rows(tmp_path / "killed") == found
    assert resumed.stdout.splitlines()[-2:-1] == printed.splitlines()[-2:-1]
