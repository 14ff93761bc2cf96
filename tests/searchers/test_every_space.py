"""Every searcher runs on every space with every guidance, or is refused before it starts."""

from __future__ import annotations

import functools
import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

import conf
from conf.errors import UsageError
from conf.schema import build, takes
from proxies import ScoringService
from proxies.ranking import ProxyScorer
from searchers import Guidance
from searchers.loop import Budget, run_trials
from spaces.benchmark import Benchmark, Evaluation, TableBenchmark

CONF = Path(conf.__file__).parent


def options(group: str) -> list[str]:
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


SMALL = {
    "evolution": {"population": 4, "tournament": 2},
    "nsga2": {"population": 4},
    "perturbation": {"proposals": 2, "validation": 1},
    "darts": {"decide": "strength", "steps": 1, "batch_size": 2},
    "predictor": {"batch": 3, "candidates": 40, "trees": 3},
    "predictor_gcn": {
        "batch": 3,
        "candidates": 10,
        "hidden": 8,
        "epochs": 2,
        "warmup_epochs": 2,
    },
    "touchstone": {"features": []},
    "local_search": {"start": 2},
    "bananas": {"start": 3},
    "npenas": {"start": 3, "batch": 2, "candidates": 10, "epochs": 2},
    "tpe": {"start": 3},
    "robot": {"features": ["a", "b"], "rounds": 3, "candidates": 40},
}
"""Settings of searchers that take less time."""

SUPERNETS = {"perturbation", "darts"}
"""Searchers that decide a supernet, without guidance."""

WITHOUT_NEIGHBOURS = {"darts", "mobilenet"}
"""Spaces whose architectures are, by default, the single rows of a table."""

WITHOUT_GRAPHS = {"model_zoo"}
SCORED = {"perturbation", "hyperband", "successive_halving", "robot"}
"""Searchers that ask for scores without guidance, too."""

MODELS = 7
POOL = 6


def load(group: str, name: str, **changes):
    return OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml")) | changes


@functools.cache
def space_of(name: str):
    return build(load("space", name), "space")


@pytest.fixture(params=[space for space in options("space") if space != "proxy_programs"])
def name(request) -> str:
    if request.param == "model_zoo" and importlib.util.find_spec("pytorchcv") is None:
        pytest.skip("needs the extra zoo")
    return request.param


@pytest.fixture
def space(name):
    return space_of(name)


class Likes:
    """Scores by the choices alone, with random weights."""

    seconds_per_score = 0.0

    def __init__(self, space) -> None:
        self.space = space
        self.weights = np.random.default_rng(0).standard_normal(space.one_hot([]).shape[1])

    def __call__(self, archs):
        return (self.space.one_hot(archs) @ self.weights).astype(np.float64)


class Views:
    """Several such scores, by name."""

    def __init__(self, space) -> None:
        self.space = space

    def __call__(self, archs, names):
        likes = Likes(self.space)
        return np.array([likes(archs) * (-1) ** n for n, _ in enumerate(names)])

    def seconds(self, names) -> float:
        return 0.0


class Liked(Benchmark):
    """For spaces without a table."""

    def __init__(self, space) -> None:
        self.likes = Likes(space)

    def evaluate(self, arch, rng) -> Evaluation:
        value = float(self.likes([arch])[0])
        return Evaluation(value, value, value, 1.0)

    def describe(self):
        return {"kind": "made up"}


@pytest.fixture(params=options("searcher"))
def searcher(request) -> str:
    if request.param == "tpe" and importlib.util.find_spec("optuna") is None:
        pytest.skip("needs the extra optuna")
    return request.param


@functools.cache
def benchmark_of(name: str) -> Benchmark:
    space = space_of(name)
    return Liked(space) if name == "proxyless" else TableBenchmark(space)


def judge(space, archs, *, weights, minibatch):
    """Judge supernets and networks by their choices."""
    return np.array([hash((arch, weights, minibatch)) % 1000 for arch in archs], np.float64)


