from __future__ import annotations

import csv
import json
import math

import pytest
from omegaconf import OmegaConf

from run_score import score
from spaces.nasbench201 import NASBench201


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_scores_of_a_sample_and_their_correlation(run, tmp_path):
    settings = ["proxies=[params,synflow]", "archs=12", "seed=3", "service=inline"]
    first = run("run_score.py", *settings, "hydra.run.dir=a")
    assert "scores computed" in first.stdout
    rows = table(tmp_path / "a" / "scores.csv")
    assert list(rows[0]) == ["architecture", "params", "synflow", "accuracy"]
    space = NASBench201("cifar10")
    archs = [space.parse(row["architecture"]) for row in rows]
    assert len(set(archs)) == 12
    params = {arch: 73306 + 243040 * arch.count(3) + 28000 * arch.count(2) for arch in archs}
    assert [float(row["params"]) for row in rows] == [params[arch] for arch in archs]
    statistics = json.loads((tmp_path / "a" / "correlation.json").read_text())
    assert set(statistics) == {"params", "synflow"}
    assert {
        "spearman",
        "kendall",
        "concordance",
        "spearman_top10",
        "overlap_top10",
        "n",
        "nan",
        "seconds_per_arch",
    } <= set(statistics["synflow"])
    assert statistics["synflow"]["n"] == 12
    assert (tmp_path / "a" / "rank_synflow.png").exists()
    about = json.loads((tmp_path / "a" / "about.json").read_text())
    assert (about["space"], about["dataset"], about["accuracy"]) == (
        "nasbench201",
        "cifar10",
        "test",
    )
    assert about["benchmark"]["epochs"] == 200
    assert about["versions"]["python"]
    assert about["not_scored"] == {"params": {}, "synflow": {}}
    config = OmegaConf.load(tmp_path / "a" / ".hydra" / "config.yaml")
    assert (config.seed, config.archs) == (3, 12)

    again = run("run_score.py", *settings, "hydra.run.dir=b")
    assert "0 scores computed" in again.stdout
    assert (tmp_path / "b" / "scores.csv").read_text() == (
        tmp_path / "a" / "scores.csv"
    ).read_text()


def test_scores_of_named_architectures(run, tmp_path):
    space = NASBench201("cifar100")
    archs = [space.format(arch) for arch in ((3,) * 6, (0,) * 6, (1, 2, 3, 4, 0, 1))]
    (tmp_path / "mine.txt").write_text("\n".join(archs) + "\n\n")
    run(
        "run_score.py",
        "space.dataset=cifar100",
        "proxies=[synflow]",
        "archs=mine.txt",
        "hydra.run.dir=out",
        "service=inline",
    )
    rows = table(tmp_path / "out" / "scores.csv")
    assert [row["architecture"] for row in rows] == archs
    assert float(rows[0]["synflow"]) > 1e40
    assert not math.isnan(float(rows[1]["synflow"]))


def test_scores_by_a_proxy_with_settings(run, tmp_path):
    name = "tse(epochs=2,resolution=8)"
    run(
        "run_score.py",
        f"proxies=['{name}',tse]",
        "space.channels=1",
        "space.cells=1",
        "batch.size=40",
        "archs=4",
        "service=inline",
        "hydra.run.dir=out",
    )
    rows = table(tmp_path / "out" / "scores.csv")
    assert list(rows[0]) == ["architecture", name, "tse", "accuracy"]
    assert all(float(row[name]) < float(row["tse"]) for row in rows)
    assert set(json.loads((tmp_path / "out" / "correlation.json").read_text())) == {name, "tse"}
    assert (tmp_path / "out" / f"rank_{name}.png").exists()


def test_scores_of_a_space_without_a_table(run, tmp_path):
    settings = ["space=proxyless", "archs=3", "service=inline", "hydra.run.dir=out"]
    printed = run("run_score.py", "proxies=[params,synflow]", *settings).stdout
    assert "no accuracies" in " ".join(printed.split())
    rows = table(tmp_path / "out" / "scores.csv")
    assert list(rows[0]) == ["architecture", "params", "synflow"]
    assert all(float(row["params"]) > 1e6 for row in rows)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"scores.csv", "about.json", "run_score.log", ".hydra"}
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    assert (about["benchmark"], about["accuracy"]) == (None, None)


