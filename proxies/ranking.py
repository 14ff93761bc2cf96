"""Turns zero-cost scores into the goodness that guidance ranks by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from proxies import registry
from proxies.service import ScoringService
from spaces.base import Architecture


class ProxyScorer:
    """Goodness by one proxy: its score, turned so that larger is better; NaN is -inf.

    Goodness is asked for a set of architectures and holds among them; a scorer that ranks within
    the set has the same form.
    """

    def __init__(self, service: ScoringService, name: str) -> None:
        self.service = service
        self.proxy = registry.get(name)
        self._sign = 1.0 if self.proxy.higher_is_better else -1.0

    @property
    def seconds_per_score(self) -> float:
        """Mean time that computing one score took."""
        return self.service.mean_seconds(self.proxy.name)

    def __call__(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Goodness of each of ``archs``, float64 [n]."""
        values = self._sign * self.service.values(archs, self.proxy.name)
        values[np.isnan(values)] = -np.inf
        return values
