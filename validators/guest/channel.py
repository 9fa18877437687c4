"""The guest's end of the protocol of docs/runner-protocol.md: blocking reads and writes of whole messages."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["Channel", "dtype_name"]

_MAGIC = b"ISO1"
_CHUNK = 1 << 20


def dtype_name(dtype: Any) -> str:
    """NumPy's element type as the protocol calls it."""
    return str(np.dtype(dtype).name)


class Channel:
    """Messages over two file descriptors."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd

    def receive(self) -> tuple[dict[str, Any], list[tuple[str, np.ndarray, str]]] | None:
        """The header and the tensors of the next message; None where the pipe is closed."""
        start = self._read(8)
        if len(start) < 8:
            return None
        if start[:4] != _MAGIC:
            raise ValueError("what the judge sent is not a message")
        header = json.loads(self._read(struct.unpack("<I", start[4:])[0]).decode("utf-8"))
        tensors = []
        for entry in header.pop("tensors"):
            dtype = np.dtype(entry["dtype"]).newbyteorder("<")
            count = int(np.prod(entry["shape"], dtype=np.int64)) if entry["shape"] else 1
            data = self._read(count * dtype.itemsize)
            tensors.append((entry["name"], np.frombuffer(data, dtype).reshape(entry["shape"]), entry["role"]))
        return header, tensors

    def send(self, kind: str, body: dict[str, Any], tensors: Iterable[tuple[str, Any, str]]) -> None:
        """Write one message."""
        arrays = [(name, np.asarray(array, order="C"), role) for name, array, role in tensors]
        described = [
            {"name": name, "dtype": dtype_name(array.dtype), "shape": list(array.shape), "role": role}
            for name, array, role in arrays
        ]
        message = dict(body)
        message.update(kind=kind, tensors=described)
        header = json.dumps(message).encode("utf-8")
        self._write(_MAGIC + struct.pack("<I", len(header)) + header)
        for _, array, _ in arrays:
            self._write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())

    def _read(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = os.read(self._read_fd, min(size, _CHUNK))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view.nbytes:
            view = view[os.write(self._write_fd, view[:_CHUNK]) :]