judge.seconds_per_score = 0.0


def guidance_of(kind: str, space, move) -> Guidance:
    enabled = {part: load("guidance", kind)[part]["enabled"] for part in ("warmup", "move")}
    return Guidance(
        Likes(space),
        scores=Views(space),
        warmup=POOL if enabled["warmup"] else 0,
        move=move if enabled["move"] else 0,
        epsilon=0.25,
    )


def made(space, searcher: str, guidance: Guidance, seed: int):
    settings = load("searcher", searcher, **SMALL.get(searcher, {}))
    given = {"space": space, "guidance": guidance, "seed": seed}
    if takes(settings, "searcher", "cost"):
        given["cost"] = Likes(space)
    if takes(settings, "searcher", "judge"):
        given["judge"] = judge
    return build(settings, "searcher", **given)


def search(name: str, searcher: str, guidance):
    space = space_of(name)

    def make(seed):
        return made(space, searcher, guidance(), seed)

    (trace,) = run_trials(make, benchmark_of(name), Budget(MODELS), trials=1, seed=0)
    return trace


def objection(name: str, searcher: str, move, kind: str = "none") -> str | None:
    """Say in which words a space refuses a searcher."""
    if name in WITHOUT_GRAPHS and searcher in ("predictor_gcn", "npenas"):
        return "has no graph encoding"
    if searcher == "genetic_programming":
        return r"choose (space=proxy_programs|searcher=random)"
    if name in WITHOUT_NEIGHBOURS and move == "all":
        return "choose searcher=random or predictor"
    if searcher in SUPERNETS and kind != "none":
        return "give guidance=none"
    if searcher in SUPERNETS and not space_of(name).places:
        return "supernet"
    if searcher == "darts" and name == "nasbench1shot1":
        return "have no strengths"
    if searcher == "darts" and space_of(name).dataset != "cifar10":
        return "holds CIFAR-10"
    if name in WITHOUT_NEIGHBOURS:
        if move == "all" or get_class(load("searcher", searcher)["_target_"]).edits:
            return "choose searcher=random or predictor"
        if searcher == "reinforce":
            return "choose another searcher"
    return None


@pytest.mark.parametrize("kind", options("guidance"))
def test_every_searcher_runs_with_every_guidance(name, space, searcher, kind):
    moves = ["all", 3] if load("guidance", kind)["move"]["enabled"] else [0]
    for move in moves:

        def guidance(move=move):
            return guidance_of(kind, space, move)

        if words := objection(name, searcher, move, kind):
            with pytest.raises(UsageError, match=words):
                search(name, searcher, guidance)
            continue
        trace = search(name, searcher, guidance)
        archs = [space.parse(text) for text in trace.architectures]
        assert len(archs) == MODELS
        assert all(space.is_valid(arch) for arch in archs)
        scored = kind != "none" or searcher in SCORED
        assert bool(trace.proxy_evaluations[-1]) == scored


def test_a_searcher_is_refused_before_it_proposes(searcher):
    for name in WITHOUT_NEIGHBOURS:
        for move in (0, "all"):
            guidance = Guidance(Likes(space_of(name)), scores=Views(space_of(name)), move=move)
            if objection(name, searcher, move):
                with pytest.raises(UsageError, match=r"choose|supernet|guidance|CIFAR"):
                    made(space_of(name), searcher, guidance, 0)


def test_real_scores_guide_in_every_space(space, name):
    service = ScoringService(space, store="memory")
    scorer = ProxyScorer(service, "params")
    trace = search(name, "random", lambda: Guidance(scorer, warmup=3))
    assert trace.proxy_evaluations[-1] == 3
    first, second = itertools.islice(trace.architectures, 2)
    values = service.values([space.parse(first), space.parse(second)], "params")
    assert values[0] >= values[1] > 0
