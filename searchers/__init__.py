"""Searchers: ask/tell proposals, and the guidance that zero-cost scores give them."""

from searchers.base import CallOrderError, Searcher
from searchers.evolution import Evolution
from searchers.guidance import Guidance, Pool, Scorer
from searchers.nsga2 import NSGA2
from searchers.perturbation import Perturbation
from searchers.predictor import Predictor
from searchers.predictor_gcn import PredictorGCN
from searchers.random import RandomSearch
from searchers.reinforce import Reinforce
from searchers.search import Found, search

__all__ = [
    "NSGA2",
    "CallOrderError",
    "Evolution",
    "Found",
    "Guidance",
    "Perturbation",
    "Pool",
    "Predictor",
    "PredictorGCN",
    "RandomSearch",
    "Reinforce",
    "Scorer",
    "Searcher",
    "search",
]
