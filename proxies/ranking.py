"""Turns zero-cost scores into the goodness that guidance ranks by."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from proxies import registry
from proxies.batch import Minibatch, shown
from proxies.service import ScoreTable, ScoringService
from spaces.base import Architecture, SearchSpace

Floats = NDArray[np.float64]


class ProxyScorer:
    """Goodness by one proxy: its score, turned so that larger is better; NaN is -inf.

    Args:
        service: computes and remembers the scores.
        name: of the proxy.
        settings: those of the proxy; see :func:`proxies.registry.get`.

    Raises :class:`UsageError` as that function does.
    """

    def __init__(self, service: ScoringService, name: str, **settings: Any) -> None:
        self.service = service
        self.proxy = registry.get(name, **settings)
        self._sign = _signs((self.proxy.name,))[0]
        self._last: Sequence[Architecture] = ()

    @property
    def seconds_per_score(self) -> float:
        """Mean time that computing one of the last scores took; before any, of all known."""
        return self.service.mean_seconds(self.proxy.name, self._last)

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Goodness of each of ``archs``, float64 [n]."""
        self._last = archs
        return _goodness(self.service.values(archs, self.proxy.name), self._sign)


class ProxyScores:
    """Goodness by any number of proxies, for searchers that read scores as features.

    Args:
        service: computes and remembers the scores.
    """

    def __init__(self, service: ScoringService) -> None:
        self.service = service
        self._last: Sequence[Architecture] = ()

    def __call__(self, archs: Sequence[Architecture], names: Sequence[str]) -> Floats:
        """Goodness of each of ``archs`` by each of ``names``, float64 [names, archs].

        Larger is better, NaN is -inf. What is missing is computed for all proxies at once. Raises
        :class:`UsageError` for unknown names, and for ensembles, which only rank.
        """
        self._last = archs
        asked = tuple(registry.get(name).name for name in names)
        return _goodness(self.service.matrix(archs, asked), _signs(asked))

    def seconds(self, names: Sequence[str]) -> float:
        """Mean time that the scores by ``names`` of one of the last architectures took."""
        return sum(self.service.mean_seconds(name, self._last) for name in names)


class PoolScorer:
    """Goodness by an ensemble of proxies, which holds among the architectures asked for together.

    Scores are kept by the service, member by member; the ranking is made anew for each set. A
    member that has no score for an architecture ranks it last.

    Args:
        service: computes and remembers the members' scores.
        name: of the ensemble.
        members: names of proxies; by default the ensemble's own.

    Raises :class:`UsageError` for an unknown ensemble or member, a member named twice, or none.
    """

    def __init__(
        self, service: ScoringService, name: str, members: Sequence[str] | None = None
    ) -> None:
        if name not in registry.ensembles():
            raise unknown_name("proxy.name", name, registry.ensembles())
        self.service = service
        self.ensemble = registry.ensembles()[name]
        given = self.ensemble.members if members is None else members
        self.members = tuple(registry.get(member).name for member in given)
        if not self.members or len(set(self.members)) < len(self.members):
            raise UsageError(
                f"proxy.members=[{', '.join(given)}] must name at least one proxy, each only once."
            )
        self._scores = ProxyScores(service)

    @property
    def seconds_per_score(self) -> float:
        """Mean time that one of the last scores took, by all members; before any, of all known."""
        return self._scores.seconds(self.members)

    def __call__(self, archs: Sequence[Architecture]) -> Floats:
        """Goodness of each of ``archs`` among them, float64 [n]."""
        return self.ensemble.function(self._scores(archs, self.members))


class Judge:
    """Goodness by weights and a minibatch that are named by their seeds, in any space.

    Args:
        service: whose settings and store to use; it keeps the account.
        scorer: makes what scores from a service.
        batch: makes a minibatch for a space from a seed.

    Attributes:
        shown: the last minibatch that a proxy was shown; None if none has read data.
        seconds_per_score: mean time that computing one of the last scores took, in this process or
            another; 0 before any.
    """

    def __init__(
        self,
        service: ScoringService,
        scorer: Callable[[ScoringService], ProxyScorer | PoolScorer],
        batch: Callable[[SearchSpace, int], Minibatch],
    ) -> None:
        self.service, self.scorer = service, scorer
        self.batch = functools.lru_cache(maxsize=8)(batch)
        self.shown: Minibatch | None = None
        self.seconds_per_score = 0.0

    def __call__(
        self, space: SearchSpace, archs: Sequence[Architecture], *, weights: int, minibatch: int
    ) -> Floats:
        """Goodness of each of ``archs`` among them, float64 [n]."""
        service = self.service.redrawn(space, weights, lambda space: self.batch(space, minibatch))
        scorer = self.scorer(service)
        goodness = scorer(archs)
        self.service.credit(service)
        self.seconds_per_score = scorer.seconds_per_score
        self.shown = shown(service) or self.shown
        return goodness


def score(
    service: ScoringService, archs: Sequence[Architecture], names: Sequence[str]
) -> ScoreTable:
    """Score every one of ``archs`` by every one of ``names``, ensembles among them.

    An ensemble's value is that among ``archs``, and takes the time of all its members. The table
    holds the members, too.
    """
    asked = list(dict.fromkeys(map(registry.canonical, names)))
    scorers = [PoolScorer(service, name) for name in asked if name in registry.ensembles()]
    single = [name for name in asked if name not in registry.ensembles()]
    table = service.score(archs, single + [m for scorer in scorers for m in scorer.members])
    values, seconds = [table.values], [table.seconds]
    for scorer in scorers:
        columns = [table.names.index(member) for member in scorer.members]
        values.append(scorer.ensemble.function(goodness(table, scorer.members))[:, None])
        seconds.append(table.seconds[:, columns].sum(1, keepdims=True))
    return dataclasses.replace(
        table,
        names=(*table.names, *(scorer.ensemble.name for scorer in scorers)),
        values=np.hstack(values),
        seconds=np.hstack(seconds),
    )


def goodness(table: ScoreTable, names: Sequence[str]) -> Floats:
    """Return the columns of proxies as goodness, [p, n]: larger is better, NaN is -inf."""
    values = np.array([table.column(name) for name in names])
    return _goodness(values, _signs(names))


def _signs(names: Sequence[str]) -> Floats:
    """Return -1 for proxies that are better when smaller, float64 [p, 1]."""
    return np.array([[1.0 if registry.get(name).higher_is_better else -1.0] for name in names])


def _goodness(values: Floats, signs: Floats) -> Floats:
    turned: Floats = values * signs
    turned[np.isnan(turned)] = -np.inf
    return turned
