"""Searchers: ask/tell proposals, and the guidance that zero-cost scores give them."""

from searchers.bananas import Bananas
from searchers.base import CallOrderError, Searcher
from searchers.darts import Darts
from searchers.evolution import Evolution
from searchers.guidance import Guidance, Pool, Scorer, Scores
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
from searchers.search import Found, search
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
