"""Check configurations against the constructors that they feed.

A group's YAML names its class in ``_target_``; the class's own signature is the schema: unknown
keys, wrong types and illegal literals are refused in one sentence before anything is built. A
class of the user's own is checked in the same way.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from conf.errors import UsageError


def build(node: Mapping[str, Any], key: str, **given: Any) -> Any:
    """Call the node's ``_target_`` with its other entries, after checking them.

    ``key`` is the node's name in the configuration; ``given`` are arguments that do not come from
    the configuration. Raises :class:`UsageError` for what does not fit.
    """
    target = locate(str(node["_target_"]), key)
    settings = {name: value for name, value in node.items() if name != "_target_"}
    check(target, settings, key, given)
    return target(**settings, **given)


def takes(node: Mapping[str, Any], key: str, argument: str) -> bool:
    """Whether the node's ``_target_`` has an argument of that name."""
    return argument in inspect.signature(locate(str(node["_target_"]), key)).parameters


def locate(path: str, key: str) -> Callable[..., Any]:
    """Import the class or function that a dotted path names."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not module.startswith(error.name or " "):
            raise
        raise UsageError(f"{key}._target_={path} cannot be imported: {error}.") from None
    except (AttributeError, ValueError) as error:
        raise UsageError(f"{key}._target_={path} cannot be imported: {error}.") from None
    if not callable(found):
        raise UsageError(f"{key}._target_={path} is neither a class nor a function.")
    return found  # type: ignore[no-any-return]


def check(
    target: Callable[..., Any], settings: Mapping[str, Any], key: str, given: Mapping[str, Any]
) -> None:
    """Refuse settings that ``target`` does not take, or takes of another type."""
    prefix = f"{key}." if key else ""
    parameters = inspect.signature(target).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    legal = [name for name in parameters if name not in given]
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
        return value in arguments
    if origin in (list, tuple, Sequence):
        return isinstance(value, list | tuple) and all(_fits(v, arguments[0]) for v in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
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
    words = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        types.NoneType: "null",
    }
    return words.get(hint, str(hint))
