import csv
import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import run_score
import run_search
from analysis.ranks import pairwise_concordance
from conf import app
from conf.errors import UsageError
from proxies import (
    PoolScorer,
    ProxyScorer,
    ProxyScores,
    ScoringService,
    ranking,
    registry,
    score_model,
)
from proxies.passes import PASSES
from proxies.pools import majority, rank_average, vote
from proxies.store import Row
from searchers.guidance import Guidance
from spaces.nasbench201 import NASBench201
from tests.proxies.tiny_space import BrokenSpace, TinySpace

ALL = list(TinySpace().enumerate())
MEMBERS = ["synflow", "params", "flops"]
SOUND = [arch for arch in ALL if 0 not in arch]


def fresh(space=None):
    return ScoringService(space or TinySpace(), store="memory")


@pytest.fixture(scope="module")
def service():
    service = fresh()
    service.score(ALL, MEMBERS)
    return service


def columns(service, archs, members=MEMBERS):
    return np.array([service.values(archs, member) for member in members])


def test_scores_are_the_goodness_by_each_proxy(service):
    scores = ProxyScores(service)
    for archs in (SOUND, SOUND[3:4], []):
        expected = [ProxyScorer(service, name)(archs) for name in MEMBERS]
        assert np.array_equal(scores(archs, MEMBERS), np.array(expected))
    scores(SOUND, MEMBERS)
    expected = service.score(SOUND, MEMBERS).seconds.sum(1).mean()
    assert scores.seconds(MEMBERS) == pytest.approx(expected)


def test_what_is_missing_is_computed_in_one_pass_beside_what_is_known(monkeypatch):
    runs = []
    original = PASSES["forward"]
    monkeypatch.setitem(PASSES, "forward", lambda run: runs.append(1) or original(run))
    service = fresh()
    service.values(SOUND[:2], "synflow")
    scores, names = ProxyScores(service), ["grad_norm", "synflow", "snip", "synaptic_flow"]
    found = scores(SOUND[:2], names)
    assert (len(runs), service.computed, service.hits) == (2, 6, 2)
    assert np.array_equal(found[1], found[3])
    assert np.array_equal(found, scores(SOUND[:2], names))
    assert (len(runs), service.computed, service.hits) == (2, 6, 2 + 6)


def test_scores_of_ensembles_and_strangers_are_refused(service):
    with pytest.raises(UsageError, match="vote ranks architectures within a set"):
        ProxyScores(service)(SOUND, ["synflow", "vote"])
    with pytest.raises(UsageError, match="crystal_ball"):
        ProxyScores(service)(SOUND, ["crystal_ball"])


@pytest.mark.parametrize("name", ["vote", "rank_average", "az_nas"])
def test_goodness_is_that_within_the_set(service, name):
    scorer = PoolScorer(service, name, MEMBERS)
    for archs in (SOUND, SOUND[:5], SOUND[3:4], SOUND[:2] * 2, []):
        expected = scorer.ensemble.function(columns(service, archs))
        assert np.array_equal(scorer(archs), expected)


def test_a_cold_call_computes_all_members_in_one_pass(monkeypatch):
    runs = []
    original = PASSES["forward"]
    monkeypatch.setitem(PASSES, "forward", lambda run: runs.append(1) or original(run))
    service = fresh()
    scorer = PoolScorer(service, "vote")
    archs = [(3, 3, 3), (3, 2, 3), (2, 2, 2)]
    first = scorer(archs)
    assert len(runs) == len(archs)
    assert service.computed == 3 * len(archs)
    assert service.hits == 0
    assert np.array_equal(scorer(archs), first)
    assert service.hits == 3 * len(archs)


def test_a_member_without_a_score_ranks_last():
    service = fresh(BrokenSpace())
    broken, sound = [(2, 1, 1), (3, 1, 1)], [(1, 3, 3), (1, 1, 1)]
    assert np.isnan(service.values(broken, "synflow")).all()
    for name in ("vote", "rank_average", "az_nas"):
        goodness = PoolScorer(service, name, ["synflow"])(broken + sound)
        assert goodness[0] == goodness[1] < goodness[2:].min()
    # params does not run the network, and knows what the second has.
    values = PoolScorer(service, "rank_average", ["synflow", "params"])(broken + sound)
    assert np.isfinite(values).all()


def test_members_that_are_better_when_small_are_turned(service, monkeypatch):
    archs = [(1, 1, 1), (3, 3, 3)]
    assert PoolScorer(service, "vote", ["params"])(archs).tolist() == [0, 1]
    cheap = dataclasses.replace(registry.get("params"), higher_is_better=False)
    monkeypatch.setitem(registry._PROXIES, "params", cheap)
    assert PoolScorer(service, "vote", ["params"])(archs).tolist() == [1, 0]
    assert ranking.score(service, archs, ["params"]).column("params")[1] > 0


def test_takes_the_time_of_its_members(service):
    scorer = PoolScorer(service, "vote", MEMBERS)
    expected = sum(service.mean_seconds(member) for member in MEMBERS)
    assert scorer.seconds_per_score == pytest.approx(expected)
    assert scorer.seconds_per_score > 0
    scorer(SOUND[:2])
    expected = service.score(SOUND[:2], MEMBERS).seconds.sum(1).mean()
    assert scorer.seconds_per_score == pytest.approx(expected)


def test_a_score_takes_what_it_took_whatever_other_jobs_have_stored(tmp_path):
    def job():
        return ScoringService(TinySpace(), store=tmp_path / "scores.sqlite")

    first = ProxyScorer(job(), "synflow")
    first(SOUND[:1])
    other = job()
    context = other.store.context(other.key(registry.get("synflow")))
    other.store.put_many(context, {"slow": Row(1.0, 1e6)})
    again = ProxyScorer(job(), "synflow")
    again(SOUND[:1])
    assert again.seconds_per_score == first.seconds_per_score > 0
    assert again.service.computed == 0


def test_guides(service):
    scorer = PoolScorer(service, "rank_average", MEMBERS)
    guidance = Guidance(scorer, warmup="all", move="all", epsilon=0.0)
    rng = np.random.default_rng(0)
    pool = guidance.pool(TinySpace(), rng)
    assert pool.architectures[0] == (3, 3, 3)
    assert np.array_equal(np.sort(pool.goodness)[::-1], pool.goodness)
    assert guidance.choose(TinySpace().neighbours((2, 3, 3)), rng) == (3, 3, 3)
    assert guidance.asked == len(ALL) + 9


def test_a_move_is_quick():
    space = NASBench201("cifar10")
    scorer = PoolScorer(fresh(space), "vote", ["params", "flops"])
    archs = space.neighbours((3, 2, 1, 0, 3, 3))
    scorer(archs)
    times = []
    for _ in range(200):
        began = time.perf_counter()
        scorer(archs)
        times.append(time.perf_counter() - began)
    assert min(times) < 100e-6


def test_aliases_are_members():
    assert PoolScorer(fresh(), "vote", ["synaptic_flow"]).members == ("synflow",)


@pytest.mark.parametrize(
    ("name", "members", "sentence"),
    [
        ("synflow", None, r"proxy\.name=synflow is unknown; .* az_nas, rank_average, vote"),
        ("vote", [], r"proxy\.members=\[\] must name at least one proxy"),
        ("vote", ["synflow", "synaptic_flow"], "each only once"),
        ("vote", ["magic"], "proxy=magic is unknown; .*flops, .*synflow, .*vote"),
        ("rank_average", ["synflow", "vote"], "vote ranks architectures within a set"),
    ],
)
def test_what_cannot_be_is_refused(name, members, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        PoolScorer(fresh(), name, members)
    assert "\n" not in str(caught.value)


def test_a_single_network_is_refused():
    sentence = (
        "proxy=vote ranks architectures within a set and has no value for a single network; "
        "score that by the members of vote: synflow, jacob_cov, snip; and a set by "
        "proxies.ranking.score or a PoolScorer."
    )
    with pytest.raises(UsageError) as caught:
        score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=["vote"])
    assert str(caught.value) == sentence
    for ask in (fresh().score, lambda archs, name: ProxyScorer(fresh(), name)(archs)):
        with pytest.raises(UsageError, match="within a set"):
            ask(ALL[:2], "vote")
    with pytest.raises(UsageError, match=r"choose one of: .*az_nas.*flops.*rank_average.*vote"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=["crystal_ball"])


def test_scores_by_proxies_and_ensembles_in_one_table(service, monkeypatch):
    own = dataclasses.replace(registry.ensembles()["vote"], members=tuple(MEMBERS))
    monkeypatch.setitem(registry._ENSEMBLES, "vote", own)
    table = ranking.score(service, SOUND, ["vote", "params", "vote"])
    assert sorted(table.names) == ["flops", "params", "synflow", "vote"]
    goodness = ranking.goodness(table, MEMBERS)
    assert np.array_equal(goodness, columns(service, SOUND))
    assert np.array_equal(table.column("vote"), vote(goodness))
    assert np.array_equal(table.column("params"), service.values(SOUND, "params"))
    seconds = {name: table.seconds[:, i] for i, name in enumerate(table.names)}
    assert seconds["vote"] == pytest.approx(sum(seconds[member] for member in MEMBERS))
    assert ranking.score(service, SOUND, ["macs"]).names == ("flops",)


