"""Element types, named as NumPy and ONNX name them."""

from __future__ import annotations

from enum import Enum

import ml_dtypes
import numpy as np

from isomorph.errors import DTypeError

__all__ = ["DType"]


class DType(Enum):
    """The element type of a tensor. The value is the name in text form and on the command line."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8_E4M3FN = "float8_e4m3fn"
    FLOAT8_E4M3FNUZ = "float8_e4m3fnuz"
    FLOAT8_E5M2 = "float8_e5m2"
    FLOAT8_E5M2FNUZ = "float8_e5m2fnuz"
    FLOAT8_E8M0FNU = "float8_e8m0fnu"
    FLOAT4_E2M1FN = "float4_e2m1fn"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    INT4 = "int4"
    INT2 = "int2"
    UINT64 = "uint64"
    UINT32 = "uint32"
    UINT16 = "uint16"
    UINT8 = "uint8"
    UINT4 = "uint4"
    UINT2 = "uint2"
    BOOL = "bool"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    STRING = "string"

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype; ml_dtypes supplies what NumPy lacks, strings are objects."""
        return _NUMPY[self]

    @property
    def itemsize(self) -> int:
        """Bytes an element takes in NumPy memory (types of 2 and 4 bits take one byte, unpacked)."""
        return _NUMPY[self].itemsize

    @property
    def bits(self) -> int:
        """Bits of an element: fewer than 8 for those that files pack."""
        return _BITS.get(self, 8 * self.itemsize)

    @property
    def is_float(self) -> bool:
        return "float" in self._value_

    @property
    def is_complex(self) -> bool:
        return self._value_.startswith("complex")

    @property
    def is_signed_integer(self) -> bool:
        return self._value_.startswith("int")

    @property
    def is_integer(self) -> bool:
        """True for signed and unsigned integers, False for bool."""
        return self._value_.startswith(("int", "uint"))

    @classmethod
    def of(cls, dtype: object) -> DType:
        """The DType of a NumPy dtype, a dtype's name, or a DType. Raises DTypeError for anything else."""
        if isinstance(dtype, cls):
            return dtype
        try:
            name = dtype if isinstance(dtype, str) else np.dtype(dtype).name  # type: ignore[call-overload]
            return cls("string" if name in ("object", "str") else name)
        except (TypeError, ValueError):
            known = ", ".join(member.value for member in cls)
            raise DTypeError(f"unknown element type {dtype!r}", advice=f"use one of {known}") from None

    def __str__(self) -> str:
        return self._value_

    def __format__(self, spec: str) -> str:
        return format(self._value_, spec)

    __hash__ = object.__hash__  # members are single objects; Enum's own hashes the name each time


_NUMPY: dict[DType, np.dtype] = {
    member: np.dtype(object)
    if member is DType.STRING
    else np.dtype(getattr(ml_dtypes, member.value, None) or member.value)
    for member in DType
}
_BITS = {DType.FLOAT4_E2M1FN: 4, DType.INT4: 4, DType.UINT4: 4, DType.INT2: 2, DType.UINT2: 2}
