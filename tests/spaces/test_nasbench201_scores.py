"""The scores that come with NAS-Bench-201 are what this code computes."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from proxies import registry
from proxies.ranking import PoolScorer
from proxies.service import ScoringService
from proxies.store.shipped import Shipped, table_of
from spaces.nasbench201 import NASBench201

DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
AMPLIFY_ROUNDING = {"zico", "gradsign"}  # see test_nasbench201_grouped


@pytest.fixture(scope="module")
def table():
    with Shipped(table_of(NASBench201("cifar10"))) as shipped:
        yield shipped


def proxies_of(table, space):
    found = [c.key for c in table.contexts() if c.key["network"]["classes"] == space.classes]
    return sorted({key["proxy"] for key in found})


@pytest.mark.parametrize("dataset", DATASETS)
def test_scores_are_found_and_computed_alike(table, dataset):
    space = NASBench201(dataset)
    names = proxies_of(table, space)
    assert "synflow" in names
    archs = space.sample(np.random.default_rng(3), 2)
    kept, fresh = (
        ScoringService(space, store="memory", device="cpu", shipped=shipped)
        for shipped in (True, False)
    )
    found, expected = (service.score(archs, names) for service in (kept, fresh))
    assert (kept.computed, kept.shipped_hits) == (0, len(archs) * len(names))
    for name in names:
        tolerance = 2e-2 if name in AMPLIFY_ROUNDING else 1e-3
        assert np.allclose(found.column(name), expected.column(name), tolerance, equal_nan=True)


@pytest.mark.parametrize("dataset", DATASETS)
def test_az_nas_ranks_at_once(dataset):
    space = NASBench201(dataset)
    service = ScoringService(space, store="memory", device="cpu")
    archs = space.sample(np.random.default_rng(4), 300)
    goodness = PoolScorer(service, "az_nas")(archs)
    assert service.computed == 0
    trained = space.table().test[space.table().rows(archs)]
    assert spearmanr(goodness, trained).statistic > 0.85
    flops = service.score(archs, ["flops", "az_complexity"]).values
    assert np.array_equal(flops[:, 0], flops[:, 1])


def test_every_family_and_every_version_is_current(table):
    families = {c: NASBench201("cifar10").canonical(c) for c in NASBench201("cifar10").enumerate()}
    for context in table.contexts():
        proxy = registry.get(context.key["proxy"])
        assert context.key["version"] == proxy.version, proxy.name
        assert context.scores == len(set(families.values()))
