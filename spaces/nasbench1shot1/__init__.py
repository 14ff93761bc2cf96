"""NAS-Bench-1Shot1: three parts of NAS-Bench-101 that a supernet can hold."""

from spaces.nasbench1shot1.space import NASBench1Shot1

__all__ = ["NASBench1Shot1"]
