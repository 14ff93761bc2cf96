"""A cell of nothing: every proxy has a value for it, or says why not."""

import math

import pytest

from proxies.service import ScoringService
from spaces.nasbench201.space import NASBench201
from tests.proxies.conformance import of_networks

DEAD = (0,) * 6
NO_PATH = (3, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("arch", [DEAD, NO_PATH], ids=["empty", "no path"])
def test_values_or_reasons(arch):
    space = NASBench201("cifar10", channels=2, cells=1)
    names = [name for name in of_networks() if name != "linear_regions"]  # a minute of its own
    table = ScoringService(space, store="memory").score([arch], names)
    values = dict(zip(table.names, table.values[0].tolist(), strict=True))
    assert all(math.isfinite(value) or table.reasons[0, name] for name, value in values.items()), (
        values
    )
    assert values["synflow"] == 0
    assert math.isfinite(values["grad_norm"])
    assert math.isnan(values["jacob_cov"])
