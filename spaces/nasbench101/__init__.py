"""NAS-Bench-101: cells of up to seven vertices and nine edges, one of three operations each."""

from spaces.nasbench101.space import NASBench101

__all__ = ["NASBench101"]
