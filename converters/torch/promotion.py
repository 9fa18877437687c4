"""PyTorch's type promotion: the element type in which an operation computes.

Tensors with axes outrank tensors of shape (), which outrank Python numbers; the lower rank only counts where it is of a
higher category (bool < integer < floating point < complex). Source: aten/src/ATen/native/TypeProperties.cpp.
"""

from __future__ import annotations

from isomorph.ir import DType, Sym, Value

__all__ = ["Number", "Operand", "promote_types", "result_type"]

Number = bool | int | float | Sym
Operand = Value | Number

_FLOATS = (DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64)
_SIGNED = (DType.INT8, DType.INT16, DType.INT32, DType.INT64)


def result_type(*operands: Operand) -> DType:
    """The common element type of tensors and numbers, as torch.result_type."""
    ranks: list[DType | None] = [None, None, None]
    for operand in operands:
        rank = (0 if operand.rank else 1) if isinstance(operand, Value) else 2
        known, dtype = ranks[rank], _dtype_of(operand)
        ranks[rank] = dtype if known is None else promote_types(known, dtype)
    result: DType | None = None
    for dtype_or_none in ranks:
        result = _outranked(result, dtype_or_none)
    assert result is not None
    return result


def _dtype_of(operand: Operand) -> DType:
    if isinstance(operand, Value):
        return operand.dtype
    if isinstance(operand, bool):
        return DType.BOOL
    return DType.FLOAT32 if isinstance(operand, float) else DType.INT64


def _category(dtype: DType) -> int:
    if dtype is DType.BOOL:
        return 0
    return 3 if dtype.is_complex else 2 if dtype.is_float else 1


def _outranked(higher: DType | None, lower: DType | None) -> DType | None:
    if higher is None or lower is None:
        return higher or lower
    return promote_types(higher, lower) if _category(lower) > _category(higher) else higher


def promote_types(a: DType, b: DType) -> DType:
    """The smallest type that holds both, as torch.promote_types."""
    if a is b:
        return a
    low, high = sorted((a, b), key=_category)
    if _category(low) != _category(high):
        if high.is_complex and low is DType.FLOAT64:
            return DType.COMPLEX128
        return high
    if high.is_complex:
        return DType.COMPLEX128
    if high.is_float:
        half = {DType.FLOAT16, DType.BFLOAT16}
        return DType.FLOAT32 if {a, b} == half else max(a, b, key=_FLOATS.index)
    if a in _SIGNED and b in _SIGNED:
        return max(a, b, key=_SIGNED.index)
    if DType.UINT8 in (a, b):
        other = b if a is DType.UINT8 else a
        return DType.INT16 if other is DType.INT8 else other
    return DType.INT64
