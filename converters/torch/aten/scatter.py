"""Writing elements at computed places."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from isomorph.converters.torch.aten.elementwise import both
from isomorph.converters.torch.aten.index import as_vector, expanded, integer_indices, leading, moved_back, tuples
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Number, Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Shape, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import elements

Reduction = Literal["none", "add", "mul", "max", "min"]


def _put(b: Lowering, x: Value, axis: int, index: Value, src: Value, reduction: Reduction = "none") -> Value:
    """x with src put (or combined) at `index` along `axis`."""
    data, updates, reduction = _combinable(b, as_vector(b, x), as_vector(b, src), reduction)
    made = b.emit(ops.ScatterElements(axis, reduction), data, as_vector(b, index), updates)
    return b.reshape(b.cast(made, x.dtype), x.shape)


def _put_at(b: Lowering, x: Value, places: Value, src: Value, reduction: Reduction) -> Value:
    """x with slices of src put (or combined) at tuples of indices."""
    data, updates, reduction = _combinable(b, x, src, reduction)
    return b.cast(b.emit(ops.ScatterND(reduction), data, places, updates), x.dtype)


def _combinable(b: Lowering, x: Value, src: Value, reduction: Reduction) -> tuple[Value, Value, Reduction]:
    """Operands in types that runtimes combine: bools as bytes, half precision in float32."""
    if reduction == "none":
        return x, src, reduction
    if x.dtype is DType.BOOL:
        return b.cast(x, DType.UINT8), b.cast(src, DType.UINT8), _OF_BOOLS[reduction]
    kind = DType.FLOAT32 if x.dtype in (DType.FLOAT16, DType.BFLOAT16) else x.dtype
    return b.cast(x, kind), b.cast(src, kind), reduction


_OF_BOOLS: dict[Reduction, Reduction] = {"add": "max", "mul": "min", "max": "max", "min": "min"}


def _corner(b: Lowering, src: Value, index: Value) -> Value:
    """The part of src that index has a place for."""
    for axis, (size, wanted) in enumerate(zip(src.shape, index.shape, strict=True)):
        if size != wanted:
            src = b.emit(ops.Slice((axis,), (0,), (wanted,), (1,)), src)
    return src


def _source(b: Lowering, x: Value, index: Value, src: Value | None, value: Number | None) -> Value:
    """What is written: a tensor's corner, or a number everywhere."""
    if src is not None:
        return _corner(b, src, index)
    return expanded(b, b.number(0 if value is None else value, x.dtype), index.shape)


_NAMES: dict[str | None, Reduction] = {
    None: "none", "add": "add", "multiply": "mul", "sum": "add", "mean": "add", "prod": "mul", "amax": "max",
    "amin": "min",
}  # fmt: skip


@rules.imports(*both("scatter", "src", "value", "reduce", "value_reduce"))
def scatter(
    b: Lowering,
    self: Value,
    dim: int,
    index: Value,
    src: Value | None = None,
    value: Number | None = None,
    reduce: str | None = None,
) -> Value:
    """scatter.src(Tensor self, int dim, Tensor index, Tensor src), scatter.value(…, Scalar value), …, str reduce"""
    if index.type.size == 0:
        return b.emit(ops.Identity(), self)
    return _put(b, self, axis_of(dim, self), index, _source(b, self, index, src, value), _NAMES[reduce])


@rules.imports(*both("scatter_add", "default"))
def scatter_add(b: Lowering, self: Value, dim: int, index: Value, src: Value) -> Value:
    """scatter_add(Tensor self, int dim, Tensor index, Tensor src): sums of what goes to one place"""
    return scatter(b, self, dim, index, src, reduce="add")


@rules.imports(*both("scatter_reduce", "two"))
def scatter_reduce(
    b: Lowering, self: Value, dim: int, index: Value, src: Value, reduce: str, include_self: bool = True
) -> Value:
    """scatter_reduce.two(Tensor self, int dim, Tensor index, Tensor src, str reduce, *, bool include_self=True)"""
    if index.type.size == 0:
        return b.emit(ops.Identity(), self)
    return _combined(b, self, axis_of(dim, self), index, _corner(b, src, index), reduce, include_self)


def _combined(b: Lowering, x: Value, axis: int, index: Value, src: Value, reduce: str, include_self: bool) -> Value:
    """What goes to one place reduced, with what is there or (include_self=False) in its stead."""
    start = x
    if not include_self:
        start = _put(b, x, axis, index, expanded(b, b.number(_neutral(reduce, x.dtype), x.dtype), index.shape))
    y = _put(b, start, axis, index, src, _NAMES[reduce])
    if reduce != "mean":
        return y
    one = b.number(1, x.dtype)
    counts = expanded(b, b.number(int(include_self), x.dtype), x.shape)
    counts = _put(b, counts, axis, index, expanded(b, one, index.shape), "add")
    if not include_self:
        counts = b.emit(ops.Max(), counts, one)
    if x.dtype.is_float:
        return b.emit(ops.Div(), y, counts)
    return b.emit(ops.Div(), b.emit(ops.Sub(), y, b.emit(ops.Mod(), y, counts)), counts)


