"""The list of proxies: what each is called, what it reads, and what its values depend on.

Listing needs no torch. A family of proxies is one module of functions under :func:`register`;
what ranks a set of architectures by several of them stands under :func:`register_ensemble`.

The keyword-only parameters of a proxy's function are its settings, and their defaults hold unless
told otherwise: ``get("reduced_training", epochs=3)`` is ``get("reduced_training(epochs=3)")``, a
proxy of its own, whose name goes wherever a name goes.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from conf.errors import UsageError, unknown_name
from conf.schema import check

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Level = Literal["function", "architecture"]
Function = TypeVar("Function", bound="Callable[[Any], Tensor | NDArray[np.floating[Any]]]")
Combination = TypeVar("Combination", bound="Callable[[Any], NDArray[np.float64]]")

DEVICES: Final = ("auto", "cpu", "cuda")
"""Where scores can be computed."""

DTYPES: Final = ("float32", "float64")
"""In which precision."""

_FAMILIES: Final = (
    "proxies.activations",
    "proxies.az_nas",
    "proxies.correlations",
    "proxies.costs",
    "proxies.gradients",
    "proxies.gradsign",
    "proxies.jacobian",
    "proxies.kernels",
    "proxies.pools",
    "proxies.programs",
    "proxies.synflow",
    "proxies.trained",
    "proxies.zen",
    "proxies.zico",
)
_PROXIES: dict[str, Proxy] = {}
_ENSEMBLES: dict[str, Ensemble] = {}
_NAMES: dict[str, str] = {}
_VARIANTS: dict[str, Proxy] = {}


@dataclass(frozen=True)
class Proxy:
    """One zero-cost proxy.

    Attributes:
        name: what it is called, everywhere; holds the settings that are not the default.
        function: maps what the pass recorded to the values, float64 [K], of a stack of K. Its
            keyword-only parameters are the proxy's settings.
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
        epochs: if it reads the space's benchmark table instead of a network, the fidelity of that
            table, which ``function`` maps to values by row, [rows]; the time of training is its
            own. None otherwise.
        aliases: other names it answers to.
        normalise: if given, writes settings in the one form that all equivalent ones share, and
            raises :class:`UsageError` for those that make no sense.
    """

    name: str
    function: Callable[[Any], Any]
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
    epochs: int | None
    aliases: tuple[str, ...]
    normalise: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        """Every setting, with the value that it has."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@dataclass(frozen=True)
class Ensemble:
    """Proxies that together rank a set of architectures, and say nothing of one alone.

    Attributes:
        name: what it is called, everywhere.
        function: maps the goodness that p members give n architectures, float64 [p, n], larger
            the better and -inf where a member has no score, to that of the ensemble, float64 [n].
        members: the proxies that it combines unless told otherwise.
        paper: who proposed it.
        summary: one line.
        pairwise: if it judges pair by pair, maps the same to blocks of consecutive rows of the
            int8 matrix [n, n]: 1 where the row is preferred, -1 where the column is, else 0.
    """

    name: str
    function: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    members: tuple[str, ...]
    paper: str
    summary: str
    pairwise: Callable[[NDArray[np.float64]], Iterator[NDArray[np.int8]]] | None


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
    epochs: int | None = None,
    aliases: Sequence[str] = (),
    normalise: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> Callable[[Function], Function]:
    """Register the decorated function as a proxy; the first line of its docstring is the summary.

    The arguments are those of :class:`Proxy`. Raises ``ValueError`` where a name is taken already,
    by a proxy of Assay's own or another, or the docstring is missing.
    """

    def enter(function: Function) -> Function:
        summary = _enter_names(function, name, aliases)
        _PROXIES[name] = Proxy(
            name=name,
            function=function,
            reads=reads,
            paper=paper,
            summary=summary,
            higher_is_better=higher_is_better,
            level=level,
            version=version,
            needs_data=needs_data,
            needs_labels=needs_labels,
            needs_weights=needs_weights,
            dtype=dtype,
            epochs=epochs,
            aliases=tuple(aliases),
            normalise=normalise,
        )
        return function

    return enter


def register_ensemble(
    name: str,
    *,
    members: Sequence[str],
    paper: str,
    pairwise: Callable[[NDArray[np.float64]], Iterator[NDArray[np.int8]]] | None = None,
) -> Callable[[Combination], Combination]:
    """Register the decorated function as an ensemble; its docstring's first line is the summary.

    The arguments are those of :class:`Ensemble`; raises ``ValueError`` as :func:`register` does.
    """

    def enter(function: Combination) -> Combination:
        summary = _enter_names(function, name)
        _ENSEMBLES[name] = Ensemble(name, function, tuple(members), paper, summary, pairwise)
        return function

    return enter


