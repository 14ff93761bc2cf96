"""The store of scores as a user meets it: shipped scores, and the commands."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from proxies import ScoringService, registry
from proxies.store import Row
from proxies.store.shipped import export
from spaces.nasbench201 import NASBench201
from spaces.nasbench201.cell import CELLS


@pytest.fixture
def mine(tmp_path):
    """Make NAS-Bench-201 in a package of one's own; returns its folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "space.py").write_text(
        "from spaces.nasbench201 import NASBench201\nclass Mine(NASBench201):\n    pass\n"
    )
    return folder


def settings(tmp_path):
    return {"PYTHONPATH": str(tmp_path), "ASSAY_CACHE": str(tmp_path / "cache")}


def test_from_scores_to_a_table_that_a_space_ships(run, mine, tmp_path):
    space = NASBench201("cifar10")
    cells = [(0, 0, 0, 1, 0, 0), (0,) * 6, (0, 1, 1, 4, 0, 2)]
    (tmp_path / "archs.txt").write_text("\n".join(map(space.format, cells)))
    service = ScoringService(space, store=tmp_path / "own.sqlite", shipped=False)
    table = service.score(cells, ["synflow", "l2_norm"])
    assert service.computed == 6
    service.close()
    subprocess.run(
        [
            *(sys.executable, "-m", "proxies.store", "export", "own.sqlite"),
            *("--space=nasbench201", f"--out={mine / 'scores.npz'}", "--command=by hand"),
        ],
        cwd=tmp_path,
        check=True,
    )
    printed = run(
        "run_score.py",
        *("archs=archs.txt", "proxies=[synflow,l2_norm]", "space._target_=mine.space.Mine"),
        "hydra.run.dir=out",
        env=settings(tmp_path),
    ).stdout
    assert "0 scores computed, 0 from the store, 6 shipped with nasbench201 -> " in printed
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [[float(row[name]) for name in table.names] for row in rows] == table.values.tolist()


def test_a_search_says_how_many_of_its_scores_were_shipped(run, mine, tmp_path):
    space = NASBench201("cifar10")
    key = ScoringService(space, store="memory").key(registry.get("synflow"))
    names = {space.format(space.canonical(cell)) for cell in CELLS}
    rows = {name: Row(float(n), 0.1) for n, name in enumerate(sorted(names))}
    export([(key, rows)], mine / "scores.npz", command=None, versions={})
    printed = run(
        "run_search.py",
        "space._target_=mine.space.Mine",
        *("searcher=random", "guidance=warmup", "guidance.warmup.pool=50", "budget.models=3"),
        *("trials=2", "hydra.run.dir=out"),
        env=settings(tmp_path),
    ).stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    hits = summary["shipped_hits"]
    assert hits == summary["cache_hits"] >= 100
    assert f"0 scores computed, 0 from the store, {hits} shipped with nasbench201 -> " in printed


def test_a_store_that_is_not_there_is_one_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "proxies.store", "show", "nowhere.sqlite"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "nowhere.sqlite does not exist; give the store of scores to read.\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
