"""Finding elements: what is not zero, what is masked, what is unique, where a value belongs, how often it occurs.

The sizes of the results are for the data to decide; torch recorded a symbol for each.
"""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.aten.index import expanded
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Number, Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Shape, Sym, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import elements


def _size(b: Lowering, axis: int = 0, output: int = 0) -> Dim:
    """The size that torch recorded for an output."""
    kind = b.recorded[output] if output < len(b.recorded) else None
    if kind is None or kind.rank <= axis:
        raise b.refusal("the size that the data decide is not known")
    return kind.shape[axis]


def _flat(b: Lowering, x: Value) -> Value:
    return b.reshape(x, (elements(x.shape),))


@rules.imports("aten.nonzero.default", "aten.argwhere.default")
def nonzero(b: Lowering, self: Value) -> Value:
    """nonzero(Tensor self): coordinates (count, rank) of what is not 0, in C order"""
    size = _size(b)
    if not self.rank:
        counted = b.emit(ops.NonZero(size), b.reshape(self, (1,)))
        return b.emit(ops.Slice((1,), (0,), (0,), (1,)), b.emit(ops.Transpose((1, 0)), counted))
    found = b.emit(ops.NonZero(size), self)
    return b.reshape(found, (size, 1)) if self.rank == 1 else b.emit(ops.Transpose((1, 0)), found)


@rules.imports("aten.nonzero_numpy.default")
def nonzero_numpy(b: Lowering, self: Value) -> Sequence[Value]:
    """nonzero_numpy(Tensor self) -> Tensor[]: the coordinates axis by axis, of a scalar as of one element"""
    return _coordinates(b, self, self)


def _coordinates(b: Lowering, x: Value, truth: Value) -> Sequence[Value]:
    size = _size(b)
    found = b.emit(ops.NonZero(size), truth if truth.rank else b.reshape(truth, (1,)))
    rows = b.emit_many(ops.Split(0, (1,) * x.rank), found) if x.rank > 1 else (found,)
    return [b.reshape(row, (size,)) for row in rows]


@rules.imports("aten.where.default")
def where(b: Lowering, condition: Value) -> Sequence[Value]:
    """where(Tensor condition) -> Tensor[]: nonzero_numpy"""
    return _coordinates(b, condition, condition)


@rules.imports("aten.nonzero_static.default")
def nonzero_static(b: Lowering, self: Value, size: Dim, fill_value: int = -1) -> Value:
    """nonzero_static(Tensor self, *, SymInt size, int fill_value=-1): the first `size` coordinates, the rest filled

    Each element's rank among those that are not 0 is its place in the result; what has none goes behind the end.
    """
    count = elements(self.shape)
    if not self.rank or count == 0:
        return b.emit(ops.ConstantOfShape((size, self.rank), fill_value, DType.INT64))
    truth = b.reshape(b.cast(self, DType.BOOL), (count,))
    ranks = b.emit(ops.CumSum(0, exclusive=True), b.cast(truth, DType.INT64))
    end = b.number(size, DType.INT64)
    target = b.emit(ops.Where(), truth, b.emit(ops.Min(), ranks, end), end)
    nothing = b.emit(ops.ConstantOfShape((size + 1,), -1, DType.INT64))
    positions = b.emit(ops.Range(0, 1, count, DType.INT64))
    filled = b.emit(ops.ScatterElements(0), nothing, target, positions)
    places = b.emit(ops.Slice((0,), (0,), (size,), (1,)), filled)
    columns = []
    step: Dim = count
    for length in self.shape:
        step = step // length if length != 0 else 1
        whole = b.emit(ops.Div(), places, b.number(step, DType.INT64)) if step != 1 else places
        column = b.emit(ops.Mod(), whole, b.number(length, DType.INT64)) if self.rank > 1 else whole
        columns.append(b.reshape(column, (size, 1)))
    table = columns[0] if len(columns) == 1 else b.emit(ops.Concat(1), *columns)
    missing = b.emit(ops.Less(), b.reshape(places, (size, 1)), b.number(0, DType.INT64))
    return b.emit(ops.Where(), missing, b.number(fill_value, DType.INT64), table)


