"""Search spaces, their networks and their benchmark tables."""

from spaces.base import Architecture, Choices, Decision, Graph, SearchSpace
from spaces.benchmark import Benchmark, Evaluation, TableBenchmark

__all__ = [
    "Architecture",
    "Benchmark",
    "Choices",
    "Decision",
    "Evaluation",
    "Graph",
    "SearchSpace",
    "TableBenchmark",
]
