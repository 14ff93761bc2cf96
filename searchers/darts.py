"""DARTS and DARTS-PT: decide a supernet that was trained, by its strengths or by perturbation.

Liu et al. 2019, "DARTS: Differentiable Architecture Search": weights and strengths of operations
are trained in turn (:mod:`spaces.trained_supernet`), and in each place the strongest operation is
kept. Wang et al. 2021, "Rethinking Architecture Selection in Differentiable NAS" (DARTS-PT): the
places are decided one after the other by the validation accuracy that the supernet has without each
operation; that without which it is lowest stays, and the supernet is trained on for a while. With
``strength_rate=0`` operations stay mixed evenly, their DARTS-PT with fixed strengths.

They are baselines: nothing but pictures is needed, no table, and a supernet is trained for one
architecture. A second model, and all after it, are random ones.

Numbered deviations: those of the training; (1) inputs of nodes are deleted one by one, as in
:mod:`searchers.perturbation`; (2) training on starts again at the first learning rate; (3) ``none``
may be chosen, where a place has it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np

from conf.errors import UsageError, at_least, unknown_name
from searchers.base import Searcher
from searchers.guidance import Guidance
from searchers.perturbation import Floats, Order, Pair, Proposal, Score
from spaces.base import Architecture, SearchSpace
from spaces.supernets import Supernets

Decide = Literal["strength", "perturbation"]

_SEEDS: Final = 1 << 31


class Darts(Searcher):
    """Proposes what is left of a trained supernet.

    Args:
        decide: strength (DARTS) or perturbation (DARTS-PT).
        order: of the places, for decide=perturbation: fixed, reverse or random.
        steps: of weights and of strengths before the first decision.
        tuning: steps after each decision by perturbation.
        validation: pictures that an accuracy is measured on; None for the whole validation part.
        data: see :func:`spaces.training_data.read`; None for the 640 pictures that come with Assay.
        held_out: the share of pictures that weights are not trained on.
        device: auto, cpu or cuda.

    For the others see :class:`spaces.trained_supernet.Recipe`. Raises :class:`UsageError` for
    settings that are not possible, for guidance, for pictures that cannot be read or are not those
    of ``space``, and for a space without supernets, or whose inputs have no strengths to go by.
    """

    score: Score = "perturbation"
    shrink = samples = 0

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        decide: Decide = "perturbation",
        order: Literal["fixed", "reverse", "random"] = "random",
        steps: int = 1000,
        tuning: int = 50,
        validation: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 0.025,
        weight_decay: float = 3e-4,
        strength_rate: float = 3e-4,
        augment: bool = True,
        data: str | None = None,
        held_out: float = 0.5,
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        from spaces.trained_supernet import Recipe
        from spaces.training import device_of
        from spaces.training_data import read

        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        if self.guidance.warmup or self.guidance.move:
            raise UsageError("searcher=darts takes no scores to be guided by; give guidance=none.")
        if decide not in get_args(Decide):
            raise unknown_name("searcher.decide", decide, get_args(Decide))
        if order not in ("fixed", "reverse", "random"):
            raise unknown_name("searcher.order", order, ("fixed", "reverse", "random"))
        at_least(1, "searcher", steps=steps, validation=validation, batch_size=batch_size)
        at_least(0, "searcher", tuning=tuning)
        for name, rate in (
            ("learning_rate", learning_rate),
            ("weight_decay", weight_decay),
            ("strength_rate", strength_rate),
        ):
            if not 0 <= rate < float("inf"):
                raise UsageError(f"searcher.{name}={rate} must be 0 or more, and finite.")
        self.supernets = Supernets(space)
        joined = {place for junction in space.junctions for place in junction.places}
        if decide == "strength" and any(len(space.places[p].choices) == 1 for p in joined):
            raise UsageError(
                f"inputs of {space.name} have no strengths; choose searcher.decide=perturbation."
            )
        self.decide, self.order = decide, order
        self.steps, self.tuning, self.validation = steps, tuning, validation
        self.recipe = Recipe(
            batch_size, float(learning_rate), float(weight_decay), float(strength_rate), augment
        )
        self.device = device_of(device, "searcher")
        self.data = read(data, held_out, space, "searcher")

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        return self._search(self.rng(0)) if step == 0 else self.draw(1, rng)[0]

    def _observe(self, arch: Architecture, objective: float) -> None:
        pass

    def _search(self, rng: np.random.Generator) -> Architecture:
        from spaces.trained_supernet import TrainedSupernet

        began = time.perf_counter()
        seed = int(rng.integers(_SEEDS))
        self.supernet = TrainedSupernet(self.space, self.data, self.recipe, seed, self.device)
        self.supernet.train(self.steps)
        kind = _Strongest if self.decide == "strength" else Proposal
        arch = kind(self, rng).derive(self.order)
        self.guidance.seconds += time.perf_counter() - began
        return arch

    def scored(
        self, space: SearchSpace, archs: Sequence[Architecture], weights: int, minibatch: int
    ) -> Floats:
        """Measure supernets that differ in one place, after training on what was decided."""
        supernets = [self.supernets.decode(arch) for arch in archs]
        decided = tuple(
            each[0] if len(set(each)) == 1 and each[0].of <= 1 else before
            for each, before in zip(zip(*supernets, strict=True), self.supernet.left, strict=True)
        )
        if decided != self.supernet.left:
            self.supernet.decide(decided)
            self.supernet.train(self.tuning)
        return np.array([self.supernet.accuracy(each, self.validation) for each in supernets])


class _Strongest(Proposal):
    """Decides by strengths; inputs by that of the operation that they have."""

    search: Darts

    def merits(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        shares = self.search.supernet.shares
        return {(place, operation): shares[place][operation] for place, operation in pairs}

    def join(self, order: Order) -> None:
        shares = self.search.supernet.shares
        for junction in self.space.junctions:
            inputs = [place for place in junction.places if self.left[place]]
            inputs.sort(key=lambda place: -shares[place][self.left[place][0]])
            for place in inputs[junction.keep :]:
                self.left = self._with(place)
