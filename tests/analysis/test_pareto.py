from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.pareto import Reference, bought_by_cost, front, hypervolume, hypervolumes

NUMBERS = st.one_of(st.integers(-3, 12).map(float), st.floats(-3, 12), st.just(float("nan")))
MODELS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30)
REFERENCE = Reference(0.0, 10.0)


def split(models):
    values, costs = np.array(models, np.float64).T
    return values, costs


def test_front_and_hypervolume_of_an_example():
    values, costs = split([(5, 2), (3, 1), (4, 3), (9, 8), (9, 9), (1, 1), (5, 2)])
    assert front(values, costs).tolist() == [1, 0, 3]
    # 3 x 1 from cost 1 to 2, 5 x 6 from 2 to 8, 9 x 2 from 8 to 10
    assert hypervolume(values, costs, REFERENCE) == 3 + 30 + 18


def test_smaller_values_may_be_better():
    values, costs = split([(5, 2), (3, 4), (4, 5)])
    assert front(values, costs, higher_is_better=False).tolist() == [0, 1]
    found = hypervolume(values, costs, Reference(10.0, 10.0), higher_is_better=False)
    assert found == hypervolume(-values, costs, Reference(-10.0, 10.0)) == 5 * 2 + 7 * 6


@given(MODELS)
def test_the_front_is_what_nothing_dominates(models):
    values, costs = split(models)
    chosen = front(values, costs)
    for i, (value, cost) in enumerate(models):
        worse = [
            v >= value and c <= cost and ((v, c) != (value, cost) or j < i)
            for j, (v, c) in enumerate(models)
        ]
        assert (i in chosen) == (not any(worse) and not np.isnan([value, cost]).any())
    assert (np.diff(costs[chosen]) > 0).all()


@given(MODELS)
def test_hypervolume_equals_the_librarys(models):
    moocore = pytest.importorskip("moocore")  # which DEAP brings along
    values, costs = split(models)
    inside = (values > REFERENCE.value) & (costs < REFERENCE.cost)
    points = np.column_stack((values, costs))[inside]
    expected = moocore.hypervolume(points, ref=(0.0, 10.0), maximise=[True, False])
    assert hypervolume(values, costs, REFERENCE) == pytest.approx(expected, abs=1e-9)


@given(MODELS)
def test_it_grows_model_by_model(models):
    values, costs = split(models)
    grown = hypervolumes(values[None], costs[None], REFERENCE)
    assert (np.diff(grown[0]) >= 0).all()
    for step in range(len(models)):
        part = hypervolume(values[: step + 1], costs[: step + 1], REFERENCE)
        assert grown[0, step] == pytest.approx(part, abs=1e-9)


def test_what_costs_buy():
    nan = float("nan")
    runs = [[([5, 3, 9], [2, 1, 8])], [([1, 4], [3, 2]), ([nan, 7], [1, 8])]]
    prices, (one, other) = bought_by_cost(runs)
    assert prices.tolist() == [1, 2, 3, 8]
    np.testing.assert_array_equal(one, [[3, 5, 5, 9]])
    np.testing.assert_array_equal(other, [[nan, 4, 4, 4], [nan, nan, nan, 7]])


def test_many_prices_are_thinned():
    costs = np.arange(1000.0)
    prices, (bought,) = bought_by_cost([[(-costs, costs)]], higher_is_better=False)
    assert (len(prices), prices[0], prices[-1]) == (200, 0, 999)
    np.testing.assert_array_equal(bought[0], -np.floor(prices))
