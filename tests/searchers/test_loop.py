from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Evolution, RandomSearch
from searchers.journal import Journal
from searchers.loop import Budget, check_repeats, run_trials, trial_seed
from spaces import Benchmark, Evaluation
from tests.searchers.conformance import guidance, small_space, value


class Noisy(Benchmark):
    """The objective plus noise from the generator that the loop hands over."""

    def __init__(self):
        self.evaluations = 0

    def evaluate(self, arch, rng):
        self.evaluations += 1
        noisy = value(arch) + float(rng.normal())
        return Evaluation(noisy, noisy, value(arch), 10.0)

    def describe(self):
        return {}


def make(seed):
    return Evolution(
        small_space(), guidance=guidance("warmup_move"), seed=seed, population=8, tournament=3
    )


def run(budget=None, trials=3, seed=0, **settings):
    return run_trials(
        settings.pop("make", make),
        settings.pop("benchmark", None) or Noisy(),
        budget or Budget(25),
        trials=trials,
        seed=seed,
        **settings,
    )


def test_same_seed_same_traces():
    assert run(seed=1) == run(seed=1)
    assert run(seed=1) != run(seed=2)


def test_trials_differ_and_do_not_depend_on_how_many_there_are():
    three = run(trials=3)
    assert three[0] != three[1] != three[2]
    assert run(trials=1) == three[:1]
    assert len({trial_seed(s, t) for s in range(20) for t in range(20)}) == 400


def test_counts_models_and_scores():
    steps = []
    traces = run(on_step=steps.append)
    assert sum(steps) == 75
    for trace in traces:
        assert len(trace.architectures) == 25
        asked = np.array(trace.proxy_evaluations)
        assert (asked[:8] == 40).all()
        assert (np.diff(asked) >= 0).all()
        assert set(np.diff(asked[7:])) <= {0, len(small_space().neighbours((0, 0, 0, 0)))}


@pytest.mark.parametrize("stop", [0, 1, 7, 8, 20, 25, 26, 60, 74, 75])
def test_resumed_job_equals_undisturbed_one(tmp_path, stop):
    whole = run()

    class KilledError(Exception):
        pass

    class Killing(Noisy):
        def evaluate(self, arch, rng):
            if self.evaluations == stop:
                raise KilledError
            return super().evaluate(arch, rng)

    path = tmp_path / "journal.jsonl"
    if stop < 75:
        with pytest.raises(KilledError), Journal(path, {}) as journal:
            run(benchmark=Killing(), journal=journal)
    else:
        with Journal(path, {}) as journal:
            run(journal=journal)
    benchmark, steps = Noisy(), []
    with Journal(path, {}) as journal:
        resumed = run(benchmark=benchmark, journal=journal, on_step=steps.append)
    assert resumed == whole
    assert benchmark.evaluations == 75 - stop
    assert sum(steps) == 75


class Batched(Noisy):
    """Evaluates four architectures at a time."""

    at_once = 4

    def __init__(self):
        super().__init__()
        self.batches = []

    def evaluate_all(self, archs, rngs):
        self.batches.append(len(archs))
        return super().evaluate_all(archs, rngs)


@pytest.mark.parametrize("cut", [0, 1, 3, 4, 6, 23, 24, 25, 26, 50])
def test_batches_are_resumed_where_the_journal_ends(tmp_path, cut):
    whole = Batched()
    with Journal(tmp_path / "whole.jsonl", {}) as journal:
        expected = run(benchmark=whole, journal=journal, trials=2)
    assert whole.batches == 2 * [4, 4, 4, 4, 4, 4, 1]
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_text("".join(lines[: cut + 1]))
    resumed, steps = Batched(), []
    with Journal(tmp_path / "cut.jsonl", {}) as journal:
        found = run(benchmark=resumed, journal=journal, trials=2, on_step=steps.append)
    assert found == expected
    assert sum(steps) == 50
    assert resumed.evaluations == 50 - cut
    assert (tmp_path / "cut.jsonl").read_text() == "".join(lines)


def test_a_torn_batch_of_another_search_is_refused(tmp_path):
    with Journal(tmp_path / "journal", {}) as journal:
        run(benchmark=Batched(), journal=journal, trials=1)
    lines = (tmp_path / "journal").read_text().splitlines(keepends=True)
    (tmp_path / "journal").write_text(lines[0] + lines[1] + lines[1])
    with (
        Journal(tmp_path / "journal", {}) as journal,
        pytest.raises(UsageError, match=r"journal of trial 0 has .* now proposes .* afresh\.$"),
    ):
        run(benchmark=Batched(), journal=journal, trials=1)


def test_time_budget_charges_training_and_scores():
    plain = run(Budget(25, train_seconds=55.0), make=lambda s: RandomSearch(small_space(), seed=s))
    assert [len(t.architectures) for t in plain] == [6, 6, 6]
    guided = run(
        Budget(25, train_seconds=55.0),
        make=lambda s: RandomSearch(small_space(), guidance=guidance("warmup"), seed=s),
    )
    assert [len(t.architectures) for t in guided] == [4, 4, 4]


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_a_resumed_trial_is_charged_what_it_was(tmp_path, stop):
    class Working(RandomSearch):
        """Works for five seconds before it proposes anything, as a supernet is trained."""

        def _propose(self, step, rng):
            self.guidance.seconds += 5.0 if step == 0 else 0.0
            return super()._propose(step, rng)

    def make(seed, rate=0.5):
        guided = guidance("warmup")
        guided.scorer.seconds_per_score = rate
        return Working(small_space(), guidance=guided, seed=seed)

    budget = Budget(99, train_seconds=200.0)
    with Journal(tmp_path / "whole", {}) as journal:
        whole = run(budget, trials=1, make=make, journal=journal)
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    (tmp_path / "cut").write_text("".join(lines[: stop + 1]))
    with Journal(tmp_path / "cut", {}) as journal:
        # Others have stored scores that took long since.
        assert run(budget, trials=1, make=lambda s: make(s, 9.0), journal=journal) == whole


@pytest.mark.parametrize(
    "settings", [{"models": 0}, {"models": -5}, {"train_seconds": 0.0}, {"train_seconds": -1.0}]
)
def test_impossible_budgets_are_refused(settings):
    with pytest.raises(UsageError, match=r"budget\.(models|train_seconds)="):
        Budget(**settings)


def test_budget_beyond_the_space_needs_repeats():
    check_repeats(small_space(), Budget(97), repeats=True)
    check_repeats(small_space(), Budget(96), repeats=False)
    with pytest.raises(UsageError, match=r"budget\.models=97 exceeds the 96"):
        check_repeats(small_space(), Budget(97), repeats=False)
