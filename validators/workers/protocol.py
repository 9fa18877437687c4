"""The protocol between the judge and a worker process: framed messages over two pipes.

A message is a JSON header followed by raw tensors; nothing is ever unpickled or evaluated.

    offset  bytes  content
    0       4      magic, b"ISO1"
    4       4      length of the header, unsigned, little-endian; at most HEADER_LIMIT
    8       n      header: a JSON object in UTF-8 with `kind` and `tensors`
    8 + n          the tensors in the order of `tensors`, C order, little-endian, without padding

`tensors` is a list of {"name", "dtype", "shape", "role"}; dtype is a name of `isomorph.ir.DType`. Requests and their
answers:

    open {model, role}                 -> signature {inputs, outputs, dims, parameters, environment, notes}
    run {precision, taps} + inputs     -> result {order} + outputs (role "output") and taps (role "tap")
    piece {wanted} + values (role "input")
                                       -> result + the values wanted (role "output"); localization/piece.py
    cut {wanted} + values (role "input")
                                       -> cut {inputs, size} + the piece as the bytes of a file (role "file")
    train {precision, steps, rate, momentum} + inputs + cotangents
                                       -> trained {weights} + values (role "value"); training/exercise.py
    close {}                           -> the worker exits
    anything that fails                -> error {what, because, exception}; the worker stays
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isomorph.errors import IsomorphError
from isomorph.ir import DType

__all__ = ["Channel", "Message", "ProtocolError", "Tensor"]

MAGIC = b"ISO1"
HEADER_LIMIT = 64 << 20
TENSOR_LIMIT = 32 << 30
CHUNK = 1 << 20


class ProtocolError(IsomorphError):
    """The other side closed the pipe, was too slow, or sent something that is not a message. `kind` says which."""

    exit_code = 3

    def __init__(self, what: str, *, kind: str) -> None:
        self.kind = kind
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array of a message; `role` is "input", "output", "tap", or what the message says of it."""

    name: str
    array: np.ndarray
    role: str = "input"


@dataclass(frozen=True, slots=True)
class Message:
    """A header and the tensors that follow it."""

    kind: str
    body: Mapping[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()

    def by_role(self, role: str) -> dict[str, np.ndarray]:
        """Arrays of one role, by name, in order."""
        return {tensor.name: tensor.array for tensor in self.tensors if tensor.role == role}


class Channel:
    """Sends and receives messages over two file descriptors, with a deadline in seconds for each call."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)

    def send(self, message: Message, *, timeout: float | None = None) -> None:
        """Write one message. Raises ProtocolError (kind "closed" or "timeout")."""
        arrays = [(tensor, _little_endian(tensor.array)) for tensor in message.tensors]
        described = [
            {"name": t.name, "dtype": DType.of(a.dtype).value, "shape": list(a.shape), "role": t.role}
            for t, a in arrays
        ]
        header = json.dumps({**message.body, "kind": message.kind, "tensors": described}).encode()
        deadline = _deadline(timeout)
        self._write(MAGIC + struct.pack("<I", len(header)) + header, deadline)
        for _, array in arrays:
            self._write(array.reshape(-1).view(np.uint8).data if array.size else b"", deadline)

    def receive(self, *, timeout: float | None = None) -> Message:
        """Read one message. Raises ProtocolError (kind "closed", "timeout" or "garbage")."""
        deadline = _deadline(timeout)
        start = self._read(8, deadline)
        (length,) = struct.unpack("<I", start[4:])
        if start[:4] != MAGIC or length > HEADER_LIMIT:
            raise ProtocolError(f"sent bytes that are not a message: {bytes(start)!r}", kind="garbage")
        header = _parse_header(bytes(self._read(length, deadline)))
        tensors = [self._read_tensor(entry, deadline) for entry in header.pop("tensors")]
        return Message(header.pop("kind"), header, tuple(tensors))

    def _read_tensor(self, entry: Any, deadline: float | None) -> Tensor:
        try:
            dtype = DType.of(entry["dtype"])
            shape = tuple(int(size) for size in entry["shape"])
            name, role = str(entry["name"]), str(entry["role"])
        except (KeyError, TypeError, ValueError, IsomorphError) as error:
            raise ProtocolError(f"sent a malformed tensor description: {error}", kind="garbage") from error
        size = math.prod(shape) * dtype.itemsize
        if dtype is DType.STRING or min(shape, default=0) < 0 or size > TENSOR_LIMIT:
            raise ProtocolError(f"sent a tensor that cannot be read: {dtype} {list(shape)}", kind="garbage")
        data = self._read(size, deadline)
        return Tensor(name, np.frombuffer(data, dtype.numpy).reshape(shape), role)

    def _read(self, size: int, deadline: float | None) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view.nbytes:
            self._wait(self._read_fd, deadline, writing=False)
            try:
                chunk = os.read(self._read_fd, min(view.nbytes, CHUNK))
            except BlockingIOError:
                continue
            if not chunk:
                raise ProtocolError("closed its end of the pipe", kind="closed")
            view[: len(chunk)] = chunk
            view = view[len(chunk) :]
        return data

    def _write(self, data: bytes | memoryview, deadline: float | None) -> None:
        view = memoryview(data)
        while view.nbytes:
            self._wait(self._write_fd, deadline, writing=True)
            try:
                view = view[os.write(self._write_fd, view[:CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise ProtocolError("closed its end of the pipe", kind="closed") from None

    @staticmethod
    def _wait(fd: int, deadline: float | None, *, writing: bool) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise ProtocolError("did not answer in time", kind="timeout")
        readers, writers = ([], [fd]) if writing else ([fd], [])
        if not any(select.select(readers, writers, [], left)):
            raise ProtocolError("did not answer in time", kind="timeout")


def tensors(arrays: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]], role: str) -> tuple[Tensor, ...]:
    """The arrays as tensors of one role."""
    pairs = arrays.items() if isinstance(arrays, Mapping) else arrays
    return tuple(Tensor(name, np.asarray(array), role) for name, array in pairs)


def _parse_header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"sent a header that is not JSON: {error}", kind="garbage") from error
    if (
        not isinstance(header, dict)
        or not isinstance(header.get("kind"), str)
        or not isinstance(header.get("tensors"), list)
    ):
        raise ProtocolError("sent a header without `kind` and `tensors`", kind="garbage")
    return header


def _little_endian(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, order="C")  # (ascontiguousarray makes vectors of scalars)
    return array.astype(array.dtype.newbyteorder("<")) if array.dtype.byteorder == ">" else array


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout
