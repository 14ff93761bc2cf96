"""Reads pickles of numbers, text and arrays, and runs nothing that a pickle names.

A pickle is a program: it may call whatever can be imported. Of the few callables that NumPy's own
arrays name, each is answered here by an object of ours that does its harmless part; every other
name is refused. Files of Python 2 and 3 and of NumPy 1 and 2 can be read.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_CORES: Final = ("numpy.core", "numpy._core")
_NUMBER: Final = re.compile(r"[biuf]\d+")


def load(path: Path) -> dict[str, Any]:
    """Return the mapping that a pickle holds, keys as text, arrays of numbers as NumPy's.

    Raises ``OSError`` for a file that cannot be read, and :class:`pickle.UnpicklingError`, with
    the reason, for one that is damaged, holds no mapping, or names anything but arrays.
    """
    with path.open("rb") as file:
        try:
            content = _Unpickler(file, encoding="bytes").load()
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise pickle.UnpicklingError(" ".join(str(error).split()) or "it is empty") from None
    if not isinstance(content, Mapping):
        raise pickle.UnpicklingError(f"it holds no mapping but a {type(content).__name__}")
    return {
        _text(key): value.values if isinstance(value, _Array) else value
        for key, value in content.items()
    }


class _Type:
    """What ``numpy.dtype`` makes in a pickle: a type of numbers, then its byte order."""

    def __init__(self, code: str) -> None:
        if not _NUMBER.fullmatch(code):
            raise pickle.UnpicklingError(f"it holds an array of {code}, not of numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))  # type: ignore[arg-type]


class _Array:
    """What ``_reconstruct`` makes in a pickle: nothing at first, then shape, type and bytes."""

    def __init__(self) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        self.fill(data, kind, shape, "F" if fortran else "C")

    def fill(self, data: bytes, kind: _Type, shape: tuple[int, ...], order: Any) -> None:
        self.values = np.frombuffer(data, kind.dtype).reshape(shape, order=order)


class _Encode:
    """``_codecs.encode``: Python 3 writes bytes as text for Python 2 to read."""

    __slots__ = ()

    def __call__(self, text: str, encoding: str | bytes) -> bytes:
        if _text(encoding) != "latin1":
            raise pickle.UnpicklingError(f"it holds bytes written as {_text(encoding)}")
        return text.encode("latin1")


class _MakeType:
    """``numpy.dtype``."""

    __slots__ = ()

    def __call__(self, code: str | bytes, *_: object) -> _Type:
        return _Type(_text(code))


class _Reconstruct:
    """``_reconstruct``: an array that is filled later."""

    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


class _FromBuffer:
    """``_frombuffer``: an array at once."""

    __slots__ = ()

    def __call__(self, data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.fill(data, kind, shape, order)
        return array


# A pickle can set attributes of whatever it finds: these objects have none.
_OURS: Final[Mapping[str, Any]] = {
    "_codecs.encode": _Encode(),
    "numpy.ndarray": None,
    "numpy.dtype": _MakeType(),
    **{f"{core}.multiarray._reconstruct": _Reconstruct() for core in _CORES},
    **{f"{core}.numeric._frombuffer": _FromBuffer() for core in _CORES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _OURS:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array of numbers")
        return _OURS[f"{module}.{name}"]


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
