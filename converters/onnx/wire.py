"""Reads a ModelProto whose large initializers stay in the mapped file: the counterpart of stream.py.

    model { graph { initializer { raw_data } } }    ->    the same message without these raw_data, and where each lies

Only the fields on that path are walked; everything else is handed to protobuf as it is.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from isomorph.errors import MalformedError

__all__ = ["Bytes", "read_model"]

Bytes = npt.NDArray[np.uint8]
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_TYPED_DATA = frozenset((4, 5, 6, 7, 10, 11))
"""Fields of TensorProto that hold elements one by one; a tensor that has one is left to protobuf."""
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_WORTH_MAPPING = 4096


def read_model(path: Path) -> tuple[onnx.ModelProto, dict[int, Bytes]]:
    """The model, and the mapped raw_data of its initializers by position. Raises MalformedError."""
    with path.open("rb") as file:
        size = path.stat().st_size
        source = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    data = memoryview(source)
    mapped: dict[int, Bytes] = {}
    try:
        _expect(source, "MADV_RANDOM")
        small = b"".join(_without_weights(data, mapped))
        _expect(source, "MADV_NORMAL")
        return onnx.ModelProto.FromString(small), mapped
    except (DecodeError, RecursionError, ValueError, IndexError) as error:
        raise MalformedError(
            "not an ONNX file: the protobuf message is damaged", at=str(path), because=str(error)
        ) from None


def _expect(source: mmap.mmap | bytes, order: str) -> None:
    """Tell the system in what order pages are read: it would read ahead of a walk from tensor to tensor, so all."""
    advice = getattr(mmap, order, None)  # Windows has none
    if isinstance(source, mmap.mmap) and advice is not None:
        source.madvise(advice)


def _without_weights(data: memoryview, mapped: dict[int, Bytes]) -> Iterator[bytes]:
    count = 0
    for field, begin, start, end in _fields(data, 0, len(data)):
        if field != _GRAPH:
            yield bytes(data[begin:end])
            continue
        pieces = []
        for inner, inner_begin, inner_start, inner_end in _fields(data, start, end):
            raw = _raw_data(data, inner_start, inner_end) if inner == _INITIALIZER else None
            if raw is None or raw[2] - raw[1] < _WORTH_MAPPING:
                pieces.append(bytes(data[inner_begin:inner_end]))
            else:
                body = bytes(data[inner_start : raw[0]]) + bytes(data[raw[2] : inner_end])
                pieces.append(_message(_INITIALIZER, body))
                mapped[count] = np.frombuffer(data[raw[1] : raw[2]], np.uint8)
            count += inner == _INITIALIZER
        yield _message(_GRAPH, b"".join(pieces))


def _raw_data(data: memoryview, start: int, end: int) -> tuple[int, int, int] | None:
    """(begin of the field, begin and end of its content) of the only raw_data of a TensorProto."""
    found = None
    for field, begin, first, last in _fields(data, start, end):
        if field in _TYPED_DATA or (field == _RAW_DATA and found is not None):
            return None
        if field == _RAW_DATA:
            found = begin, first, last
    return found


def _fields(data: memoryview, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, begin, begin of the content, end) of each field of a message."""
    while position < end:
        begin = position
        key, position = _varint(data, position, end)
        start, kind = position, key & 7
        if kind == _VARINT:
            _, position = _varint(data, position, end)
        elif kind == _DELIMITED:
            length, start = _varint(data, position, end)
            position = start + length
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"field {key >> 3} has the wire type {kind}")
        if position > end:
            raise ValueError(f"field {key >> 3} ends at byte {position} of a message that ends at byte {end}")
        yield key >> 3, begin, start, position


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    number = shift = 0
    while position < end and shift < 70:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
    raise ValueError(f"no number at byte {position}")


def _message(field: int, body: bytes) -> bytes:
    """A field that holds a message."""
    head = bytearray([field << 3 | _DELIMITED])
    length = len(body)
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    return bytes([*head, length]) + body
