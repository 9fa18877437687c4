"""Shifts of integers, exact for each sign, and zero (or the sign) where all bits are shifted out."""

from __future__ import annotations

import numpy as np

from isomorph.converters.torch.aten.elementwise import both
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops


def _names(direction: str, mark: str) -> tuple[str, ...]:
    shifts = both(f"bitwise_{direction}_shift", "Tensor", "Tensor_Scalar")
    plain = (f"aten.__{sign}{mark}shift__.{kind}" for sign in ("", "i") for kind in ("Tensor", "Scalar"))
    return *shifts, f"aten.bitwise_{direction}_shift.Scalar_Tensor", *plain


def _power_of_two(b: Lowering, count: Value, highest: int) -> Value:
    """2^count from a table, for counts clamped to [0, highest]; the top bit of a signed type is its least number."""
    dtype = count.dtype
    powers = np.left_shift(np.ones(highest + 1, np.uint64), np.arange(highest + 1, dtype=np.uint64))
    table = b.constant(powers.astype(dtype.numpy), "powers_of_two")
    where = b.emit(ops.Clip(0, highest), b.cast(count, DType.INT64))
    return b.emit(ops.Gather(0), table, where)


def _bits(dtype: DType) -> int:
    return dtype.itemsize * 8


def _outside(b: Lowering, count: Value, bits: int) -> Value:
    """Whether so many bits leave nothing: a negative count is a large one."""
    wide = b.cast(count, DType.INT64)
    below = b.emit(ops.Less(), wide, b.number(0, DType.INT64))
    return b.emit(ops.Or(), below, b.emit(ops.GreaterOrEqual(), wide, b.number(bits, DType.INT64)))


@rules.imports(*_names("left", "l"))
def left_shift(b: Lowering, self: Operand, other: Operand) -> Value:
    """bitwise_left_shift.Tensor(Tensor self, Tensor other): x 2^n with wrap-around; 0 from n = bits on"""
    x, count = b.promoted(self, other)
    b.require(x.dtype.is_integer, f"shifts of {x.dtype}")
    bits = _bits(x.dtype)
    made = b.emit(ops.Mul(), x, _power_of_two(b, count, bits - 1))
    return b.emit(ops.Where(), _outside(b, count, bits), b.number(0, x.dtype), made)


@rules.imports(*_names("right", "r"))
def right_shift(b: Lowering, self: Operand, other: Operand) -> Value:
    """bitwise_right_shift.Tensor(Tensor self, Tensor other): floor(x / 2^n); the sign from n = bits - 1 on"""
    x, count = b.promoted(self, other)
    b.require(x.dtype.is_integer, f"shifts of {x.dtype}")
    signed = x.dtype not in (DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64)
    highest = _bits(x.dtype) - (2 if signed else 1)
    step = _power_of_two(b, count, highest)
    made = b.emit(ops.Div(), b.emit(ops.Sub(), x, b.emit(ops.Mod(), x, step)), step)
    zero = b.number(0, x.dtype)
    rest = b.emit(ops.Where(), b.emit(ops.Less(), x, zero), b.number(-1, x.dtype), zero) if signed else zero
    return b.emit(ops.Where(), _outside(b, count, highest + 1), rest, made)
