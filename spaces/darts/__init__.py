"""DARTS: a normal and a reduction cell of four nodes, each of two inputs through an operation."""

from spaces.darts.space import DARTS

__all__ = ["DARTS"]
