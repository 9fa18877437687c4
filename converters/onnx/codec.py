"""Element types and tensors between ONNX protobuf and the IR."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from isomorph.ir import DType, TensorSource

__all__ = ["DTYPES", "ELEMENT_TYPES", "element_type", "tensor_proto"]

ELEMENT_TYPES: dict[DType, int] = {
    DType.FLOAT32: TensorProto.FLOAT,
    DType.UINT8: TensorProto.UINT8,
    DType.INT8: TensorProto.INT8,
    DType.UINT16: TensorProto.UINT16,
    DType.INT16: TensorProto.INT16,
    DType.INT32: TensorProto.INT32,
    DType.INT64: TensorProto.INT64,
    DType.STRING: TensorProto.STRING,
    DType.BOOL: TensorProto.BOOL,
    DType.FLOAT16: TensorProto.FLOAT16,
    DType.FLOAT64: TensorProto.DOUBLE,
    DType.UINT32: TensorProto.UINT32,
    DType.UINT64: TensorProto.UINT64,
    DType.COMPLEX64: TensorProto.COMPLEX64,
    DType.COMPLEX128: TensorProto.COMPLEX128,
    DType.BFLOAT16: TensorProto.BFLOAT16,
    DType.FLOAT8_E4M3FN: TensorProto.FLOAT8E4M3FN,
    DType.FLOAT8_E4M3FNUZ: TensorProto.FLOAT8E4M3FNUZ,
    DType.FLOAT8_E5M2: TensorProto.FLOAT8E5M2,
    DType.FLOAT8_E5M2FNUZ: TensorProto.FLOAT8E5M2FNUZ,
    DType.UINT4: TensorProto.UINT4,
    DType.INT4: TensorProto.INT4,
}
"""TensorProto.DataType of each element type."""
DTYPES = {code: dtype for dtype, code in ELEMENT_TYPES.items()}


def element_type(dtype: DType) -> int:
    """TensorProto.DataType of an element type."""
    return ELEMENT_TYPES[dtype]


def tensor_proto(name: str, source: TensorSource) -> TensorProto:
    """An initializer with the elements of a source in raw_data (little-endian, C order; 4-bit elements packed in pairs)."""
    proto = onnx.TensorProto(name=name, dims=source.shape, data_type=element_type(source.dtype))
    array = source.numpy()
    if source.dtype is DType.STRING:
        proto.string_data.extend(item if isinstance(item, bytes) else str(item).encode() for item in array.ravel())
    elif source.dtype in (DType.INT4, DType.UINT4):
        nibbles = array.ravel().astype(np.int8).view(np.uint8) & 15
        pairs = np.append(nibbles, np.uint8(0)) if nibbles.size % 2 else nibbles
        proto.raw_data = (pairs[0::2] | pairs[1::2] << 4).tobytes()
    else:
        proto.raw_data = np.ascontiguousarray(array).tobytes()
    return proto
