"""Zero-Cost-PT: decide the edges of an untrained supernet by what its scores lose without them.

Xiang et al. 2023, "Zero-Cost Operation Scoring in Differentiable Architecture Search". A proposal
starts from the supernet that has every operation in every place, mixed uniformly, its weights
drawn once. One place after another is decided: the supernet is scored with each operation removed,
the weights of the others unchanged, and the operation whose removal leaves the lowest score is
kept. Where nodes have more inputs than an architecture may keep, inputs are deleted one by one, the
one without which the score stays highest. Of several proposals the one is chosen whose networks,
no supernets any more, have the largest sum of scores over several minibatches.

Nothing is trained, so that one model is proposed; asked for more, the search gives the other
proposals by falling score, and then random architectures. A score that cannot be computed decides
for nothing.

Numbered deviations from the released code: (1) an operation that is removed does not run, where
that of NAS-Bench-201 runs it on zeros, so that each of its ReLUs adds a constant to the kernel of
naswot; (2) ``global_op_once`` and ``global_edge_once`` order the places by one ranking at the
start, where the released ranking is never sorted; (3) an input once deleted stays deleted while the
others of its node are judged; (4) the places of normal and reduction cells are decided in one
order, each by a minibatch of its own, instead of in pairs; (5) every proposal draws weights of its
own, and so does every minibatch that proposals are compared by; (6) the weights of a mixture are
exactly equal, where the released ones are a softmax of small random numbers; (7) on NAS-Bench-Macro
a decided block is alone in its place, and blocks keep their places; (8) blocks of NAS-Bench-1Shot1
lose their inputs by the rule of DARTS; (9) supernets of ``proxyless`` take the mean of
several operations, where the released one sums them; (10) TE-NAS, which is ``order="prune"``,
scores removals as the other orders do, in the network and on the pictures that are given, where the
published one has thin copies of its own; (11) a minibatch is drawn by a seed of the search, without
replacement, where the released ones are from one shuffled half of the training pictures, and has 64
of 640 pictures by default, where the released ones have 256, 64 for DARTS and 128 for 1Shot1; (12)
``noise``, of the subspace S4, is drawn anew in every pass, and so differs between removals; (13) of
inputs without which the score is equally high the first is deleted, where the released code deletes
the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, at_least, unknown_name
from searchers.base import Searcher
from searchers.guidance import Guidance, Timed
from spaces.base import Architecture, Left, SearchSpace
from spaces.supernets import Place, Supernets, mean

Floats = NDArray[np.float64]
Order = Literal[
    "fixed",
    "reverse",
    "random",
    "global_op",
    "global_op_once",
    "global_edge",
    "global_edge_once",
    "shrink",
    "prune",
]
Score = Literal["perturbation", "discretisation", "best"]
Pair = tuple[int, int]
"""A place and one of its operations."""

_SEEDS: Final = 1 << 31


class Judge(Timed, Protocol):
    """Scores architectures of a space, or supernets, by weights and a minibatch of one's own."""

    def __call__(
        self, space: SearchSpace, archs: Sequence[Architecture], *, weights: int, minibatch: int
    ) -> Floats:
        """Goodness of each of ``archs`` among them: larger is better, -inf is unscorable."""
        ...


class Scoring(Protocol):
    """What a :class:`Proposal` asks: settings as of :class:`Perturbation`, and scores."""

    space: SearchSpace
    supernets: Supernets
    score: Score
    shrink: int
    samples: int

    def scored(
        self, space: SearchSpace, archs: Sequence[Architecture], weights: int, minibatch: int
    ) -> Floats:
        """Score architectures of ``space``, or supernets, as a :class:`Judge` does."""
        ...


class Perturbation(Searcher):
    """Proposes what is left of an untrained supernet.

    Args:
        judge: scores supernets and networks.
        proposals: how many architectures are derived; equal ones count once.
        validation: on how many minibatches the derived networks are scored.
        score: of an operation: perturbation, how low the score of the supernet falls without it;
            discretisation, how high it is with nothing else in its place; best, the highest score
            of ``samples`` random architectures that have it.
        order: of the places: fixed, reverse or random; global_op, always the place and operation
            that score best among all; global_edge, the place whose operations score best on
            average; either with ``_once``, in the order that they have at the start; shrink,
            global_op within the operations of ``shrink`` random proposals; prune, in rounds, each
            of which removes the worst operation of every place (TE-NAS, Chen et al. 2021).
        shrink: how many proposals shrink the supernet.
        samples: how many random architectures the score best draws.

    Raises :class:`UsageError` for settings that are not possible, for guidance, and for a space
    without supernets.
    """

    judged: ClassVar = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        judge: Judge,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        proposals: int = 10,
        validation: int = 100,
        score: Score = "perturbation",
        order: Order = "random",
        shrink: int = 20,
        samples: int = 50,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        if self.guidance.warmup or self.guidance.move:
            raise UsageError("searcher=perturbation is guided by scores alone; give guidance=none.")
        at_least(
            1,
            "searcher",
            proposals=proposals,
            validation=validation,
            shrink=shrink,
            samples=samples,
        )
        if score not in get_args(Score):
            raise unknown_name("searcher.score", score, get_args(Score))
        if order not in get_args(Order):
            raise unknown_name("searcher.order", order, get_args(Order))
        if order == "prune" and score == "best":
            raise UsageError("searcher.order=prune removes by perturbation or discretisation.")
        self.supernets = Supernets(space)
        self.judge, self.proposals, self.validation = judge, proposals, validation
        self.score, self.order, self.shrink, self.samples = score, order, shrink, samples
        self._ranked: list[Architecture] | None = None

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        if self._ranked is None:
            before = self.guidance.asked, self.guidance.seconds
            self._ranked = self._search(self.rng(0))
            if step:  # a journal has counted them
                self.guidance.asked, self.guidance.seconds = before
        return self._ranked[step] if step < len(self._ranked) else self.draw(1, rng)[0]

    def _observe(self, arch: Architecture, objective: float) -> None:
        pass

    def _search(self, rng: np.random.Generator) -> list[Architecture]:
        """Derive the proposals, and rank them by their own networks."""
        derived = [Proposal(self, rng).derive(self.order) for _ in range(self.proposals)]
        archs = list(dict.fromkeys(derived))
        total = np.zeros(len(archs))
        for _ in range(self.validation if len(archs) > 1 else 0):
            weights, minibatch = rng.integers(_SEEDS, size=2).tolist()
            total += self.scored(self.space, archs, weights, minibatch)
        return [archs[i] for i in np.argsort(-total, kind="stable")]

    def scored(
        self, space: SearchSpace, archs: Sequence[Architecture], weights: int, minibatch: int
    ) -> Floats:
        """Judge ``archs`` and count them."""
        goodness = self.judge(space, archs, weights=weights, minibatch=minibatch)
        self.guidance.charge(len(archs), len(archs) * self.judge.seconds_per_score)
        return goodness


