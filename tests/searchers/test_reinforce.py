from __future__ import annotations

import numpy as np
import pytest

from conf.errors import UsageError
from searchers import Guidance, Reinforce, reinforce
from searchers.reinforce import Baseline, Policy
from spaces import Choices, Evaluation
from tests.searchers.conformance import (
    Scorer,
    SearcherConformance,
    guidance,
    run,
    small_space,
    value,
)


class TestReinforce(SearcherConformance):
    @pytest.fixture
    def make(self):
        return Reinforce


def test_first_adam_step_moves_each_logit_by_the_learning_rate():
    policy = Policy(small_space(), learning_rate=0.1)
    policy.update(np.array([[1, 2, 0, 1]]), np.array([5.0]))
    moved = policy.logits[:, :2]
    assert np.allclose(np.abs(moved), 0.1, atol=1e-6)
    assert np.allclose(moved, [[-0.1, 0.1], [-0.1, -0.1], [0.1, -0.1], [-0.1, 0.1]], atol=1e-6)


def test_gradient_is_that_of_the_log_probability():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    policy = Policy(small_space(), learning_rate=0.01)
    logits = rng.normal(size=policy.logits.shape)
    policy.logits = np.where(np.isinf(policy.logits), -np.inf, logits)
    before = policy.logits.copy()
    archs = np.array([[1, 2, 0, 1], [3, 0, 2, 0]])
    advantages = np.array([2.0, -0.5])

    parameter = torch.tensor(before, requires_grad=True)
    optimiser = torch.optim.Adam([parameter], lr=0.01)
    log_p = torch.log_softmax(parameter, 1)[torch.arange(4), torch.tensor(archs)].sum(1)
    (-(torch.tensor(advantages) * log_p).mean()).backward()
    parameter.grad[torch.isinf(parameter)] = 0
    optimiser.step()

    policy.update(archs, advantages)
    legal = ~np.isinf(before)
    assert np.allclose(policy.logits[legal], parameter.detach().numpy()[legal], atol=1e-9)


def test_samples_follow_the_policy():
    policy = Policy(small_space(), learning_rate=0.01)
    policy.logits[0, :4] = np.log([0.1, 0.2, 0.3, 0.4])
    draws = np.array(policy.sample(np.random.default_rng(0), 20000))
    share = np.bincount(draws[:, 0], minlength=4) / 20000
    assert np.allclose(share, [0.1, 0.2, 0.3, 0.4], atol=0.015)
    assert draws.max(axis=0).tolist() == [3, 3, 2, 1]


def test_baseline_is_the_bias_corrected_average():
    baseline = Baseline(0.9)
    assert baseline.update(10.0) == pytest.approx(10.0)
    assert baseline.update(20.0) == pytest.approx((0.9 * 10 + 20) / 1.9)


def test_warmup_makes_good_scores_likelier():
    cold = Reinforce(small_space(), seed=0)
    warm = Reinforce(small_space(), guidance=guidance("warmup", warmup=2000), seed=0)
    assert warm.guidance.asked == 2000
    mean = [np.mean([value(a) for a in run(s, 40)]) for s in (cold, warm)]
    assert mean[1] > mean[0] + 1


@pytest.mark.parametrize("reward", [float("nan"), float("-inf"), float("inf")])
def test_a_reward_that_is_not_finite_teaches_nothing(reward):
    searcher = Reinforce(small_space(), seed=0)
    run(searcher, 20)
    logits = searcher.policy.logits.copy()
    searcher.tell(searcher.ask(), [Evaluation(reward, reward, reward, 1.0)])
    assert (searcher.policy.logits == logits).all()
    assert all(searcher.space.is_valid(arch) for arch in run(searcher, 20))
    assert np.isfinite(searcher.policy.probabilities()).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 0.0}, "searcher.learning_rate=0.0"),
        ({"momentum": 1.0}, "searcher.momentum=1.0"),
        ({"warmup_batch": 0}, "searcher.warmup_batch=0"),
        ({"warmup_updates": 0}, "searcher.warmup_updates=0"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        Reinforce(small_space(), **settings)


def test_a_space_with_hardly_a_valid_draw_is_refused(monkeypatch):
    monkeypatch.setattr(reinforce, "_ROUNDS", 10)
    space = Choices(depth=range(4), width=range(4))
    monkeypatch.setattr(space, "are_valid", lambda archs: np.zeros(len(archs), np.bool_))
    with pytest.raises(UsageError, match="hardly any such draw is an architecture"):
        Reinforce(space, seed=0).ask()


@pytest.mark.parametrize(
    ("pool", "batches"), [(40, [10] * 4), (95, [19] * 5), (99, [20] * 4 + [19])]
)
def test_large_pools_are_scored_in_larger_batches(pool, batches):
    scorer = Scorer()
    Reinforce(small_space(), guidance=Guidance(scorer, warmup=pool), warmup_updates=5)
    assert [len(call) for call in scorer.calls] == batches
