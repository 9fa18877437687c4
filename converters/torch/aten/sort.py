"""Sorting, order statistics, running extremes."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

from isomorph.converters.torch.aten.index import as_vector
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops


def _top(b: Lowering, x: Value, k: Dim, axis: int, largest: bool, in_order: bool = True) -> tuple[Value, Value]:
    """The k first elements along an axis in descending (or ascending) order and their indices; bools count as bytes."""
    kind = DType.UINT8 if x.dtype is DType.BOOL else DType.FLOAT32 if x.dtype is DType.BFLOAT16 else x.dtype
    values, indices = b.emit_many(ops.TopK(k, axis, largest, in_order), b.cast(as_vector(b, x), kind))
    if not x.rank:
        values, indices = b.reshape(values, ()), b.reshape(indices, ())
    return b.cast(values, x.dtype), indices


def _length(x: Value, axis: int) -> Dim:
    return x.shape[axis] if x.rank else 1


@rules.imports("aten.sort.default", "aten.sort.stable")
def sort(
    b: Lowering, self: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Sequence[Value]:
    """sort(Tensor self, int dim=-1, bool descending=False) -> (values, indices); equal elements keep their order"""
    axis = axis_of(dim, self)
    return _top(b, self, _length(self, axis), axis, descending)


@rules.imports("aten.argsort.default", "aten.argsort.stable")
def argsort(b: Lowering, self: Value, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Value:
    """argsort(Tensor self, int dim=-1, bool descending=False): the indices of sort"""
    return sort(b, self, dim, descending)[1]


@rules.imports("aten.msort.default")
def msort(b: Lowering, self: Value) -> Value:
    """msort(Tensor self): sorted along the first axis"""
    return sort(b, self, 0)[0]


@rules.imports("aten.topk.default")
def topk(b: Lowering, self: Value, k: Dim, dim: int = -1, largest: bool = True, sorted: bool = True) -> Sequence[Value]:
    """topk(Tensor self, SymInt k, int dim=-1, bool largest=True, bool sorted=True) -> (values, indices)"""
    if not self.rank and k == 0:
        raise b.refusal("no element of a scalar")
    return _top(b, self, k, axis_of(dim, self), largest, sorted)


def _kept(b: Lowering, x: Value, axis: int, keepdim: bool) -> Value:
    return x if keepdim or not x.rank else b.emit(ops.Squeeze((axis,)), x)


def _nth(b: Lowering, x: Value, place: Dim, axis: int) -> Value:
    """The slice of x at one place along an axis, which keeps the size 1."""
    return b.emit(ops.Slice((axis,), (place,), (place + 1,), (1,)), x) if x.rank else x


@rules.imports("aten.kthvalue.default")
def kthvalue(b: Lowering, self: Value, k: Dim, dim: int = -1, keepdim: bool = False) -> Sequence[Value]:
    """kthvalue(Tensor self, SymInt k, int dim=-1, bool keepdim=False) -> (values, indices): the k-th smallest"""
    axis = axis_of(dim, self)
    return [_kept(b, _nth(b, each, k - 1, axis), axis, keepdim) for each in _top(b, self, k, axis, largest=False)]


def _flat(b: Lowering, x: Value) -> Value:
    return b.reshape(x, (x.type.size,))


def _none_is_nan(b: Lowering, x: Value, y: Value, axis: int) -> Value:
    """y, or NaN where a slice of x along the axis holds one; y keeps the axis."""
    if not x.dtype.is_float:
        return y
    marks = b.cast(b.emit(ops.IsNaN(), as_vector(b, x)), DType.INT32)
    marked = b.cast(b.emit(ops.ReduceMax((axis,), keepdims=True), marks), DType.BOOL)
    return b.reshape(b.emit(ops.Where(), marked, b.number(float("nan"), x.dtype), as_vector(b, y)), y.shape)


@rules.imports("aten.median.dim")
def median_dim(b: Lowering, self: Value, dim: int, keepdim: bool = False) -> Sequence[Value]:
    """median.dim(Tensor self, int dim, bool keepdim=False) -> (values, indices): of two middle elements the lower

    A slice with a NaN has the median NaN, at the place of its first NaN.
    """
    axis = axis_of(dim, self)
    count = (_length(self, axis) + 1) // 2
    values, indices = (_nth(b, each, count - 1, axis) for each in _top(b, self, count, axis, largest=False))
    if self.dtype.is_float:
        marks = b.cast(b.emit(ops.IsNaN(), as_vector(b, self)), DType.INT32)
        first = b.emit(ops.ArgMax(axis, keepdims=True), marks)
        marked = b.cast(b.emit(ops.ReduceMax((axis,), keepdims=True), marks), DType.BOOL)
        nan = b.number(float("nan"), self.dtype)
        shape = values.shape
        values = b.reshape(b.emit(ops.Where(), marked, nan, as_vector(b, values)), shape)
        indices = b.reshape(b.emit(ops.Where(), marked, first, as_vector(b, indices)), shape)
    return [_kept(b, each, axis, keepdim) for each in (values, indices)]


@rules.imports("aten.median.default")
def median(b: Lowering, self: Value) -> Value:
    """median(Tensor self): of all elements"""
    flat = _flat(b, self)
    count = (_length(flat, 0) + 1) // 2
    values, _ = _top(b, flat, count, 0, largest=False)
    return b.reshape(_none_is_nan(b, flat, _nth(b, values, count - 1, 0), 0), ())


@rules.imports("aten.nanmedian.default", "aten.nanmedian.dim")
def nanmedian(b: Lowering, self: Value, dim: int | None = None, keepdim: bool = False) -> Value | Sequence[Value]:
    """nanmedian.dim(Tensor self, int dim, bool keepdim=False) -> (values, indices): of what is not NaN"""
    if not self.dtype.is_float:
        return median(b, self) if dim is None else median_dim(b, self, dim, keepdim)
    x = _flat(b, self) if dim is None else as_vector(b, self)
    axis = 0 if dim is None else axis_of(dim, self)
    missing = b.emit(ops.IsNaN(), x)
    last = b.emit(ops.Where(), missing, b.number(float("inf"), x.dtype), x)
    values, indices = _top(b, last, x.shape[axis], axis, largest=False)
    present = b.cast(b.emit(ops.Not(), missing), DType.INT64)
    count = b.emit(ops.ReduceSum((axis,), keepdims=True), present)
    below = b.emit(ops.Max(), b.emit(ops.Sub(), count, b.number(1, DType.INT64)), b.number(0, DType.INT64))
    place = b.emit(ops.Div(), below, b.number(2, DType.INT64))
    nothing = b.emit(ops.Equal(), count, b.number(0, DType.INT64))
    value = b.emit(ops.GatherElements(axis), values, place)
    value = b.emit(ops.Where(), nothing, b.number(float("nan"), x.dtype), value)
    if dim is None:
        return b.reshape(value, ())
    index = b.emit(ops.GatherElements(axis), indices, place)
    kept = keepdim and self.rank > 0
    return [each if kept else b.emit(ops.Squeeze((axis,)), each) for each in (value, index)]


@rules.imports("aten.mode.default")
def mode(b: Lowering, self: Value, dim: int = -1, keepdim: bool = False) -> Sequence[Value]:
    """mode(Tensor self, int dim=-1, bool keepdim=False) -> (values, indices): of the most frequent the smallest

    Each element is compared with each; the index is that of the last of its equals.
    """
    axis = axis_of(dim, self)
    if not self.rank:
        return b.emit(ops.Identity(), self), b.number(0, DType.INT64)
    values, places = _top(b, self, self.shape[axis], axis, largest=False)
    kind = values.dtype
    values = b.cast(values, DType.UINT8) if kind is DType.BOOL else values
    equal = b.emit(ops.Equal(), b.emit(ops.Unsqueeze((axis + 1,)), values), b.emit(ops.Unsqueeze((axis,)), values))
    counts = b.emit(ops.ReduceSum((axis + 1,), keepdims=False), b.cast(equal, DType.INT64))
    best = b.emit(ops.ArgMax(axis, keepdims=True), counts)
    value = b.cast(b.emit(ops.GatherElements(axis), values, best), kind)
    most = b.emit(ops.GatherElements(axis), counts, best)
    last = b.emit(ops.Sub(), b.emit(ops.Add(), best, most), b.number(1, DType.INT64))
    index = b.emit(ops.GatherElements(axis), places, last)
    return [_kept(b, each, axis, keepdim) for each in (value, index)]
