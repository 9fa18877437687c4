"""Reading elements at computed places."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.elementwise import both
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Number
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import elements


@rules.imports("aten.gather.default")
def gather(b: Lowering, self: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """gather(Tensor self, int dim, Tensor index): index may be smaller than self along the other axes"""
    axis = axis_of(dim, self)
    data = self
    for other, (size, wanted) in enumerate(zip(self.shape, index.shape, strict=True)):
        if other != axis and size != wanted:
            data = b.emit(ops.Slice((other,), (0,), (wanted,), (1,)), data)
    return b.emit(ops.GatherElements(axis), data, index)


@rules.imports("aten.index_select.default")
def index_select(b: Lowering, self: Value, dim: int, index: Value) -> Value:
    """index_select(Tensor self, int dim, Tensor index)"""
    return b.emit(ops.Gather(axis_of(dim, self)), self, index)


@rules.imports("aten.index.Tensor")
def index(b: Lowering, self: Value, indices: Sequence[Value | None]) -> Value:
    """index.Tensor(Tensor self, Tensor?[] indices), integer indices: one anywhere, or several for neighbouring axes"""
    places = [axis for axis, chosen in enumerate(indices) if chosen is not None]
    chosen = [each for each in indices if each is not None]
    b.require(bool(chosen), "it has no index")
    b.require(all(each.dtype.is_integer for each in chosen), "an index of bools gives a size that the data decide")
    if len(chosen) == 1:
        return b.emit(ops.Gather(places[0]), self, chosen[0])
    first, count = places[0], len(places)
    b.require(places == list(range(first, first + count)), "indices for axes that are not neighbours")
    shape = broadcast(*(each.shape for each in chosen))
    columns = [b.reshape(_spread(b, b.cast(each, DType.INT64), shape), (*shape, 1)) for each in chosen]
    tuples = b.emit(ops.Concat(len(shape)), *columns)
    order = (*range(first, first + count), *range(first), *range(first + count, self.rank))
    data = self if first == 0 else b.emit(ops.Transpose(order), self)
    found = b.emit(ops.GatherND(), data, tuples)
    if first == 0:
        return found
    extra = len(shape)
    back = (*range(extra, extra + first), *range(extra), *range(extra + first, found.rank))
    return b.emit(ops.Transpose(back), found)


def _spread(b: Lowering, x: Value, shape: tuple[object, ...]) -> Value:
    return x if x.shape == shape else b.emit(ops.Expand(shape), x)  # type: ignore[arg-type]


@rules.imports("aten.take_along_dim.default")
def take_along_dim(b: Lowering, self: Value, indices: Value, dim: int | None = None) -> Value:
    """take_along_dim(Tensor self, Tensor indices, int? dim=None): gather, the other axes broadcast"""
    if dim is None:
        flat = b.reshape(self, (elements(self.shape),))
        return b.emit(ops.GatherElements(0), flat, b.reshape(indices, (elements(indices.shape),)))
    axis = axis_of(dim, self)
    others = [(*x.shape[:axis], 1, *x.shape[axis + 1 :]) for x in (self, indices)]
    shape = broadcast(*others)

    def wide(x: Value) -> Value:
        return _spread(b, x, (*shape[:axis], x.shape[axis], *shape[axis + 1 :]))

    return b.emit(ops.GatherElements(axis), wide(self), wide(indices))


@rules.imports(*both("scatter", "src", "value"))
def scatter(
    b: Lowering, self: Value, dim: int, index: Value, src: Value | None = None, value: Number | None = None
) -> Value:
    """scatter.src(Tensor self, int dim, Tensor index, Tensor src), scatter.value(…, Scalar value)"""
    if src is not None:
        return b.emit(ops.ScatterElements(axis_of(dim, self)), self, index, _corner(b, src, index))
    filled = b.emit(ops.Expand(index.shape), b.number(0 if value is None else value, self.dtype))
    return b.emit(ops.ScatterElements(axis_of(dim, self)), self, index, filled)


@rules.imports(*both("scatter_add", "default"))
def scatter_add(b: Lowering, self: Value, dim: int, index: Value, src: Value) -> Value:
    """scatter_add(Tensor self, int dim, Tensor index, Tensor src): sums of what goes to one place"""
    return b.emit(ops.ScatterElements(axis_of(dim, self), "add"), self, index, _corner(b, src, index))


def _corner(b: Lowering, src: Value, index: Value) -> Value:
    """The part of src that index has a place for."""
    for axis, (size, wanted) in enumerate(zip(src.shape, index.shape, strict=True)):
        if size != wanted:
            src = b.emit(ops.Slice((axis,), (0,), (wanted,), (1,)), src)
    return src


@rules.imports(*both("index_put", "default"))
def index_put(
    b: Lowering, self: Value, indices: Sequence[Value | None], values: Value, accumulate: bool = False
) -> Value:
    """index_put(Tensor self, Tensor?[] indices, Tensor values, bool accumulate=False)

    One mask of bools with one value, or integer indices for the leading axes.
    """
    chosen = [each for each in indices if each is not None]
    first = indices[0] if indices else None
    b.require(first is not None and len(chosen) == len(indices), "indices that are not those of the leading axes")
    if len(chosen) == 1 and chosen[0].dtype is DType.BOOL:
        b.require(elements(values.shape) == 1 and not accumulate, "a mask with several values")
        mask = b.reshape(chosen[0], (*chosen[0].shape, *(1,) * (self.rank - chosen[0].rank)))
        return b.emit(ops.Where(), mask, b.cast(b.reshape(values, ()), self.dtype), self)
    b.require(all(each.dtype.is_integer for each in chosen), "an index of bools beside others")
    shape = broadcast(*(each.shape for each in chosen))
    columns = [b.reshape(_spread(b, b.cast(each, DType.INT64), shape), (*shape, 1)) for each in chosen]
    tuples = columns[0] if len(columns) == 1 else b.emit(ops.Concat(len(shape)), *columns)
    updates = _spread(b, b.cast(values, self.dtype), (*shape, *self.shape[len(chosen) :]))
    return b.emit(ops.ScatterND("add" if accumulate else "none"), self, tuples, updates)


@rules.imports("aten.sort.default", "aten.sort.stable")
def sort(
    b: Lowering, self: Value, dim: int = -1, descending: bool = False, stable: bool | None = None
) -> Sequence[Value]:
    """sort(Tensor self, int dim=-1, bool descending=False) -> (values, indices); equal elements keep their order"""
    axis = axis_of(dim, self)
    return b.emit_many(ops.TopK(b.static(self.shape[axis], "the axis that is sorted"), axis, descending, True), self)


@rules.imports("aten.argsort.default", "aten.argsort.stable")
def argsort(b: Lowering, self: Value, dim: int = -1, descending: bool = False, stable: bool | None = None) -> Value:
    """argsort(Tensor self, int dim=-1, bool descending=False): the indices of sort"""
    return sort(b, self, dim, descending)[1]


@rules.imports("aten.topk.default")
def topk(b: Lowering, self: Value, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Sequence[Value]:
    """topk(Tensor self, SymInt k, int dim=-1, bool largest=True, bool sorted=True) -> (values, indices)"""
    return b.emit_many(ops.TopK(b.static(k, "k"), axis_of(dim, self), largest, sorted), self)


@rules.imports("aten.one_hot.default")
def one_hot(b: Lowering, self: Value, num_classes: int = -1) -> Value:
    """one_hot(Tensor self, int num_classes=-1)"""
    b.require(num_classes > 0, "the number of classes is taken from the data; pass num_classes")
    values = b.constant(np.asarray([0, 1], np.int64), "off_on")
    return b.emit(ops.OneHot(num_classes, self.rank), self, values)


@rules.imports("aten.triu.default", "aten.triu_.default")
def triu(b: Lowering, self: Value, diagonal: int = 0) -> Value:
    """triu(Tensor self, SymInt diagonal=0)"""
    return b.emit(ops.Trilu(diagonal, upper=True), self)


@rules.imports("aten.tril.default", "aten.tril_.default")
def tril(b: Lowering, self: Value, diagonal: int = 0) -> Value:
    """tril(Tensor self, SymInt diagonal=0)"""
    return b.emit(ops.Trilu(diagonal, upper=False), self)
