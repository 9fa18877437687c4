"""Tensors between ONNX protobuf and the IR: elements in raw_data, in typed fields, packed, beside the model.

Nothing is allocated before the number of elements is checked against the data that are there.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from isomorph.converters.onnx.codec import dtype_of, element_type
from isomorph.errors import MalformedError, UnsafeError
from isomorph.ir import ArrayTensor, DType, MappedTensor, TensorSource

__all__ = ["PackedTensor", "packed_elements", "tensor_proto", "tensor_source"]

_CHUNK = 1 << 22
"""Elements that are packed at a time."""


def tensor_proto(name: str, source: TensorSource) -> TensorProto:
    """An initializer with the elements of a source in raw_data: little-endian, C order, small ones packed."""
    proto = onnx.TensorProto(name=name, dims=source.shape, data_type=element_type(source.dtype))
    if source.dtype is DType.STRING:
        texts = source.numpy().ravel()
        proto.string_data.extend(item if isinstance(item, bytes) else str(item).encode() for item in texts)
    elif source.dtype.bits < 8:
        proto.raw_data = b"".join(packed_elements(source))
    else:
        proto.raw_data = np.ascontiguousarray(source.numpy()).tobytes()
    return proto


class PackedTensor(TensorSource):
    """Elements of 2 or 4 bits, which share bytes: the first one has the lowest bits. `packed` has the bytes."""

    __slots__ = ("packed",)

    def __init__(self, dtype: DType, shape: tuple[int, ...], packed: TensorSource) -> None:
        super().__init__(dtype, shape)
        self.packed = packed

    def _fetch(self) -> npt.NDArray[Any]:
        return _unpack(self.packed.numpy().view(np.uint8), self.dtype, self.shape)


_TYPED_FIELDS: dict[DType, str] = {
    DType.FLOAT32: "float_data",
    DType.COMPLEX64: "float_data",
    DType.FLOAT64: "double_data",
    DType.COMPLEX128: "double_data",
    DType.INT64: "int64_data",
    DType.UINT32: "uint64_data",
    DType.UINT64: "uint64_data",
}
"""The field that holds a type's elements where raw_data does not; other types are in int32_data. See: onnx.proto."""


