"""Reductions along axes, arg-reductions and running sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule, Perm, inverse
from isomorph.ir.op import Op, TensorType, normalize_axes, normalize_axis

__all__ = [
    "ArgMax", "ArgMin", "CumSum", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class ReduceMean(_Reduce):
    """y = mean of x over `axes`. See: ONNX ReduceMean-18."""


@dataclass(frozen=True, slots=True)
class ReduceSum(_Reduce):
    """y = sum of x over `axes`. See: ONNX ReduceSum-13."""


@dataclass(frozen=True, slots=True)
class ReduceMax(_Reduce):
    """y = maximum of x over `axes`. See: ONNX ReduceMax-20."""


@dataclass(frozen=True, slots=True)
class ReduceMin(_Reduce):
    """y = minimum of x over `axes`. See: ONNX ReduceMin-20."""


@dataclass(frozen=True, slots=True)
class ReduceProd(_Reduce):
    """y = product of x over `axes`. See: ONNX ReduceProd-18."""


@dataclass(frozen=True, slots=True)
class ReduceL1(_Reduce):
    """y = sum of |x| over `axes`. See: ONNX ReduceL1-18."""


@dataclass(frozen=True, slots=True)
class ReduceL2(_Reduce):
    """y = sqrt(sum of x^2 over `axes`). See: ONNX ReduceL2-18."""


@dataclass(frozen=True, slots=True)
class ReduceSumSquare(_Reduce):
    """y = sum of x^2 over `axes`. See: ONNX ReduceSumSquare-18."""


@dataclass(frozen=True, slots=True)
class ReduceLogSumExp(_Reduce):
    """y = log(sum of exp(x) over `axes`). See: ONNX ReduceLogSumExp-18."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class ArgMax(_ArgReduce):
    """y = index (int64) of the maximum along `axis`, the first (or last) of equal ones. See: ONNX ArgMax-13."""


@dataclass(frozen=True, slots=True)
class ArgMin(_ArgReduce):
    """y = index (int64) of the minimum along `axis`, the first (or last) of equal ones. See: ONNX ArgMin-13."""


@dataclass(frozen=True, slots=True)
class CumSum(Op):
    """y = running sum of x along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end.

    Differs from ONNX CumSum-14: the axis is an attribute.
    """

    axis: int
    exclusive: bool = False
    reverse: bool = False

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        normalize_axis(self.axis, x.rank)
        return (x,)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])
