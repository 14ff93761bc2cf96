from __future__ import annotations

import itertools

import numpy as np
import pytest

from conf.errors import UsageError
from proxies import ScoringService
from proxies.batch import pictures
from proxies.ranking import Judge, PoolScorer, ProxyScorer
from searchers import Guidance, Perturbation
from spaces import Choices, Evaluation
from spaces.darts import DARTS
from spaces.mobilenet import Proxyless
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.supernets import Supernets

SPACES = {
    "nasbench201": NASBench201,
    "nasbench_macro": NASBenchMacro,
    "nasbench1shot1": NASBench1Shot1,
    "darts s3": lambda: DARTS("s3", table="none"),
    "darts s1": lambda: DARTS("s1", table="none"),
    "proxyless": Proxyless,
}
ORDERS = (
    *("fixed", "reverse", "random", "global_op", "global_op_once"),
    *("global_edge", "global_edge_once", "shrink", "prune"),
)


class Additive:
    """Values an operation by a number of its own, a supernet by the sum of what it runs.

    It notes what it was asked, and draws nothing from weights or minibatches.
    """

    seconds_per_score = 0.5

    def __init__(self, space, seed=0, noise=0.0):
        rng = np.random.default_rng(seed)
        self.worth = [rng.permutation(len(p.choices)) + rng.random() for p in space.places]
        self.noise, self.asked = noise, []

    def __call__(self, space, archs, *, weights, minibatch):
        self.asked.append((space, list(archs), weights, minibatch))
        noise = np.random.default_rng([weights, minibatch]).random(len(archs)) * self.noise
        return np.array([self.value(space, arch) for arch in archs]) + noise

    def value(self, space, arch):
        if isinstance(space, Supernets):
            held = [(p, o) for p, (left, _) in enumerate(space.decode(arch)) for o in left]
        else:
            held = space.held(arch)
        return float(sum(self.worth[place][operation] for place, operation in held))


def chosen(space, judge, **settings):
    settings = {"proposals": 2, "validation": 2, "shrink": 3, "samples": 40} | settings
    return Perturbation(space, judge=judge, **settings).ask()[0]


@pytest.fixture(params=SPACES)
def space(request):
    return SPACES[request.param]()


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_finds_the_operations_of_most_worth(space, order):
    if space.name == "proxyless":
        space = Proxyless(max_flops=None)
    judge = Additive(space)
    arch = chosen(space, judge, order=order)
    assert space.is_valid(arch)
    for place, operation in space.held(arch):
        assert operation == int(np.argmax(judge.worth[place]))


def test_inputs_without_which_the_score_stays_highest_are_deleted():
    space = DARTS("s2", table="none")
    judge = Additive(space)
    kept = {place for place, _ in space.held(chosen(space, judge))}
    for junction in space.junctions:
        ranked = sorted(junction.places, key=lambda place: -max(judge.worth[place]))
        assert kept & set(junction.places) == set(ranked[: junction.keep])


@pytest.mark.parametrize("score", ["perturbation", "discretisation"])
def test_scores_agree_where_worth_adds_up(score):
    space = NASBench201()
    judge = Additive(space)
    arch = chosen(space, judge, score=score)
    assert arch == tuple(int(np.argmax(worth)) for worth in judge.worth)


def test_the_best_score_is_that_of_random_architectures():
    space = NASBench201()
    judge = Additive(space)
    arch = chosen(space, judge, score="best", samples=500)
    drawn = next(archs for base, archs, *_ in judge.asked if base is space and len(archs) == 500)
    values = [judge.value(space, each) for each in drawn]
    assert judge.value(space, arch) >= np.quantile(values, 0.95)


def test_one_minibatch_serves_all_operations_of_a_place_and_weights_stay():
    space = NASBench201()
    judge = Additive(space)
    chosen(space, judge, proposals=1)
    assert [len(archs) for _, archs, _, _ in judge.asked] == [5] * 6
    assert len({weights for _, _, weights, _ in judge.asked}) == 1
    assert len({minibatch for _, _, _, minibatch in judge.asked}) == 6


def test_weights_of_the_rest_are_as_they_were():
    space = NASBench201()
    judge = Additive(space)
    chosen(space, judge, proposals=1, order="fixed")
    supernets, archs, _, _ = judge.asked[1]
    first, second, *rest = supernets.decode(archs[0])
    assert (len(first.operations), first.of) == (1, 1)
    assert (len(second.operations), second.of) == (4, 5)
    assert all((len(place.operations), place.of) == (5, 5) for place in rest)


def test_a_limit_is_kept():
    space = Proxyless(max_flops=520e6)
    for seed in range(3):
        judge = Additive(Proxyless(max_flops=None), seed)
        assert space.is_valid(chosen(space, judge, order="random", seed=seed))