def command(task, script, config, *arguments):
    def run(monkeypatch, directory):
        monkeypatch.chdir(directory)
        monkeypatch.setenv("ASSAY_CACHE", str(directory / "cache"))
        argv = [script, *arguments, "hydra.run.dir=out", "service=inline"]
        monkeypatch.setattr("sys.argv", argv)
        app.run(task, config)
        return directory / "out"

    return run


def test_scoring_a_sample_by_vote(monkeypatch, tmp_path):
    members = ["synflow", "jacob_cov", "snip"]
    settings = ("archs=6", "batch=random", "batch.size=4")
    proxies = f"proxies=[vote,{','.join(members)}]"
    run = command(run_score.score, "run_score.py", "score", proxies, *settings)
    out = run(monkeypatch, tmp_path)
    with (out / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["architecture", "vote", *members, "accuracy"]
    goodness = np.array([[float(row[name] or "nan") for row in rows] for name in members])
    goodness[np.isnan(goodness)] = -math.inf
    assert [float(row["vote"]) for row in rows] == vote(goodness).tolist()
    statistics = json.loads((out / "correlation.json").read_text())
    assert list(statistics) == ["vote", *members]
    assert list(statistics["vote"]) == list(statistics["synflow"])
    accuracy = np.array([float(row["accuracy"]) for row in rows])
    expected = pairwise_concordance(majority(goodness), accuracy)
    assert statistics["vote"]["concordance"] == pytest.approx(expected)
    assert statistics["vote"]["n"] == 6
    seconds = {name: statistics[name]["seconds_per_arch"] for name in statistics}
    assert seconds["vote"] == pytest.approx(sum(seconds[member] for member in members))

    again = command(run_score.score, "run_score.py", "score", "proxies=[vote]", *settings)
    with (again(monkeypatch, tmp_path) / "scores.csv").open() as file:
        alone = list(csv.DictReader(file))
    assert list(alone[0]) == ["architecture", "vote", "accuracy"]
    assert [row["vote"] for row in alone] == [row["vote"] for row in rows]


def test_searching_by_rank_average(monkeypatch, tmp_path):
    settings = (
        "searcher=random",
        "guidance=warmup_move",
        "guidance.warmup.pool=6",
        "guidance.move.candidates=3",
        "guidance.move.epsilon=0",
        "proxy=rank_average",
        "proxy.members=[params,flops]",
        "budget.models=8",
        "trials=1",
    )
    out = command(run_search.search, "run_search.py", "config", *settings)(monkeypatch, tmp_path)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["proxy"] == "rank_average"
    with (out / "trajectory.csv").open() as file:
        trained = [row["architecture"] for row in csv.DictReader(file)]
    space = NASBench201(summary["dataset"])
    warmup = [space.parse(text) for text in trained[:6]]
    goodness = rank_average(columns(fresh(space), warmup, ["params", "flops"]))
    assert goodness.tolist() == sorted(goodness, reverse=True)


def test_a_search_by_an_impossible_ensemble_ends_in_one_sentence(monkeypatch, tmp_path, capsys):
    settings = ("guidance=warmup", "proxy=vote", "proxy.members=[synflow,crystal_ball]")
    run = command(run_search.search, "run_search.py", "config", *settings)
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, tmp_path)
    assert caught.value.code == 2
    assert "proxy=crystal_ball is unknown; choose one of: " in capsys.readouterr().err


def test_a_network_of_ones_own_has_no_vote(monkeypatch, tmp_path, capsys):
    settings = ("proxies=[synflow,vote]", "model=torch.nn:Identity", "batch=random")
    run = command(run_score.score, "run_score.py", "score", *settings)
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, tmp_path)
    assert caught.value.code == 2
    assert "proxy=vote ranks architectures within a set" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(registry.ensembles()))
def test_each_ensemble_is_an_option_with_its_own_members(name):
    file = Path(run_search.__file__).parent / "conf" / "proxy" / f"{name}.yaml"
    settings = yaml.safe_load(file.read_text())
    assert settings["members"] == list(registry.ensembles()[name].members)
    assert PoolScorer(fresh(), settings["name"]).members == tuple(settings["members"])
