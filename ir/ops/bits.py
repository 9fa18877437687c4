"""Ops on the bits of numbers."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule
from isomorph.ir.op import Op, TensorType, broadcast, operation
from isomorph.ir.ops.numerics import Array

__all__ = ["BitCast", "BitShift"]


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
        return np.where(inside, moved, np.where((a < 0) & (not left), -1, 0)).astype(a.dtype)


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
