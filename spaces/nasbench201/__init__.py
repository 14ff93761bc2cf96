"""NAS-Bench-201: cells of four nodes, each pair joined by one of five operations."""

from spaces.nasbench201.space import NASBench201

__all__ = ["NASBench201"]
