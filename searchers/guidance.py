"""How zero-cost scores steer a search: warmup and move proposal.

Abdelfattah et al. 2021, section 4: *warmup* scores a pool of architectures before anything is
trained and lets the searcher start from the best; *move proposal* scores the candidates of one
step and trains the best of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, SearchSpace, distinct


class Timed(Protocol):
    """Whatever computes scores."""

    @property
    def seconds_per_score(self) -> float:
        """Mean time that it took to compute one of the scores asked for last."""
        ...


class Scorer(Timed, Protocol):
    """Turns zero-cost scores into goodness."""

    def __call__(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Goodness of each of ``archs`` among them: larger is better, -inf is unscorable."""
        ...


class Scores(Protocol):
    """Zero-cost scores of any proxies by name, for searchers that read several as features."""

    def __call__(self, archs: Sequence[Architecture], names: Sequence[str]) -> NDArray[np.float64]:
        """Goodness of ``archs`` by each of ``names``, float64 [names, archs], as a Scorer's."""
        ...

    def seconds(self, names: Sequence[str]) -> float:
        """Mean time that the scores by ``names`` took for one of the architectures asked last."""
        ...


@dataclass(frozen=True)
class Pool:
    """Scored architectures, best first; ``goodness`` is float64 [n]."""

    architectures: list[Architecture]
    goodness: NDArray[np.float64]


@dataclass
class Guidance:
    """Scores candidates for a searcher, and counts the scores it asked for.

    Args:
        scorer: goodness of architectures, the larger the better; needed by either guidance.
        warmup: size of the pool drawn at random, with replacement; ``"all"`` takes the whole
            space, each architecture once; 0 switches warmup off.
        among: draw the pools of all searches, without replacement, from one sample of so many
            different architectures, which depends on the space alone; None: from the whole space.
        move: number of candidates of one step; ``"all"`` takes every one-edit neighbour; 0
            switches move proposal off. A searcher that has no current architecture draws that
            many from its own proposals (``"all"``: as many as an architecture has neighbours).
        epsilon: chance in [0, 1] that a step is unguided.
        scores: where a searcher that reads scores as features gets them.

    ``asked`` counts every score asked for, also those that the service had in its store, and
    ``seconds`` adds up what computing them took, and other work of the searcher that a budget is to
    pay for.

    Deviations: (1) ties in goodness keep the order of drawing; (2) NaN scores rank last.
    """

    scorer: Scorer | None = None
    warmup: int | Literal["all"] = 0
    among: int | None = None
    move: int | Literal["all"] = 0
    epsilon: float = 0.25
    scores: Scores | None = None
    asked: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        for key, value in (("warmup.pool", self.warmup), ("move.candidates", self.move)):
            if value != "all" and (not isinstance(value, int) or value < 0):
                raise UsageError(
                    f"guidance.{key}={value} is not possible; give a positive number or all."
                )
        if self.among is not None and self.among < (1 if self.warmup == "all" else self.warmup):
            raise UsageError(
                f"guidance.warmup.among={self.among} is less than the pool drawn from it, "
                f"guidance.warmup.pool={self.warmup}; give more, or null."
            )
        if not 0 <= self.epsilon <= 1:
            raise UsageError(
                f"guidance.move.epsilon={self.epsilon} is not possible; give a chance in [0, 1]."
            )
        if (self.warmup or self.move) and self.scorer is None:
            raise UsageError("guidance by warmup or move needs a proxy to score with.")

    def pool(self, space: SearchSpace, rng: np.random.Generator) -> Pool:
        """Draw and score the warmup pool; empty without warmup."""
        if not self.warmup:
            return Pool([], np.empty(0))
        drawn = self._drawn(space, rng)
        goodness = self.goodness(drawn)
        order = np.argsort(-goodness, kind="stable")
        return Pool([drawn[i] for i in order], goodness[order])

    def pool_size(self, space: SearchSpace) -> int:
        """How many architectures a pool has; raises :class:`UsageError` where that is too many."""
        if self.among is not None and self.among > space.size:
            raise UsageError(
                f"guidance.warmup.among={self.among} exceeds the {space.size} architectures of "
                f"{space.name}; give less, or null."
            )
        if self.warmup != "all":
            return self.warmup
        if self.among is None:
            space.check_all()
        return self.among or space.size

    def _drawn(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        size = self.pool_size(space)
        if self.among is None:
            return list(space.enumerate()) if self.warmup == "all" else space.sample(rng, size)
        sample = distinct(space, np.random.default_rng(0), self.among)
        return [sample[i] for i in rng.choice(len(sample), size, replace=False)]

    def candidates(self, space: SearchSpace, arch: Architecture) -> int:
        """How many proposals a searcher without a current architecture draws for one move."""
        return max(1, len(space.neighbours(arch))) if self.move == "all" else self.move

    def choose(self, candidates: Sequence[Architecture], rng: np.random.Generator) -> Architecture:
        """Return the best-scored of the first ``move`` candidates; unguided, the first of all."""
        if not self.move or rng.random() < self.epsilon:
            return candidates[0]
        if self.move != "all":
            candidates = candidates[: self.move]
        return candidates[int(np.argmax(self.goodness(candidates)))]

    def goodness(self, archs: Sequence[Architecture]) -> NDArray[np.float64]:
        """Score ``archs`` and count them."""
        assert self.scorer is not None
        goodness = _ranked(self.scorer(archs))
        self.charge(len(archs), len(archs) * self.scorer.seconds_per_score)
        return goodness

    def features(self, archs: Sequence[Architecture], names: Sequence[str]) -> NDArray[np.float64]:
        """Score ``archs`` by each of ``names`` and count them, float64 [names, archs].

        Raises :class:`UsageError` where there are no scores to read.
        """
        if self.scores is None:
            raise UsageError(
                f"searcher.features=[{', '.join(names)}] needs Guidance(scores=...) to read "
                "scores from; give it, or no features."
            )
        goodness = _ranked(self.scores(archs, names))
        self.charge(len(archs) * len(names), len(archs) * self.scores.seconds(names))
        return goodness

    def charge(self, scores: int, seconds: float) -> None:
        """Count so many ``scores`` that were asked for, and the ``seconds`` that they took."""
        self.asked += scores
        self.seconds += seconds


def _ranked(goodness: NDArray[np.float64]) -> NDArray[np.float64]:
    """Let NaN rank last."""
    return np.fmax(goodness, -np.inf)
