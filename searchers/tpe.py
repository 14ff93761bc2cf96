"""TPE, the tree-structured Parzen estimator, by Optuna (extra ``optuna``).

Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization". Each decision has a density of
the choices of the better architectures and one of those of the others; of 24 draws from the first,
that of the largest ratio of the two is taken, decision by decision. The settings are Optuna's.

Deviations: (1) a step draws from random numbers of its own, so that a search can be resumed; (2)
what is no architecture of the space, or may not be trained again, is drawn anew, up to ten times,
and then at random; (3) with warmup the first models are the best of the pool; with move
proposal several are drawn, and the best-scored is trained.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from conf.errors import UsageError, at_least
from searchers.base import Searcher
from searchers.guidance import Guidance
from spaces.base import Architecture, SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_REJECTED: Final = 10
"""Draws of a step that may be of no use; then architectures are drawn at random."""


class TPE(Searcher):
    """Draws what is likelier among the better architectures than among the others.

    Args:
        start: models before the first estimate, drawn at random.
        draws: from the density of the better architectures, of which the best is taken.
        multivariate: whether decisions have a joint density rather than one each.

    Raises :class:`UsageError` for settings that are not possible, and where Optuna is missing.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        guidance: Guidance | None = None,
        seed: int = 0,
        repeats: bool = True,
        start: int = 10,
        draws: int = 24,
        multivariate: bool = False,
    ) -> None:
        super().__init__(space, guidance=guidance, seed=seed, repeats=repeats)
        at_least(1, "searcher", start=start, draws=draws)
        if importlib.util.find_spec("optuna") is None:
            raise UsageError(
                "searcher=tpe needs optuna: install assay[optuna], or choose another searcher."
            )
        import optuna
        from optuna.distributions import CategoricalDistribution

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.start = start
        self._settings: dict[str, Any] = {
            "n_startup_trials": 0,
            "n_ei_candidates": draws,
            "multivariate": multivariate,
            "constant_liar": False,
        }
        self._choices: dict[str, BaseDistribution] = {
            str(n): CategoricalDistribution(range(len(decision.choices)))
            for n, decision in enumerate(space.decisions)
        }
        self._study = optuna.create_study(direction="maximize")
        self._told: list[FrozenTrial] = []
        warm = self.guidance.pool(space, self.rng(0)).architectures
        self._warm = list(dict.fromkeys(warm))[:start]

    def _propose(self, step: int, rng: np.random.Generator) -> Architecture:
        taken = self.trained.union(self._pending or ())
        warm = [arch for arch in self._warm if arch not in taken]
        if step < self.start and warm:
            return self.guidance.choose(warm, rng)
        wanted = 1
        if self.guidance.move:
            wanted = self.guidance.candidates(self.space, self.space.sample(rng, 1)[0])
        found = self._estimated(wanted, rng) if self.told and step >= self.start else []
        if len(found) < wanted:
            found += self.draw(1, rng) + self.fresh(self.space.sample(rng, wanted - len(found) - 1))
        return self.guidance.choose(found, rng)

    def _observe(self, arch: Architecture, objective: float) -> None:
        import optuna

        choices = {str(n): choice for n, choice in enumerate(arch)}
        self._told.append(
            optuna.create_trial(params=choices, distributions=self._choices, value=objective)
        )
        self._study.add_trial(self._told[-1])

    def _estimated(self, wanted: int, rng: np.random.Generator) -> list[Architecture]:
        """Draw by the densities; what is asked of the study leaves no trace that it looks at.

        Where it has gathered more of these than it was told, a new study takes its place.
        """
        import optuna
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        seed = int(rng.integers(2**31))
        if len(self._study.get_trials(deepcopy=False)) > 2 * len(self._told):
            self._study = optuna.create_study(direction="maximize")
            self._study.add_trials(self._told)
        self._study.sampler = TPESampler(seed=seed, **self._settings)
        found: list[Architecture] = []
        for _ in range(wanted + _REJECTED):
            trial = self._study.ask(self._choices)
            arch = tuple(trial.params[name] for name in self._choices)
            self._study.tell(trial, state=TrialState.FAIL)
            found += self.fresh([arch]) if self.space.is_valid(arch) else []
            if len(found) == wanted:
                break
        return found
