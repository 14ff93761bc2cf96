from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import UsageError
from searchers import (
    NSGA2,
    Evolution,
    Predictor,
    PredictorGCN,
    RandomSearch,
    Reinforce,
)
from searchers.loop import Budget, reference_of
from spaces import Choices, SearchSpace, TableBenchmark
from spaces.base import distinct
from spaces.costs import Cost
from spaces.limits import LimitedSpace
from spaces.nasbench201 import NASBench201
from tests.searchers.conformance import GUIDANCE, guidance, run, small_space
from tests.spaces.conformance import SpaceConformance


def price(archs):
    return np.array([sum(arch) for arch in archs], np.float64)


def limited(space, limit, of=price, at_hand=True):
    return LimitedSpace(space, {"budget.max_flops": (Cost("flops", "", "", of, at_hand), limit)})


def within_budget(space, benchmark, **settings):
    budget = Budget(**settings)
    costs = {kind: benchmark.cost(kind, budget.device) for kind in budget.limits}
    return budget.limit(space, costs)


def benchmarked(**limits):
    space = NASBench201("cifar10", channels=2, cells=1)
    return within_budget(space, TableBenchmark(space), **limits)


class TestLimited(SpaceConformance):
    has_graph = True
    has_network = True

    @pytest.fixture
    def space(self):
        return benchmarked(max_flops=60e6)


def test_it_is_the_space_without_the_rest():
    space, within = small_space(), limited(small_space(), 4)
    kept = [arch for arch in space.enumerate() if sum(arch) <= 4]
    assert list(within.enumerate()) == kept
    assert within.size == len(kept)
    assert [a for a in space.enumerate() if within.is_valid(a)] == kept
    assert not within.is_valid((9, 9, 9, 9))
    for arch in kept:
        assert within.neighbours(arch) == [a for a in space.neighbours(arch) if a in kept]
    assert within.format((0, 1, 0, 1)) == space.format((0, 1, 0, 1))
    assert within.values((0, 1, 0, 1)) == {"a": 0, "b": 1, "c": 0, "d": 1}
    assert (within.name, within.decisions) == (space.name, space.decisions)


def test_what_is_new_in_the_contract_is_the_spaces_too():
    own = {n for n in vars(SearchSpace) if not n.startswith("__")}
    assert own <= set(vars(LimitedSpace))


def test_without_effect_draws_are_those_of_the_space():
    space = small_space()
    for draw in (lambda s, rng: s.sample(rng, 20), lambda s, rng: s.mutate((1, 1, 1, 1), rng)):
        one, other = (draw(s, np.random.default_rng(0)) for s in (space, limited(space, 99)))
        assert one == other


def test_draws_are_uniform():
    within = limited(small_space(), 3)
    drawn = within.sample(np.random.default_rng(0), 200 * within.size)
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == within.size
    assert counts.std() < 2 * np.sqrt(200)


@pytest.mark.parametrize("at_hand", [True, False])
def test_a_needle_is_found(at_hand):
    space = Choices(**{f"d{i}": range(8) for i in range(3)})
    within = limited(space, 0, at_hand=at_hand)
    assert within.sample(np.random.default_rng(0), 3) == [(0, 0, 0)] * 3
    assert within.mutate((0, 0, 0), np.random.default_rng(0)) == (0, 0, 0)


def test_what_is_counted_one_by_one_is_drawn_as_often_as_is_asked():
    space = Choices(**{f"d{i}": range(8) for i in range(4)})
    within = limited(space, 10, at_hand=False)
    drawn = within.sample(np.random.default_rng(0), 3000)
    assert len(drawn) == 3000
    assert (price(drawn) <= 10).all()
    assert len(set(drawn)) > 500


def test_more_different_ones_than_there_are_end_in_a_sentence():
    space = Choices(**{f"d{i}": range(8) for i in range(4)})
    within = limited(space, 6, at_hand=False)
    few = sum(sum(arch) <= 6 for arch in space.enumerate())
    assert len(distinct(within, np.random.default_rng(0), few)) == few
    with pytest.raises(UsageError, match=f"choices as it is set has hardly more than {few} arch"):
        distinct(within, np.random.default_rng(0), few + 1)


def test_unknown_costs_are_not_within():
    within = limited(small_space(), 99, lambda archs: np.where(price(archs) == 3, np.nan, 0.0))
    assert {sum(arch) for arch in within.enumerate()} == {0, 1, 2, 4, 5, 6, 7, 8, 9}


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 100), st.sampled_from(["raspi4", "edgetpu", "pixel2", "2080ti_32"]))
def test_any_limit_holds_or_is_impossible(limit, device):
    space = NASBench201("cifar10")
    benchmark = TableBenchmark(space)
    cost = benchmark.cost("latency_ms", device)
    everything = cost(list(space.enumerate()))
    limits = {"max_latency_ms": limit, "device": device}
    if np.nanmin(everything) > limit * (1 + 1e-6):
        with pytest.raises(UsageError, match="the smallest possible is"):
            within_budget(space, benchmark, **limits)
        return
    within = within_budget(space, benchmark, **limits)
    assert (cost(within.sample(np.random.default_rng(0), 30)) <= limit * (1 + 1e-6)).all()
    assert within.size == (everything <= limit * (1 + 1e-6)).sum()


