"""Reads pickles of numbers, text and arrays, and runs nothing that a pickle names.

A pickle is a program: it may call whatever can be imported. Of the few callables that NumPy's own
arrays name, each is answered here by a function of ours that does its harmless part; every other
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


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Bound methods: a pickle can set no attribute of theirs, as it could of a class.
        ours = {
            "_codecs.encode": self._encode,
            "numpy.ndarray": None,
            "numpy.dtype": self._type,
            **{f"{core}.multiarray._reconstruct": self._reconstruct for core in _CORES},
            **{f"{core}.numeric._frombuffer": self._frombuffer for core in _CORES},
        }
        if f"{module}.{name}" not in ours:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array of numbers")
        return ours[f"{module}.{name}"]

    def _encode(self, text: str, encoding: str | bytes) -> bytes:
        """Python 3 writes bytes as text for Python 2 to read."""
        if _text(encoding) != "latin1":
            raise pickle.UnpicklingError(f"it holds bytes written as {_text(encoding)}")
        return text.encode("latin1")

    def _type(self, code: str | bytes, *_: object) -> _Type:
        return _Type(_text(code))

    def _reconstruct(self, *_: object) -> _Array:
        return _Array()

    def _frombuffer(self, data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.fill(data, kind, shape, order)
        return array


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
