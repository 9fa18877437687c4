"""Exact products of 8-bit integers, summed in int32."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.conv import Conv, Ints, Pads
from isomorph.ir.ops.elementwise import Cast, Sub
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.shape import Unsqueeze

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["ConvInteger", "MatMulInteger"]


def _check_bytes(op: Op, x: TensorType, zero_point: TensorType | None) -> None:
    if x.dtype not in (DType.UINT8, DType.INT8) or (zero_point is not None and zero_point.dtype is not x.dtype):
        raise DTypeError(f"{op.name}: 8-bit integers and zero points of their type are needed: {x}, {zero_point}")


@operation
class MatMulInteger(Op):
    """y = (a - a_zero)(b - b_zero), of 8-bit integers, in int32; matrices in the last two axes, the others broadcast.

    Zero points (absent: 0): a_zero (), (1,), (M,) or (..., M, 1), for rows; b_zero (), (1,), (N,) or (..., 1, N), for
    columns. See: ONNX MatMulInteger-10.
    """

    inputs: ClassVar[tuple[str, ...]] = ("a", "b", "a_zero?", "b_zero?")

    def infer(  # type: ignore[override]
        self, a: TensorType, b: TensorType, a_zero: TensorType | None = None, b_zero: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        _check_bytes(self, a, a_zero)
        _check_bytes(self, b, b_zero)
        (product,) = MatMul().infer(TensorType(DType.INT32, a.shape), TensorType(DType.INT32, b.shape))
        return (product,)

    def evaluate(self, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None) -> Array:  # type: ignore[override]
        left, right = a.astype(np.int32), b.astype(np.int32)
        if a_zero is not None:
            left = left - (a_zero[:, None] if a_zero.ndim == 1 and a_zero.size > 1 else a_zero).astype(np.int32)
        if b_zero is not None:
            right = right - b_zero.astype(np.int32)
        return np.asarray(np.matmul(left, right))

    def decompose(  # type: ignore[override]
        self, b: Builder, left: Value, right: Value, a_zero: Value | None = None, b_zero: Value | None = None
    ) -> Value:
        left, right = b.emit(Cast(DType.INT32), left), b.emit(Cast(DType.INT32), right)
        if a_zero is not None:
            start = b.emit(Cast(DType.INT32), a_zero)
            left = b.emit(Sub(), left, b.emit(Unsqueeze((1,)), start) if start.rank == 1 else start)
        if b_zero is not None:
            right = b.emit(Sub(), right, b.emit(Cast(DType.INT32), b_zero))
        return b.emit(MatMul(), left, right)


@operation
class ConvInteger(Op):
    """The convolution of x - x_zero with w - w_zero, of 8-bit integers, in int32; padding counts as x_zero.

    Shapes as in `Conv`, channels first; zero points (absent: 0): x_zero () or (1,); w_zero (), (1,) or (O,).
    See: ONNX ConvInteger-10.
    """

    strides: Ints
    pads: Pads
    dilations: Ints
    group: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "x_zero?", "w_zero?")

    def _plain(self) -> Conv:
        return Conv(self.strides, self.pads, self.dilations, self.group)

    def infer(  # type: ignore[override]
        self, x: TensorType, w: TensorType, x_zero: TensorType | None = None, w_zero: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        _check_bytes(self, x, x_zero)
        _check_bytes(self, w, w_zero)
        (y,) = self._plain().infer(TensorType(DType.FLOAT64, x.shape), TensorType(DType.FLOAT64, w.shape), None)
        return (TensorType(DType.INT32, y.shape),)

    def evaluate(self, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None) -> Array:  # type: ignore[override]
        data, kernel = x.astype(np.float64), w.astype(np.float64)  # sums of products below 2^16 are exact there
        if x_zero is not None:
            data = data - x_zero.astype(np.float64)
        if w_zero is not None:
            kernel = kernel - w_zero.astype(np.float64).reshape((-1,) + (1,) * (w.ndim - 1))
        exact = np.asarray(self._plain().evaluate(data, kernel, None))
        return exact.astype(np.int64).astype(np.int32)