def tensor_source(proto: TensorProto, folder: Path | None, mapped: npt.NDArray[np.uint8] | None = None) -> TensorSource:
    """The elements of a TensorProto, lazily.

    folder   where external data may lie (None: nowhere)
    mapped   its raw_data, where that was left in the file (see wire.py)
    The number of elements is checked against the data before anything is allocated. Raises MalformedError, UnsafeError.
    """
    where = f"tensor {proto.name!r}"
    dtype = dtype_of(proto.data_type, where)
    shape = tuple(proto.dims)
    if any(size < 0 for size in shape):
        raise MalformedError(f"{where} has the shape {list(shape)}")
    if math.prod(max(size, 1) for size in shape) * 16 >= 1 << 63:  # also where another size is 0
        raise MalformedError(f"{where} has the shape {list(shape)}, which no memory holds")
    count = math.prod(shape)
    packed = dtype.bits < 8
    nbytes = -(-count * dtype.bits // 8)
    if proto.data_location == TensorProto.EXTERNAL:
        return _external(proto, dtype, nbytes, folder, where)
    if dtype is DType.STRING:
        _check_count(len(proto.string_data), count, where)
        return ArrayTensor(np.asarray(list(proto.string_data), object).reshape(shape))
    if mapped is not None or proto.HasField("raw_data"):
        raw = mapped if mapped is not None else np.frombuffer(proto.raw_data, np.uint8)
        _check_count(raw.size, nbytes, where, "bytes")
        if packed:
            return PackedTensor(dtype, shape, ArrayTensor(raw))
        return ArrayTensor(raw.view(dtype.numpy).reshape(shape))
    return ArrayTensor(_typed(proto, dtype, shape, count, where))


def _typed(proto: TensorProto, dtype: DType, shape: tuple[int, ...], count: int, where: str) -> npt.NDArray[Any]:
    field = _TYPED_FIELDS.get(dtype, "int32_data")
    data: Any = getattr(proto, field)
    if field in ("float_data", "double_data"):
        _check_count(len(data), 2 * count if dtype.is_complex else count, where)
        return np.frombuffer(_packed(proto, field), dtype.numpy).reshape(shape)
    if dtype.bits < 8:
        _check_count(len(data), -(-count * dtype.bits // 8), where)
        return _unpack(np.asarray(data, np.int32).astype(np.uint8), dtype, shape)
    _check_count(len(data), count, where)
    array = np.asarray(data)
    if dtype.is_float and dtype not in (DType.FLOAT32, DType.FLOAT64):  # their bits, in the low bytes of an int32
        bits = array.astype(np.int32).astype(np.uint16 if dtype.itemsize == 2 else np.uint8)
        return bits.view(dtype.numpy).reshape(shape)
    return array.astype(dtype.numpy).reshape(shape)


def _packed(proto: TensorProto, field: str) -> bytes:
    """The elements of a repeated field as they are in the file; Python's floats would quiet a signaling NaN."""
    alone = TensorProto()
    alone.CopyFrom(proto)
    for other in TensorProto.DESCRIPTOR.fields_by_name:
        if other != field:
            alone.ClearField(other)
    width = 4 if field == "float_data" else 8
    written: bytes = alone.SerializeToString()  # tag, length, elements
    return written[len(written) - width * len(getattr(proto, field)) :]


def packed_elements(source: TensorSource) -> Iterator[bytes]:
    """Elements of 2 or 4 bits as `raw_data` has them, a few megabytes at a time; packed ones as they are."""
    each = 8 // source.dtype.bits
    if isinstance(source, PackedTensor) and source.size % each == 0:  # else the last byte may hold more than elements
        codes = source.packed.numpy().view(np.uint8)
        for start in range(0, codes.size, _CHUNK):
            yield codes[start : start + _CHUNK].tobytes()
        return
    flat = source.numpy().reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        yield _pack(flat[start : start + _CHUNK], source.dtype).tobytes()


def _pack(array: npt.NDArray[Any], dtype: DType) -> npt.NDArray[np.uint8]:
    """Elements of 2 or 4 bits in bytes, the first one in the lowest bits."""
    codes = (array if dtype.is_float else array.astype(np.int8)).ravel().view(np.uint8) & (1 << dtype.bits) - 1
    each = 8 // dtype.bits
    rows = np.append(codes, np.zeros(-codes.size % each, np.uint8)).reshape(-1, each)
    shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
    return np.bitwise_or.reduce(rows << shifts, axis=1)  # type: ignore[no-any-return]


def _unpack(packed: npt.NDArray[np.uint8], dtype: DType, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """The elements of bytes that `_pack` gives."""
    shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
    codes = (packed[:, None] >> shifts & (1 << dtype.bits) - 1).ravel()[: math.prod(shape)].astype(np.uint8)
    if dtype.is_float:
        return codes.view(dtype.numpy).reshape(shape)
    if dtype.is_signed_integer:
        sign = 1 << dtype.bits - 1
        codes = ((codes.astype(np.int8) ^ sign) - sign).astype(np.int8)
    return codes.astype(dtype.numpy).reshape(shape)


def _check_count(found: int, wanted: int, where: str, unit: str = "elements") -> None:
    if found != wanted:
        raise MalformedError(f"{where} has {found} {unit} of data, its shape and type need {wanted}")


def _external(proto: TensorProto, dtype: DType, nbytes: int, folder: Path | None, where: str) -> TensorSource:
    shape = tuple(proto.dims)
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    path = _contained(folder, location, where)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or nbytes)
    except ValueError:
        raise MalformedError(f"{where} has external data at no number", because=str(entries)) from None
    if dtype is DType.STRING or length != nbytes:
        raise MalformedError(f"{where} has {length} bytes of external data, its shape and type need {nbytes}")
    if offset < 0 or offset + nbytes > path.stat().st_size:
        raise MalformedError(f"{where} lies outside of its file: bytes {offset} to {offset + nbytes}", at=location)
    if dtype.bits < 8:
        stored = MappedTensor(path, offset, DType.UINT8, (nbytes,))
        return PackedTensor(dtype, shape, stored)
    return MappedTensor(path, offset, dtype, shape)


def _contained(folder: Path | None, location: str, where: str) -> Path:
    """A regular file below the model's folder, reached without links.

    See: CVE-2022-25882, CVE-2024-27318, CVE-2025-51480.
    """
    pure = PurePosixPath(location.replace("\\", "/"))
    if (
        folder is None
        or not pure.parts
        or "\0" in location
        or pure.is_absolute()
        or ".." in pure.parts
        or ":" in location
    ):
        raise UnsafeError(f"{where} wants its data from {location!r}, which is not below the model's folder")
    path = folder
    for part in pure.parts:
        path = path / part
        try:
            status = path.lstat()
        except OSError:
            raise MalformedError(
                f"{where} has its data in {location!r}, which is not there", advice="put the file beside the model"
            ) from None
        if stat.S_ISLNK(status.st_mode):
            raise UnsafeError(f"{where} wants its data through the link {location!r}")
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        raise UnsafeError(f"{where} wants its data from {location!r}, which is no plain file of its own")
    return path
