"""Reads TensorFlow's record files, and the protocol buffers in NAS-Bench-101's, without either.

A record file is a sequence of frames: length (uint64, little-endian), checksum of these eight
bytes, data, checksum of the data. Checksums are CRC-32C, rotated right by 15 bits and increased by
0xa282ead8, so that the checksum of data that holds a checksum is not degenerate. A protocol buffer
is a sequence of fields: a number with the kind of its value in the lowest three bits, then the
value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from conf.errors import UsageError

LONGEST: Final = 4096
"""Bytes in a frame; those of NAS-Bench-101 have about 400."""

_BATCH: Final = 4096
_LENGTH: Final = struct.Struct("<QI")
_CHECKSUM: Final = struct.Struct("<I")
_DOUBLE: Final = struct.Struct("<d")
_POLYNOMIAL: Final = np.uint32(0x82F63B78)
_MASK: Final = np.uint32(0xA282EAD8)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _byte_table() -> NDArray[np.uint32]:
    remainders = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        remainders = remainders >> np.uint32(1) ^ (remainders & np.uint32(1)) * _POLYNOMIAL
    return remainders


_TABLE: Final = _byte_table()


def masked_checksums(messages: Sequence[bytes]) -> NDArray[np.uint32]:
    """Compute the masked CRC-32C of messages of four bytes or more, uint32 [n].

    All at once, byte by byte from the front. Messages are filled up with zeros on the left, which
    leave a register of zero as it is; the register's true start, all ones, is added to the first
    four bytes.
    """
    width = max(map(len, messages))
    filled = np.frombuffer(b"".join(m.rjust(width, b"\0") for m in messages), np.uint8)
    columns = filled.reshape(-1, width).T.copy()
    starts = width - np.array([len(m) for m in messages])
    for place in range(4):
        columns[starts + place, np.arange(len(messages))] ^= np.uint8(0xFF)
    register = np.zeros(len(messages), np.uint32)
    for column in columns:
        register = _TABLE[(register ^ column) & np.uint32(0xFF)] ^ register >> np.uint32(8)
    register = ~register
    return (register >> np.uint32(15) | register << np.uint32(17)) + _MASK


def frames(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Yield the data of each frame of ``file``, whose checksums are right.

    Raises :class:`UsageError`, which names ``path``, for a file that is damaged, cut off, or of
    another format.
    """
    number = 0
    while batch := _batch(file, path, number):
        data = [frame for _, _, frame, _ in batch]
        for part, expected in (
            ([length for length, _, _, _ in batch], [checksum for _, checksum, _, _ in batch]),
            (data, [checksum for _, _, _, checksum in batch]),
        ):
            wrong = masked_checksums(part) != np.array(expected, np.uint32)
            if wrong.any():
                record = number + int(wrong.argmax()) + 1
                raise UsageError(f"{path} is damaged: the checksum of record {record:,} is wrong.")
        yield from data
        number += len(batch)


def _batch(file: BinaryIO, path: Path, number: int) -> list[tuple[bytes, int, bytes, int]]:
    """Read some frames: length as it is written, its checksum, data, and its checksum."""
    batch: list[tuple[bytes, int, bytes, int]] = []
    while len(batch) < _BATCH and (head := file.read(_LENGTH.size)):
        record = number + len(batch) + 1
        if len(head) < _LENGTH.size:
            raise _cut_off(path, record)
        length, checksum = _LENGTH.unpack(head)
        if not 4 <= length <= LONGEST:
            raise UsageError(
                f"{path} is damaged or no .tfrecord of NAS-Bench-101: record {record:,} would have "
                f"{length:,} bytes."
            )
        body = file.read(length + _CHECKSUM.size)
        if len(body) < length + _CHECKSUM.size:
            raise _cut_off(path, record)
        batch.append((head[:8], checksum, body[:length], _CHECKSUM.unpack(body[length:])[0]))
    return batch


def _cut_off(path: Path, record: int) -> UsageError:
    return UsageError(f"{path} is cut off in record {record:,}; fetch it again.")


def fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the number and the value of each field of a protocol buffer.

    Values are int (varint), float (64 bits) or bytes. Raises ``ValueError`` for anything else.
    """
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        value: int | float | bytes
        if kind == _VARINT:
            value, place = _varint(message, place)
        elif kind == _FIXED64:
            value, place = _DOUBLE.unpack(_slice(message, place, 8))[0], place + 8
        elif kind == _BYTES:
            length, place = _varint(message, place)
            value, place = _slice(message, place, length), place + length
        elif kind == _FIXED32:
            value, place = _slice(message, place, 4), place + 4
        else:
            raise ValueError(f"a field of kind {kind}")
        yield number, value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first; return it and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError("a number without end")


def _slice(message: bytes, place: int, length: int) -> bytes:
    part = message[place : place + length]
    if len(part) < length:
        raise ValueError("a field without end")
    return part
