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
    "+formulas.mine='sign(weight'": "formulas.mine=sign(weight cannot be read at position 12",
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
    "model=nowhere:build": "model=nowhere:build cannot be imported: ModuleNotFoundError",
    "model=theirs:missing": "cannot be imported: AttributeError: module 'theirs' has no",
    "model=theirs:wants": "cannot be built: TypeError: wants() missing 1 required",
    "model=theirs:raises": "cannot be built: KeyError: 'boom' (theirs.py, line 6)",
    "model=theirs:three": "model=theirs:three must return a torch.nn.Module, not int",
    "model=theirs:TWO proxies=[snip] batch=random": "batch.classes says how many there are",
    "model=theirs:TWO output=pick": "output=pick names no module",
    "model=theirs:TWO archs=3": "archs says nothing of what model=… scores; leave it out",
    "model=theirs:TWO benchmark.path=a": "benchmark says nothing of what model=… scores",
    "operations=perturbation archs=3": "archs says nothing of what operations=… scores",
    "output=theirs:three": "output belongs to model=…; give that, too, or leave it out",
    "draws=4": "draws belongs to operations=…; give that, too, or leave it out",
    "model=broken:build": "cannot be imported: SyntaxError: invalid syntax (broken.py, line 1)",
    "archs=empty.txt": "archs=empty.txt names no architecture",
    "proxy=synflow": "no group of this command; its groups are: space, benchmark, service, batch.",
    "colour=red": "colour is no setting of this command",
    "batch.size=0 model=torch.nn:Identity": "batch.size=0",
    "batch=random batch.shape=[3,0,8] model=torch.nn:Identity": "batch.shape=[3, 0, 8]",
    "batch=random batch.classes=0 model=torch.nn:Identity": "batch.classes=0 must be at least 1",
    "formulas=3": "formulas=3 must be names with values, each text",
}


THEIRS = """from torch import nn
TWO = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
def wants(width):
    return TWO
def raises():
    raise KeyError("boom")
def three():
    return 3
"""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_sentence(mistake, tmp_path, refused):
    (tmp_path / "foreign.txt").write_text("8:16:24:32:40\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "theirs.py").write_text(THEIRS)
    (tmp_path / "broken.py").write_text("def build(:")
    assert MISTAKES[mistake] in refused(score, "score", *mistake.split())


def test_weights_of_a_network_of_ones_own_follow_from_the_seed(run, tmp_path):
    (tmp_path / "theirs.py").write_text(THEIRS.replace("TWO =", "def build(): return"))
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = ["model=theirs:build", "proxies=[l2_norm]", f"seed={seed}"]
        run("run_score.py", *settings, f"hydra.run.dir={place}")
        found.append(json.loads((tmp_path / place / "scores.json").read_text())["l2_norm"])
    assert found[0] == found[1] != found[2]


def test_one_of_several_outputs_is_picked(run, tmp_path):
    (tmp_path / "heads.py").write_text(
        "from torch import nn\n"
        "class Heads(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(3072, 10)\n"
        "    def forward(self, images):\n"
        "        return {'logits': self.layer(images.flatten(1)), 'rest': None}\n"
        "def logits(outputs):\n"
        "    return outputs['logits']\n"
    )
    settings = ["model=heads:Heads", "output=heads:logits", "proxies=[snip]"]
    run("run_score.py", *settings, "hydra.run.dir=out")
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["snip"] > 0


def test_files_of_ones_own_and_results_that_a_refused_job_would_replace_stay(run, tmp_path):
    space = NASBench201("cifar10")
    (tmp_path / "scores.txt").write_text(space.format((3,) * 6) + "\n")
    (tmp_path / "rank_notes.md").write_text("mine")
    run("run_score.py", "archs=scores.txt", "proxies=[params]", "hydra.run.dir=.")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {"scores.txt", "rank_notes.md", "scores.csv", "correlation.json"} <= {
        path.name for path in before
    }
    wrong = ["space=darts", "space.table=surrogate", "accuracy=test", "archs=2", "proxies=[params]"]
    run("run_score.py", *wrong, "hydra.run.dir=.", status=2)
    assert all(path.read_bytes() == text for path, text in before.items() if text)


def test_scoring_again_leaves_nothing_of_the_job_before(run, tmp_path):
    run("run_score.py", "archs=5", "proxies=[params,flops]", "hydra.run.dir=out")
    again = ["space=proxyless", "archs=3", "proxies=[params]", "service=inline"]
    run("run_score.py", *again, "hydra.run.dir=out")
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"scores.csv", "about.json", "run_score.log", ".hydra"}
