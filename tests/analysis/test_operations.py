from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.operations import Achievable, Agreement, averages, pooled, study
from conf.errors import UsageError
from searchers import Perturbation
from spaces import Decision
from spaces.darts import DARTS
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.supernets import Supernets

PUBLISHED = [  # Xiang et al. 2023: best accuracies by edge and operation
    [94.15, 94.18, 94.44, 94.68, 93.86],
    [94.24, 94.16, 94.49, 94.68, 94.09],
    [94.25, 94.43, 94.49, 94.68, 94.19],
    [94.16, 94.68, 94.03, 94.04, 93.85],
    [94.29, 94.18, 94.56, 94.68, 94.23],
    [94.05, 94.16, 94.68, 94.56, 94.10],
]


@pytest.fixture(scope="module")
def achievable():
    return Achievable(NASBench201())


def test_published_best_accuracies(achievable):
    assert achievable.of_runs
    found = np.array([achievable.of(edge, {})[0] for edge in range(6)])
    np.testing.assert_allclose(found, PUBLISHED, atol=0.0051)


def test_published_architectures_of_best_and_average(achievable):
    """5.63 % error, the first of all, and 6.24 %, the 166th."""
    for statistic, error, rank in ((0, 5.63, 1), (1, 6.24, 166)):
        arch = tuple(int(np.argmax(achievable.of(edge, {})[statistic])) for edge in range(6))
        test, found = achievable.rank(arch)
        assert 100 - test == pytest.approx(error, abs=0.006)
        assert abs(found - rank) <= 1


def test_only_what_agrees_with_decisions_counts(achievable):
    fixed = {0: 3, 1: 3, 2: 3, 3: 3, 4: 3}
    _, average = achievable.of(5, fixed)
    space = achievable.space
    table = space.table()
    expected = table.test[table.rows([(3, 3, 3, 3, 3, operation) for operation in range(5)])]
    np.testing.assert_allclose(average, expected, rtol=1e-6)


def test_a_perfect_judge_agrees_perfectly(achievable):
    worth = [achievable.of(edge, {})[0] for edge in range(6)]

    def judge(space, archs, **_):
        assert isinstance(space, Supernets)
        places = [space.decode(arch) for arch in archs]
        return np.array(
            [sum(worth[e][o] for e, (left, _) in enumerate(p) for o in left) for p in places]
        )

    judge.seconds_per_score = 0.0
    search = Perturbation(achievable.space, judge=judge)
    agreements, choices = study(search, achievable, draws=2, iterations=None)
    assert averages(agreements)[0] == pooled(agreements)[0] == pytest.approx(1.0)
    assert [choice.rank for choice in choices] == [1, 1]
    assert [sum(a.iteration == i for a in agreements) for i in range(6)] == [12, 10, 8, 6, 4, 2]


class OneStart(NASBenchMacro):
    """The first place has nothing to decide."""

    @property
    def places(self):
        first, *others = super().places
        return (Decision(first.name, first.choices[:1]), *others)


def judge_by_choice(space, archs, **_):
    """The later an operation is listed, the better."""
    return np.array([sum(map(sum, (left for left, _ in space.decode(arch)))) for arch in archs])


judge_by_choice.seconds_per_score = 0.0


def test_a_place_of_one_choice_is_in_the_architecture():
    space = OneStart()
    search = Perturbation(space, judge=judge_by_choice, score="discretisation")
    _, [choice] = study(search, Achievable(space), draws=1)
    assert space.parse(choice.architecture) == (0, 2, 2, 2, 2, 2, 2, 2)


@pytest.mark.parametrize("space", [NASBenchMacro(), OneStart()])
def test_more_iterations_than_places_are_refused_before_anything_is_scored(space):
    def judge(*_, **__):
        raise AssertionError

    search = Perturbation(space, judge=judge)
    with pytest.raises(UsageError, match=r"iterations=9 exceeds the [78] places of nasbench_macro"):
        study(search, Achievable(space), draws=1, iterations=9)


def test_pooled_merits_are_means_over_draws():
    best = (3.0, 2.0, 1.0)
    draws = [(5.0, 0.0, 1.0), (0.0, 4.0, 1.0)]  # neither is in order, their mean is
    agreements = [
        Agreement(n, 0, "a", ("x", "y", "z"), merits, best, best[::-1], math.nan, math.nan)
        for n, merits in enumerate(draws)
    ]
    assert pooled(agreements) == pytest.approx((1.0, -1.0))


def test_other_spaces():
    macro = Achievable(NASBenchMacro())
    assert macro.of_runs
    assert macro.of(0, {})[0].shape == (3,)
    shots = Achievable(NASBench1Shot1(1))
    assert not shots.of_runs
    assert shots.of(3, {0: 1})[1].shape == (3,)
    with pytest.raises(UsageError, match=r"space\.table=none"):
        Achievable(DARTS())
