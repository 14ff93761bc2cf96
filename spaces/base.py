"""The contract of a search space.

An *architecture* is a tuple of small ints, one per *decision*: the index of the choice taken.
A space knows how to draw, edit, name, compare, encode and build architectures; it knows nothing
of proxies or searchers. All randomness comes through a ``numpy.random.Generator``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError
from spaces.table import NoTableError

if TYPE_CHECKING:
    from torch import nn

    from spaces.initial_weights import InitialWeights
    from spaces.mixture import Branches
    from spaces.table import Table

Architecture = tuple[int, ...]

_ROUNDS: Final = 1000
"""How often products of choices are drawn until enough are valid."""

_IDLE: Final = 50
"""How often as many as are wanted are drawn again, without a new one among them."""

_CHUNK: Final = 4096
"""Products of choices that are listed at a time."""

_LISTED: Final = 10_000_000
"""How many architectures are listed at most."""


@dataclass(frozen=True)
class Decision:
    """One decision of a space: its name and the choices it has, in index order."""

    name: str
    choices: tuple[str, ...]

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The choices as numbers, where all of them are and they differ: near ones are alike."""
        try:
            numbers = tuple(map(float, self.choices))
        except ValueError:
            return None
        return numbers if len(set(numbers)) > 1 and all(map(math.isfinite, numbers)) else None


@dataclass(frozen=True)
class Graph:
    """An architecture as a labelled directed graph, for graph predictors.

    ``adjacency`` is bool [nodes, nodes], entry [i, j] set where i feeds j; ``operations`` is
    int64 [nodes], indices into the space's ``graph_operations``. All graphs of one space have the
    same number of nodes, so that they stack.
    """

    adjacency: NDArray[np.bool_]
    operations: NDArray[np.int64]


@dataclass(frozen=True)
class Junction:
    """Places of a supernet that end in one node, of which an architecture keeps ``keep``."""

    places: tuple[int, ...]
    keep: int


Left = tuple[tuple[int, ...], ...]
"""The operations that are left at each place of a supernet; none where the place is cut."""


