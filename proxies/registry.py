"""The list of proxies: what each is called, what it reads, and what its values depend on.

Listing needs no torch. A family of proxies is one module of functions under :func:`register`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from conf.errors import unknown_name

if TYPE_CHECKING:
    from torch import Tensor

Level = Literal["function", "architecture"]
Function = TypeVar("Function", bound="Callable[[Any], Tensor]")

DEVICES: Final = ("auto", "cpu", "cuda")
"""Where scores can be computed."""

DTYPES: Final = ("float32", "float64")
"""In which precision."""

_FAMILIES: Final = (
    "proxies.costs",
    "proxies.gradients",
    "proxies.jacobian",
    "proxies.synflow",
)
_PROXIES: dict[str, Proxy] = {}
_NAMES: dict[str, str] = {}


@dataclass(frozen=True)
class Proxy:
    """One zero-cost proxy.

    Attributes:
        name: what it is called, everywhere.
        function: maps what the pass recorded to the values, float64 [K], of a stack of K.
        reads: the pass in :data:`proxies.passes.PASSES` that it reads.
        paper: who proposed it.
        summary: one line.
        higher_is_better: whether a larger value promises a better network.
        level: ``function`` if the value depends only on what the network computes, so that
            equivalent architectures share it; ``architecture`` if it sees every module.
        version: raised whenever the values change, so that stored ones are not mistaken for them.
        needs_data: whether it reads the values of the minibatch, not only its shape.
        needs_labels: whether it reads the targets.
        needs_weights: whether the value depends on how the weights are initialised.
        dtype: the precision in which it is always computed; None leaves it to the caller.
        aliases: other names it answers to.
    """

    name: str
    function: Callable[[Any], Tensor]
    reads: str
    paper: str
    summary: str
    higher_is_better: bool
    level: Level
    version: int
    needs_data: bool
    needs_labels: bool
    needs_weights: bool
    dtype: str | None
    aliases: tuple[str, ...]


def register(
    name: str,
    *,
    reads: str,
    paper: str,
    higher_is_better: bool = True,
    level: Level = "function",
    version: int = 1,
    needs_data: bool = False,
    needs_labels: bool = False,
    needs_weights: bool = True,
    dtype: str | None = None,
    aliases: Sequence[str] = (),
) -> Callable[[Function], Function]:
    """Register the decorated function as a proxy; the first line of its docstring is the summary.

    The arguments are those of :class:`Proxy`. Raises ``ValueError`` where a name is taken already
    or the docstring is missing.
    """

    def enter(function: Function) -> Function:
        text = inspect.getdoc(function)
        if not text:
            raise ValueError(f"proxy '{name}' needs a docstring: its first line is the summary")
        for label in (name, *aliases):
            if label in _NAMES:
                raise ValueError(f"there is already a proxy called '{label}'")
        _NAMES.update(dict.fromkeys((name, *aliases), name))
        _PROXIES[name] = Proxy(
            name=name,
            function=function,
            reads=reads,
            paper=paper,
            summary=text.splitlines()[0],
            higher_is_better=higher_is_better,
            level=level,
            version=version,
            needs_data=needs_data,
            needs_labels=needs_labels,
            needs_weights=needs_weights,
            dtype=dtype,
            aliases=tuple(aliases),
        )
        return function

    return enter


def get(name: str) -> Proxy:
    """Return the proxy called ``name``; raises :class:`UsageError` listing the known names."""
    _load()
    if name not in _NAMES:
        raise unknown_name("proxy", name, _PROXIES)
    return _PROXIES[_NAMES[name]]


def names() -> list[str]:
    """Every proxy's name, sorted, without aliases."""
    _load()
    return sorted(_PROXIES)


def describe() -> dict[str, str]:
    """One line on each proxy, by name."""
    return {name: f"{_PROXIES[name].summary} ({_PROXIES[name].paper})" for name in names()}


def _load() -> None:
    for family in _FAMILIES:
        importlib.import_module(family)
