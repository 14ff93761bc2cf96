"""The language of proxy programs: what a formula may say, how it is read and written.

A program is an expression over the statistics of one *unit* of a network (convolution,
BatchNorm and ReLU; :mod:`proxies.passes.statistics` says what they are), evaluated unit by unit;
the mean over the units is the score. Akhauri et al. 2022, "EZNAS: Evolving Zero-Cost Proxies for
Neural Architecture Scoring", propose terminals and operations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Final, NoReturn

from conf.errors import UsageError

SCENARIOS: Final = ("data", "noise", "perturbed")
"""What the network is given: pictures, noise, and pictures with a little noise."""

KINDS: Final = (
    "weight_gradient",
    "input",
    "input_gradient",
    "preactivation",
    "preactivation_gradient",
    "activation",
    "activation_gradient",
)
"""What is recorded of a unit in each scenario."""

TERMINALS: Final = ("weight", *(f"{kind}_{scenario}" for scenario in SCENARIOS for kind in KINDS))
"""The 22 statistics of a unit. Those of ``perturbed`` are differences to ``data``."""

SUM: Final = "sum_over_units"
"""Around a whole program: the score is the sum over units, not the mean."""

_SHOWN: Final = 200
"""Letters of a formula that cannot be read, in a message."""

ARITIES: Final[dict[str, int]] = {
    **dict.fromkeys(
        (
            *("log", "abslog", "abs", "square", "exp", "standardise", "relu", "sign", "heaviside"),
            *("invert", "frobenius", "det", "logdet", "symmetric_eigenratio", "eigenratio", "mean"),
            *("mean_abs", "softmax", "sigmoid", "ones", "zeros", "positive", "negative", "numel"),
        ),
        1,
    ),
    **dict.fromkeys(
        (
            *("add", "subtract", "multiply", "matmul", "less", "greater", "equal"),
            *("hamming", "kl", "cosine"),
        ),
        2,
    ),
}
"""How many arguments each operation takes; :mod:`spaces.proxy_programs.operations` defines them."""

DEEPEST: Final = 40
"""Levels that a formula may have."""

_TOKEN: Final = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*|[(),])")


@dataclass(frozen=True)
class Node:
    """A statistic, or an operation on what its arguments give."""

    name: str
    arguments: tuple[Node, ...] = field(default=())

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(map(str, self.arguments))})"

    @cached_property
    def size(self) -> int:
        """Number of nodes."""
        return 1 + sum(argument.size for argument in self.arguments)

    @cached_property
    def depth(self) -> int:
        """Number of operations on the longest way to a statistic."""
        return max((1 + argument.depth for argument in self.arguments), default=0)

    def walk(self) -> Iterator[Node]:
        """Yield every node, operations before their arguments."""
        yield self
        for argument in self.arguments:
            yield from argument.walk()


def parse(text: str) -> Node:
    """Read a formula such as ``frobenius(sigmoid(logdet(sign(weight_gradient_noise))))``.

    Raises :class:`UsageError` with the position, counted from 1, where it cannot be read.
    """
    return _Reader(text).formula()


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def formula(self) -> Node:
        found = self._expression(0)
        start, word = self._next()
        if word:
            self._refuse(start, f"'{word}' is one too many")
        return found

    def _expression(self, depth: int) -> Node:
        start, name = self._next()
        if not name or not (name[0].isalpha() or name[0] == "_"):
            self._refuse(start, f"a statistic or an operation must stand here{_instead(name)}")
        if name in TERMINALS:
            return Node(name)
        arity = 1 if name == SUM else ARITIES.get(name)
        if arity is None:
            known = [*ARITIES, *TERMINALS, SUM]
            close = get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(close)}?" if close else "see docs/eznas.md"
            self._refuse(start, f"'{name}' is neither a statistic nor an operation; {hint}")
        if name == SUM and depth:
            self._refuse(start, f"{SUM} can only stand around the whole formula")
        if depth >= DEEPEST:
            self._refuse(start, f"it is deeper than {DEEPEST} levels")
        self._expect("(", f"{name} takes {arity} in parentheses")
        arguments = [self._expression(depth + 1)]
        for _ in range(arity - 1):
            self._expect(",", f"{name} takes {arity} arguments")
            arguments.append(self._expression(depth + 1))
        self._expect(")", f"{name} takes {arity} argument{'s' * (arity > 1)} and then ')'")
        return Node(name, tuple(arguments))

    def _expect(self, wanted: str, why: str) -> None:
        start, word = self._next()
        if word != wanted:
            self._refuse(start, f"{why}{_instead(word)}")

    def _next(self) -> tuple[int, str]:
        """Return where the next token starts and what it is; nothing at the end."""
        rest = self.text[self.place :]
        start = self.place + len(rest) - len(rest.lstrip())
        match = _TOKEN.match(self.text, self.place)
        if match is None:
            if start < len(self.text):
                self._refuse(start, f"'{self.text[start]}' has no meaning")
            return start, ""
        self.place = match.end()
        return start, match.group(1)

    def _refuse(self, start: int, why: str) -> NoReturn:
        shown = self.text if len(self.text) <= _SHOWN else self.text[:_SHOWN] + "…"
        raise UsageError(f"proxy.formula={shown} cannot be read at position {start + 1}: {why}.")


def _instead(word: str) -> str:
    return f", not '{word}'" if word else ", but the formula ends"
