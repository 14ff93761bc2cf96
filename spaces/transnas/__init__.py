"""TransNAS-Bench-101: cells and skeletons, trained on seven tasks."""

from spaces.transnas.space import TransNASMacro, TransNASMicro

__all__ = ["TransNASMacro", "TransNASMicro"]
