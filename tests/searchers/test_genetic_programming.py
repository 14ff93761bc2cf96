import numpy as np
import pytest

from conf.errors import UsageError
from searchers.genetic_programming import GeneticProgramming
from searchers.guidance import Guidance
from spaces import Choices, Evaluation
from spaces.proxy_programs.space import ProxyPrograms

SELECTIONS = ("tournament", "nsga2")


@pytest.fixture(scope="module")
def space():
    return ProxyPrograms(shallowest=1, deepest=4)


def value(space, arch):
    """How many words of the formula speak of noise, less what is long."""
    return space.format(arch).count("noise") - 0.01 * len(arch)


def run(searcher, models):
    found = []
    for _ in range(models):
        (arch,) = searcher.ask()
        v = value(searcher.space, arch)
        searcher.tell([arch], [Evaluation(v, v, v, 1.0)])
        found.append(arch)
    return found


@pytest.mark.parametrize("selection", SELECTIONS)
def test_same_seed_same_search_and_replay_equals_undisturbed(space, selection):
    settings = {"population": 12, "selection": selection}
    undisturbed = run(GeneticProgramming(space, seed=5, **settings), 60)
    assert len(set(undisturbed)) == 60
    assert all(map(space.is_valid, undisturbed))
    assert run(GeneticProgramming(space, seed=6, **settings), 60) != undisturbed
    for cut in (0, 7, 12, 31):
        resumed = GeneticProgramming(space, seed=5, **settings)
        told = [Evaluation(v, v, v, 1.0) for v in (value(space, a) for a in undisturbed[:cut])]
        resumed.replay(undisturbed[:cut], told)
        assert run(resumed, 60 - cut) == undisturbed[cut:]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_it_finds_better_than_chance(space, selection):
    searcher = GeneticProgramming(space, seed=1, population=20, fresh=0.2, selection=selection)
    found = run(searcher, 300)
    drawn = space.sample(np.random.default_rng(1), 300)
    assert max(value(space, a) for a in found) > max(value(space, a) for a in drawn)


def test_a_share_of_each_generation_is_drawn_afresh(space):
    drawn = run(GeneticProgramming(space, seed=2, population=10, fresh=1.0), 30)
    searcher = GeneticProgramming(space, seed=2, population=10, fresh=0.5)
    found = run(searcher, 30)
    assert [a == b for a, b in zip(found, drawn, strict=True)][:10] == [True] * 10
    assert found[15:20] == drawn[15:20]
    assert found[10:15] != drawn[10:15]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 0}, "searcher.population=0"),
        ({"tournament": 0}, "searcher.tournament=0"),
        ({"crossover": 0.7, "mutation": 0.4}, "whose sum is at most 1"),
        ({"fresh": 1.5}, "searcher.fresh=1.5"),
    ],
)
def test_impossible_settings_are_refused(space, settings, message):
    with pytest.raises(UsageError, match=message):
        GeneticProgramming(space, **settings)


def test_other_spaces_and_guidance_are_refused(space):
    with pytest.raises(UsageError, match="can be crossed"):
        GeneticProgramming(Choices(a=[1, 2]))
    with pytest.raises(UsageError, match="takes no guidance"):
        GeneticProgramming(space, guidance=Guidance(lambda archs: np.zeros(len(archs)), warmup=50))
