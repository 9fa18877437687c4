"""Quantiles."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from dataclasses import dataclass

from isomorph.converters.torch.aten.reduce import any_of
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.shapes import elements


@dataclass(frozen=True, slots=True)
class _Line:
    """A tensor with the axis of which quantiles are taken at the end: `x` of `given`, along `dim` (None: all)."""

    x: Value
    given: Value
    dim: int | None

    @classmethod
    def of(cls, b: Lowering, given: Value, dim: int | None) -> _Line:
        x = b.reshape(given, (elements(given.shape),)) if dim is None else b.lined(given)
        axis = 0 if dim is None else axis_of(dim, given)
        order = (*(each for each in range(x.rank) if each != axis), axis)
        return cls(x if axis == x.rank - 1 else b.emit(ops.Transpose(order), x), given, dim)

    def shaped(self, b: Lowering, found: Value, q: Value | float, keepdim: bool) -> Value:
        """(*rest, Q) as torch gives it: Q in front, if there are several; the axis kept as 1, if asked for."""
        shape = self.given.shape
        axis = None if self.dim is None else axis_of(self.dim, self.given)
        kept = [1] * len(shape) if axis is None else [1 if each == axis else size for each, size in enumerate(shape)]
        less = [] if axis is None else [size for each, size in enumerate(shape) if each != axis]
        rest = kept if keepdim else less
        if not isinstance(q, Value) or not q.rank:
            return b.reshape(found, rest)
        front = b.emit(ops.Transpose((found.rank - 1, *range(found.rank - 1))), found)
        return b.reshape(front, (*q.shape, *rest))


@rules.imports("aten.quantile.default", "aten.quantile.scalar")
def quantile(
    b: Lowering,
    self: Value,
    q: Value | float,
    dim: int | None = None,
    keepdim: bool = False,
    interpolation: str = "linear",
) -> Value:
    """quantile(Tensor self, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear')

    The element at place q (n - 1) of the sorted ones, between two of them by `interpolation`; NaN where one is NaN.
    """
    line = _Line.of(b, self, dim)
    x, last = line.x, line.x.rank - 1
    count = x.shape[last]
    ascending, _ = b.emit_many(ops.TopK(count, last, largest=False, sorted=True), x)
    levels = q if isinstance(q, Value) else b.number(float(q), x.dtype)
    place = b.emit(ops.Mul(), b.lined(b.cast(levels, x.dtype)), b.number(count - 1, x.dtype))
    found = _between(b, ascending, place, interpolation)
    spoiled = any_of(b, b.emit(ops.IsNaN(), x), last, keepdim=True)
    return line.shaped(b, b.emit(ops.Where(), spoiled, b.number(float("nan"), x.dtype), found), q, keepdim)


@rules.imports("aten.nanquantile.default", "aten.nanquantile.scalar")
def nanquantile(
    b: Lowering,
    self: Value,
    q: Value | float,
    dim: int | None = None,
    keepdim: bool = False,
    interpolation: str = "linear",
) -> Value:
    """nanquantile(Tensor self, Tensor q, int? dim=None, bool keepdim=False, *, str interpolation='linear')

    As quantile, of the elements that are not NaN; NaN where there are none.
    """
    line = _Line.of(b, self, dim)
    nan = b.emit(ops.IsNaN(), line.x)
    last = line.x.rank - 1
    filled = b.emit(ops.Where(), nan, b.number(float("inf"), line.x.dtype), line.x)
    ascending, _ = b.emit_many(ops.TopK(line.x.shape[last], last, largest=False, sorted=True), filled)
    known = b.emit(ops.ReduceSum((last,)), b.cast(b.emit(ops.Not(), nan), line.x.dtype))
    highest = b.emit(ops.Max(), b.emit(ops.Sub(), known, b.number(1, known.dtype)), b.number(0, known.dtype))
    levels = b.lined(b.cast(q if isinstance(q, Value) else b.number(float(q), line.x.dtype), line.x.dtype))
    place = b.emit(ops.Mul(), levels, highest)  # (*rest, Q)
    found = _between(b, ascending, place, interpolation, each=True)
    none = b.emit(ops.Equal(), known, b.number(0, known.dtype))
    return line.shaped(b, b.emit(ops.Where(), none, b.number(float("nan"), found.dtype), found), q, keepdim)


def _between(b: Lowering, ascending: Value, place: Value, interpolation: str, *, each: bool = False) -> Value:
    """The elements at fractional places (Q) of all lines, or (`each`) at places (*rest, Q) of their own."""
    last = ascending.rank - 1
    gather = ops.GatherElements(last) if each else ops.Gather(last)

    def at(where: Value) -> Value:
        return b.emit(gather, ascending, b.cast(where, DType.INT64))

    if interpolation in ("lower", "higher", "nearest"):
        rounding = {"lower": ops.Floor(), "higher": ops.Ceil(), "nearest": ops.Round()}[interpolation]
        return at(b.emit(rounding, place))
    floor = b.emit(ops.Floor(), place)
    low, high = at(floor), at(b.emit(ops.Ceil(), place))
    share = b.number(0.5, place.dtype) if interpolation == "midpoint" else b.emit(ops.Sub(), place, floor)
    return b.emit(ops.Add(), low, b.emit(ops.Mul(), b.emit(ops.Sub(), high, low), share))
