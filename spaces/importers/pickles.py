"""Opens the pickles that benchmarks come in; unless they are trusted, runs nothing they name.

A pickle is a program: it may call whatever can be imported. The official ones hold containers,
text, numbers and NumPy's scalars, and only these are read by default. Every other name is refused,
unless the file is trusted: then it may run any code.
"""

from __future__ import annotations

import bz2
import collections
import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from conf.errors import UsageError
from spaces.importers.reading import explained, memory, metered, opened, too_large

if TYPE_CHECKING:
    import io

_CORES: Final = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMBER: Final = re.compile(r"[biuf]\d+")
_BUILTINS: Final = ("builtins", "__builtin__")  # in Python 3, and in the protocols of Python 2
_CONTAINERS: Final = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": collections.defaultdict,
    **{f"{home}.{kind.__name__}": kind for home in _BUILTINS for kind in (set, list, dict)},
}
_TORCH: Final = (2, 6)
"""The first version that lets numbers of NumPy be named as safe."""


def load_bz2(path: Path, *, trust: bool, bar: bool = False) -> Any:
    """Return the object in a compressed pickle (``.pickle.pbz2``), behind a progress bar or not.

    Raises :class:`UsageError` where the file is missing, damaged, larger than memory, or names what
    only a trusted file may.
    """
    limit = left = memory()

    def watch(read: int) -> None:
        nonlocal left
        left -= read
        if left < 0:
            raise too_large(path, limit)

    def load(file: BinaryIO | io.BufferedReader) -> Any:
        with bz2.BZ2File(file) as unpacked, metered(unpacked, watch) as stream:
            return _unpickled(stream, path, trust)

    if bar:
        with opened(path, f"reading {path.name}") as file:
            return load(file)
    with explained(path), path.open("rb") as plain:
        return load(plain)


def load_torch(path: Path, *, trust: bool) -> Any:
    """Return the object in a file of ``torch.save``, weights alone unless the file is trusted.

    Raises :class:`UsageError` where the file is missing, damaged, larger than memory, or names what
    only a trusted file may.
    """
    import torch

    if not trust and tuple(map(int, torch.__version__.split(".")[:2])) < _TORCH:
        raise UsageError(
            f"{path} can be read by torch {torch.__version__} only with --trust, which lets it run "
            "any code; torch 2.6 or later can do without."
        )
    with opened(path, f"reading {path.name}") as file:
        if path.stat().st_size > memory():
            raise too_large(path, memory())
        try:
            if zipfile.is_zipfile(path):  # whose checksums torch does not look at
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:
                        raise _damaged(path)
            if trust:
                return torch.load(file, map_location="cpu", weights_only=False)
            with torch.serialization.safe_globals(_numbers()):
                return torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, MemoryError, UsageError):
            raise
        except Exception as error:  # a damaged or foreign file may raise anything
            named = re.search(r"GLOBAL (\S+)", str(error))
            raise _refusal(path, named[1]) if named else _damaged(path) from None


def _numbers() -> list[Any]:
    """List what NumPy's scalars name in a pickle, by the old names and the new ones."""
    from numpy.lib import NumpyVersion

    core = np._core if NumpyVersion(np.__version__) >= "2.0.0" else np.core  # type: ignore[attr-defined]
    kinds = {type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"}
    return [
        *((core.multiarray.scalar, f"{name}.scalar") for name in _CORES),
        (np.dtype, "numpy.dtype"),
        *kinds,
        collections.defaultdict,
        *((_CONTAINERS[f"builtins.{name}"], f"builtins.{name}") for name in ("list", "dict")),
    ]


def _unpickled(stream: io.BufferedReader, path: Path, trust: bool) -> Any:
    try:
        return pickle.load(stream) if trust else _Unpickler(stream).load()
    except _UnknownName as error:
        raise _refusal(path, str(error)) from None
    except (MemoryError, UsageError):
        raise
    except Exception:  # a damaged pickle may raise anything
        raise _damaged(path) from None


def _refusal(path: Path, name: str) -> UsageError:
    return UsageError(
        f"{path} holds more than numbers (it names {name}), and reading it may run any code; if "
        "you know where it is from, give --trust."
    )


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path} cannot be read: it is damaged, cut off or of another format.")


class _UnknownName(pickle.UnpicklingError):
    """A pickle names something that is neither container nor number."""


class _Type:
    """What ``numpy.dtype`` makes in a pickle: a type of numbers, then its byte order."""

    def __init__(self, code: str) -> None:
        if not _NUMBER.fullmatch(code):
            raise pickle.UnpicklingError(f"a scalar of {code}")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Bound methods: a pickle can set no attribute of theirs, as it could of a class.
        known = {
            **_CONTAINERS,
            "_codecs.encode": self._encode,
            "numpy.dtype": self._type,
            **{f"{core}.scalar": self._scalar for core in _CORES},
        }
        if f"{module}.{name}" not in known:
            raise _UnknownName(f"{module}.{name}")
        return known[f"{module}.{name}"]

    def _encode(self, text: str, encoding: str) -> bytes:
        """Protocols before 3 write bytes as text."""
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"bytes written as {encoding}")
        return text.encode("latin1")

    def _type(self, code: str, *_: object) -> _Type:
        return _Type(code)

    def _scalar(self, kind: _Type, data: bytes) -> Any:
        (value,) = np.frombuffer(data, kind.dtype)
        return value.item()