def canonical(name: str) -> str:
    """Return the one name of the proxy or ensemble that answers to ``name``.

    Raises :class:`UsageError` as :func:`get` does, but not for an ensemble.
    """
    label, _ = _read(name)
    return label if label in _ENSEMBLES else get(name).name


def get(name: str, /, **settings: Any) -> Proxy:
    """Return the proxy called ``name``, with ``settings`` in place of those in its name.

    Raises :class:`UsageError` listing the known names, for settings that the proxy does not take
    or takes of another type, and for an ensemble, which has no value for a single network.
    """
    if not settings and name in _VARIANTS:
        return _VARIANTS[name]
    label, written = _read(name)
    if label in _ENSEMBLES:
        members = ", ".join(_ENSEMBLES[label].members)
        raise UsageError(
            f"proxy={label} ranks architectures within a set and has no value for a single "
            f"network; score that by the members of {label}: {members}; and a set by "
            "proxies.ranking.score or a PoolScorer."
        )
    return _with_settings(_PROXIES[label], {**written, **settings})


def names() -> list[str]:
    """Every proxy's name, sorted, without aliases and ensembles."""
    _load()
    return sorted(_PROXIES)


def ensembles() -> Mapping[str, Ensemble]:
    """Every ensemble, by name."""
    _load()
    return _ENSEMBLES


def describe() -> dict[str, str]:
    """One line on each proxy and each ensemble, sorted by name."""
    _load()
    known: dict[str, Proxy | Ensemble] = {**_PROXIES, **_ENSEMBLES}
    return {name: f"{known[name].summary} ({known[name].paper})" for name in sorted(known)}


def _read(name: str) -> tuple[str, dict[str, Any]]:
    """Split a name into that of what is registered, aliases replaced, and settings."""
    label, parenthesis, _ = name.partition("(")
    settings = _literals(name) if parenthesis else {}
    _load()
    if label not in _NAMES:
        raise unknown_name("proxy", label, [*_PROXIES, *_ENSEMBLES])
    label = _NAMES[label]
    if settings and label in _ENSEMBLES:
        raise UsageError(f"proxy={name} cannot be: {label} is an ensemble, without settings.")
    return label, settings


def _literals(name: str) -> dict[str, Any]:
    """Read the settings of ``label(setting=value, ...)``, a call of literals in Python."""
    with contextlib.suppress(SyntaxError, ValueError):
        match ast.parse(name, mode="eval").body:
            case ast.Call(func=ast.Name(), args=[], keywords=found):
                return {str(entry.arg): ast.literal_eval(entry.value) for entry in found}
    raise UsageError(
        f"proxy={name} cannot be read; "
        "write settings as in reduced_training(epochs=3,batch_size=32)."
    )


def _with_settings(proxy: Proxy, settings: Mapping[str, Any]) -> Proxy:
    """Return the variant of ``proxy``, always the same object for the same settings."""
    usual = proxy.settings
    if not settings and inspect.Parameter.empty not in usual.values():
        return proxy
    if not usual:
        raise UsageError(f"proxy={proxy.name} has no settings, so not {', '.join(settings)}.")
    record = next(iter(inspect.signature(proxy.function).parameters))
    check(proxy.function, settings, "proxy", {record: None})
    if proxy.normalise:
        settings = proxy.normalise(settings)
    changed = {
        name: settings[name] for name in usual if settings.get(name, usual[name]) != usual[name]
    }
    if not changed:
        return proxy
    name = f"{proxy.name}({','.join(f'{key}={value!r}' for key, value in changed.items())})"
    if name not in _VARIANTS:
        function = functools.partial(proxy.function, **changed)
        _VARIANTS[name] = dataclasses.replace(proxy, name=name, function=function, aliases=())
    return _VARIANTS[name]


def _enter_names(function: Callable[..., Any], name: str, aliases: Sequence[str] = ()) -> str:
    """Reserve the names of what is registered, and return its summary."""
    if function.__module__ not in _FAMILIES:
        _load()
    text = inspect.getdoc(function)
    if not text:
        raise ValueError(f"proxy '{name}' needs a docstring: its first line is the summary")
    for label in (name, *aliases):
        if label in _NAMES:
            raise ValueError(f"there is already a proxy called '{label}'")
    _NAMES.update(dict.fromkeys((name, *aliases), name))
    return text.splitlines()[0]


@functools.cache
def _load() -> None:
    for family in _FAMILIES:
        importlib.import_module(family)
