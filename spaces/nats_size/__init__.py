"""NATS-Bench's size space: one cell, and the channels of five places to choose."""

from spaces.nats_size.space import NATSSize

__all__ = ["NATSSize"]
