"""Reductions, arg-reductions and norms."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math
from collections.abc import Sequence

from isomorph.converters.torch.lowering import Lowering, axes_of, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.op import Op
from isomorph.ir.shapes import dim_max, elements

Dims = Sequence[int] | int | None


def _reduced(b: Lowering, kind: type[Op], x: Value, dim: Dims, keepdim: bool, *, empty: float | None = None) -> Value:
    """A reduction over `dim` (None and []: all axes); of a scalar the element itself, of no elements `empty`."""
    axes = axes_of(dim, x)
    if empty is not None and any(x.shape[axis] == 0 for axis in axes):
        kept = ((1,) if axis in axes else (size,) for axis, size in enumerate(x.shape) if keepdim or axis not in axes)
        return b.emit(ops.ConstantOfShape(tuple(size for sizes in kept for size in sizes), empty, x.dtype))
    return b.emit(kind(axes, keepdim), x)  # type: ignore[call-arg]


@rules.imports("aten.mean.default", "aten.mean.dim")
def mean(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None)"""
    return _reduced(b, ops.ReduceMean, b.cast(self, dtype or self.dtype), dim, keepdim, empty=math.nan)


def summable(b: Lowering, x: Value, dtype: DType | None) -> Value:
    """Integers and bools are added up as int64 unless a type is asked for."""
    if dtype is not None:
        return b.cast(x, dtype)
    return x if x.dtype.is_float or x.dtype.is_complex else b.cast(x, DType.INT64)


