"""Linear quantization: real numbers as small integers (or small floats) times a scale."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import ml_dtypes
import numpy as np

from isomorph.errors import DTypeError, GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, normalize_axis, operation
from isomorph.ir.ops.activation import Clip
from isomorph.ir.ops.elementwise import Add, Cast, Div, Max, Min, Mul, Round, Sub
from isomorph.ir.ops.numerics import Array, small_float
from isomorph.ir.ops.reduce import ReduceMax, ReduceMin
from isomorph.ir.ops.shape import Expand, Reshape, Slice
from isomorph.ir.shapes import Shape, Sym, ceil_div
from isomorph.ir.tensors import ArrayTensor

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear", "integer_range"]

_SCALES = (DType.FLOAT64, DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16, DType.INT32)


def integer_range(dtype: DType) -> tuple[int, int]:
    """(lowest, highest) of an integer type."""
    info = ml_dtypes.iinfo(dtype.numpy)
    return int(info.min), int(info.max)


class _Linear(Op):
    """Scales and zero points: one for the tensor, (); one for each index of an axis, (D,); or one for each block."""

    __slots__ = ()
    axis: int
    block_size: int

    def check_scale(self, x: TensorType, scale: TensorType, zero_point: TensorType | None) -> None:
        axis = normalize_axis(self.axis, x.rank) if scale.rank else 0
        self.require(zero_point is None or zero_point.shape == scale.shape, f"scale {scale}, zero point {zero_point}")
        if self.block_size:
            blocks = ceil_div(x.shape[axis], self.block_size)
            wanted = (*x.shape[:axis], blocks, *x.shape[axis + 1 :])
            fits = len(wanted) == scale.rank and all(
                isinstance(a, Sym) or isinstance(b, Sym) or a == b for a, b in zip(wanted, scale.shape, strict=True)
            )
            self.require(fits, f"scale {scale} for blocks of {self.block_size} of {x}")
        elif scale.rank:
            size = x.shape[axis]
            given = scale.shape[0]
            same = isinstance(size, Sym) or isinstance(given, Sym) or given in (size, 1)
            self.require(scale.rank == 1 and same, f"scale {scale} for axis {axis} of {x}")

    def shape_of(self, x: TensorType, scale: TensorType) -> Shape:
        """The shape of the result: a symbolic size that the scales of blocks tell is known."""
        if not self.block_size:
            return x.shape
        axis = self.axis % x.rank
        return tuple(
            given if isinstance(size, Sym) and isinstance(given, int) and place != axis else size
            for place, (size, given) in enumerate(zip(x.shape, scale.shape, strict=True))
        )

    def spread(self, array: Array, rank: int, size: int) -> Array:
        """A scale or zero point such that it broadcasts against x, whose axis has this size."""
        if self.block_size:
            axis = self.axis % rank
            wide = np.repeat(array, self.block_size, axis)
            return wide[(slice(None),) * axis + (slice(0, size),)]
        if array.ndim == 0 or rank == 0:
            return array.reshape(())
        return array.reshape(tuple(array.size if axis == self.axis % rank else 1 for axis in range(rank)))

    def spread_value(self, b: Builder, value: Value, x: Value) -> Value:
        """The same in a graph."""
        rank = x.rank
        if self.block_size:
            return self._repeated(b, value, x)
        if value.rank == 0 or rank == 1:
            return value
        shape = tuple(value.shape[0] if axis == self.axis % rank else 1 for axis in range(rank))
        return b.emit(Reshape(shape), value)

    def _repeated(self, b: Builder, value: Value, x: Value) -> Value:
        axis = self.axis % x.rank
        before, blocks, after = value.shape[:axis], value.shape[axis], value.shape[axis + 1 :]
        apart = b.emit(Reshape((*before, blocks, 1, *after)), value)
        wide = b.emit(Expand((*before, blocks, self.block_size, *after)), apart)
        joined = b.emit(Reshape((*before, blocks * self.block_size, *after)), wide)
        if joined.shape == x.shape:
            return joined
        return b.emit(Slice((axis,), (0,), (x.shape[axis],), (1,)), joined)


@operation
class QuantizeLinear(_Linear):
    """y = saturate(round(x / scale) + zero_point), rounded half to even, in `dtype`.

    Shapes: x (*D); scale and zero_point (), (D[axis],), or with `block_size` as x but ceil(D[axis] / block_size) on
    `axis`. The quotient is computed in the type of the scale. `saturate` speaks of 8-bit floats: what is too large
    becomes the largest number, else infinity or NaN.
    Raises: DTypeError for a zero point of another type than `dtype`.
    Differs from ONNX QuantizeLinear-24: the element type of y is always an attribute.
    """

    dtype: DType
    axis: int = 1
    block_size: int = 0
    saturate: bool = True

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale", "zero_point?")

    def infer(self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        if scale.dtype not in _SCALES or (zero_point is not None and zero_point.dtype is not self.dtype):
            raise DTypeError(f"QuantizeLinear: scale {scale} and zero point {zero_point} for {self.dtype}")
        self.check_scale(x, scale, zero_point)
        return (TensorType(self.dtype, self.shape_of(x, scale)),)

    def evaluate(self, x: Array, scale: Array, zero_point: Array | None = None) -> Array:  # type: ignore[override]
        size = x.shape[self.axis] if scale.ndim else 0
        exact = scale.dtype if scale.dtype.itemsize >= 4 else np.dtype(np.float32)
        divisor = self.spread(scale, x.ndim, size)
        quotient = (x.astype(scale.dtype).astype(exact) / divisor.astype(exact)).astype(scale.dtype).astype(exact)
        if self.dtype.is_float:
            total = quotient if zero_point is None else quotient + self.spread(zero_point, x.ndim, size).astype(exact)
            return small_float(total, self.dtype, self.saturate)
        total = np.rint(quotient).astype(np.float64)
        if zero_point is not None:
            total = total + self.spread(zero_point, x.ndim, size).astype(np.float64)
        low, high = integer_range(self.dtype)
        steps = np.clip(np.nan_to_num(total, nan=0), low, high)
        return np.asarray(steps.astype(np.int32), self.dtype.numpy)

    def decompose(self, b: Builder, x: Value, scale: Value, zero_point: Value | None = None) -> Value:  # type: ignore[override]
        if not self.dtype.is_integer:
            raise GraphError(f"numbers of {self.dtype} are not made by rounding to integers")
        kind = scale.dtype
        quotient = b.emit(Div(), _as(b, x, kind), self.spread_value(b, scale, x))
        total = b.emit(Round(), quotient)
        if zero_point is not None:
            total = b.emit(Add(), total, self.spread_value(b, _as(b, zero_point, kind), x))
        return b.emit(Cast(self.dtype), b.emit(Clip(*map(float, integer_range(self.dtype))), total))


_BYTES = {
    DType.INT2: DType.INT8, DType.INT4: DType.INT8,
    DType.UINT2: DType.UINT8, DType.UINT4: DType.UINT8,
}  # fmt: skip


def _as(b: Builder, x: Value, dtype: DType) -> Value:
    """x in another type; constants of small types, which few targets have, are stored so."""
    if x.dtype is dtype:
        return x
    small = x.dtype.bits < 8 or (x.dtype.is_float and x.dtype.bits == 8)
    if x.parameter is None or not small:
        return b.emit(Cast(dtype), x)
    return b.parameter(replace(x.parameter, data=ArrayTensor(x.parameter.data.numpy().astype(dtype.numpy))))


@operation
class DequantizeLinear(_Linear):
    """y = (x - zero_point) * scale, computed in `dtype`.

    Shapes: x (*D); scale and zero_point as for QuantizeLinear.
    Raises: DTypeError for a zero point of another type than x.
    Differs from ONNX DequantizeLinear-24: the element type of y is always an attribute.
    """

    dtype: DType
    axis: int = 1
    block_size: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale", "zero_point?")

    def infer(self, x: TensorType, scale: TensorType, zero_point: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        if zero_point is not None and zero_point.dtype is not x.dtype:
            raise DTypeError(f"DequantizeLinear: {x} with the zero point {zero_point}")
        self.check_scale(x, scale, zero_point)
        return (TensorType(self.dtype, self.shape_of(x, scale)),)

    def evaluate(self, x: Array, scale: Array, zero_point: Array | None = None) -> Array:  # type: ignore[override]
        size = x.shape[self.axis] if scale.ndim else 0
        exact = self.dtype.numpy if self.dtype.itemsize >= 4 else np.dtype(np.float32)
        wide = x.astype(np.float32 if DType.of(x.dtype).is_float else np.int64)
        if zero_point is not None:
            wide = wide - self.spread(zero_point, x.ndim, size).astype(wide.dtype)
        return (wide.astype(exact) * self.spread(scale, x.ndim, size).astype(exact)).astype(self.dtype.numpy)

    def decompose(self, b: Builder, x: Value, scale: Value, zero_point: Value | None = None) -> Value:  # type: ignore[override]
        """In real numbers; constants of 2 and 4 bits are first stored as integers of 8, which is the same."""
        byte = _BYTES.get(x.dtype)
        if byte is not None and x.parameter is not None and (zero_point is None or zero_point.parameter is not None):
            return b.emit(self, _as(b, x, byte), scale, zero_point and _as(b, zero_point, byte))
        wide = _as(b, x, self.dtype)
        if zero_point is not None:
            wide = b.emit(Sub(), wide, self.spread_value(b, _as(b, zero_point, self.dtype), x))
        return b.emit(Mul(), wide, self.spread_value(b, _as(b, scale, self.dtype), x))


@operation
class DynamicQuantizeLinear(Op):
    """Quantization of x to uint8 by its own range: (y, scale, zero_point), the last two of shape ().

    With low = min(x, 0) and high = max(x, 0) over all elements: scale = (high - low) / 255,
    zero_point = saturate(round(-low / scale)), y = saturate(round(x / scale) + zero_point).
    Differs from ONNX DynamicQuantizeLinear-11: x may be of any floating-point type.
    """

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        none: Shape = ()
        return TensorType(DType.UINT8, x.shape), TensorType(x.dtype, none), TensorType(DType.UINT8, none)

    def evaluate(self, x: Array) -> tuple[Array, ...]:  # type: ignore[override]
        low, high = np.minimum(x.min(), 0), np.maximum(x.max(), 0)
        scale = np.asarray((high - low) / np.asarray(255, x.dtype), x.dtype)
        start = np.clip(np.rint(-low / scale), 0, 255) if scale else np.zeros(())
        zero_point = np.asarray(start).astype(np.uint8)
        return QuantizeLinear(DType.UINT8).evaluate(x, scale, zero_point), scale, zero_point

    def decompose(self, b: Builder, x: Value) -> tuple[Value, ...]:  # type: ignore[override]
        zero = b.constant(np.zeros((), x.dtype.numpy), "zero")
        axes = tuple(range(x.rank))
        low = b.emit(Min(), b.emit(ReduceMin(axes, keepdims=False), x), zero)
        high = b.emit(Max(), b.emit(ReduceMax(axes, keepdims=False), x), zero)
        scale = b.emit(Div(), b.emit(Sub(), high, low), b.constant(np.asarray(255, x.dtype.numpy), "levels"))
        start = b.emit(Round(), b.emit(Div(), b.emit(Sub(), zero, low), scale))
        zero_point = b.emit(Cast(DType.UINT8), b.emit(Clip(0.0, 255.0), start))
        return b.emit(QuantizeLinear(DType.UINT8), x, scale, zero_point), scale, zero_point
