"""How networks get their initial weights: each its own, or all the same where they are alike."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from conf.errors import unknown_name

if TYPE_CHECKING:
    from torch import nn

    from spaces.base import Architecture, SearchSpace

Network = TypeVar("Network", bound="nn.Module")

INITS: Final = ("independent", "shared")
"""``independent``: each architecture draws weights of its own, from the seed and its notation.

``shared``: each layer draws from the seed, its place in the network and its shapes, so that the
same operation at the same place has the same weights in all architectures.
"""


@dataclass(frozen=True)
class InitialWeights:
    """One draw of the weights of every network of a space.

    No draw depends on the order in which networks are built, nor on the process.

    Raises :class:`UsageError` for another ``init`` than those of :data:`INITS`.
    """

    init: str = "independent"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.init not in INITS:
            raise unknown_name("service.init", self.init, INITS)

    def network(
        self, space: SearchSpace, arch: Architecture, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network of ``arch`` with these weights, float32.

        Raises :class:`UsageError` where the layers of a space cannot be drawn one by one.
        """
        build = functools.partial(space.network, arch, running_stats=running_stats)
        return self.drawn(space, arch, build)

    def drawn(
        self, space: SearchSpace, arch: Architecture, build: Callable[[], Network]
    ) -> Network:
        """Call ``build``, which draws a network as ``space.network(arch)`` does."""
        import torch

        precision = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(self.seed_of(space, arch))
                network = build()
                if self.init == "shared":
                    for path, layer in network.named_modules():
                        shapes = [tuple(p.shape) for p in layer.parameters(recurse=False)]
                        if shapes:
                            torch.default_generator.manual_seed(
                                self.seed_of_layer(space, path, shapes)
                            )
                            space.draw(layer)
                return network
        finally:
            torch.set_default_dtype(precision)

    def seed_of(self, space: SearchSpace, arch: Architecture) -> int:
        """Return the seed of all weights of one network."""
        return self._hash(_key(space), space.format(space.drawn_as(arch)))

    def seed_of_layer(
        self, space: SearchSpace, path: str, shapes: Sequence[tuple[int, ...]]
    ) -> int:
        """Return the seed of the layer at ``path`` whose parameters have ``shapes``."""
        return self._hash(_key(space), path, str(list(shapes)))

    def _hash(self, *words: str) -> int:
        text = "|".join((str(self.seed), *words))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def _key(space: SearchSpace) -> str:
    return json.dumps(space.network_key(), sort_keys=True)
