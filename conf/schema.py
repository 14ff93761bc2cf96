"""Check configurations against the constructors that they feed.

A group's YAML names its class in ``_target_``; the class's own signature is the schema: unknown
keys, wrong types and illegal literals are refused in one sentence before anything is built. A
class of the user's own is checked in the same way.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from conf.errors import UsageError


def build(node: Mapping[str, Any], key: str, **given: Any) -> Any:
    """Call the node's ``_target_`` with its other entries, after checking them.

    ``key`` is the node's name in the configuration; ``given`` are arguments that do not come from
    the configuration. Raises :class:`UsageError` for what does not fit.
    """
    target = target_of(node, key)
    settings = {name: value for name, value in node.items() if name != "_target_"}
    check(target, settings, key, given)
    return target(**settings, **given)


def takes(node: Mapping[str, Any], key: str, argument: str) -> bool:
    """Whether the node's ``_target_`` has an argument of that name."""
    return argument in inspect.signature(target_of(node, key)).parameters


def target_of(node: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Import what the node's ``_target_`` names. Raises :class:`UsageError` where it names none."""
    path = node.get("_target_") if isinstance(node, Mapping) else None
    if not isinstance(path, str):
        raise UsageError(f"{key}={node} names no class; give {key}._target_=package.module.Name.")
    return locate(path, f"{key}._target_")


def locate(path: str, setting: str) -> Callable[..., Any]:
    """Import what a path names, ``package.module.name`` or ``package.module:name``.

    Raises :class:`UsageError`, which names ``setting``, for what cannot be imported or called.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    if not module:
        raise UsageError(f"{setting}={path} names no module; write package.module.name.")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise UsageError(f"{setting}={path} cannot be imported: {described(error)}.") from error
    if not callable(found):
        raise UsageError(f"{setting}={path} is neither a class nor a function.")
    return found  # type: ignore[no-any-return]


def described(error: Exception) -> str:
    """Say in one line what a user's own code ran into, and where, if that was inside it."""
    frames = [
        f"{Path(frame.filename).name}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)[1:]  # the first one called it
        if frame.filename not in (__file__, importlib.__file__) and frame.filename[0] != "<"
    ]
    return " ".join(f"{type(error).__name__}: {error}".split()) + (
        f" ({frames[-1]})" if frames else ""
    )


def check(target: Callable[..., Any], settings: Any, key: str, given: Mapping[str, Any]) -> None:
    """Refuse what is no group of settings, and what ``target`` takes not or of another type."""
    prefix = f"{key}." if key else ""
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    legal = [name for name in parameters if name not in given]
    if not isinstance(settings, Mapping):
        raise UsageError(f"{key}={settings} must be a group of settings: {', '.join(legal)}.")
    for name, value in settings.items():
        if name not in legal:
            if open_ended:
                continue
            raise UsageError(
                f"{prefix}{name} is no setting of {key or 'this command'}; "
                f"its settings are: {', '.join(legal)}."
            )
        hint = _hint(target, parameters[name])
        if not _fits(value, hint):
            raise UsageError(f"{prefix}{name}={value} must be {_words(hint)}.")
    missing = [
        name
        for name in legal
        if parameters[name].default is inspect.Parameter.empty
        and parameters[name].kind not in (inspect.Parameter.VAR_KEYWORD,)
        and name not in settings
    ]
    if missing:
        raise UsageError(f"{prefix}{missing[0]} is missing; give {prefix}{missing[0]}=….")


def _hint(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the type of one parameter; others may be annotated for type checkers alone."""
    if parameter.annotation is inspect.Parameter.empty:
        return Any
    function = target.__init__ if inspect.isclass(target) else target
    one = types.SimpleNamespace(__annotations__={"it": parameter.annotation})
    return get_type_hints(one, globalns=getattr(function, "__globals__", {}))["it"]


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, h) for h in arguments)
    if origin is Literal:
        return any(type(value) is type(legal) and value == legal for legal in arguments)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(_fits(v, arguments[0]) for v in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(_fits(v, arguments[1]) for v in value.values())
    if hint is Path:
        return isinstance(value, str | Path)
    if hint is float:
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        return numeric and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is types.NoneType:
        return value is None
    return hint not in (str, bool) or isinstance(value, hint)


def _words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(h) for h in arguments)
    if origin is Literal:
        legal = ", ".join(str(a) for a in arguments)
        return legal if len(arguments) == 1 else f"one of {legal}"
    if origin in (list, tuple, Sequence):
        return f"a list, each entry {_words(arguments[0])}"
    if origin in (dict, Mapping):
        return f"names with values, each {_words(arguments[1])}"
    words = {
        Path: "a path",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        types.NoneType: "null",
    }
    return words.get(hint, str(hint))
