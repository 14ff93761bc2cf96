"""The supernets of a space, as a space of their own: what is half decided is an architecture too.

A supernet has, at each place, the operations that are left there. Its output is their mean; or,
where one was taken out for a trial, their sum divided by as many as there were before, so that the
weights of the others are as they were (Xiang et al. 2023). A place where nothing is left is cut.

All supernets of one space and one seed have the same weights, those of the supernet that has every
operation: taking something out changes nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.base import Architecture, Decision, Left, SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from spaces.branched import Branched

_PLACE: Final = re.compile(r"([0-9]*)/([0-9])")


class Place(NamedTuple):
    """The operations left at a place, in order, and the number that their sum is divided by."""

    operations: tuple[int, ...]
    of: int


Supernet = tuple[Place, ...]


def mean(left: Left) -> Supernet:
    """Return the supernet that takes, at each place, the mean of what is left there."""
    return tuple(Place(operations, len(operations)) for operations in left)


class Supernets(SearchSpace):
    """The supernets of ``base``.

    An architecture has two choices a place: the operations left, as the bits of a number, and the
    number that their sum is divided by. Text writes them place by place, ``0134/5``: of five
    operations all but the third. :meth:`encode` and :meth:`decode` go between that and
    :data:`Supernet`.

    Raises :class:`UsageError` where ``base`` has no supernets.
    """

    name = "supernets"

    def __init__(self, base: SearchSpace) -> None:
        if not base.places:
            base.supernet()
        self.base = base
        self.dataset, self.classes, self.image_size = base.dataset, base.classes, base.image_size
        self._widths = [len(place.choices) for place in base.places]
        self.whole = self.encode(mean(tuple(tuple(range(width)) for width in self._widths)))
        self.decisions = tuple(
            decision
            for place, width in zip(base.places, self._widths, strict=True)
            for decision in (
                Decision(f"{place.name} left", tuple(map(str, range(2**width)))),
                Decision(f"{place.name} of", tuple(map(str, range(width + 1)))),
            )
        )

    def encode(self, supernet: Supernet) -> Architecture:
        """Write a supernet as an architecture."""
        return tuple(
            number
            for operations, of in supernet
            for number in (sum(1 << operation for operation in operations), of)
        )

    def decode(self, arch: Architecture) -> Supernet:
        """Read what :meth:`encode` writes."""
        return tuple(
            Place(tuple(o for o in range(left.bit_length()) if left >> o & 1), of)
            for left, of in zip(arch[::2], arch[1::2], strict=True)
        )

    # -- drawing and names --------------------------------------------------------------------

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether no place of each has more operations than their sum is divided by: bool [n]."""
        return np.array(
            [all(len(operations) <= of for operations, of in self.decode(arch)) for arch in archs]
        )

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw supernets of means, each place keeping any operations but none at all."""
        drawn = rng.integers(1, [2**width for width in self._widths], (n, len(self._widths)))
        return [
            tuple(number for left in row for number in (left, left.bit_count()))
            for row in drawn.tolist()
        ]

    def format(self, arch: Architecture) -> str:
        """Write the numbers of the operations left, and of how many."""
        return " ".join(f"{''.join(map(str, left))}/{of}" for left, of in self.decode(arch))

    def parse(self, text: str) -> Architecture:
        """Read what :meth:`format` writes; raises :class:`UsageError` on anything else."""
        words = [_PLACE.fullmatch(word) for word in text.split()]
        if len(words) == len(self._widths) and all(words):
            groups = [word.groups() for word in words if word]
            arch = self.encode(tuple(Place(tuple(map(int, left)), int(of)) for left, of in groups))
            if self.is_valid(arch) and self.format(arch) == " ".join(text.split()):
                return arch
        raise UsageError(
            f"'{text}' is no supernet of {self.base.name}: write, for each of its "
            f"{len(self._widths)} places, the operations left and of how many, as "
            f"{self.format(self.whole).split()[0]}."
        )

    # -- networks -----------------------------------------------------------------------------

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the supernet that has everything, and take out what is not left."""
        from spaces.mixture import mixtures_of

        network = self.base.supernet(classes=classes, running_stats=running_stats)
        for place, mixtures in zip(self.decode(arch), mixtures_of(network), strict=True):
            for mixture in mixtures:
                mixture.keep(*place)
                mixture.trim()
        return network

    def branched(self, *, running_stats: bool = True) -> Branched:
        """Build the network that runs supernets which differ in one place as one.

        It computes what theirs do in evaluation mode, with weights from the same numbers.
        """
        from spaces.branched import Branched

        return Branched(self.base, self.base.supernet(running_stats=running_stats))

    def branches(self, archs: Sequence[Architecture]) -> Iterator[list[int]]:
        """Group ``archs``, by their numbers, so that those of a group differ in one place alone."""
        groups: list[list[int]] = []
        for number, arch in enumerate(archs):
            for group in groups:
                if len(self._differing([archs[member] for member in group] + [arch])) == 1:
                    group.append(number)
                    break
            else:
                groups.append([number])
        return iter(groups)

    def _differing(self, archs: Sequence[Architecture]) -> list[int]:
        """List the places in which any two of ``archs`` differ."""
        first = archs[0]
        return [
            place
            for place in range(len(self._widths))
            if any(
                arch[2 * place : 2 * place + 2] != first[2 * place : 2 * place + 2]
                for arch in archs
            )
        ]

    def draw(self, layer: nn.Module) -> None:
        """Draw a layer as ``base`` does."""
        self.base.draw(layer)

    def drawn_as(self, arch: Architecture) -> Architecture:
        """Return the supernet that has everything."""
        return self.whole

    def network_key(self) -> dict[str, Any]:
        """Return the key of ``base``, and that this is its supernet."""
        return {**self.base.network_key(), "supernet": True}
