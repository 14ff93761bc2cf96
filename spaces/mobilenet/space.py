"""Two MobileNet-like spaces: of blocks, with trained results, and of layers, without."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, Graph, Left, SearchSpace
from spaces.mobilenet import table
from spaces.mobilenet.blocks import (
    MNASNET,
    PROXYLESS,
    SKIP,
    Costs,
    Ints,
    Operation,
    Skeleton,
    costs,
)
from spaces.table import NoTableError, Table

if TYPE_CHECKING:
    from torch import nn


FULL_IMAGE_SIZE: Final = 224
"""Pixels of the pictures for which costs are published."""

_EXPANSIONS: Final = (1, 4, 6)
_KERNELS: Final = (3, 5)
_BLOCKS: Final = len(MNASNET.stages)
_BLOCK: Final = "e([146])k([35])l([1-4])(se)?"
_PATTERN: Final = re.compile("-".join([_BLOCK] * _BLOCKS))
_EXAMPLE: Final = "e1k3l1se-e6k3l2se-e6k5l2se-e6k3l3se-e6k5l3se-e6k5l4se-e6k3l1se"

_LAYER_OPERATIONS: Final = tuple(Operation(e, k) for k in (3, 5, 7) for e in (3, 6))


def _names(operations: Sequence[Operation | None]) -> tuple[str, ...]:
    return tuple("skip" if operation is SKIP else str(operation) for operation in operations)


class InvertedResiduals(SearchSpace):
    """What both spaces share: a skeleton, each of whose layers holds one operation.

    Networks are for the 1,000 classes of ImageNet.

    Args:
        image_size: height and width of the pictures that networks are given; 64 instead of the
            usual 224 is a twelfth of the work.

    Raises :class:`UsageError` for an impossible image size.
    """

    skeleton: ClassVar[Skeleton]
    operations: ClassVar[tuple[Operation | None, ...]]

    dataset = "imagenet"
    classes = 1000

    def __init__(self, image_size: int = 64) -> None:
        if image_size < 1:
            raise UsageError(f"space.image_size={image_size} is not possible; give 1 or more.")
        self.image_size = image_size

    def layers(self, archs: Sequence[Architecture]) -> Ints:
        """Find what each layer holds: int64 [n, layers], indices into ``operations``."""
        raise NotImplementedError

    def costs(self, archs: Sequence[Architecture]) -> Costs:
        """Count parameters and multiply-adds at 224 pixels, from the architectures: each [n]."""
        chosen = self.layers(archs)
        return costs(self.skeleton, self.operations, chosen, FULL_IMAGE_SIZE, self.classes)

    def graph(self, arch: Architecture) -> Graph:
        """Encode as a chain of layers, each labelled with its operation."""
        (labels,) = self.layers([arch])
        return Graph(np.eye(len(labels), k=1, dtype=np.bool_), labels)

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the published network; see :mod:`spaces.mobilenet.network`."""
        from spaces.mobilenet.network import Network

        left = [(self.operations[index],) for index in self.layers([arch])[0]]
        return Network(self.skeleton, left, classes or self.classes, running_stats=running_stats)

    def draw(self, layer: nn.Module) -> None:
        """Draw convolutions as :mod:`spaces.mobilenet.network` does, other layers as torch does."""
        from torch import nn

        from spaces.mobilenet.network import draw_convolution

        if isinstance(layer, nn.Conv2d):
            draw_convolution(layer)
        else:
            super().draw(layer)