def test_formulas_are_columns(run, tmp_path):
    run(
        "run_score.py",
        "proxies=[eznas_a]",
        "+formulas.kernels='mean( sign(weight) )'",
        "space.channels=4",
        "space.cells=1",
        "archs=3",
        "service=inline",
        "hydra.run.dir=out",
    )
    rows = table(tmp_path / "out" / "scores.csv")
    assert list(rows[0]) == ["architecture", "eznas_a", "kernels", "accuracy"]
    assert all(-1 < float(row["kernels"]) < 1 for row in rows)
    assert {"eznas_a", "kernels"} == set(
        json.loads((tmp_path / "out" / "correlation.json").read_text())
    )
    assert (tmp_path / "out" / "rank_kernels.png").exists()


def test_a_network_of_ones_own(run, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 10))\n"
    )
    settings = ["model=mine:build", "proxies=[params,flops]", "batch=random"]
    printed = run("run_score.py", *settings, "hydra.run.dir=out").stdout
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["params"] == 3 * 4 * 9 + 4 + 36000 + 10
    assert "params: 36122" in printed


def test_a_network_with_other_inputs_and_classes(run, refused, tmp_path):
    (tmp_path / "grey.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 5))\n"
    )
    settings = ["model=grey:build", "batch=random", "batch.shape=[1,8,8]"]
    run("run_score.py", *settings, "proxies=[synflow,eznas_a]", "hydra.run.dir=free")
    scores = json.loads((tmp_path / "free" / "scores.json").read_text())
    assert scores["synflow"] > 0
    assert scores["eznas_a"] is None
    assert "no convolution that BatchNorm follows" in scores["reasons"]["eznas_a"]
    run("run_score.py", *settings, "proxies=[snip]", "batch.classes=5", "hydra.run.dir=labelled")
    assert json.loads((tmp_path / "labelled" / "scores.json").read_text())["snip"] > 0


MISTAKES = {
    "proxies=[crystal_ball]": "proxy=crystal_ball is unknown; choose one of: ",
    "proxies=[]": "proxies=[] names no proxy",
    "+formulas.mine='sign(weight'": "proxy.formula=sign(weight cannot be read at position 12",
    "+formulas.synflow='weight'": "formulas.synflow cannot be: there is a proxy of that name",
    "proxies=['tse(epoch=3)']": "proxy.epoch is no setting of proxy; its settings are: epochs",
    "space.channels=0": "space.channels=0 is not possible",
    "proxies=synflow": "proxies=synflow must be a list",
    "archs=0": "archs=0 must lie between 1 and the 15625",
    "archs=20000": "archs=20000 must lie between 1 and the 15625",
    "archs=nowhere.txt": "archs=nowhere.txt is neither a number",
    "archs=foreign.txt": "is no architecture of nasbench201",
    "space=proxyless accuracy=val": "proxyless has no benchmark table; choose benchmark=training",
    "space=mobilenet space.subset=all archs=all": "has 1.0e+11 architectures as it is set",
    "accuracy=train": "accuracy=train must be one of test, val",
    "model=nocolon": "model=nocolon must be written package.module:function",
    "model=nowhere:build": "cannot be imported",
    "colour=red": "colour is no setting of this command",
    "batch.size=0 model=json:JSONDecoder": "batch.size=0",
    "batch=random batch.shape=[3,0,8] model=json:JSONDecoder": "batch.shape=[3, 0, 8]",
    "batch=random batch.classes=0 model=json:JSONDecoder": "batch.classes=0 must be at least 1",
    "formulas=3": "formulas=3 must be names with values, each text",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_sentence(mistake, tmp_path, refused):
    (tmp_path / "foreign.txt").write_text("8:16:24:32:40\n")
    assert MISTAKES[mistake] in refused(score, "score", "archs=3", *mistake.split())
