from __future__ import annotations

import pytest

from conf.errors import UsageError
from searchers import Evolution
from spaces import Evaluation
from tests.searchers.conformance import (
    GUIDANCE,
    Scorer,
    SearcherConformance,
    evaluate,
    guidance,
    run,
    small_space,
    value,
)


def evolution(space, **settings):
    return Evolution(space, **{"population": 12, "tournament": 4} | settings)


class TestEvolution(SearcherConformance):
    @pytest.fixture
    def make(self):
        return evolution


def edits(a, b):
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_children_are_one_edit_from_someone_alive():
    asked = run(evolution(small_space(), seed=2), 60)
    for step in range(12, 60):
        assert 1 in {edits(asked[step], parent) for parent in asked[step - 12 : step]}


def test_the_oldest_dies():
    searcher = evolution(small_space(), population=3, tournament=3, seed=0)
    for arch in [(3, 3, 2, 1), (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 0)]:
        searcher.replay([arch], evaluate([arch]))
    assert (3, 3, 2, 1) not in [arch for _, arch in searcher._alive]


@pytest.mark.parametrize("seed", range(9))
def test_the_unknown_is_not_a_parent_beside_the_known(seed):
    searcher = evolution(small_space(), population=2, tournament=2, seed=seed)
    nan = float("nan")
    for arch, known in (((0, 0, 0, 0), nan), ((3, 3, 2, 1), 1.0)):
        searcher.replay([arch], [Evaluation(known, known, known, 1.0)])
    assert edits(searcher.ask()[0], (3, 3, 2, 1)) == 1


def test_warmup_starts_from_the_top_of_the_pool():
    scorer = Scorer()
    asked = run(evolution(small_space(), guidance=guidance("warmup", scorer=scorer)), 12)
    assert asked == sorted(scorer.calls[0], key=value, reverse=True)[:12]


def test_move_takes_the_best_scored_neighbour():
    scorer = Scorer()
    space = small_space()
    searcher = evolution(space, guidance=guidance("move", scorer=scorer, epsilon=0))
    asked = run(searcher, 30)
    assert [max(call, key=value) for call in scorer.calls] == asked[12:]
    assert {len(call) for call in scorer.calls} == {len(space.neighbours((0, 0, 0, 0)))}


def test_epsilon_one_never_scores():
    searcher = evolution(small_space(), guidance=guidance("move", epsilon=1))
    run(searcher, 40)
    assert searcher.guidance.asked == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"population": 0}, "searcher.population=0"),
        ({"tournament": 0}, "searcher.tournament=0"),
        ({"tournament": 13}, "between 1 and searcher.population=12"),
        ({"population": 41, "guidance": guidance("warmup")}, "guidance.warmup.pool=40 is smaller"),
        ({"population": 97, "guidance": guidance("warmup all")}, "guidance.warmup.pool=96"),
        ({"population": 97, "repeats": False}, "searcher.population=97 exceeds the 96"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        evolution(small_space(), **settings)


@pytest.mark.parametrize("kind", GUIDANCE)
def test_evolution_beats_the_mean_of_the_space(kind):
    mean = sum(value(a) for a in small_space().enumerate()) / 96
    asked = run(evolution(small_space(), guidance=guidance(kind), seed=9), 60)
    assert sum(value(a) for a in asked[30:]) / 30 > mean + 1