def test_proposals_are_ranked_by_their_own_networks():
    space = NASBench201()
    judge = Additive(space, noise=30.0)
    search = Perturbation(space, judge=judge, proposals=6, validation=3)
    archs = []
    for _ in range(8):
        (arch,) = search.ask()
        archs.append(arch)
        search.tell([arch], [Evaluation(0.0, 0.0, 0.0, 0.0)])
    validated = [call for call in judge.asked if call[0] is space]
    assert len(validated) == 3
    pool = validated[0][1]
    assert len(pool) == len(set(pool)) > 1
    assert len({call[3] for call in validated}) == 3
    total = np.zeros(len(pool))
    for _, _, weights, minibatch in validated:
        total += judge(space, pool, weights=weights, minibatch=minibatch)
    assert archs[: len(pool)] == [pool[i] for i in np.argsort(-total)]
    assert all(space.is_valid(arch) for arch in archs)


def test_what_has_no_score_is_not_chosen():
    space = NASBench201()
    worth = Additive(space)

    def judge(space, archs, **_):
        return np.array(
            [
                -np.inf
                if isinstance(space, Supernets)
                and space.decode(a)[0].operations != (0,)
                and 3 not in space.decode(a)[0].operations
                else worth.value(space, a)
                for a in archs
            ]
        )

    judge.seconds_per_score = 0.0
    assert chosen(space, judge, order="fixed")[0] != 3


def test_same_seed_same_search_other_seed_other_search():
    space = NASBench201()

    def search(seed):
        return chosen(space, Additive(space, noise=40.0), seed=seed, proposals=3)

    assert search(1) == search(1)
    assert len({search(seed) for seed in range(6)}) > 1


def test_replay_goes_on_with_the_next_proposal():
    space = NASBench201()
    whole = Perturbation(space, judge=Additive(space, noise=40.0), proposals=5, validation=1)
    archs = []
    for _ in range(3):
        (arch,) = whole.ask()
        archs.append(arch)
        whole.tell([arch], [Evaluation(0.0, 0.0, 0.0, 0.0)])
    resumed = Perturbation(space, judge=Additive(space, noise=40.0), proposals=5, validation=1)
    resumed.replay(archs[:2], [Evaluation(0.0, 0.0, 0.0, 0.0)] * 2)
    resumed.guidance.asked, resumed.guidance.seconds = whole.guidance.asked, 7.0
    assert resumed.ask() == archs[2:]
    assert resumed.guidance.asked == whole.guidance.asked  # as the journal has it, not twice
    assert resumed.guidance.seconds == 7.0


def test_scores_take_their_time():
    space = NASBench201()
    search = Perturbation(space, judge=Additive(space), proposals=1)
    assert search.guidance.seconds == 0
    search.ask()
    assert search.guidance.seconds == 0.5 * search.guidance.asked > 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"proposals": 0}, r"searcher\.proposals=0 must be at least 1"),
        ({"validation": 0}, r"searcher\.validation=0 must be at least 1"),
        ({"order": "alphabetic"}, r"searcher\.order=alphabetic is unknown; choose one of"),
        ({"score": "beauty"}, r"searcher\.score=beauty is unknown; choose one of"),
        ({"order": "prune", "score": "best"}, r"searcher\.order=prune removes by"),
        ({"guidance": Guidance(lambda archs: archs, warmup=9)}, "give guidance=none"),
    ],
)
def test_mistakes(settings, sentence):
    space = NASBench201()
    with pytest.raises(UsageError, match=sentence):
        Perturbation(space, judge=Additive(space), **settings)


def test_a_space_without_supernets_is_refused():
    with pytest.raises(UsageError, match="choices has no supernet"):
        Perturbation(Choices(depth=[1, 2]), judge=None)
    with pytest.raises(UsageError, match=r"choose space\.table=none"):
        Perturbation(DARTS(), judge=None)


# -- with real proxies ------------------------------------------------------------------------


def judge_of(space, scorer, store="memory"):
    space.image_size = 8
    service = ScoringService(space, store=store)
    return service, Judge(service, scorer, lambda s, seed: pictures(s, size=8, seed=seed))


@pytest.mark.parametrize("name", ["naswot_eval", "synflow", "vote"])
def test_single_proxies_and_votes_decide(name):
    space = NASBench201("cifar10", channels=4, cells=1)

    def scorer(service):
        if name == "vote":
            return PoolScorer(service, name, ["synflow", "naswot_eval"])
        return ProxyScorer(service, name)

    service, judge = judge_of(space, scorer)
    arch = chosen(space, judge)
    assert space.is_valid(arch)
    assert service.computed > 0
    assert service.proxy_seconds > 0
    assert judge.seconds_per_score > 0
    assert (judge.shown is None) == (name == "synflow")
    assert chosen(space, judge_of(space, scorer)[1]) == arch


def test_scores_are_kept(tmp_path):
    space = NASBench201("cifar10", channels=4, cells=1)

    def search():
        service, judge = judge_of(
            space, lambda s: ProxyScorer(s, "naswot_eval"), tmp_path / "scores.sqlite"
        )
        return chosen(space, judge), service

    first, writing = search()
    second, reading = search()
    assert first == second
    assert (writing.computed > 0, reading.computed, reading.hits) == (True, 0, writing.computed)


def test_the_whole_way_of_removals_and_orders_is_valid():
    """Junctions of every cell, on a supernet whose scores are noise."""
    for number, seed in itertools.product((1, 2, 3), range(3)):
        space = NASBench1Shot1(number)
        judge = Additive(space, noise=100.0)
        assert space.is_valid(chosen(space, judge, seed=seed, proposals=1))