@rules.imports("aten.sum.default", "aten.sum.dim_IntList")
def total(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None)"""
    return _reduced(b, ops.ReduceSum, summable(b, self, dtype), dim, keepdim, empty=0)


@rules.imports("aten.prod.default", "aten.prod.dim_int")
def product(
    b: Lowering, self: Value, dim: int | None = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    """prod.dim_int(Tensor self, int dim, bool keepdim=False, *, ScalarType? dtype=None)"""
    return _reduced(b, ops.ReduceProd, summable(b, self, dtype), dim, keepdim, empty=1)


@rules.imports("aten.amax.default", "aten.max.default")
def amax(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """amax(Tensor self, int[1] dim=[], bool keepdim=False)"""
    return any_of(b, self, dim, keepdim) if self.dtype is DType.BOOL else _reduced(b, ops.ReduceMax, self, dim, keepdim)


@rules.imports("aten.amin.default", "aten.min.default")
def amin(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """amin(Tensor self, int[1] dim=[], bool keepdim=False)"""
    return all_of(b, self, dim, keepdim) if self.dtype is DType.BOOL else _reduced(b, ops.ReduceMin, self, dim, keepdim)


@rules.imports("aten.max.dim")
def max_dim(b: Lowering, self: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
    """max.dim(Tensor self, int dim, bool keepdim=False) -> (values, indices)"""
    return amax(b, self, dim, keepdim), _arg(b, ops.ArgMax, self, dim, keepdim)


@rules.imports("aten.min.dim")
def min_dim(b: Lowering, self: Value, dim: int, keepdim: bool = False) -> tuple[Value, ...]:
    """min.dim(Tensor self, int dim, bool keepdim=False) -> (values, indices)"""
    return amin(b, self, dim, keepdim), _arg(b, ops.ArgMin, self, dim, keepdim)


def _arg(b: Lowering, kind: type[ops.ArgMax] | type[ops.ArgMin], x: Value, dim: int | None, keepdim: bool) -> Value:
    x = b.cast(x, DType.INT32) if x.dtype is DType.BOOL else x
    if dim is not None and x.rank:
        return b.emit(kind(axis_of(dim, x), keepdim), x)
    found = b.emit(kind(0, keepdims=False), b.reshape(x, (elements(x.shape),)))
    return b.reshape(found, (1,) * x.rank) if keepdim else found


@rules.imports("aten.argmax.default")
def argmax(b: Lowering, self: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """argmax(Tensor self, int? dim=None, bool keepdim=False); without dim over all elements in C order"""
    return _arg(b, ops.ArgMax, self, dim, keepdim)


@rules.imports("aten.argmin.default")
def argmin(b: Lowering, self: Value, dim: int | None = None, keepdim: bool = False) -> Value:
    """argmin(Tensor self, int? dim=None, bool keepdim=False)"""
    return _arg(b, ops.ArgMin, self, dim, keepdim)


@rules.imports("aten.any.default", "aten.any.dim", "aten.any.dims")
def any_of(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """any.dim(Tensor self, int dim, bool keepdim=False): whether an element is not 0; of uint8 as uint8"""
    truth = b.cast(b.cast(self, DType.BOOL), DType.INT32)
    found = _reduced(b, ops.ReduceMax, truth, dim, keepdim, empty=0)
    return b.cast(found, DType.UINT8 if self.dtype is DType.UINT8 else DType.BOOL)


@rules.imports("aten.all.default", "aten.all.dim", "aten.all.dims")
def all_of(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False) -> Value:
    """all.dim(Tensor self, int dim, bool keepdim=False): whether no element is 0; of uint8 as uint8"""
    truth = b.cast(b.cast(self, DType.BOOL), DType.INT32)
    found = _reduced(b, ops.ReduceMin, truth, dim, keepdim, empty=1)
    return b.cast(found, DType.UINT8 if self.dtype is DType.UINT8 else DType.BOOL)


def _variance(b: Lowering, x: Value, dim: Dims, correction: float, keepdim: bool) -> Value:
    """sum((x - mean)^2) / max(0, n - correction)."""
    axes = axes_of(dim, x)
    deviation = b.emit(ops.Sub(), x, b.emit(ops.ReduceMean(axes), x))
    squares = b.emit(ops.ReduceSum(axes, keepdim), b.emit(ops.Mul(), deviation, deviation))
    count = elements(x.shape[axis] for axis in axes)
    if isinstance(count, int):
        return b.emit(ops.Div(), squares, b.number(float(max(0, count - correction)), x.dtype))
    b.require(correction == int(correction), f"correction={correction} of a symbolic size")
    return b.emit(ops.Div(), squares, b.number(dim_max(0, count - int(correction)), x.dtype))


def _correction(unbiased: bool | None, correction: float | None) -> float:
    if unbiased is not None:
        return 1 if unbiased else 0
    return 1 if correction is None else correction


@rules.imports("aten.var.default", "aten.var.dim", "aten.var.correction")
def var(
    b: Lowering,
    self: Value,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    correction: float | None = None,
) -> Value:
    """var.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=1, bool keepdim=False)"""
    return _variance(b, self, dim, _correction(unbiased, correction), keepdim)


@rules.imports("aten.std.default", "aten.std.dim", "aten.std.correction")
def std(
    b: Lowering,
    self: Value,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    correction: float | None = None,
) -> Value:
    """std.correction(…): the square root of var"""
    return b.emit(ops.Sqrt(), var(b, self, dim, unbiased, keepdim, correction))


@rules.imports("aten.var_mean.default", "aten.var_mean.dim", "aten.var_mean.correction")
def var_mean(
    b: Lowering,
    self: Value,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    correction: float | None = None,
) -> tuple[Value, ...]:
    """var_mean.correction(…) -> (variance, mean)"""
    return var(b, self, dim, unbiased, keepdim, correction), mean(b, self, dim, keepdim)


@rules.imports("aten.std_mean.default", "aten.std_mean.dim", "aten.std_mean.correction")
def std_mean(
    b: Lowering,
    self: Value,
    dim: Dims = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    correction: float | None = None,
) -> tuple[Value, ...]:
    """std_mean.correction(…) -> (standard deviation, mean)"""
    return std(b, self, dim, unbiased, keepdim, correction), mean(b, self, dim, keepdim)


@rules.imports("aten.linalg_vector_norm.default")
def vector_norm(
    b: Lowering, self: Value, ord: float = 2, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    """linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)"""
    x = b.cast(self, dtype) if dtype else b.floating(self)
    kinds: dict[float, type[Op]] = {1: ops.ReduceL1, 2: ops.ReduceL2}
    if ord in kinds:
        return _reduced(b, kinds[ord], x, dim, keepdim)
    size = b.emit(ops.Abs(), x)
    if ord == 0:
        nonzero = b.cast(b.cast(x, DType.BOOL), x.dtype)
        return _reduced(b, ops.ReduceSum, nonzero, dim, keepdim)
    if math.isinf(ord):
        kind, empty = (ops.ReduceMax, 0) if ord > 0 else (ops.ReduceMin, None)
        return _reduced(b, kind, size, dim, keepdim, empty=empty)
    powers = b.emit(ops.Pow(), size, b.number(float(ord), x.dtype))
    return b.emit(ops.Pow(), _reduced(b, ops.ReduceSum, powers, dim, keepdim), b.number(1 / float(ord), x.dtype))


@rules.imports(
    "aten.norm.Scalar", "aten.norm.ScalarOpt_dim", "aten.norm.ScalarOpt_dim_dtype", "aten.norm.ScalarOpt_dtype"
)
def norm(
    b: Lowering, self: Value, p: float | None = 2, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None
) -> Value:
    """norm.ScalarOpt_dim(Tensor self, Scalar? p, int[1] dim, bool keepdim=False)"""
    return vector_norm(b, self, 2 if p is None else p, dim, keepdim, dtype)


@rules.imports("aten.logsumexp.default")
def logsumexp(b: Lowering, self: Value, dim: Dims, keepdim: bool = False) -> Value:
    """logsumexp(Tensor self, int[1] dim, bool keepdim=False)"""
    return _reduced(b, ops.ReduceLogSumExp, b.floating(self), dim, keepdim, empty=-math.inf)


@rules.imports("aten.linalg_norm.default", "aten.linalg_norm.ord_str")
def linalg_norm(
    b: Lowering,
    self: Value,
    ord: float | str | None = None,
    dim: Dims = None,
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Value:
    """linalg_norm(Tensor self, Scalar? ord=None, int[1]? dim=None, bool keepdim=False): of vectors or of matrices"""
    of_vectors = self.rank == 1 if dim is None else isinstance(dim, int) or len(dim) == 1
    if ord is None or (of_vectors and not isinstance(ord, str)):
        return vector_norm(b, self, 2 if ord is None else ord, dim, keepdim, dtype)
    return matrix_norm(b, self, ord, (-2, -1) if dim is None else dim, keepdim, dtype)  # type: ignore[arg-type]


@rules.imports("aten.linalg_matrix_norm.default", "aten.linalg_matrix_norm.str_ord")
def matrix_norm(
    b: Lowering,
    self: Value,
    ord: float | str = "fro",
    dim: Sequence[int] = (-2, -1),
    keepdim: bool = False,
    dtype: DType | None = None,
) -> Value:
    """linalg_matrix_norm(Tensor self, Scalar ord, int[] dim=[-2,-1], bool keepdim=False): Frobenius, 1 and infinity

    The largest (or, for a negative `ord`, the smallest) sum of sizes in a column (1) or in a row (infinity).
    """
    if ord == "fro":
        return vector_norm(b, self, 2, dim, keepdim, dtype)
    b.require(not isinstance(ord, str) and (abs(ord) == 1 or math.isinf(ord)), f"the matrix norm of order {ord}")
    x = b.cast(self, dtype) if dtype else self
    row, column = (axis_of(each, x) for each in dim)
    summed, kept = (row, column) if abs(ord) == 1 else (column, row)  # type: ignore[arg-type]
    sums = b.emit(ops.ReduceL1((summed,)), x)
    kind, empty = (ops.ReduceMax, 0) if ord > 0 else (ops.ReduceMin, None)  # type: ignore[operator]
    made = _reduced(b, kind, sums, (kept,), True, empty=empty)
    return made if keepdim else b.emit(ops.Squeeze(tuple(sorted((row, column)))), made)


@rules.imports("aten.aminmax.default")
def aminmax(b: Lowering, self: Value, dim: int | None = None, keepdim: bool = False) -> tuple[Value, ...]:
    """aminmax(Tensor self, *, int? dim=None, bool keepdim=False) -> (min, max)"""
    return amin(b, self, dim, keepdim), amax(b, self, dim, keepdim)


@rules.imports("aten.count_nonzero.default", "aten.count_nonzero.dim_IntList")
def count_nonzero(b: Lowering, self: Value, dim: Dims = None) -> Value:
    """count_nonzero(Tensor self, int? dim=None)"""
    return _reduced(b, ops.ReduceSum, b.cast(b.cast(self, DType.BOOL), DType.INT64), dim, keepdim=False)


def _without_nan(b: Lowering, x: Value) -> Value:
    return b.emit(ops.Where(), b.emit(ops.IsNaN(), x), b.number(0, x.dtype), x) if x.dtype.is_float else x


@rules.imports("aten.nansum.default")
def nansum(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """nansum(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None): NaN counts as 0"""
    return total(b, _without_nan(b, self), dim, keepdim, dtype)


@rules.imports("aten.nanmean.default")
def nanmean(b: Lowering, self: Value, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Value:
    """nanmean(Tensor self, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None): of what is not NaN"""
    summed = nansum(b, self, dim, keepdim, dtype)
    known = b.cast(b.emit(ops.Not(), b.emit(ops.IsNaN(), self)), summed.dtype)
    return b.emit(ops.Div(), summed, total(b, known, dim, keepdim))


@rules.imports("aten.sum_to_size.default")
def sum_to_size(b: Lowering, self: Value, size: Sequence[Dim]) -> Value:
    """sum_to_size(Tensor self, SymInt[] size): summed over the axes that broadcast from `size`"""
    if not size:
        return total(b, self)
    extra = self.rank - len(size)
    axes = (axis for axis in range(self.rank) if axis < extra or (size[axis - extra] == 1 and self.shape[axis] != 1))
    summed = tuple(axes)
    if not summed:
        return self
    x = summable(b, self, None)
    return b.reshape(b.emit(ops.ReduceSum(summed), x), size)
