"""Reductions along axes, arg-reductions and running sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule, Perm, inverse
from isomorph.ir.op import Op, TensorType, normalize_axes, normalize_axis, operation
from isomorph.ir.ops.elementwise import Abs, Add, Exp, Log, Mul, Sqrt, Sub
from isomorph.ir.ops.numerics import Array, in_single

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "ArgMax", "ArgMin", "CumSum", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
]  # fmt: skip


@operation
class _Reduce(Op):
    """Base of the reductions: x (any shape) -> x without `axes`, or with size 1 there if `keepdims`.

    `axes` are explicit and nonnegative (an empty tuple reduces nothing); readers expand "all axes".
    """

    axes: tuple[int, ...]
    keepdims: bool = True

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axes = normalize_axes(self.axes, x.rank)
        if self.keepdims:
            return (TensorType(x.dtype, tuple(1 if axis in axes else dim for axis, dim in enumerate(x.shape))),)
        return (TensorType(x.dtype, tuple(dim for axis, dim in enumerate(x.shape) if axis not in axes)),)

    def permuted(self, perm: Perm) -> Op | None:
        where = inverse(perm)
        return replace(self, axes=tuple(sorted(where[axis] for axis in self.axes)))

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.asarray(in_single(self._reduced, x)).astype(x.dtype, copy=False)

    def _reduced(self, x: Array) -> Array:
        raise NotImplementedError  # pragma: no cover


@operation
class ReduceMean(_Reduce):
    """y = mean of x over `axes`. See: ONNX ReduceMean-18."""

    def _reduced(self, x: Array) -> Array:
        return np.mean(x, self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]


@operation
class ReduceSum(_Reduce):
    """y = sum of x over `axes`. See: ONNX ReduceSum-13."""

    def _reduced(self, x: Array) -> Array:
        return np.sum(x, self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]


@operation
class ReduceMax(_Reduce):
    """y = maximum of x over `axes`. See: ONNX ReduceMax-20."""

    def _reduced(self, x: Array) -> Array:
        return np.max(x, self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]


@operation
class ReduceMin(_Reduce):
    """y = minimum of x over `axes`. See: ONNX ReduceMin-20."""

    def _reduced(self, x: Array) -> Array:
        return np.min(x, self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]


@operation
class ReduceProd(_Reduce):
    """y = product of x over `axes`. See: ONNX ReduceProd-18."""

    def _reduced(self, x: Array) -> Array:
        return np.prod(x, self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]


@operation
class ReduceL1(_Reduce):
    """y = sum of |x| over `axes`. See: ONNX ReduceL1-18."""

    def _reduced(self, x: Array) -> Array:
        return np.sum(np.abs(x), self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(ReduceSum(self.axes, self.keepdims), b.emit(Abs(), x))


@operation
class ReduceL2(_Reduce):
    """y = sqrt(sum of x^2 over `axes`). See: ONNX ReduceL2-18."""

    def _reduced(self, x: Array) -> Array:
        return np.sqrt(np.sum(x * x, self.axes, keepdims=self.keepdims))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Sqrt(), b.emit(ReduceSum(self.axes, self.keepdims), b.emit(Mul(), x, x)))


@operation
class ReduceSumSquare(_Reduce):
    """y = sum of x^2 over `axes`. See: ONNX ReduceSumSquare-18."""

    def _reduced(self, x: Array) -> Array:
        return np.sum(x * x, self.axes, keepdims=self.keepdims)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(ReduceSum(self.axes, self.keepdims), b.emit(Mul(), x, x))


@operation
class ReduceLogSumExp(_Reduce):
    """y = log(sum of exp(x) over `axes`). See: ONNX ReduceLogSumExp-18."""

    def _reduced(self, x: Array) -> Array:
        top = np.max(x, self.axes, keepdims=True)
        top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
        total = np.log(np.sum(np.exp(x - top), self.axes, keepdims=True)) + top
        return total if self.keepdims else np.squeeze(total, self.axes)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        top = b.emit(ReduceMax(self.axes), x)
        total = b.emit(ReduceSum(self.axes, self.keepdims), b.emit(Exp(), b.emit(Sub(), x, top)))
        return b.emit(
            Add(), b.emit(Log(), total), top if self.keepdims else b.emit(ReduceMax(self.axes, keepdims=False), x)
        )


@operation
class _ArgReduce(Op):
    axis: int
    keepdims: bool = True
    select_last_index: bool = False

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        kept = (1,) if self.keepdims else ()
        return (TensorType(DType.INT64, (*x.shape[:axis], *kept, *x.shape[axis + 1 :])),)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])

    def _index(self, search: Callable[..., Array], x: Array) -> Array:
        found = search(np.flip(x, self.axis) if self.select_last_index else x, axis=self.axis, keepdims=self.keepdims)
        return x.shape[self.axis] - 1 - found if self.select_last_index else found


@operation
class ArgMax(_ArgReduce):
    """y = index (int64) of the maximum along `axis`, the first (or last) of equal ones. See: ONNX ArgMax-13."""

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return self._index(np.argmax, x)


@operation
class ArgMin(_ArgReduce):
    """y = index (int64) of the minimum along `axis`, the first (or last) of equal ones. See: ONNX ArgMin-13."""

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return self._index(np.argmin, x)


@operation
class _Running(Op):
    """Base of the running sum and product along `axis`, which start with the number `first`."""

    axis: int
    exclusive: bool = False
    reverse: bool = False

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES
    first: ClassVar[int]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        normalize_axis(self.axis, x.rank)
        return (x,)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self._running, x)

    def _running(self, x: Array) -> Array:
        data = np.flip(x, self.axis) if self.reverse else x
        total = self._accumulated(data)
        if self.exclusive:
            total = np.roll(total, 1, self.axis)
            total[(slice(None),) * (self.axis % x.ndim) + (slice(0, 1),)] = self.first
        return np.flip(total, self.axis) if self.reverse else total

    def _accumulated(self, x: Array) -> Array:
        raise NotImplementedError  # pragma: no cover


@operation
class CumSum(_Running):
    """y = running sum of x along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end.

    Differs from ONNX CumSum-14: the axis is an attribute.
    """

    first: ClassVar[int] = 0

    def _accumulated(self, x: Array) -> Array:
        return np.cumsum(x, self.axis, dtype=x.dtype)