@rules.imports("aten.masked_select.default")
def masked_select(b: Lowering, self: Value, mask: Value) -> Value:
    """masked_select(Tensor self, Tensor mask): the elements of self, in C order, where mask is True; broadcast"""
    self, mask = b.aligned(self, mask)
    shape = broadcast(self.shape, mask.shape)
    return selected(b, _flat(b, expanded(b, self, shape)), mask, shape)


def selected(b: Lowering, rows: Value, mask: Value, shape: Shape) -> Value:
    """Those of the elements of a tensor of this shape, one after another along the first axis, where mask is True."""
    return b.emit(ops.Compress(_size(b), 0), rows, _flat(b, expanded(b, mask, shape)))


@rules.imports("aten._unique2.default", "aten._unique.default")
def unique(
    b: Lowering, self: Value, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Sequence[Value | None]:
    """_unique2(Tensor self, bool sorted=True, bool return_inverse=False, bool return_counts=False) -> (values,
    inverse, counts); what is not asked for is empty"""
    flat = _flat(b, self)
    values, _, inverse, counts = b.emit_many(ops.Unique(_size(b), None), flat)
    nothing = b.constant(np.zeros(0, np.int64), "nothing")
    made = (values, b.reshape(inverse, self.shape) if return_inverse else nothing, counts if return_counts else nothing)
    return made[: len(b.recorded)]


@rules.imports("aten.unique_dim.default")
def unique_dim(
    b: Lowering,
    self: Value,
    dim: int,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Sequence[Value | None]:
    """unique_dim(Tensor self, int dim, …) -> (values, inverse, counts): the different slices, in lexical order"""
    axis = axis_of(dim, self)
    _require_type(b, self, dim)
    values, _, inverse, counts = b.emit_many(ops.Unique(_size(b, axis), axis), self)
    return values, inverse, counts


def _require_type(b: Lowering, x: Value, dim: int) -> None:
    """torch.export records a wrong type for negative axes (fake_impls.py: `shape[dim + 1 :]`)."""
    kind = b.recorded[0]
    if dim < 0 and kind is not None and (kind.rank != x.rank or kind.shape[dim] == x.shape[dim] != 1):
        raise b.refusal(f"torch.export records the type {kind} for the axis {dim} of {x.type}; pass a nonnegative axis")


def _is_recorded(b: Lowering, output: int) -> bool:
    """Whether an output that is not asked for is there all the same, in torch's records."""
    kind = b.recorded[output]
    return kind is not None and kind.shape != (0,)


@rules.imports("aten.unique_consecutive.default")
def unique_consecutive(
    b: Lowering, self: Value, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Sequence[Value | None]:
    """unique_consecutive(Tensor self, bool return_inverse=False, bool return_counts=False, int? dim=None)

    An element is kept where it differs from the one before it.
    """
    x = _flat(b, self) if dim is None else self
    axis = 0 if dim is None else axis_of(dim, self)
    if dim is not None:
        _require_type(b, self, dim)
    length, size = x.shape[axis], _size(b, axis)
    before = b.emit(ops.Slice((axis,), (0,), (-1,), (1,)), x)
    after = b.emit(ops.Slice((axis,), (1,), (None,), (1,)), x)
    same = b.cast(b.emit(ops.Equal(), before, after), DType.INT32)
    others = tuple(other for other in range(x.rank) if other != axis)
    same = b.emit(ops.ReduceMin(others, keepdims=False), same) if others else same
    changed = b.emit(ops.Not(), b.cast(same, DType.BOOL))
    first = b.constant(np.ones(1, np.bool_), "first")
    fresh = b.emit(ops.Concat(0), first, changed)
    values = b.emit(ops.Compress(size, axis), x, fresh)
    nothing = b.constant(np.zeros(0, np.int64), "nothing")
    inverse = counts = nothing
    one = b.number(1, DType.INT64)
    if return_inverse or _is_recorded(b, 1):
        inverse = b.emit(ops.Sub(), b.emit(ops.CumSum(0), b.cast(fresh, DType.INT64)), one)
        inverse = b.reshape(inverse, self.shape if dim is None else (length,))
    if return_counts or _is_recorded(b, 2):
        starts = b.reshape(b.emit(ops.NonZero(size), fresh), (size,))
        rest = b.emit(ops.Slice((0,), (1,), (None,), (1,)), starts)
        ends = b.emit(ops.Concat(0), rest, b.reshape(b.number(length, DType.INT64), (1,)))
        counts = b.reshape(b.emit(ops.Sub(), ends, starts), (size,))
    return values, inverse, counts


@rules.imports("aten.isin.Tensor_Tensor", "aten.isin.Tensor_Scalar", "aten.isin.Scalar_Tensor")
def isin(
    b: Lowering,
    elements: Operand | None = None,
    test_elements: Operand | None = None,
    test_element: Operand | None = None,
    element: Operand | None = None,
    assume_unique: bool = False,
    invert: bool = False,
) -> Value:
    """isin.Tensor_Tensor(Tensor elements, Tensor test_elements, *, bool assume_unique=False, bool invert=False)"""
    given = elements if elements is not None else element
    wanted = test_elements if test_elements is not None else test_element
    if given is None or wanted is None:
        raise b.refusal("it has no elements")
    x, y = b.promoted(given, wanted)
    if y.rank:
        flat = _flat(b, y)
        equal = b.emit(ops.Equal(), b.emit(ops.Unsqueeze((x.rank,)), x), flat)
        some = b.emit(ops.ReduceMax((x.rank,), keepdims=False), b.cast(equal, DType.INT32))
        if y.type.size == 0:
            some = b.emit(ops.ConstantOfShape(x.shape, 0, DType.INT32))
        found = b.cast(some, DType.BOOL)
    else:
        found = b.emit(ops.Equal(), x, y)
    return b.emit(ops.Not(), found) if invert else found


@rules.imports("aten.one_hot.default")
def one_hot(b: Lowering, self: Value, num_classes: int = -1) -> Value:
    """one_hot(Tensor self, int num_classes=-1)"""
    b.require(num_classes > 0, "the number of classes is taken from the data; pass num_classes")
    values = b.constant(np.asarray([0, 1], np.int64), "off_on")
    made = b.emit(ops.OneHot(num_classes, max(self.rank, 1)), b.lined(self), values)
    return made if self.rank else b.reshape(made, (num_classes,))


@rules.imports("aten.bincount.default")
def bincount(b: Lowering, self: Value, weights: Value | None = None, minlength: int = 0) -> Value:
    """bincount(Tensor self, Tensor? weights=None, SymInt minlength=0): how often each number 0, 1, … occurs"""
    size = _size(b)
    if isinstance(size, Sym) and size.name is not None and size.name not in b.bound:
        zero = b.constant(np.full(1, minlength - 1, np.int64), "last")
        joined = b.emit(ops.Concat(0), b.cast(self, DType.INT64), zero)
        largest = b.emit(ops.ReduceMax((0,), keepdims=False), joined)
        b.bind(size, b.emit(ops.Add(), largest, b.number(1, DType.INT64)))
    kind = DType.INT64 if weights is None else weights.dtype if weights.dtype is DType.FLOAT32 else DType.FLOAT64
    added = expanded(b, b.number(1, kind), self.shape) if weights is None else b.cast(weights, kind)
    empty = b.emit(ops.ConstantOfShape((size,), 0, kind))
    return b.emit(ops.ScatterElements(0, "add"), empty, b.cast(self, DType.INT64), added)


@rules.imports("aten.histc.default")
def histc(b: Lowering, self: Value, bins: int = 100, min: float = 0, max: float = 0) -> Value:
    """histc(Tensor self, int bins=100, Scalar min=0, Scalar max=0): how many elements lie in each of `bins` equal parts

    Part floor((x - min) bins / (max - min)), the last one with max; elements outside are left out.
    """
    b.require(min < max, "without bounds, or with equal ones, the data decide them")
    x = b.reshape(self, (elements(self.shape),))
    low, high = b.number(min, x.dtype), b.number(max, x.dtype)
    above = b.emit(ops.Mul(), b.emit(ops.Sub(), x, low), b.number(bins, x.dtype))
    part = b.cast(b.emit(ops.Div(), above, b.number(max - min, x.dtype)), DType.INT64)
    inside = b.emit(ops.And(), b.emit(ops.GreaterOrEqual(), x, low), b.emit(ops.LessOrEqual(), x, high))
    place = b.emit(ops.Min(), part, b.number(bins - 1, DType.INT64))
    place = b.emit(ops.Where(), inside, place, b.number(0, DType.INT64))
    empty = b.emit(ops.ConstantOfShape((bins,), 0, x.dtype))
    return b.emit(ops.ScatterElements(0, "add"), empty, place, b.cast(inside, x.dtype))


def _count_below(b: Lowering, sequence: Value, x: Value, right: bool, out_int32: bool) -> Value:
    """How many elements along the last axis of `sequence` stand before each of x; of what is not a number, all do."""
    beyond = b.emit(ops.Greater() if right else ops.GreaterOrEqual(), sequence, b.emit(ops.Unsqueeze((x.rank,)), x))
    before = b.cast(b.emit(ops.Not(), beyond), DType.INT32 if out_int32 else DType.INT64)
    return b.emit(ops.ReduceSum((x.rank,), keepdims=False), before)


@rules.imports("aten.searchsorted.Tensor", "aten.searchsorted.Scalar")
def searchsorted(
    b: Lowering,
    sorted_sequence: Value,
    self: Value | Number,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Value | None = None,
) -> Value:
    """searchsorted.Tensor(Tensor sorted_sequence, Tensor self, *, bool out_int32, bool right, str? side, sorter)

    Each value is compared with each element of its sequence.
    """
    axis = sorted_sequence.rank - 1
    sequence = sorted_sequence if sorter is None else b.emit(ops.GatherElements(axis), sorted_sequence, sorter)
    sequence, x = b.promoted(sequence, self)
    if sequence.rank > 1:
        sequence = b.emit(ops.Unsqueeze((axis,)), sequence)
    return _count_below(b, sequence, x, right or side == "right", out_int32)


@rules.imports("aten.bucketize.Tensor", "aten.bucketize.Scalar")
def bucketize(
    b: Lowering, self: Value | Number, boundaries: Value, out_int32: bool = False, right: bool = False
) -> Value:
    """bucketize.Tensor(Tensor self, Tensor boundaries, *, bool out_int32=False, bool right=False)"""
    x, sequence = b.promoted(self, boundaries)
    return _count_below(b, sequence, x, right, out_int32)


@rules.imports("aten.repeat_interleave.self_Tensor")
def repeat_interleave_each(
    b: Lowering, self: Value, repeats: Value, dim: int | None = None, output_size: Dim | None = None
) -> Value:
    """repeat_interleave.self_Tensor(Tensor self, Tensor repeats, int? dim=None, *, SymInt? output_size=None)"""
    x = self if dim is not None else _flat(b, self)
    axis = axis_of(dim or 0, x)
    size = _size(b, axis)
    counts = b.reshape(b.cast(repeats, DType.INT64), (elements(repeats.shape),))
    counts = expanded(b, counts, (x.shape[axis],))
    return b.emit(ops.Gather(axis), x, _repeated(b, counts, size))


@rules.imports("aten.repeat_interleave.Tensor")
def repeated_indices(b: Lowering, repeats: Value, output_size: Dim | None = None) -> Value:
    """repeat_interleave.Tensor(Tensor repeats, *, SymInt? output_size=None): index i repeats[i] times"""
    return b.cast(_repeated(b, b.cast(repeats, DType.INT64), _size(b)), repeats.dtype)


def _repeated(b: Lowering, counts: Value, size: Dim) -> Value:
    """Index i, counts[i] times in a row: where each row starts the index grows by one."""
    if isinstance(size, Sym) and not size.names() <= b.bound:
        b.bind(size, b.emit(ops.ReduceSum((0,), keepdims=False), counts))
    starts = b.emit(ops.CumSum(0, exclusive=True), counts)
    empty = b.emit(ops.ConstantOfShape((size + 1,), 0, DType.INT64))
    ones = expanded(b, b.number(1, DType.INT64), counts.shape)
    grown = b.emit(ops.CumSum(0), b.emit(ops.ScatterElements(0, "add"), empty, starts, ones))
    return b.emit(ops.Sub(), b.emit(ops.Slice((0,), (0,), (size,), (1,)), grown), b.number(1, DType.INT64))
