"""Types between ONNX protobuf and the IR: of elements, tensors, sequences, optionals and maps."""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import TensorProto

from isomorph.errors import Unsupported, UnsupportedError
from isomorph.ir import Dim, DType, OpaqueType, Sym, TensorType

__all__ = [
    "DTYPES",
    "ELEMENT_TYPES",
    "STATE",
    "dtype_of",
    "element_type",
    "type_proto",
    "value_info",
    "value_type",
]


STATE = "isomorph.state"
"""Key of a model's metadata: JSON, {input: output that is its next value}."""
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
    DType.FLOAT4_E2M1FN: TensorProto.FLOAT4E2M1,
    DType.FLOAT8_E8M0FNU: TensorProto.FLOAT8E8M0,
    DType.UINT2: TensorProto.UINT2,
    DType.INT2: TensorProto.INT2,
}
"""TensorProto.DataType of each element type."""
DTYPES = {code: dtype for dtype, code in ELEMENT_TYPES.items()}


def element_type(dtype: DType) -> int:
    """TensorProto.DataType of an element type."""
    return ELEMENT_TYPES[dtype]


def value_info(name: str, kind: TensorType) -> onnx.ValueInfoProto:
    """The name and type of a value."""
    return onnx.helper.make_value_info(name, type_proto(kind))


def type_proto(kind: TensorType, *, inside: bool = False) -> onnx.TypeProto:
    """A type; symbolic sizes as their text. `inside` of a sequence they differ from one to the next: no text."""
    helper = onnx.helper
    if not isinstance(kind, OpaqueType):
        dims = [(None if inside else str(dim)) if isinstance(dim, Sym) else dim for dim in kind.shape]
        return helper.make_tensor_type_proto(element_type(kind.dtype), dims)
    if kind.element is None:
        return helper.make_tensor_type_proto(element_type(kind.dtype), None)
    if kind.form == "map" and kind.key is not None:
        return helper.make_map_type_proto(element_type(kind.key), type_proto(kind.element, inside=True))
    if kind.form == "sequence":
        return helper.make_sequence_type_proto(type_proto(kind.element, inside=True))
    return helper.make_optional_type_proto(type_proto(kind.element, inside=inside))


def value_type(
    proto: onnx.TypeProto, where: str, size: Callable[[onnx.TensorShapeProto.Dimension], Dim]
) -> TensorType | None:
    """The type that a message states, None if it is none; `size` reads a tensor's sizes. Raises UnsupportedError."""
    form = proto.WhichOneof("value")
    if form == "tensor_type":
        tensor = proto.tensor_type
        if not tensor.elem_type:
            return None
        dtype = dtype_of(tensor.elem_type, where)
        if not tensor.HasField("shape"):
            return OpaqueType(dtype, ())
        return TensorType(dtype, tuple(size(dim) for dim in tensor.shape.dim))
    if form == "optional_type":
        inside = value_type(proto.optional_type.elem_type, where, size)
        return None if inside is None else OpaqueType.of("optional", inside)
    if form == "sequence_type":
        inside = value_type(proto.sequence_type.elem_type, where, _any_size)
        return None if inside is None else OpaqueType.of("sequence", inside)
    if form == "map_type":
        inside = value_type(proto.map_type.value_type, where, _any_size)
        key = dtype_of(proto.map_type.key_type, where)
        return None if inside is None else OpaqueType.of("map", inside, key)
    if form is not None:
        raise UnsupportedError("read onnx", [Unsupported(form, "values of this kind", where)])
    return None


def _any_size(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else Sym("any")


def dtype_of(code: int, where: str) -> DType:
    """The element type of a TensorProto.DataType. Raises UnsupportedError for one that isomorph does not have."""
    if code not in DTYPES:
        name = TensorProto.DataType.Name(code) if code in TensorProto.DataType.values() else str(code)
        raise UnsupportedError("read onnx", [Unsupported(name, "an element type that isomorph does not have", where)])
    return DTYPES[code]
