"""Numbers that a program computes from sizes or data: Python's arithmetic on them, as exact as Python's.

`torch.export` leaves `x.shape[0] ** 0.5`, `mask.sum().item() / 2` … as nodes of their own. A rule here gets each
operand as an int, a float, a bool, a `Sym`, or a `Value` of shape () (int64, float64 or bool), and returns one of
these. Integers that a `Dim` can hold never come here: the readers know them already.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from isomorph.converters.torch.lowering import Lowering
from isomorph.ir import Dim, DType, Op, Sym, Value, ops

__all__ = ["ITEMS", "RULES", "as_value"]

Number = Any
Rule = Callable[..., Any]

ITEMS = frozenset({"aten.item", "aten._local_scalar_dense"})
"""Operations that take the only element out of a tensor."""


def as_value(b: Lowering, number: Number) -> Value:
    """The number as a tensor of shape (), in the type in which Python computes with it."""
    if isinstance(number, Value):
        return number
    return b.number(number, _kind(number))


def _kind(number: Number) -> DType:
    if isinstance(number, Value):
        return number.dtype
    if isinstance(number, bool):
        return DType.BOOL
    return DType.FLOAT64 if isinstance(number, float) else DType.INT64


def _common(b: Lowering, *numbers: Number) -> list[Value]:
    """The numbers in their common type; bools count as integers."""
    kinds = {_kind(number) for number in numbers}
    dtype = DType.FLOAT64 if DType.FLOAT64 in kinds else DType.INT64
    return [b.cast(as_value(b, number), dtype) for number in numbers]


def _binary(op: Op) -> Rule:
    def rule(b: Lowering, left: Number, right: Number) -> Value:
        return b.emit(op, *_common(b, left, right))

    return rule


def _polynomial(op: Op, of_sizes: Callable[[Dim, Dim], Dim]) -> Rule:
    """Sums and products: sizes stay sizes."""
    computed = _binary(op)

    def rule(b: Lowering, left: Number, right: Number) -> Number:
        sizes = all(isinstance(number, int | Sym) and not isinstance(number, bool) for number in (left, right))
        return of_sizes(left, right) if sizes else computed(b, left, right)

    return rule


def _true_divide(b: Lowering, left: Number, right: Number) -> Value:
    return b.emit(ops.Div(), *(b.cast(as_value(b, number), DType.FLOAT64) for number in (left, right)))


def _floor_divide(b: Lowering, left: Number, right: Number) -> Value:
    x, y = _common(b, left, right)
    b.require(x.dtype is DType.INT64, "a floor division of fractional numbers")
    return b.emit(ops.Div(), b.emit(ops.Sub(), x, b.emit(ops.Mod(), x, y)), y)


def _remainder(b: Lowering, left: Number, right: Number) -> Value:
    x, y = _common(b, left, right)
    b.require(x.dtype is DType.INT64, "a remainder of fractional numbers")
    return b.emit(ops.Mod(), x, y)


def _power(b: Lowering, base: Number, exponent: Number) -> Value:
    x, y = _common(b, base, exponent)
    if x.dtype is DType.INT64 and not (isinstance(exponent, int) and exponent >= 0):
        raise b.refusal("an integer to a power that may be negative")
    return b.emit(ops.Pow(), x, y)


def _to_integer(op: Op | None) -> Rule:
    def rule(b: Lowering, number: Number) -> Number:
        if _kind(number) is DType.INT64:
            return number
        x = as_value(b, number)
        if x.dtype is DType.FLOAT64 and op is not None:
            x = b.emit(op, x)
        return b.cast(x, DType.INT64)

    return rule


def _to_float(b: Lowering, number: Number) -> Value:
    return b.cast(as_value(b, number), DType.FLOAT64)


def _square_root(b: Lowering, number: Number) -> Value:
    return b.emit(ops.Sqrt(), _to_float(b, number))


def _negate(b: Lowering, number: Number) -> Value:
    return b.emit(ops.Neg(), *_common(b, number))


def _invert(b: Lowering, number: Number) -> Value:
    return b.emit(ops.Not(), b.cast(as_value(b, number), DType.BOOL))


def _logical(op: Op) -> Rule:
    def rule(b: Lowering, left: Number, right: Number) -> Value:
        return b.emit(op, *(b.cast(as_value(b, number), DType.BOOL) for number in (left, right)))

    return rule


def _choose(b: Lowering, condition: Number, left: Number, right: Number) -> Value:
    return b.emit(ops.Where(), b.cast(as_value(b, condition), DType.BOOL), *_common(b, left, right))


def _size(b: Lowering, x: Value, dim: int) -> Number:
    return x.shape[dim]


def _count(b: Lowering, x: Value) -> Number:
    return x.type.size


RULES: dict[str, Rule] = {
    "_operator.add": _polynomial(ops.Add(), operator.add),
    "_operator.sub": _polynomial(ops.Sub(), operator.sub),
    "_operator.mul": _polynomial(ops.Mul(), operator.mul),
    "_operator.mod": _remainder,
    "_operator.truediv": _true_divide,
    "_operator.floordiv": _floor_divide,
    "_operator.pow": _power,
    "_operator.neg": _negate,
    "_operator.eq": _binary(ops.Equal()),
    "_operator.ne": lambda b, x, y: _invert(b, b.emit(ops.Equal(), *_common(b, x, y))),
    "_operator.lt": _binary(ops.Less()),
    "_operator.le": _binary(ops.LessOrEqual()),
    "_operator.gt": _binary(ops.Greater()),
    "_operator.ge": _binary(ops.GreaterOrEqual()),
    "_operator.and_": _logical(ops.And()),
    "_operator.or_": _logical(ops.Or()),
    "_operator.not_": _invert,
    "math.ceil": _to_integer(ops.Ceil()),
    "math.floor": _to_integer(ops.Floor()),
    "math.trunc": _to_integer(None),
    "builtins.round": _to_integer(ops.Round()),
    "builtins.float": _to_float,
    "builtins.int": _to_integer(None),
    "torch.sym_float": _to_float,
    "torch.sym_int": _to_integer(None),
    "torch.sym_ite": _choose,
    "torch.sym_max": _binary(ops.Max()),
    "torch.sym_min": _binary(ops.Min()),
    "torch.sym_not": _invert,
    "torch._sym_sqrt": _square_root,
    "aten.sym_numel.default": _count,
    "aten.sym_size.int": _size,
}
"""By target; operands by position."""