class Proposal:
    """One way from the whole supernet to an architecture, with weights of its own.

    Attributes:
        left: the operations that are left at each place, by now.
    """

    def __init__(self, search: Scoring, rng: np.random.Generator) -> None:
        self.search, self.space = search, search.space
        self.rng = rng
        self.weights = int(rng.integers(_SEEDS))
        self.left: Left = tuple(tuple(range(len(p.choices))) for p in self.space.places)
        self._best: dict[Pair, float] = {}

    def derive(self, order: Order) -> Architecture:
        """Decide every place, then the inputs of every node."""
        self.decide(order)
        self.join(order)
        return self.space.decided(self.left)

    # -- operations ---------------------------------------------------------------------------

    def decide(self, order: Order) -> None:
        """Leave one operation in every place."""
        if order == "shrink":
            self._shrink()
        elif order == "prune":
            while self._open():
                self._prune()
        if order in ("shrink", "global_op"):
            while self._open():
                place, operation = _best(self.merits(self._pairs(self._open())))
                self._fix(place, operation)
        elif order == "global_edge":
            while self._open():
                self._decide(max(self._averages().items(), key=lambda item: item[1])[0])
        else:
            for place in self._ordered(order):
                self._decide(place)

    def merits(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        """Score operations on one new minibatch; the larger, the more they are worth keeping.

        An operation that has no score is worth -inf.
        """
        if self.search.score == "best":
            table = self._sampled()
            return {pair: table.get(pair, -np.inf) for pair in pairs}
        removing = self.search.score == "perturbation"
        goodness = self._scored([self._without(p) if removing else self._only(p) for p in pairs])
        if removing:
            goodness = np.where(np.isneginf(goodness), -np.inf, -goodness)
        return dict(zip(pairs, goodness.tolist(), strict=True))

    def _open(self) -> list[int]:
        return [place for place, operations in enumerate(self.left) if len(operations) > 1]

    def _pairs(self, places: Sequence[int]) -> list[Pair]:
        """List the operations that may be chosen in ``places``."""
        pairs = [(place, operation) for place in places for operation in self.left[place]]
        return [pair for pair in pairs if self.space.feasible(self._with(*pair))]

    def _ordered(self, order: Order) -> list[int]:
        places = self._open()
        if order == "reverse":
            return places[::-1]
        if order == "random":
            return [places[i] for i in self.rng.permutation(len(places))]
        if order == "global_op_once":
            merits = self.merits(self._pairs(places))
            highest = {p: max(m for (q, _), m in merits.items() if q == p) for p in places}
            return sorted(places, key=lambda place: -highest[place])
        if order == "global_edge_once":
            averages = self._averages()
            return sorted(places, key=lambda place: -averages[place])
        return places

    def _averages(self) -> dict[int, float]:
        """Average what the operations of each open place are worth."""
        merits = self.merits(self._pairs(self._open()))
        found = {}
        for place in self._open():
            known = [m for (p, _), m in merits.items() if p == place and m > -np.inf]
            found[place] = float(np.mean(known)) if known else -np.inf
        return found

    def _decide(self, place: int) -> None:
        pairs = self._pairs([place])
        self._fix(*(_best(self.merits(pairs)) if len(pairs) > 1 else pairs[0]))

    def _fix(self, place: int, operation: int) -> None:
        self.left = self._with(place, operation)

    def _with(self, place: int, *operations: int) -> Left:
        return (*self.left[:place], operations, *self.left[place + 1 :])

    def _shrink(self) -> None:
        """Leave what random proposals choose."""
        chosen = [set[int]() for _ in self.left]
        for _ in range(self.search.shrink):
            other = Proposal(self.search, self.rng)
            other.decide("random")
            for place, (operation,) in zip(chosen, other.left, strict=True):
                place.add(operation)
        self.left = tuple(tuple(sorted(place)) for place in chosen)

    def _prune(self) -> None:
        """Remove the least operation of every place that has several."""
        for place in self._open():
            merits = self.merits([(place, operation) for operation in self.left[place]])
            worst = min(merits.items(), key=lambda item: item[1])[0][1]
            left = self._with(place, *(o for o in self.left[place] if o != worst))
            if self.space.feasible(left):
                self.left = left
            else:
                self._decide(place)

    def _sampled(self) -> dict[Pair, float]:
        """Return the best score of the random architectures that have each operation."""
        if not self._best:
            archs = self.space.sample(self.rng, self.search.samples)
            minibatch = int(self.rng.integers(_SEEDS))
            goodness = self.search.scored(self.space, archs, self.weights, minibatch)
            for arch, value in zip(archs, goodness.tolist(), strict=True):
                for pair in self.space.held(arch):
                    self._best[pair] = max(value, self._best.get(pair, -np.inf))
        return self._best

    # -- inputs of nodes ----------------------------------------------------------------------

    def join(self, order: Order) -> None:
        """Delete inputs until every node has as many as it may keep."""
        junctions = list(self.space.junctions)
        if order == "reverse":
            junctions.reverse()
        elif order != "fixed":
            junctions = [junctions[i] for i in self.rng.permutation(len(junctions))]
        for junction in junctions:
            inputs = [place for place in junction.places if self.left[place]]
            while len(inputs) > junction.keep:
                goodness = self._scored([(place, Place((), 1)) for place in inputs])
                place = inputs.pop(int(np.argmax(goodness)))
                self.left = self._with(place)

    # -- scores -------------------------------------------------------------------------------

    def _without(self, pair: Pair) -> tuple[int, Place]:
        place, operation = pair
        operations = self.left[place]
        return place, Place(tuple(o for o in operations if o != operation), len(operations))

    def _only(self, pair: Pair) -> tuple[int, Place]:
        place, operation = pair
        return place, Place((operation,), 1)

    def _scored(self, changes: Sequence[tuple[int, Place]]) -> Floats:
        """Score the supernet with each of ``changes``, all on one new minibatch."""
        supernet = mean(self.left)
        archs = [
            self.search.supernets.encode((*supernet[:place], changed, *supernet[place + 1 :]))
            for place, changed in changes
        ]
        minibatch = int(self.rng.integers(_SEEDS))
        return self.search.scored(self.search.supernets, archs, self.weights, minibatch)


def _best(merits: dict[Pair, float]) -> Pair:
    return max(merits.items(), key=lambda item: item[1])[0]
