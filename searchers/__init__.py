"""Searchers: ask/tell proposals, and the guidance that zero-cost scores give them.

Importing the package loads no searcher, and nothing that only a searcher needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from searchers.base import CallOrderError, Searcher
from searchers.guidance import Guidance, Pool, Scorer, Scores
from searchers.search import Found, search

if TYPE_CHECKING:
    from searchers.bananas import Bananas
    from searchers.darts import Darts
    from searchers.evolution import Evolution
    from searchers.hyperband import Hyperband
    from searchers.local_search import LocalSearch
    from searchers.npenas import NPENAS
    from searchers.nsga2 import NSGA2
    from searchers.perturbation import Perturbation
    from searchers.predictor import Predictor
    from searchers.predictor_gcn import PredictorGCN
    from searchers.random import RandomSearch
    from searchers.reinforce import Reinforce
    from searchers.robot import RoBoT
    from searchers.touchstone import Touchstone
    from searchers.tpe import TPE
    from searchers.weaknas import WeakNAS

__all__ = [
    "NPENAS",
    "NSGA2",
    "TPE",
    "Bananas",
    "CallOrderError",
    "Darts",
    "Evolution",
    "Found",
    "Guidance",
    "Hyperband",
    "LocalSearch",
    "Perturbation",
    "Pool",
    "Predictor",
    "PredictorGCN",
    "RandomSearch",
    "Reinforce",
    "RoBoT",
    "Scorer",
    "Scores",
    "Searcher",
    "Touchstone",
    "WeakNAS",
    "search",
]

_HOMES = {
    "Bananas": "bananas",
    "Darts": "darts",
    "Evolution": "evolution",
    "Hyperband": "hyperband",
    "LocalSearch": "local_search",
    "NPENAS": "npenas",
    "NSGA2": "nsga2",
    "Perturbation": "perturbation",
    "Predictor": "predictor",
    "PredictorGCN": "predictor_gcn",
    "RandomSearch": "random",
    "Reinforce": "reinforce",
    "RoBoT": "robot",
    "TPE": "tpe",
    "Touchstone": "touchstone",
    "WeakNAS": "weaknas",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'searchers' has no attribute '{name}'")
    return getattr(importlib.import_module(f"searchers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
