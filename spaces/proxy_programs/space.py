"""The space of proxy programs (Akhauri et al. 2022)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError, unknown_name
from spaces.base import Architecture, SearchSpace
from spaces.proxy_programs.formula import ARITIES, SUM, TERMINALS, Node, parse
from spaces.proxy_programs.kinds import kind_of
from spaces.proxy_programs.simplify import simplify
from spaces.table import NoTableError

WORDS: Final = (*TERMINALS, *ARITIES, SUM)
"""What the numbers of an architecture mean: the words of its formula, in order."""

_PLACES: Final = {word: place for place, word in enumerate(WORDS)}
_ATTEMPTS: Final = 1000


def encode(program: Node) -> Architecture:
    """Write a program as the numbers of its words, operations before their arguments."""
    return tuple(_PLACES[node.name] for node in program.walk())


@lru_cache(maxsize=1 << 16)
def decode(arch: Architecture) -> Node | None:
    """Read what :func:`encode` writes; None for anything else."""
    words = iter(arch)

    def read() -> Node:
        place = next(words)
        if not 0 <= place < len(WORDS):
            raise StopIteration
        name = WORDS[place]
        arity = 1 if name == SUM else ARITIES.get(name, 0)
        return Node(name, tuple(read() for _ in range(arity)))

    try:
        found = read()
    except (StopIteration, RuntimeError, RecursionError):
        return None
    return found if next(words, None) is None else None


class ProxyPrograms(SearchSpace):
    """Expressions over the statistics of a unit; an architecture is the words of its formula.

    Programs are grown, mutated and crossed by deap, without kinds, as in the released code, and
    drawn again until their parts fit together. Text is the formula. Needs the extra ``gp``.

    Args:
        shallowest: operations on the longest way to a statistic, at least; 1 or more.
        deepest: the same, at most.
        longest: words of a formula, at most.
        sums: whether half of the programs drawn are summed over the units of a network, where the
            others are averaged as in the paper.
        statistics: which of the 22 they may read; null: all. What none of them needs is not
            computed: without gradients networks only run forwards, on noise alone only once.

    Raises :class:`UsageError` for bounds that leave nothing, for statistics that there are not,
    and where deap is missing.
    """

    name = "proxy_programs"

    def __init__(
        self,
        shallowest: int = 2,
        deepest: int = 6,
        longest: int = 32,
        sums: bool = True,
        statistics: Sequence[str] | None = None,
    ) -> None:
        if not 1 <= shallowest <= deepest <= 30:
            raise UsageError(
                f"space.shallowest={shallowest} and space.deepest={deepest} are not possible; "
                "give 1 <= shallowest <= deepest <= 30."
            )
        if longest <= shallowest:
            raise UsageError(f"space.longest={longest} must exceed space.shallowest={shallowest}.")
        self.decisions = ()
        self.shallowest, self.deepest, self.longest, self.sums = shallowest, deepest, longest, sums
        self.statistics = TERMINALS if statistics is None else tuple(statistics)
        for name in self.statistics:
            if name not in TERMINALS:
                raise unknown_name("space.statistics", name, TERMINALS)
        if not self.statistics:
            raise UsageError("space.statistics=[] leaves nothing to read; name one, or null.")
        try:
            from deap import gp
        except ModuleNotFoundError:
            raise UsageError(
                "space=proxy_programs needs deap, which is not installed; run "
                "pip install 'assay[gp]'."
            ) from None
        self._gp = gp
        self._words = gp.PrimitiveSet("PROGRAM", 0)
        for name in self.statistics:
            self._words.addTerminal(name, name=name)
        for name, arity in ARITIES.items():
            self._words.addPrimitive(_unused, arity, name=name)

    @property
    def size(self) -> int:
        """More than could ever be tried."""
        return 1 << 62

    def are_legal(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs`` is a program within the bounds, of fitting parts: bool [n]."""
        return np.array([self._is_legal(arch) for arch in archs], np.bool_)

    def are_valid(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Whether each of ``archs`` is such a program: bool [n]."""
        return self.are_legal(archs)

    def _is_legal(self, arch: Architecture) -> bool:
        program = decode(arch)
        if program is None:
            return False
        body = program.arguments[0] if program.name == SUM else program
        return (
            (self.sums or body is program)
            and all(node.name in ARITIES or node.name in self.statistics for node in body.walk())
            and self.shallowest <= body.depth <= self.deepest
            and body.size <= self.longest
            and kind_of(body) is not None
        )

    def sample(self, rng: np.random.Generator, n: int) -> list[Architecture]:
        """Draw ``n`` programs independently, half of them full trees, half grown."""
        grow = partial(
            self._gp.genHalfAndHalf, self._words, min_=self.shallowest, max_=self.deepest
        )
        return [self._until_valid(rng, lambda: self._summed(grow(), rng)) for _ in range(n)]

    def neighbours(self, arch: Architecture) -> list[Architecture]:
        """Every valid program that differs in one word."""
        edits = []
        for position, place in enumerate(arch):
            arity = ARITIES.get(WORDS[place], 0)
            for word, other in _PLACES.items():
                if other != place and word != SUM and ARITIES.get(word, 0) == arity:
                    edits.append((*arch[:position], other, *arch[position + 1 :]))
        return [edit for edit in edits if self.is_valid(edit)]

    def mutate(self, arch: Architecture, rng: np.random.Generator) -> Architecture:
        """Replace a subtree or a word, insert an operation, or lift a branch: one drawn edit."""
        twig = partial(self._gp.genFull, min_=0, max_=2)
        edits: tuple[Callable[[Any], Any], ...] = (
            partial(self._gp.mutUniform, expr=twig, pset=self._words),
            partial(self._gp.mutNodeReplacement, pset=self._words),
            partial(self._gp.mutInsert, pset=self._words),
            self._gp.mutShrink,
        )

        def edited() -> Architecture:
            (tree,) = edits[int(rng.integers(len(edits)))](self._tree(arch))
            if self.sums and rng.random() < 0.1:
                return self._summed(tree, rng)
            return self._numbers(tree, summed=self._is_sum(arch))

        return self._until_valid(rng, edited, other_than=arch)

    def crossover(
        self, one: Architecture, other: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Put a subtree of ``other`` in the place of one of ``one``."""

        def crossed() -> Architecture:
            tree, _ = self._gp.cxOnePoint(self._tree(one), self._tree(other))
            return self._numbers(tree, summed=self._is_sum(one))

        return self._until_valid(rng, crossed, other_than=one)

    def enumerate(self) -> Iterator[Architecture]:
        """Refuse: there are too many."""
        raise UsageError(f"{self.name} cannot be listed; give a number of programs.")

    def format(self, arch: Architecture) -> str:
        """Write the formula."""
        return str(self.program(arch))

    def parse(self, text: str) -> Architecture:
        """Read a formula; raises :class:`UsageError`, with the position of what cannot be read."""
        arch = encode(parse(text))
        if self.is_valid(arch):
            return arch
        raise UsageError(
            f"'{text}' is no architecture of {self.name} as it is set: its parts do not fit "
            "together, or it exceeds the bounds, or reads what it may not."
        )

    def program(self, arch: Architecture) -> Node:
        """Return the program; raises :class:`UsageError` where ``arch`` is none."""
        program = decode(arch)
        if program is None:
            raise UsageError(f"{arch} is no architecture of {self.name}.")
        return program

    def canonical(self, arch: Architecture) -> Architecture:
        """Return the one program that the rules of :mod:`spaces.proxy_programs.simplify` leave."""
        return encode(simplify(self.program(arch)))

    def one_hot(self, archs: Sequence[Architecture]) -> NDArray[np.float32]:
        """Refuse: programs differ in length."""
        raise UsageError(f"{self.name} has no encoding for predictors; choose another searcher.")

    # -- trees --------------------------------------------------------------------------------

    def table(self, path: Path | None = None, epochs: int | None = None) -> NoReturn:
        """There is none: programs are worth what they say of networks."""
        raise NoTableError(f"{self.name} has no benchmark table; choose benchmark=programs.")

    def _until_valid(
        self,
        rng: np.random.Generator,
        draw: Callable[[], Architecture],
        other_than: Architecture | None = None,
    ) -> Architecture:
        """Draw until a program is valid; in the end, from the whole space."""
        with seeded(rng):
            for _ in range(_ATTEMPTS):
                found = draw()
                if found != other_than and self.is_valid(found):
                    return found
        return self.sample(rng, 1)[0]

    def _tree(self, arch: Architecture) -> Any:
        """Return the body as a tree of deap's."""
        words = [WORDS[place] for place in arch if WORDS[place] != SUM]
        return self._gp.PrimitiveTree([self._words.mapping[word] for word in words])

    def _numbers(self, tree: Sequence[Any], summed: bool) -> Architecture:
        body = tuple(_PLACES[node.name] for node in tree)
        return (_PLACES[SUM], *body) if summed else body

    def _summed(self, tree: Sequence[Any], rng: np.random.Generator) -> Architecture:
        return self._numbers(tree, summed=self.sums and bool(rng.integers(2)))

    @staticmethod
    def _is_sum(arch: Architecture) -> bool:
        return arch[0] == _PLACES[SUM]


@contextlib.contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Let deap, which draws from Python's own generator, draw what ``rng`` decides, inside."""
    state = random.getstate()
    random.seed(int(rng.integers(1 << 62)))
    try:
        yield
    finally:
        random.setstate(state)


def _unused(*_: object) -> None:
    """Stand for an operation in deap's trees, which are never run."""