def _neutral(reduce: str, dtype: DType) -> Number:
    """What does not change a reduction."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    sign = -1 if reduce == "amax" else 1
    if dtype.is_float:
        return sign * float("inf")
    if dtype is DType.BOOL:
        return reduce == "amin"
    limits = np.iinfo(dtype.numpy)
    return int(limits.min if sign < 0 else limits.max)


def _along(b: Lowering, x: Value, axis: int, index: Value, shape: Shape) -> Value:
    """A vector of indices of one axis, spread over the shape of what is written there."""
    line = b.reshape(as_vector(b, index), tuple(index.type.size if other == axis else 1 for other in range(len(shape))))
    return expanded(b, line, shape)


def _put_slices(b: Lowering, x: Value, axis: int, index: Value, src: Value, reduction: Reduction = "none") -> Value:
    """x with the slices of src put (or combined) at a vector of indices along `axis`."""
    data, updates = as_vector(b, x), as_vector(b, src)
    if axis == 0:
        places = b.cast(b.emit(ops.Unsqueeze((1,)), as_vector(b, index)), DType.INT64)
        return b.reshape(_put_at(b, data, places, updates, reduction), x.shape)
    return _put(b, x, axis, _along(b, data, axis, index, updates.shape), updates, reduction)


def _slices(b: Lowering, x: Value, axis: int, index: Value, source: Value) -> Value:
    """source of the shape that slices at `index` have; a scalar counts as one slice."""
    data = as_vector(b, x)
    shape = (*data.shape[:axis], index.type.size, *data.shape[axis + 1 :])
    return b.reshape(source, shape) if source.rank != data.rank else source


@rules.imports(*both("index_copy", "default"))
def index_copy(b: Lowering, self: Value, dim: int, index: Value, source: Value) -> Value:
    """index_copy(Tensor self, int dim, Tensor index, Tensor source)"""
    axis = axis_of(dim, self)
    return _put_slices(b, self, axis, index, _slices(b, self, axis, index, source))


@rules.imports(*both("index_add", "default"))
def index_add(b: Lowering, self: Value, dim: int, index: Value, source: Value, alpha: Number = 1) -> Value:
    """index_add(Tensor self, int dim, Tensor index, Tensor source, *, Scalar alpha=1)"""
    axis = axis_of(dim, self)
    slices = _slices(b, self, axis, index, source)
    if alpha != 1:
        slices = b.emit(ops.Mul(), slices, b.number(alpha, slices.dtype))
    return _put_slices(b, self, axis, index, slices, "add")


@rules.imports(*both("index_fill", "int_Scalar", "int_Tensor"))
def index_fill(b: Lowering, self: Value, dim: int, index: Value, value: Operand) -> Value:
    """index_fill.int_Scalar(Tensor self, int dim, Tensor index, Scalar value), …, Tensor value of shape ()"""
    axis = axis_of(dim, self)
    data = as_vector(b, self)
    shape = (*data.shape[:axis], index.type.size, *data.shape[axis + 1 :])
    return _put_slices(b, self, axis, index, expanded(b, b.operand(value, self.dtype), shape))


@rules.imports(*both("index_reduce", "default"))
def index_reduce(
    b: Lowering, self: Value, dim: int, index: Value, source: Value, reduce: str, include_self: bool = True
) -> Value:
    """index_reduce(Tensor self, int dim, Tensor index, Tensor source, str reduce, *, bool include_self=True)"""
    axis = axis_of(dim, self)
    slices = _slices(b, self, axis, index, source)
    return _combined(b, self, axis, _along(b, self, axis, index, slices.shape), slices, reduce, include_self)


@rules.imports(*both("put", "default"))
def put(b: Lowering, self: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    """put(Tensor self, Tensor index, Tensor source, bool accumulate=False): places in C order"""
    flat = b.reshape(self, (elements(self.shape),))
    places = b.reshape(index, (elements(index.shape),))
    updates = b.reshape(source, places.shape)
    return b.reshape(_put(b, flat, 0, places, updates, "add" if accumulate else "none"), self.shape)


@rules.imports(*both("index_put", "default"), "aten._unsafe_index_put.default")
def index_put(
    b: Lowering, self: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    """index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False): as `index` reads

    values broadcast to the shape that `index` gives; what goes to one place twice is added up, or one of them stays.
    """
    chosen = [each for each in indices if each is not None]
    b.require(bool(chosen), "it has no index")
    updates = b.cast(values, self.dtype)
    axis = next(place for place, each in enumerate(indices) if each is not None)
    if len(chosen) == 1 and chosen[0].dtype in (DType.BOOL, DType.UINT8):
        return _put_masked(b, self, b.cast(chosen[0], DType.BOOL), axis, updates, accumulate)
    axes, places = integer_indices(b, indices, self, lambda: _first_size(b, values))
    reduction: Reduction = "add" if accumulate else "none"
    if len(places) == 1 and places[0].rank == 1:
        shape = (*self.shape[:axis], places[0].shape[0], *self.shape[axis + 1 :])
        return _put_slices(b, self, axis, places[0], expanded(b, updates, shape), reduction)
    return _put_tuples(b, self, axes, places, updates, reduction)


def _first_size(b: Lowering, values: Value) -> Dim:
    if not values.rank:
        raise b.refusal("a mask beside other indices, of a size that the data decide")
    return values.shape[0]


def _put_tuples(
    b: Lowering, x: Value, axes: Sequence[int], places: Sequence[Value], updates: Value, reduction: Reduction
) -> Value:
    """x with updates at indices of several axes (or at indices of several axes of their own)."""
    order, front = leading(x, axes)
    found = broadcast(*(each.shape for each in places))
    rest = tuple(x.shape[axis] for axis in order[len(axes) :])
    updates = expanded(b, updates, (*rest[:front], *found, *rest[front:]))
    if front:
        count = len(found)
        turned = (*range(front, front + count), *range(front), *range(front + count, updates.rank))
        updates = b.emit(ops.Transpose(turned), updates)
    data = x if order == tuple(range(x.rank)) else b.emit(ops.Transpose(order), x)
    return moved_back(b, _put_at(b, data, tuples(b, places), updates, reduction), order)


def _put_masked(b: Lowering, x: Value, mask: Value, axis: int, values: Value, accumulate: bool) -> Value:
    """x with values where the mask, over the axes from `axis` on, is True: one for all, or one for each."""
    after = x.rank - axis - mask.rank
    place = values.rank - 1 - after  # the axis of values that counts what the mask keeps
    if place < 0 or values.shape[place] == 1:
        shape = values.shape if place < 0 else (*values.shape[:place], *(1,) * mask.rank, *values.shape[place + 1 :])
        filled = b.reshape(values, shape)
        if accumulate:
            filled = b.emit(ops.Or() if x.dtype is DType.BOOL else ops.Add(), x, filled)
        return b.emit(ops.Where(), b.reshape(mask, (*mask.shape, *(1,) * after)), filled, x)
    found = b.emit(ops.NonZero(values.shape[place]), mask)
    rows = b.emit_many(ops.Split(0, (1,) * mask.rank), found) if mask.rank > 1 else (found,)
    places = [b.reshape(row, (row.shape[1],)) for row in rows]
    return _put_tuples(b, x, range(axis, axis + mask.rank), places, values, "add" if accumulate else "none")


@rules.imports(*both("masked_scatter", "default"))
def masked_scatter(b: Lowering, self: Value, mask: Value, source: Value) -> Value:
    """masked_scatter(Tensor self, Tensor mask, Tensor source): the elements of source in order, where mask is True"""
    shape = broadcast(self.shape, mask.shape)
    wide = b.reshape(expanded(b, mask, shape), (elements(shape),))
    ranks = b.emit(ops.CumSum(0), b.cast(wide, DType.INT64))
    places = b.emit(ops.Sub(), ranks, b.number(1, DType.INT64))
    flat = b.reshape(source, (elements(source.shape),))
    taken = b.reshape(b.emit(ops.Gather(0), flat, places), shape)
    return b.emit(ops.Where(), mask, taken, self)


@rules.imports("aten.slice_scatter.default")
def slice_scatter(
    b: Lowering,
    self: Value,
    src: Value,
    dim: int = 0,
    start: Dim | None = None,
    end: Dim | None = None,
    step: int = 1,
) -> Value:
    """slice_scatter(Tensor self, Tensor src, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1)"""
    axis = axis_of(dim, self)
    size, length = self.shape[axis], src.shape[axis]
    begin: Dim = 0 if start is None else start
    if isinstance(begin, int):
        begin = begin + size if begin < 0 else begin
        if isinstance(begin, int) and isinstance(size, int):
            begin = min(max(begin, 0), size)
    if begin == 0 and length == size:
        return b.emit(ops.Identity(), src)
    if step != 1:
        count = b.emit(ops.Range(begin, step, length, DType.INT64))
        return _put_slices(b, self, axis, count, src)
    parts = [src]
    if begin != 0:
        parts.insert(0, b.emit(ops.Slice((axis,), (0,), (begin,), (1,)), self))
    if begin + length != size:
        parts.append(b.emit(ops.Slice((axis,), (begin + length,), (None,), (1,)), self))
    return b.emit(ops.Concat(axis), *parts)


@rules.imports("aten.select_scatter.default")
def select_scatter(b: Lowering, self: Value, src: Value, dim: int, index: Dim) -> Value:
    """select_scatter(Tensor self, Tensor src, int dim, SymInt index)"""
    axis = axis_of(dim, self)
    piece = b.emit(ops.Unsqueeze((axis,)), src)
    return slice_scatter(b, self, piece, axis, index)