SEARCHERS = {
    "random": RandomSearch,
    "evolution": lambda space, **s: Evolution(space, population=8, tournament=3, **s),
    "reinforce": Reinforce,
    "predictor": lambda space, **s: Predictor(space, model="sklearn", trees=4, **s),
    "predictor_gcn": lambda space, **s: PredictorGCN(space, epochs=2, warmup_epochs=2, **s),
    "nsga2": lambda space, **s: NSGA2(space, cost=price, population=8, **s),
}


@pytest.mark.parametrize("kind", GUIDANCE)
@pytest.mark.parametrize("name", SEARCHERS)
def test_no_searcher_trains_what_costs_too_much(name, kind):
    if name == "predictor_gcn":
        within = limited(NASBench201(), 4)
        asked = run(SEARCHERS[name](within, guidance=guidance(kind), seed=1), 12)
    else:
        within = limited(small_space(), 4)
        asked = run(SEARCHERS[name](within, guidance=guidance(kind), seed=1), 30)
    assert (price(asked) <= 4).all()


@pytest.mark.parametrize("kind", GUIDANCE)
@pytest.mark.parametrize("name", [n for n in SEARCHERS if n != "predictor_gcn"])
def test_a_lonely_architecture_is_no_dead_end(name, kind):
    def of(archs):
        return np.array([0.0 if len(set(arch)) == 1 else 1.0 for arch in archs])

    within = limited(small_space(), 0.5, of)
    assert within.size == 2
    warm = guidance(kind)
    if warm and warm.warmup == "all" and name in ("evolution", "nsga2"):
        pytest.skip("the pool is smaller than the population, which is refused")
    searcher = SEARCHERS[name](within, guidance=warm, seed=1)
    assert set(run(searcher, 20)) <= {(0, 0, 0, 0), (1, 1, 1, 1)}


IMPOSSIBLE = {
    "budget.max_params=10 allows no architecture of nasbench201: "
    "the smallest possible is 73306 parameters.": {"max_params": 10},
    "budget.max_latency_ms=1 allows no architecture of nasbench201: "
    "the smallest possible is 2.665 ms.": {"max_latency_ms": 1, "device": "gold_6226"},
    "budget.max_flops=0 must be positive or null.": {"max_flops": 0},
    "budget.max_params=nan must be positive or null.": {"max_params": float("nan")},
    "latency_ms needs a device; give budget.device=raspi4, for instance.": {"max_latency_ms": 1},
}


@pytest.mark.parametrize("sentence", IMPOSSIBLE)
def test_impossible_limits_are_told_in_one_sentence(sentence):
    with pytest.raises(UsageError) as caught:
        benchmarked(**IMPOSSIBLE[sentence])
    assert str(caught.value) == sentence


def test_limits_that_are_possible_one_by_one():
    space = small_space()
    costs = {
        "budget.max_params": (Cost("params", "", "", price, True), 4),
        "budget.max_flops": (Cost("flops", "", "", lambda a: 9 - price(a), True), 4),
    }
    with pytest.raises(UsageError) as caught:
        LimitedSpace(space, costs)
    assert str(caught.value) == (
        "budget.max_params=4 with budget.max_flops=4 allows hardly any architecture of choices; "
        "raise a limit."
    )


def test_the_smallest_of_a_huge_space_is_searched_for():
    space = Choices(**{f"d{i}": range(1, 9) for i in range(9)})
    with pytest.raises(UsageError, match=r"the smallest found is 0 \."):
        limited(space, -1, at_hand=False)


def test_hypervolumes_are_measured_from_the_whole_table():
    space = NASBench201("cifar100")
    benchmark = TableBenchmark(space)
    cost = benchmark.cost("latency_ms", "raspi4")
    whole = reference_of(space, space, benchmark, cost)
    assert (whole.value, whole.cost) == (1.0, 96.706)
    within = within_budget(space, benchmark, max_latency_ms=20, device="raspi4")
    part = reference_of(space, within, benchmark, cost)
    assert (part.value, part.cost) == (whole.value, whole.cost)
    assert 0 < part.best < whole.best < (100 - 1) * 96.706
    assert reference_of(space, space, benchmark, Cost("flops", "", "", price)) is None
