from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from conf.errors import UsageError
from proxies import ScoringService, score_model
from proxies.ranking import ProxyScorer
from spaces.nasbench201 import NASBench201
from tests.proxies.tiny_space import TinySpace


@pytest.fixture
def space():
    return NASBench201("cifar100")


def test_early_accuracy_is_that_of_the_table(space, tmp_path):
    service = ScoringService(space, store=tmp_path / "scores.sqlite")
    archs = space.sample(np.random.default_rng(0), 50)
    table = service.score(archs, ["early_accuracy"])
    early = space.table(epochs=12)
    assert table.values[:, 0].tolist() == early.val[early.rows(archs)].tolist()
    assert table.seconds[:, 0].tolist() == early.train_seconds[early.rows(archs)].tolist()
    assert service.values(archs, "early_accuracy").tolist() == table.values[:, 0].tolist()


def test_it_stands_beside_proxies_of_networks(space):
    service = ScoringService(space, store="memory")
    archs = [(3, 0, 0, 0, 0, 0), (0, 0, 0, 3, 0, 0)]
    table = service.score(archs, ["params", "early_accuracy"])
    assert table.column("params").tolist() == [322196, 322196]
    assert table.column("early_accuracy")[0] != table.column("early_accuracy")[1]


def test_a_search_is_charged_the_training(space):
    service = ScoringService(space, store="memory")
    scorer = ProxyScorer(service, "early_accuracy")
    archs = space.sample(np.random.default_rng(0), 50)
    scorer(archs)
    early = space.table(epochs=12)
    distinct = list(dict.fromkeys(archs))
    expected = early.train_seconds[early.rows(distinct)].mean()
    assert scorer.seconds_per_score == pytest.approx(float(expected), rel=1e-6)


def test_a_network_of_ones_own_has_no_table():
    with pytest.raises(UsageError, match="reads the benchmark table of a space"):
        score_model(nn.Linear(2, 2), torch.ones(1, 2), proxies=["early_accuracy"])


def test_a_space_without_a_table_is_refused():
    service = ScoringService(TinySpace(), store="memory")
    arch = next(iter(service.space.enumerate()))
    with pytest.raises(UsageError, match="has no benchmark table"):
        service.score([arch], ["early_accuracy"])
