"""The two search spaces of TransNAS-Bench-101 (Duan et al., CVPR 2021)."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, Decision, Graph, SearchSpace
from spaces.nasbench201.cell import EDGE_NAMES, EDGES
from spaces.nasbench201.space import NASBench201
from spaces.transnas import table
from spaces.transnas.cell import OPERATIONS, representatives
from spaces.transnas.tasks import TASKS

if TYPE_CHECKING:
    from torch import nn

    from spaces.table import Table

MICRO_MODULES: Final = (4, 1, 4, 1, 4)
"""The skeleton of the micro space, in the digits of the macro space."""

MODULES: Final = ("normal", "channels", "resolution", "both", "absent")
"""What a module does: nothing, double the channels, halve the resolution, or both."""

ABSENT: Final = MODULES.index("absent")

DEPTHS: Final = (4, 5, 6)
HALVINGS: Final = range(1, 5)
DOUBLINGS: Final = range(1, 4)

_JIGSAW_IMAGE_SIZE: Final = 192

_MICRO_PATTERN: Final = re.compile("64-41414-([0-3])_([0-3])([0-3])_([0-3])([0-3])([0-3])")
_MACRO_PATTERN: Final = re.compile("64-([1-4]{4,6})-basic")


class TransNAS(SearchSpace):
    """What both spaces share: tasks, image size and table.

    Args:
        dataset: the task, one of class_scene, class_object, autoencoder, normal, jigsaw,
            room_layout and segmentsemantic; decides the outputs of networks and the column of the
            table.
        image_size: height and width of the pictures that networks are given. By default 64 (micro)
            and 96 (macro) instead of the benchmark's 256, sixteen and seven times the work, and
            for jigsaw the benchmark's 192, nine tiles of 64; jigsaw needs a multiple of 3.

    Raises :class:`UsageError` for another task, and for an impossible image size.
    """

    default_image_size: ClassVar[int]

    def __init__(self, dataset: str = "class_object", image_size: int | None = None) -> None:
        if dataset not in TASKS:
            raise unknown_name("space.dataset", dataset, TASKS)
        self.dataset = dataset
        self.task = TASKS[dataset]
        self.classes = self.task.outputs
        cut = self.task.tiles > 1
        if image_size is None:
            image_size = _JIGSAW_IMAGE_SIZE if cut else self.default_image_size
        self.image_size = image_size
        if image_size < 1 or image_size**2 % self.task.tiles:
            legal = "a multiple of 3" if cut else "a positive number"
            raise UsageError(f"space.image_size={image_size} is not possible; give {legal}.")

    def draw(self, layer: nn.Module) -> None:
        """Draw convolutions as :mod:`spaces.transnas.network` does, other layers as torch does."""
        from torch import nn

        from spaces.transnas.network import draw_convolution

        if isinstance(layer, nn.Conv2d):
            draw_convolution(layer)
        else:
            super().draw(layer)

    def network_key(self) -> dict[str, Any]:
        """Add the tiles to what every space names."""
        return {**super().network_key(), "tiles": self.task.tiles}

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the validation results on this task.

        Raises :class:`UsageError` for epochs other than the task's, and where the file at ``path``
        is not such a table.
        """
        return table.load(self, path, epochs)


class TransNASMicro(TransNAS):
    """All 4,096 cells of four nodes with one of four operations on each of six edges.

    Text is the benchmark's own, ``64-41414-1_02_333``: base channels, skeleton, and for each node
    the operations on the edges from the nodes before it, where 0 is none, 1 skip, 2 conv1x1 and
    3 conv3x3. Arguments as :class:`TransNAS`.
    """

    name = "transnas_micro"
    default_image_size = 64
    graph_operations: ClassVar[tuple[str, ...]] = ("input", *OPERATIONS, "output")

    def __init__(self, dataset: str = "class_object", image_size: int | None = None) -> None:
        super().__init__(dataset, image_size)
        self.decisions = tuple(Decision(edge, OPERATIONS) for edge in EDGE_NAMES)

    def format(self, arch: Architecture) -> str:
        """Write the benchmark's arch string."""
        return "64-41414-{}_{}{}_{}{}{}".format(*arch)

    def parse(self, text: str) -> Architecture:
        """Read the benchmark's arch string; raises :class:`UsageError` on anything else."""
        match = _MICRO_PATTERN.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"'{text}' is no architecture of {self.name}: write it as 64-41414-1_02_333, with "
                f"operations from 0 to {len(OPERATIONS) - 1}."
            )
        return tuple(map(int, match.groups()))

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the cheapest cell that makes the same networks, of which there are 1,376.

        :mod:`spaces.nasbench201.canonical` says when two cells compute the same. Here they must do
        so both where the shape stays and where the image is halved, and skips are convolutions.
        """
        return representatives()[arch]

    def graph(self, arch: Architecture) -> Graph:
        """Encode with operations as nodes: input, the six operations in order, output."""
        labels = np.array([0, *(1 + a for a in arch), len(self.graph_operations) - 1], np.int64)
        return Graph(_cell_adjacency(), labels)

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network of the benchmark; see :mod:`spaces.transnas.network`."""
        from spaces.transnas.network import MicroCell, Network

        return Network(
            MICRO_MODULES,
            functools.partial(MicroCell, arch),
            classes or self.classes,
            tiles=self.task.tiles,
            running_stats=running_stats,
        )


class TransNASMacro(TransNAS):
    """All 3,256 skeletons of four to six modules that shrink the image and widen the channels.

    Each module keeps the shape, doubles the channels, halves the resolution, or does both; one to
    three double, one to four halve. The last two may be absent. Text is the benchmark's own,
    ``64-1234-basic``: base channels, a digit from 1 to 4 for each module in the order of
    ``MODULES``, and the ResNet block that modules are made of. Arguments as :class:`TransNAS`.
    No two skeletons compute the same, so that each is its own canonical form.
    """

    name = "transnas_macro"
    network_version = 2
    default_image_size = 96
    graph_operations: ClassVar[tuple[str, ...]] = MODULES

    def __init__(self, dataset: str = "class_object", image_size: int | None = None) -> None:
        super().__init__(dataset, image_size)
        self.decisions = tuple(
            Decision(f"module {i}", MODULES[: ABSENT + (i > min(DEPTHS))])
            for i in range(1, max(DEPTHS) + 1)
        )

    @property
    def size(self) -> int:
        """How many skeletons there are."""
        return len(_skeletons())

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs`` is one of the benchmark's skeletons: bool [n]."""
        return np.array([arch in _skeletons() for arch in archs], np.bool_)

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` skeletons independently and uniformly, with replacement."""
        every = list(_skeletons())
        return [every[i] for i in rng.integers(len(every), size=n).tolist()]

    def enumerate(self) -> Iterator[Architecture]:
        """Every skeleton once, in lexicographic order."""
        return iter(_skeletons())

    def format(self, arch: Architecture) -> str:
        """Write the benchmark's arch string."""
        return f"64-{''.join(map(str, modules(arch)))}-basic"

    def parse(self, text: str) -> Architecture:
        """Read the benchmark's arch string; raises :class:`UsageError` on anything else."""
        match = _MACRO_PATTERN.fullmatch(text.strip())
        digits = match[1] if match else ""
        arch = tuple(int(d) - 1 for d in digits) + (ABSENT,) * (len(self.decisions) - len(digits))
        if arch not in _skeletons():
            raise UsageError(
                f"'{text}' is no architecture of {self.name}: write it as 64-1234-basic, with 4 to "
                "6 modules of which 1 to 3 double the channels (2, 4) and 1 to 4 halve the "
                "resolution (3, 4)."
            )
        return arch

    def graph(self, arch: Architecture) -> Graph:
        """Encode as a chain of six nodes, each labelled with its module."""
        return Graph(np.eye(len(arch), k=1, dtype=np.bool_), np.array(arch, np.int64))

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network of the benchmark; see :mod:`spaces.transnas.network`."""
        from spaces.transnas.network import BasicBlock, Network

        return Network(
            modules(arch),
            BasicBlock,
            classes or self.classes,
            tiles=self.task.tiles,
            running_stats=running_stats,
        )


def modules(arch: Architecture) -> tuple[int, ...]:
    """Return the digits, from 1 to 4, of the modules of a skeleton that are there."""
    return tuple(choice + 1 for choice in arch if choice != ABSENT)


@functools.cache
def _skeletons() -> dict[Architecture, None]:
    """List the valid skeletons in lexicographic order."""
    depth = max(DEPTHS)
    padded = (
        (*present, *[ABSENT] * (depth - length))
        for length in DEPTHS
        for present in itertools.product(range(ABSENT), repeat=length)
        if sum(choice in (1, 3) for choice in present) in DOUBLINGS
        and sum(choice in (2, 3) for choice in present) in HALVINGS
    )
    return dict.fromkeys(sorted(padded))


@functools.cache
def _cell_adjacency() -> NDArray[np.bool_]:
    """NAS-Bench-201's: operations stand on the same edges."""
    return NASBench201().graph((0,) * len(EDGES)).adjacency