class MobileNet(InvertedResiduals):
    """The MnasNet-like space of Accel-NASBench (Ahmad et al., DAC 2024), 104,485,552,128 networks.

    Seven blocks, each with an expansion, a kernel, a number of layers, and with or without
    squeeze-and-excitation; one to three layers, in the sixth block one to four. Text names them
    block by block, ``e6k5l2se-...``: expansion 6, kernel 5, two layers, squeeze-and-excitation.

    Args:
        subset: trained, the 5,125 architectures of which results are known, no two of which are
            one edit apart, so that nothing there has neighbours; or all.
        image_size: as :class:`InvertedResiduals`.

    Raises :class:`UsageError` for another subset, and for an impossible image size.
    """

    name = "mobilenet"
    skeleton = MNASNET
    operations = (
        SKIP,
        *itertools.starmap(Operation, itertools.product(_EXPANSIONS, _KERNELS, (False, True))),
    )
    graph_operations: ClassVar[tuple[str, ...]] = _names(operations)

    def __init__(self, subset: Literal["trained", "all"] = "trained", image_size: int = 64) -> None:
        super().__init__(image_size)
        if subset not in get_args(table.Subset):
            raise unknown_name("space.subset", subset, get_args(table.Subset))
        self.subset = subset
        self.decisions = tuple(
            Decision(f"block{block}_{name}", choices)
            for block, stage in enumerate(MNASNET.stages)
            for name, choices in (
                ("e", tuple(map(str, _EXPANSIONS))),
                ("k", tuple(map(str, _KERNELS))),
                ("l", tuple(map(str, range(1, stage.layers + 1)))),
                ("se", ("no", "yes")),
            )
        )

    # -- drawing and editing ------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many architectures there are."""
        return super().size if self._trained is None else len(self._trained)

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs``, in the subset, was trained: bool [n]."""
        if self._trained is None:
            return super().are_valid(archs)
        return np.array([arch in self._members for arch in archs], np.bool_)

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` architectures independently and uniformly, with replacement."""
        if self._trained is None:
            return super().sample(rng, n)
        return [self._trained[i] for i in rng.integers(self.size, size=n).tolist()]

    def check_neighbours(self) -> None:
        """Raise :class:`UsageError` in the subset, which has no edits."""
        if self._trained is not None:
            raise UsageError(
                "space.subset=trained has no two architectures that are one edit apart; choose "
                "searcher=random or predictor, without guidance.move.candidates=all, or "
                "space.subset=all."
            )

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture once, in lexicographic order."""
        return super().enumerate() if self._trained is None else iter(self._trained)

    # -- names and meaning --------------------------------------------------------------------

    def format(self, arch: Architecture) -> str:
        """Write the blocks."""
        words = (d.choices[a] for a, d in zip(arch, self.decisions, strict=True))
        return "-".join(
            f"e{e}k{k}l{n}" + ("se" if se == "yes" else "")
            for e, k, n, se in zip(words, words, words, words, strict=True)
        )

    def parse(self, text: str) -> Architecture:
        """Read the blocks; raises :class:`UsageError` on anything else."""
        objection = f"write seven blocks, as {_EXAMPLE}."
        if match := _PATTERN.fullmatch(text.strip()):
            words = [{"se": "yes", None: "no"}.get(word, word) for word in match.groups()]
            pairs = list(zip(words, self.decisions, strict=True))
            if all(word in decision.choices for word, decision in pairs):
                arch = tuple(decision.choices.index(str(word)) for word, decision in pairs)
                if self.is_valid(arch):
                    return arch
                objection = "space.subset=trained has only those of which results are known."
            else:
                objection = "only the sixth block can have four layers."
        raise UsageError(f"'{text}' is no architecture of {self.name}: {objection}")

    def layers(self, archs: Sequence[Architecture]) -> Ints:
        """Find what each layer holds: int64 [n, 22], indices into ``operations``."""
        blocks = np.asarray(archs, np.int64).reshape(-1, _BLOCKS, 4)
        expansion, kernel, last, squeeze = np.moveaxis(blocks, 2, 0)
        operation = 1 + (expansion * len(_KERNELS) + kernel) * 2 + squeeze
        block = np.repeat(np.arange(_BLOCKS), [stage.layers for stage in MNASNET.stages])
        place = np.concatenate([np.arange(stage.layers) for stage in MNASNET.stages])
        return np.where(place <= last[:, block], operation[:, block], 0)

    # -- tables -------------------------------------------------------------------------------

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the validation accuracies of what was trained.

        Raises :class:`UsageError` for other epochs, where the file at ``path`` is not such a
        table, and for the shipped table where the space is not the trained subset.
        """
        if path is None and self.subset == "all":
            raise NoTableError(
                "space.subset=all has architectures without results; choose space.subset=trained."
            )
        return table.load(path, epochs)

    def column(self, name: str, path: Path | None = None) -> NDArray[np.float64]:
        """Load one column of the table; see :func:`spaces.mobilenet.table.column`."""
        return table.column(name, path)

    @functools.cached_property
    def _trained(self) -> list[Architecture] | None:
        """The architectures of the subset in order; None where the space has all."""
        return None if self.subset == "all" else table.architectures()

    @functools.cached_property
    def _members(self) -> frozenset[Architecture]:
        return frozenset(self._trained or ())


