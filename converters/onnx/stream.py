"""Writes a ModelProto whose weights never pass through a protobuf in memory.

A protobuf message is the concatenation of its fields in any order. The model without its graph, the graph without its
initializers and each initializer without its data are serialized as usual; lengths and the raw data go between:

    model | tag(graph) length | graph | tag(initializer) length | tensor | tag(raw_data) length | elements | ...

See: protobuf encoding, onnx.proto (ModelProto.graph = 7, GraphProto.initializer = 5, TensorProto.raw_data = 9).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import onnx

from isomorph.errors import Unsupported, UnsupportedError
from isomorph.ir import TensorSource
from isomorph.records import record

__all__ = ["LARGEST_FILE", "Weight", "elements", "write_model"]

_LENGTH_DELIMITED = 2
_GRAPH, _INITIALIZER, _RAW_DATA = (field << 3 | _LENGTH_DELIMITED for field in (7, 5, 9))
_CHUNK = 1 << 24
LARGEST_FILE = (1 << 31) - 1
"""Bytes of a message that protobuf can read."""


@record
class Weight:
    """An initializer: everything but its elements, and where those come from (None: they are in `proto` already)."""

    proto: onnx.TensorProto
    source: TensorSource | None


def write_model(file: BinaryIO, model: onnx.ModelProto, weights: Sequence[Weight]) -> None:
    """Write `model`, whose graph has no initializers yet, with `weights` as its initializers.

    Raises UnsupportedError, with nothing written, if that is more than protobuf can hold.
    """
    graph = model.graph.SerializeToString(deterministic=True)
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    heads = [weight.proto.SerializeToString(deterministic=True) for weight in weights]
    bodies = [
        len(head)
        if weight.source is None
        else len(head) + 1 + len(_varint(weight.source.nbytes)) + weight.source.nbytes
        for head, weight in zip(heads, weights, strict=True)
    ]
    total = len(graph) + sum(1 + len(_varint(body)) + body for body in bodies)
    outside = rest.SerializeToString(deterministic=True)
    if len(outside) + 1 + len(_varint(total)) + total > LARGEST_FILE:
        reason = f"a protobuf file ends at 2 GiB, this one needs {total} bytes besides what can lie beside it"
        raise UnsupportedError("write onnx", [Unsupported("file", reason)])
    file.write(outside)
    file.write(bytes([_GRAPH]) + _varint(total) + graph)
    for head, body, weight in zip(heads, bodies, weights, strict=True):
        file.write(bytes([_INITIALIZER]) + _varint(body) + head)
        if weight.source is not None:
            file.write(bytes([_RAW_DATA]) + _varint(weight.source.nbytes))
            for chunk in elements(weight.source):
                file.write(chunk)


def elements(source: TensorSource) -> Iterator[memoryview]:
    """The elements in C order, little-endian, a few megabytes at a time; a permuted view is copied piece by piece."""
    yield from _pieces(source.numpy())


def _pieces(array: npt.NDArray[Any]) -> Iterator[memoryview]:
    if array.size == 0:
        return
    if array.flags.c_contiguous:
        flat = array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, _CHUNK):
            yield flat[start : start + _CHUNK].data
        return
    rows = _CHUNK * array.shape[0] // array.nbytes
    if rows == 0:  # one row is more than a piece
        for row in array:
            yield from _pieces(row)
        return
    for start in range(0, array.shape[0], rows):
        yield np.ascontiguousarray(array[start : start + rows]).reshape(-1).view(np.uint8).data


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