class SearchSpace:
    """A product of decisions, some products of which may be invalid.

    Subclasses set ``name``, ``decisions``, and, if they have networks, ``dataset``, ``classes``
    and ``image_size``; they override what differs from the plain product space below. Where some
    products are invalid, :meth:`are_valid` says which, and ``size`` how many are left. They raise
    ``network_version`` whenever their networks change, so that stored scores are not mistaken.
    """

    name: ClassVar[str]
    graph_operations: ClassVar[tuple[str, ...]] = ()
    network_version: ClassVar[int] = 1

    decisions: tuple[Decision, ...]
    dataset: str = ""
    classes: int = 0
    image_size: int = 0

    # -- drawing and editing ------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many architectures :meth:`enumerate` yields."""
        return math.prod(len(d.choices) for d in self.decisions)

    def is_valid(self, arch: Architecture) -> bool:
        """Whether ``arch`` has one legal choice per decision, and these go together."""
        return bool(self.are_legal([arch])[0])

    def are_legal(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs`` has one legal choice a decision that go together: bool [n]."""
        widths = [len(d.choices) for d in self.decisions]
        legal = np.array([len(arch) == len(widths) for arch in archs], np.bool_)
        chosen = np.array([*itertools.compress(archs, legal)]).reshape(-1, len(widths))
        legal[legal] = ((chosen >= 0) & (chosen < widths)).all(1)
        if legal.any():
            legal[legal] = self.are_valid([*itertools.compress(archs, legal)])
        return legal

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs``, all of legal choices, is an architecture: bool [n]."""
        return np.ones(len(archs), np.bool_)

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` architectures independently and uniformly, with replacement.

        Raises :class:`UsageError` where hardly any product of choices is valid.
        """
        highs = [len(d.choices) for d in self.decisions]
        found: list[Architecture] = []
        for _ in range(_ROUNDS):
            draws = rng.integers(0, highs, size=(n - len(found), len(highs))).tolist()
            archs = [tuple(row) for row in draws]
            found += itertools.compress(archs, self.are_valid(archs))
            if len(found) == n:
                return found
        raise UsageError(f"{self.name} as it is set has hardly any architecture.")

    def check_neighbours(self) -> None:
        """Raise :class:`UsageError` where no edit leads from one architecture to another."""
        if all(len(d.choices) == 1 for d in self.decisions):
            raise UsageError(f"{self.name} has a single architecture: nothing can be mutated.")

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """Every valid architecture that differs from ``arch`` in exactly one decision."""
        edits = []
        for position, decision in enumerate(self.decisions):
            head, tail = arch[:position], arch[position + 1 :]
            edits += [
                (*head, choice, *tail)
                for choice in range(len(decision.choices))
                if choice != arch[position]
            ]
        return list(itertools.compress(edits, self.are_valid(edits)))

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Change one decision, drawn uniformly, to another choice, until the outcome is valid.

        Raises :class:`UsageError` as :meth:`check_neighbours` does, and where ``arch`` has no
        neighbours.
        """
        self.check_neighbours()
        open_decisions = [i for i, d in enumerate(self.decisions) if len(d.choices) > 1]
        for _ in range(_ROUNDS):
            position = open_decisions[int(rng.integers(len(open_decisions)))]
            choice = int(rng.integers(len(self.decisions[position].choices) - 1))
            choice += choice >= arch[position]
            edit = (*arch[:position], choice, *arch[position + 1 :])
            if self.are_valid([edit])[0]:
                return edit
        edits = self.neighbours(arch)
        if not edits:
            raise UsageError(f"no edit leads from {self.format(arch)} to another of {self.name}.")
        return edits[int(rng.integers(len(edits)))]

    def enumerate(self) -> Iterator[Architecture]:
        """Every valid architecture once, in lexicographic order."""
        products = itertools.product(*(range(len(d.choices)) for d in self.decisions))
        while archs := list(itertools.islice(products, _CHUNK)):
            yield from itertools.compress(archs, self.are_valid(archs))

    def check_all(self) -> None:
        """Raise :class:`UsageError` beyond ten million architectures: nobody lists so many."""
        if self.size > _LISTED:
            raise UsageError(
                f"{self.name} has {self.size:.1e} architectures as it is set, too many to take "
                "all; give a number of them."
            )

    # -- names --------------------------------------------------------------------------------

    def format(self, arch: Architecture) -> str:
        """Write ``arch`` in the field's notation; here the choices joined by commas."""
        return ",".join(d.choices[a] for a, d in zip(arch, self.decisions, strict=True))

    def parse(self, text: str) -> Architecture:
        """Read what :meth:`format` writes; raises :class:`UsageError` on anything else."""
        words = text.strip().split(",")
        if len(words) != len(self.decisions):
            raise UsageError(
                f"'{text}' is no architecture of {self.name}: it needs "
                f"{len(self.decisions)} comma-separated choices."
            )
        for word, decision in zip(words, self.decisions, strict=True):
            if word not in decision.choices:
                raise UsageError(
                    f"'{text}' is no architecture of {self.name}: {decision.name} can be "
                    f"{', '.join(decision.choices)}, not '{word}'."
                )
        return tuple(d.choices.index(w) for w, d in zip(words, self.decisions, strict=True))

    # -- meaning ------------------------------------------------------------------------------

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the one representative of all architectures that compute what ``arch`` does.

        Two architectures share a representative if and only if they compute the same family of
        functions with the same sharing of weights.
        """
        return arch

    def canonicals(self, archs: Sequence[Architecture]) -> list[Architecture]:
        """Return the representative of each of ``archs``; see :meth:`canonical`."""
        return [self.canonical(arch) for arch in archs]

    def one_hot(self, archs: Sequence[Architecture]) -> NDArray[np.float32]:
        """Encode as float32 [n, sum of choices]: one 1 per decision."""
        widths = np.array([len(d.choices) for d in self.decisions])
        starts = np.concatenate(([0], np.cumsum(widths)[:-1]))
        code = np.zeros((len(archs), int(widths.sum())), np.float32)
        if len(archs):
            columns = np.asarray(archs, dtype=np.int64) + starts
            np.put_along_axis(code, columns, 1.0, axis=1)
        return code

    def graph(self, arch: Architecture) -> Graph:
        """Encode as a labelled graph; a space without one raises :class:`UsageError`."""
        raise UsageError(f"{self.name} has no graph encoding; use a searcher that needs none.")

    # -- networks and tables ------------------------------------------------------------------

    def network(
        self, arch: Architecture, classes: int | None = None, *, running_stats: bool = True
    ) -> nn.Module:
        """Build the network of ``arch``, freshly initialised from torch's global generator.

        ``classes`` defaults to the dataset's. With ``running_stats=False`` the BatchNorms keep no
        running statistics and normalise by the batch in evaluation mode too.
        """
        raise UsageError(f"{self.name} has no networks, so no proxy can score it.")

    def draw(self, layer: nn.Module) -> None:
        """Draw the parameters of one layer anew from torch's global generator, as in a network.

        Raises :class:`UsageError` where layers cannot be drawn one by one.
        """
        reset = getattr(layer, "reset_parameters", None)
        if reset is None:
            raise UsageError(
                f"service.init=shared cannot draw a {type(layer).__name__} of {self.name}, which "
                "has no reset_parameters(); choose service.init=independent."
            )
        reset()

    def stacked_network(
        self, archs: Sequence[Architecture], weights: InitialWeights
    ) -> nn.Module | None:
        """Build K networks that run as one, or return None where the space cannot.

        For passes so light that a module of each operation costs more than the operation. The
        module maps float [K x n, channels, height, width], network by network, and an
        :class:`~spaces.arithmetic.Arithmetic` to logits [K x n, classes], and has ``networks`` = K.
        Network k computes what ``weights.network(self, archs[k])`` does in training mode. No layer
        but the last has a bias.
        """
        return None

    def grouped_network(
        self, archs: Sequence[Architecture], weights: InitialWeights
    ) -> nn.Module | None:
        """Build K networks whose layers run together, or return None where the space cannot.

        The module maps float [K x n, channels, height, width], network by network, to logits
        [K x n, classes], and has ``networks`` = K. It is made of the layers in
        :mod:`spaces.grouped`. Network k computes what ``weights.network(self, archs[k])`` does
        without running statistics.
        """
        return None

    # -- supernets ----------------------------------------------------------------------------

    @property
    def places(self) -> tuple[Decision, ...]:
        """Where a supernet holds operations, with those that it may hold; none: no supernets."""
        return ()

    @property
    def junctions(self) -> tuple[Junction, ...]:
        """The nodes that are joined by more places in a supernet than in an architecture."""
        return ()

    def supernet(self, classes: int | None = None, *, running_stats: bool = True) -> nn.Module:
        """Build the network that has every operation in every place, freshly initialised.

        Its method ``mixtures()`` lists the mixtures of each place; arguments are those of
        :meth:`network`. :class:`spaces.supernets.Supernets` narrows it.
        """
        raise UsageError(f"{self.name} has no supernet: its decisions are no single operations.")

    def simplify(self, supernet: nn.Module, branches: Branches) -> None:
        """Make a supernet with branches faster, that will run in evaluation mode alone."""

    def feasible(self, left: Left) -> bool:
        """Whether a valid architecture can be made of the operations that are left."""
        return True

    def decided(self, left: Left) -> Architecture:
        """Return the architecture of one operation in each place that is not cut."""
        return tuple(operation for (operation,) in left)

    def held(self, arch: Architecture) -> list[tuple[int, int]]:
        """List the places of a supernet that ``arch`` has, each with its operation there."""
        return list(enumerate(arch))

    # -- keys ---------------------------------------------------------------------------------

    def drawn_as(self, arch: Architecture) -> Architecture:
        """Return the architecture whose initial weights ``arch`` has; by default its own."""
        return arch

    def network_key(self) -> dict[str, Any]:
        """Everything besides the architecture that decides what :meth:`network` builds."""
        key = {"space": self.name, "classes": self.classes, "image_size": self.image_size}
        return key if self.network_version == 1 else key | {"version": self.network_version}

    def table(self, path: Path | None = None, epochs: int | None = None) -> Table:
        """Load the benchmark table of ``dataset``: the shipped one, or the file at ``path``.

        A space without one raises :class:`~spaces.table.NoTableError`.
        """
        raise NoTableError(f"{self.name} has no benchmark table; choose benchmark=training.")


def distinct(space: SearchSpace, rng: np.random.Generator, n: int) -> list[Architecture]:
    """Draw ``n`` different architectures of ``space``.

    Raises :class:`UsageError` where it has, or seems to have, fewer.
    """
    if n > space.size:
        raise UsageError(f"{space.name} has {space.size} architectures, not {n} different ones.")
    found: dict[Architecture, None] = {}
    idle = 0
    while len(found) < n:
        draws = space.sample(rng, n - len(found))
        idle = idle + len(draws) if found.keys() >= set(draws) else 0
        if idle > _IDLE * n:
            raise UsageError(
                f"{space.name} as it is set has hardly more than {len(found)} architectures; "
                f"{n} different ones are too many."
            )
        found.update(dict.fromkeys(draws))
    return list(found)


class Choices(SearchSpace):
    """A space of one's own: ``Choices(depth=[2, 4], width=[16, 32, 64])``.

    An objective reads the chosen values with :meth:`values`. As commas part choices in the text of
    an architecture, theirs become semicolons: ``(3, 3)`` is written ``(3; 3)``.

    Raises :class:`UsageError` where there is nothing to choose from, and where two values of an
    option have the same text.
    """

    name = "choices"

    def __init__(self, **options: Sequence[object]) -> None:
        empty = [name for name, choices in options.items() if not choices]
        if not options or empty:
            raise UsageError("Choices needs at least one option, each with at least one value.")
        self._options = {name: tuple(choices) for name, choices in options.items()}
        self.decisions = tuple(
            Decision(name, tuple(map(_text, choices))) for name, choices in options.items()
        )
        for name, texts in ((d.name, d.choices) for d in self.decisions):
            if len(set(texts)) < len(texts):
                raise UsageError(f"Choices writes two values of {name} alike: {', '.join(texts)}.")

    def values(self, arch: Architecture) -> dict[str, Any]:
        """Return the chosen value of each option, by its name."""
        return {
            name: choices[a] for a, (name, choices) in zip(arch, self._options.items(), strict=True)
        }


def _text(value: object) -> str:
    """Write a value on one line, without commas and without blanks at its ends."""
    return " ".join(str(value).replace(",", ";").split())
