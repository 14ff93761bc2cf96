"""What every searcher must do, whatever it is. Inherit, and provide the ``make`` fixture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from searchers import CallOrderError, Guidance, Searcher
from spaces import Architecture, Choices, Evaluation

Make = Callable[..., Searcher]


def small_space() -> Choices:
    return Choices(a=range(4), b=range(4), c=range(3), d=range(2))


def value(arch: Architecture) -> float:
    """A smooth objective with its optimum at the largest choices."""
    return float(sum(arch)) + 0.1 * arch[0]


def evaluate(archs: list[Architecture]) -> list[Evaluation]:
    return [Evaluation(value(a), value(a), value(a), 1.0) for a in archs]


class Scorer:
    """A zero-cost score that agrees with the objective, but for what ``broken`` says."""

    seconds_per_score = 0.5

    def __init__(self, broken: Callable[[Architecture], bool] = lambda arch: False) -> None:
        self.broken = broken
        self.calls: list[list[Architecture]] = []

    def __call__(self, archs) -> np.ndarray:
        self.calls.append(list(archs))
        return np.array([-np.inf if self.broken(a) else value(a) for a in archs])


GUIDANCE = {
    "none": {},
    "warmup": {"warmup": 40},
    "warmup all": {"warmup": "all"},
    "move": {"move": "all"},
    "move 3": {"move": 3},
    "warmup_move": {"warmup": 40, "move": "all"},
}


def guidance(kind: str, **changes) -> Guidance | None:
    settings = GUIDANCE[kind] | changes
    return Guidance(settings.pop("scorer", Scorer()), **settings) if settings else None


def run(searcher: Searcher, models: int, batch: int = 1) -> list[Architecture]:
    asked = []
    while len(asked) < models:
        archs = searcher.ask(batch)
        searcher.tell(archs, evaluate(archs))
        asked += archs
    return asked


class SearcherConformance:
    """The contract of ``searchers.base.Searcher``."""

    models = 60

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.fixture(params=GUIDANCE)
    def kind(self, request) -> str:
        return request.param

    def test_proposes_valid_architectures(self, make, kind):
        searcher = make(small_space(), guidance=guidance(kind))
        assert all(searcher.space.is_valid(a) for a in run(searcher, self.models))

    def test_same_seed_same_search(self, make, kind):
        first = run(make(small_space(), guidance=guidance(kind), seed=3), self.models)
        assert run(make(small_space(), guidance=guidance(kind), seed=3), self.models) == first

    def test_other_seed_other_search(self, make, kind):
        if kind == "warmup all" and self.models <= small_space().size:
            pytest.skip("the whole space in order of score leaves little to chance")
        first = run(make(small_space(), guidance=guidance(kind), seed=3), self.models)
        assert run(make(small_space(), guidance=guidance(kind), seed=4), self.models) != first

    @pytest.mark.parametrize("cut", [0, 1, 17, 45])
    def test_replay_equals_undisturbed(self, make, kind, cut):
        undisturbed = run(make(small_space(), guidance=guidance(kind), seed=5), self.models)
        resumed = make(small_space(), guidance=guidance(kind), seed=5)
        resumed.replay(undisturbed[:cut], evaluate(undisturbed[:cut]))
        assert run(resumed, self.models - cut) == undisturbed[cut:]

    @pytest.mark.parametrize("repeats", [True, False])
    def test_asking_for_several(self, make, kind, repeats):
        searcher = make(small_space(), guidance=guidance(kind), repeats=repeats)
        asked = run(searcher, self.models, batch=6)
        assert len(asked) == self.models == searcher.told
        assert repeats or len(set(asked)) == self.models

    def test_scores_of_minus_infinity_do_no_harm(self, make, kind):
        if kind == "none":
            pytest.skip("nothing is scored")
        scorer = Scorer(broken=lambda arch: arch[0] == 0)
        searcher = make(small_space(), guidance=guidance(kind, scorer=scorer))
        assert len(run(searcher, self.models)) == self.models

    def test_all_scores_of_minus_infinity_do_no_harm(self, make, kind):
        if kind == "none":
            pytest.skip("nothing is scored")
        scorer = Scorer(broken=lambda arch: True)
        searcher = make(small_space(), guidance=guidance(kind, scorer=scorer))
        assert len(run(searcher, self.models)) == self.models

    def test_unknown_objectives_count_as_the_worst(self, make):
        def run_with(unknown):
            searcher = make(small_space(), seed=1)
            asked = []
            while len(asked) < self.models:
                asked += searcher.ask()
                known = unknown if asked[-1][0] == 2 else value(asked[-1])
                searcher.tell(asked[-1:], [Evaluation(known, known, known, 1.0)])
            return asked

        asked = run_with(float("nan"))
        assert all(small_space().is_valid(arch) for arch in asked)
        assert asked == run_with(-np.inf)

    def test_without_repeats_every_architecture_comes_once(self, make, kind):
        space = small_space()
        searcher = make(space, guidance=guidance(kind), repeats=False)
        asked = run(searcher, space.size)
        assert len(set(asked)) == space.size

    def test_wrong_order_is_an_error(self, make):
        searcher = make(small_space())
        with pytest.raises(CallOrderError):
            searcher.tell([(0, 0, 0, 0)], evaluate([(0, 0, 0, 0)]))
        archs = searcher.ask()
        with pytest.raises(CallOrderError):
            searcher.ask()
        other = [a for a in searcher.space.sample(np.random.default_rng(0), 9) if a != archs[0]]
        with pytest.raises(CallOrderError):
            searcher.tell(other[:1], evaluate(other[:1]))
        searcher.tell(archs, evaluate(archs))
        with pytest.raises(ValueError, match="n >= 1"):
            searcher.ask(0)
