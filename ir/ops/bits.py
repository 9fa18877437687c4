"""Ops on the bits of numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from isomorph.errors import DTypeError, GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule
from isomorph.ir.op import Op, TensorType, broadcast, operation
from isomorph.ir.ops.elementwise import (
    Add,
    And,
    Cast,
    Div,
    GreaterOrEqual,
    Less,
    Mod,
    Mul,
    Not,
    Or,
    Sub,
    Where,
    Xor,
    scalar,
)
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.reduce import ReduceSum
from isomorph.ir.ops.shape import Unsqueeze

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"]

_UNSIGNED = {
    DType.INT8: DType.UINT32,
    DType.INT16: DType.UINT32,
    DType.INT32: DType.UINT32,
    DType.INT64: DType.UINT64,
}
"""What signed integers are shifted as: casts between integers keep the low bits."""


@operation
class _Bitwise(Op):
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE
    function: ClassVar[Any]
    logical: ClassVar[type[Op]]

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if not self.require_same_dtype(a, b).is_integer:
            raise DTypeError(f"{self.name}: integer operands are needed, not {a.dtype}")
        return (TensorType(a.dtype, broadcast(a.shape, b.shape)),)

    def evaluate(self, a: Array, b: Array) -> Array:  # type: ignore[override]
        return self.function(a, b)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, left: Value, right: Value) -> Value:  # type: ignore[override]
        """Bit by bit, in int64, 32 bits at a time: casts between integers keep the low bits."""
        sides = [_as(b, value, DType.INT64) for value in (left, right)]
        if left.dtype.bits <= 32:
            return _as(b, self._low_bits(b, *sides), left.dtype)
        width = scalar(b, 1 << 32, sides[0])
        low = [b.emit(Mod(), side, width) for side in sides]
        high = [b.emit(Div(), b.emit(Sub(), *pair), width) for pair in zip(sides, low, strict=True)]
        signed = _as(b, _as(b, self._low_bits(b, *high), DType.INT32), DType.INT64)
        total = b.emit(Add(), b.emit(Mul(), signed, width), self._low_bits(b, *low))
        return _as(b, total, left.dtype)

    def _low_bits(self, b: Builder, left: Value, right: Value) -> Value:
        """The 32 low bits of the result, as numbers in [0, 2^32): onnxruntime 1.32 adds int64 in float64."""
        weights = b.constant(1 << np.arange(32, dtype=np.int64), "weights")
        bits = [_bits(b, value, weights) for value in (left, right)]
        chosen = b.emit(Cast(DType.INT64), b.emit(self.logical(), *bits))
        return b.emit(ReduceSum((-1,), False), b.emit(Mul(), chosen, weights))


def _bits(b: Builder, value: Value, weights: Value) -> Value:
    """The bits of these weights as bool, along a new last axis: floor(value / weight) mod 2."""
    column = b.emit(Unsqueeze((value.rank,)), value)
    floor = b.emit(Div(), b.emit(Sub(), column, b.emit(Mod(), column, weights)), weights)
    return b.emit(Cast(DType.BOOL), b.emit(Mod(), floor, scalar(b, 2, value)))


def _as(b: Builder, value: Value, dtype: DType) -> Value:
    return value if value.dtype is dtype else b.emit(Cast(dtype), value)


@operation
class BitwiseAnd(_Bitwise):
    """y = a & b. See: ONNX BitwiseAnd-18."""

    function: ClassVar[Any] = np.bitwise_and
    logical: ClassVar[type[Op]] = And


@operation
class BitwiseOr(_Bitwise):
    """y = a | b. See: ONNX BitwiseOr-18."""

    function: ClassVar[Any] = np.bitwise_or
    logical: ClassVar[type[Op]] = Or


@operation
class BitwiseXor(_Bitwise):
    """y = a ^ b. See: ONNX BitwiseXor-18."""

    function: ClassVar[Any] = np.bitwise_xor
    logical: ClassVar[type[Op]] = Xor


@operation
class BitwiseNot(Op):
    """y = ~x, for integers. See: ONNX BitwiseNot-18."""

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.invert(x)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """-1 - x in int64, of which the cast keeps the low bits."""
        wide = _as(b, x, DType.INT64)
        return _as(b, b.emit(Sub(), scalar(b, -1, wide), wide), x.dtype)


@operation
class BitShift(Op):
    """y = a with its bits moved by b places; from the left the sign bit moves in, of unsigned integers and else 0.

    a and b are integers of one type and broadcast. Moved by a negative number of places, or by as many as the type has
    bits or more, only bits that move in are left. See: ONNX BitShift-28.
    """

    direction: Literal["left", "right"]

    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        dtype = self.require_same_dtype(a, b)
        if not dtype.is_integer:
            raise DTypeError(f"BitShift: integers are needed, not {dtype}")
        self.require(self.direction in ("left", "right"), f"direction {self.direction!r}")
        return (TensorType(dtype, broadcast(a.shape, b.shape)),)

    def evaluate(self, a: Array, b: Array) -> Array:  # type: ignore[override]
        left = self.direction == "left"
        bits = DType.of(a.dtype).bits
        inside = (b >= 0) & (b < bits)
        moved = (np.left_shift if left else np.right_shift)(a, np.where(inside, b, b.dtype.type(0)))
        ones, zero = np.invert(a.dtype.type(0)), a.dtype.type(0)
        return np.where(inside, moved, np.where((a < 0) & (not left), ones, zero)).astype(a.dtype)

    def decompose(self, b: Builder, x: Value, places: Value) -> Value:  # type: ignore[override]
        """As unsigned integers; a negative number moved to the right is the complement of its complement moved."""
        unsigned = _UNSIGNED.get(x.dtype)
        if unsigned is None:
            raise GraphError(f"a shift of {x.dtype} is not put together from other operations")
        start, zero = x, scalar(b, 0, places)
        negative = b.emit(Less(), x, scalar(b, 0, x))
        if self.direction == "right":
            start = b.emit(Where(), negative, b.emit(BitwiseNot(), x), x)
        above = b.emit(GreaterOrEqual(), places, scalar(b, x.dtype.bits, places))
        outside = b.emit(Or(), above, b.emit(Less(), places, zero))
        counted = b.emit(Where(), outside, zero, places)
        moved = b.emit(BitShift(self.direction), *(b.emit(Cast(unsigned), value) for value in (start, counted)))
        inside = b.emit(Cast(x.dtype), moved)
        result = b.emit(Where(), b.emit(Not(), outside), inside, scalar(b, 0, inside))
        return b.emit(Where(), negative, b.emit(BitwiseNot(), result), result) if self.direction == "right" else result


@operation
class BitCast(Op):
    """y = the same bits as elements of the type `to`, which is as wide. See: ONNX BitCast-26; numpy.ndarray.view."""

    to: DType

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if DType.STRING in (x.dtype, self.to) or x.dtype.bits != self.to.bits:
            raise DTypeError(f"BitCast: elements of {x.dtype} are not as wide as those of {self.to}")
        return (TensorType(self.to, x.shape),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.ascontiguousarray(x).view(self.to.numpy).reshape(x.shape)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """A cast between integers keeps the bits."""
        if not (x.dtype.is_integer and self.to.is_integer):
            raise GraphError(f"the bits of {x.dtype} as {self.to} are not put together from other operations")
        return b.emit(Cast(self.to), x)