class Proxyless(InvertedResiduals):
    """The ProxylessNAS-like space of Xiang et al. 2023: 21 layers, in each an inverted residual.

    Kernels 3, 5 and 7, expansions 3 and 6; a layer that keeps the shape may be skipped, too. Text
    is the published one, the numbers of the operations, ``0 1 -1 5 ...``, where 0 to 5 are MB3_K3,
    MB6_K3, MB3_K5, MB6_K5, MB3_K7 and MB6_K7, and -1 is skip. No results are known.

    Args:
        max_flops: most multiply-adds that a network may need for an image of 224 pixels; what
            needs more is not valid. null sets no limit.
        image_size: as :class:`InvertedResiduals`; the limit is of 224 pixels whatever it is.

    Raises :class:`UsageError` for a limit under which no network, or hardly any, is found, and for
    an impossible image size.
    """

    name = "proxyless"
    skeleton = PROXYLESS
    operations = (*_LAYER_OPERATIONS, SKIP)
    graph_operations: ClassVar[tuple[str, ...]] = _names(operations)

    def __init__(self, max_flops: float | None = 600e6, image_size: int = 64) -> None:
        super().__init__(image_size)
        names = self.graph_operations
        self.decisions = tuple(
            Decision(f"layer {number}", names if layer.keeps_shape else names[:-1])
            for number, layer in enumerate(PROXYLESS.layers)
        )
        self.max_flops = max_flops
        if max_flops is not None:
            self.sample(np.random.default_rng(0), 1)

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs``, all of legal choices, keeps to the limit: bool [n]."""
        if self.max_flops is None:
            return super().are_valid(archs)
        return np.asarray(self.costs(archs).macs <= self.max_flops)

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` valid architectures independently and uniformly, with replacement."""
        try:
            return super().sample(rng, n)
        except UsageError:
            raise UsageError(
                f"space.max_flops={self.max_flops:g} leaves hardly any architecture; give 500e6 "
                "or more, or null."
            ) from None

    def format(self, arch: Architecture) -> str:
        """Write the published numbers of the operations."""
        return " ".join(str(-1 if self.operations[a] is SKIP else a) for a in arch)

    def parse(self, text: str) -> Architecture:
        """Read the published numbers; raises :class:`UsageError` on anything else."""
        skip = self.operations.index(SKIP)
        numbers = {str(index): index for index in range(skip)} | {"-1": skip}
        words = text.split()
        objection = f"write {len(self.decisions)} numbers from 0 to {skip - 1}, or -1 for skip."
        if len(words) == len(self.decisions) and numbers.keys() >= set(words):
            arch = tuple(numbers[word] for word in words)
            if self.is_valid(arch):
                return arch
            objection = "it skips a layer that changes the shape."
            if all(a < len(d.choices) for a, d in zip(arch, self.decisions, strict=True)):
                objection = (
                    f"it needs {self.costs([arch]).macs[0]:,} multiply-adds, and "
                    f"space.max_flops={self.max_flops:g}."
                )
        raise UsageError(f"'{text}' is no architecture of {self.name}: {objection}")

    def canonical(self, arch: Architecture) -> Architecture:
        """Move the skips of each stage to its end: a skipped layer changes nothing."""
        skip = self.operations.index(SKIP)
        compacted: list[int] = []
        layers = iter(arch)
        for stage in PROXYLESS.stages:
            held = itertools.islice(layers, stage.layers)
            compacted += sorted(held, key=lambda operation: operation == skip)
        return tuple(compacted)

    def layers(self, archs: Sequence[Architecture]) -> Ints:
        """Find what each layer holds: int64 [n, 21], which is the architecture itself."""
        return np.asarray(archs, np.int64).reshape(-1, len(self.decisions))

    # -- supernets ----------------------------------------------------------------------------

    @property
    def places(self) -> tuple[Decision, ...]:
        """The layers, which are the decisions."""
        return self.decisions

    def supernet(self, classes: int | None = None, *, running_stats: bool = True) -> nn.Module:
        """Build the network that has all operations in each layer."""
        from spaces.mobilenet.network import Network

        left = [self.operations[: len(decision.choices)] for decision in self.decisions]
        return Network(self.skeleton, left, classes or self.classes, running_stats=running_stats)

    def feasible(self, left: Left) -> bool:
        """Whether the cheapest operations that are left keep to the limit."""
        macs = self._macs
        least = macs[0, 0] + sum(
            min(macs[layer, operation] - macs[layer, 0] for operation in operations)
            for layer, operations in enumerate(left)
        )
        return self.max_flops is None or bool(least <= self.max_flops)

    @functools.cached_property
    def _macs(self) -> Ints:
        """Count multiply-adds of the first architecture, one layer changed: [21, operations]."""
        count, choices = len(self.decisions), len(self.operations)
        archs = np.zeros((count, choices, count), np.int64)
        archs[np.arange(count), :, np.arange(count)] = np.arange(choices)
        rows = cast("Sequence[Architecture]", archs.reshape(-1, count))
        return np.asarray(self.costs(rows).macs).reshape(count, choices)
