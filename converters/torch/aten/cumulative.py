"""Running sums, products, maxima and minima along an axis, and differences."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from isomorph.converters.torch.aten.elementwise import both, mul, sub
from isomorph.converters.torch.aten.reduce import summable, total
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.op import Op

Values = tuple[Value, ...]

_MOST_SQUARED = 256
"""The longest axis for which the running values may be taken from a square of all pairs of elements."""


@rules.imports(*both("cumsum", "default"))
def cumsum(b: Lowering, self: Value, dim: int, dtype: DType | None = None) -> Value:
    """cumsum(Tensor self, int dim, *, ScalarType? dtype=None)"""
    x = summable(b, self, dtype)
    return b.reshape(b.emit(ops.CumSum(axis_of(dim, self)), b.lined(x)), self.shape)


def _slice(b: Lowering, x: Value, axis: int, start: Dim, stop: Dim) -> Value:
    return b.emit(ops.Slice((axis,), (start,), (stop,), (1,)), x)


def _scan(b: Lowering, values: Values, axis: int, combine: Callable[[Values, Values], Values]) -> Values:
    """Inclusive scan by an associative function of (earlier, later), doubling the reach with each of log2(n) steps."""
    length = b.static(values[0].shape[axis], "the length of the running axis")
    reach = 1
    while reach < length:
        heads = [_slice(b, x, axis, 0, reach) for x in values]
        earlier = tuple(_slice(b, x, axis, 0, length - reach) for x in values)
        later = tuple(_slice(b, x, axis, reach, length) for x in values)
        made = combine(earlier, later)
        values = tuple(b.emit(ops.Concat(axis), head, tail) for head, tail in zip(heads, made, strict=True))
        reach *= 2
    return values


def _pairs(b: Lowering, x: Value, axis: int, missing: float) -> Value:
    """y[..., i, j, ...] = x[..., j, ...] where j <= i, else `missing`; i runs along `axis`, j along the one behind."""
    place = b.emit(ops.Range(0, 1, x.shape[axis], DType.INT64))
    earlier = b.emit(ops.GreaterOrEqual(), b.emit(ops.Unsqueeze((1,)), place), place)
    behind = x.rank - axis - 1
    mask = b.reshape(earlier, (*earlier.shape, *(1,) * behind))
    return b.emit(ops.Where(), mask, b.emit(ops.Unsqueeze((axis,)), x), b.number(missing, x.dtype))


def _squared(x: Value, axis: int) -> bool:
    size = x.shape[axis]
    return isinstance(size, Sym) or size <= _MOST_SQUARED


@rules.imports(*both("cumprod", "default"))
def cumprod(b: Lowering, self: Value, dim: int, dtype: DType | None = None) -> Value:
    """cumprod(Tensor self, int dim, *, ScalarType? dtype=None)"""
    x, axis = b.lined(summable(b, self, dtype)), axis_of(dim, self)
    if _squared(x, axis):
        made = b.emit(ops.ReduceProd((axis + 1,), keepdims=False), _pairs(b, x, axis, 1))
    else:
        (made,) = _scan(b, (x,), axis, lambda earlier, later: (b.emit(ops.Mul(), *earlier, *later),))
    return b.reshape(made, self.shape)


@rules.imports(*both("logcumsumexp", "default"))
def logcumsumexp(b: Lowering, self: Value, dim: int) -> Value:
    """logcumsumexp(Tensor self, int dim): log of the running sum of exp(x)"""
    x, axis = b.lined(b.floating(self)), axis_of(dim, self)
    b.require(_squared(x, axis), f"logcumsumexp along {x.shape[axis]} elements")
    made = b.emit(ops.ReduceLogSumExp((axis + 1,), keepdims=False), _pairs(b, x, axis, -math.inf))
    return b.reshape(made, self.shape)


def _register_extreme(name: str, comparison: type[ops.GreaterOrEqual] | type[ops.LessOrEqual], bound: float) -> None:
    @rules.imports(f"aten.{name}.default")
    def extreme(b: Lowering, self: Value, dim: int) -> Values:
        axis = axis_of(dim, self)
        x = b.lined(b.cast(self, DType.INT32) if self.dtype is DType.BOOL else self)
        place = b.emit(ops.Range(0, 1, x.shape[axis], DType.INT64))
        place = b.reshape(place, (*place.shape, *(1,) * (x.rank - axis - 1)))
        if isinstance(x.shape[axis], Sym):
            found, where = _extreme_of_pairs(b, x, place, axis, bound)
        else:
            place = b.emit(ops.Expand(x.shape), place)
            found, where = _scan(b, (x, place), axis, lambda earlier, later: _later(b, comparison(), earlier, later))
        return b.reshape(b.cast(found, self.dtype), self.shape), b.reshape(where, self.shape)

    extreme.__doc__ = f"{name}(Tensor self, int dim) -> (values, indices), of equal values the last, of NaNs the last"


def _later(b: Lowering, comparison: Op, earlier: Values, later: Values) -> Values:
    """The later ones of (value, index), where the comparison with the earlier holds or they are NaN."""
    kept = b.emit(comparison, later[0], earlier[0])
    if later[0].dtype.is_float:
        kept = b.emit(ops.Or(), kept, b.emit(ops.IsNaN(), later[0]))
    return tuple(b.emit(ops.Where(), kept, new, old) for old, new in zip(earlier, later, strict=True))


def _extreme_of_pairs(b: Lowering, x: Value, place: Value, axis: int, bound: float) -> Values:
    """The extreme of all elements up to each place, along an axis of symbolic size."""
    kind = ops.ReduceMax if bound < 0 else ops.ReduceMin
    if not x.dtype.is_float:
        limits = np.iinfo(x.dtype.numpy)
        bound = int(limits.min if bound < 0 else limits.max)
    pairs = _pairs(b, x, axis, bound)
    found = b.emit(kind((axis + 1,)), pairs)
    hit = b.emit(ops.Equal(), pairs, found)
    hit = b.emit(ops.Or(), hit, b.emit(ops.IsNaN(), pairs)) if x.dtype.is_float else hit
    up_to = b.emit(ops.LessOrEqual(), place, b.emit(ops.Unsqueeze((axis + 1,)), _spread(b, x, axis, place)))
    where = b.emit(ops.Where(), b.emit(ops.And(), hit, up_to), place, b.number(-1, DType.INT64))
    squeezed = b.emit(ops.Squeeze((axis + 1,)), found)
    return squeezed, b.emit(ops.ReduceMax((axis + 1,), keepdims=False), where)


def _spread(b: Lowering, x: Value, axis: int, place: Value) -> Value:
    """The places in the shape of x from `axis` on, with ones for the axes before it."""
    return b.emit(ops.Expand((*(1,) * axis, x.shape[axis], *(1,) * (x.rank - axis - 1))), place)


_register_extreme("cummax", ops.GreaterOrEqual, -math.inf)
_register_extreme("cummin", ops.LessOrEqual, math.inf)


@rules.imports("aten.diff.default")
def diff(
    b: Lowering, self: Value, n: int = 1, dim: int = -1, prepend: Value | None = None, append: Value | None = None
) -> Value:
    """diff(Tensor self, int n=1, int dim=-1, Tensor? prepend=None, Tensor? append=None): x[i + 1] - x[i], n times"""
    axis = axis_of(dim, self)
    if n == 0:
        return self
    parts = [part for part in (prepend, self, append) if part is not None]
    x = b.emit(ops.Concat(axis), *b.promoted(*parts)) if len(parts) > 1 else self
    if isinstance(x.shape[axis], int):
        n = min(n, int(x.shape[axis]))  # type: ignore[arg-type]
    for _ in range(n):
        length = x.shape[axis]
        later, earlier = _slice(b, x, axis, 1, length), _slice(b, x, axis, 0, length - 1)
        x = b.emit(ops.Xor() if x.dtype is DType.BOOL else ops.Sub(), later, earlier)
    return x


def _steps(b: Lowering, y: Value, axis: int, x: Value | None, dx: Operand) -> Value:
    """The areas between neighbours: (y[i] + y[i + 1]) / 2 times the distance."""
    length = y.shape[axis]
    both_ends = b.promoted(_slice(b, y, axis, 1, length), _slice(b, y, axis, 0, length - 1))
    sums = b.emit(ops.Add(), *both_ends)
    if x is None:
        return mul(b, mul(b, sums, 0.5), dx)
    where = axis if x.rank == y.rank else 0
    width = sub(b, _slice(b, x, where, 1, x.shape[where]), _slice(b, x, where, 0, x.shape[where] - 1))
    if x.rank == 1:
        width = b.reshape(width, (*width.shape, *(1,) * (y.rank - axis - 1)))
    return mul(b, mul(b, sums, width), 0.5)


def _area(b: Lowering, y: Value, x: Value | None, dx: Operand, dim: int) -> tuple[Value, int]:
    axis = axis_of(dim, y)
    b.require(y.shape[axis] != 0 and (x is None or x.rank in (1, y.rank)), f"trapezoids of {y.type}")
    return _steps(b, y, axis, x, dx), axis


@rules.imports("aten.trapezoid.x", "aten.trapezoid.dx", "aten.trapz.x", "aten.trapz.dx")
def trapezoid(b: Lowering, y: Value, x: Value | None = None, dx: Operand = 1, dim: int = -1) -> Value:
    """trapezoid.x(Tensor y, Tensor x, *, int dim=-1), trapezoid.dx(Tensor y, *, Scalar dx=1, int dim=-1)"""
    areas, axis = _area(b, y, x, dx, dim)
    return total(b, areas, axis)


@rules.imports("aten.cumulative_trapezoid.x", "aten.cumulative_trapezoid.dx")
def cumulative_trapezoid(b: Lowering, y: Value, x: Value | None = None, dx: Operand = 1, dim: int = -1) -> Value:
    """cumulative_trapezoid.x(Tensor y, Tensor x, *, int dim=-1)"""
    areas, axis = _area(b, y, x, dx, dim)
    return cumsum(b, areas, axis)
