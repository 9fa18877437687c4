"""The metadata of an ONNX file, read without its graph: a file of gigabytes costs a few seeks."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from onnx import StringStringEntryProto

__all__ = ["read_metadata"]

_METADATA = 14
"""Number of ModelProto.metadata_props; source: onnx.proto."""
_ENTRY_LIMIT = 64 << 20
_FIXED = {1: 8, 5: 4}
_BYTES = 2


def read_metadata(path: Path) -> dict[str, str]:
    """ModelProto.metadata_props of the file. Raises ValueError if it is no protobuf message."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        while file.tell() < size:
            tag = _varint(file)
            kind = tag & 7
            if kind == 0:
                _varint(file)
                continue
            length = _varint(file) if kind == _BYTES else _FIXED.get(kind)
            if length is None or length > size - file.tell():
                raise ValueError(f"a field of wire type {kind} that does not end")
            if tag >> 3 == _METADATA and kind == _BYTES and length <= _ENTRY_LIMIT:
                entry = _parse(file.read(length))
                found[entry.key] = entry.value
            else:
                file.seek(length, 1)
    return found


def _parse(data: bytes) -> StringStringEntryProto:
    try:
        return StringStringEntryProto.FromString(data)
    except Exception as error:  # protobuf's own exception types differ between its implementations
        raise ValueError(f"a metadata entry cannot be read: {error}") from error


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("a number that does not end")
