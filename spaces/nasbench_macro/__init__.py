"""NAS-Bench-Macro: eight blocks, each an identity or one of two inverted residuals."""

from spaces.nasbench_macro.space import NASBenchMacro

__all__ = ["NASBenchMacro"]
