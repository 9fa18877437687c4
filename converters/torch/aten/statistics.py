"""Quantiles."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from isomorph.converters.torch.aten.reduce import any_of
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.shapes import elements


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
    x = b.reshape(self, (elements(self.shape),)) if dim is None else b.lined(self)
    axis = 0 if dim is None else axis_of(dim, self)
    last = x.rank - 1
    order = tuple(each for each in range(x.rank) if each != axis)
    x = x if axis == last else b.emit(ops.Transpose((*order, axis)), x)
    count = x.shape[last]
    ascending, _ = b.emit_many(ops.TopK(count, last, largest=False, sorted=True), x)
    levels = q if isinstance(q, Value) else b.number(float(q), x.dtype)
    place = b.emit(ops.Mul(), b.lined(b.cast(levels, x.dtype)), b.number(count - 1, x.dtype))
    found = _between(b, ascending, place, interpolation)
    spoiled = any_of(b, b.emit(ops.IsNaN(), x), last, keepdim=True)
    found = b.emit(ops.Where(), spoiled, b.number(float("nan"), x.dtype), found)  # (*rest, Q)
    kept = [1] * self.rank if dim is None else [1 if each == axis else size for each, size in enumerate(self.shape)]
    rest = kept if keepdim else [] if dim is None else [size for each, size in enumerate(self.shape) if each != axis]
    if not isinstance(q, Value) or not q.rank:
        return b.reshape(found, rest)
    front = b.emit(ops.Transpose((found.rank - 1, *range(found.rank - 1))), found)
    return b.reshape(front, (*q.shape, *rest))


def _between(b: Lowering, ascending: Value, place: Value, interpolation: str) -> Value:
    last = ascending.rank - 1

    def at(where: Value) -> Value:
        return b.emit(ops.Gather(last), ascending, b.cast(where, DType.INT64))

    if interpolation in ("lower", "higher", "nearest"):
        rounding = {"lower": ops.Floor(), "higher": ops.Ceil(), "nearest": ops.Round()}[interpolation]
        return at(b.emit(rounding, place))
    floor = b.emit(ops.Floor(), place)
    low, high = at(floor), at(b.emit(ops.Ceil(), place))
    share = b.number(0.5, place.dtype) if interpolation == "midpoint" else b.emit(ops.Sub(), place, floor)
    return b.emit(ops.Add(), low, b.emit(ops.Mul(), b.emit(ops.Sub(), high, low), share))
