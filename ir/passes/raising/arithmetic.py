"""Arithmetic that a source spells out, read backwards: products, sums, lines and limits, in any order of the operands.

Numbers are constants of one element. They are compared in the type of what they are applied to, to the last places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import ml_dtypes

from isomorph.ir.graph import Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Clip, Relu
from isomorph.ir.ops.elementwise import (
    Add,
    Div,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Max,
    Min,
    Mul,
    Neg,
    Pow,
    Sub,
    Where,
)
from isomorph.ir.passes.raising.scores import constant_number

__all__ = [
    "Found", "Line", "both_ways", "gated", "is_number", "limits", "line", "made_of", "maker", "multiple", "operand",
    "other_term", "product", "scaled", "terms", "where_above",
]  # fmt: skip

_MOST_FACTORS = 8

Found = tuple[Value, Op]
"""x, and the function of it that a value is."""
Line = tuple[Value, float, float]
"""(x, a, b) of a * x + b."""


def is_number(found: float, wanted: float, x: Value) -> bool:
    """Whether a number made of constants in the type of x is the wanted one, to the last places."""
    return abs(found - wanted) <= 4 * float(ml_dtypes.finfo(x.dtype.numpy).eps) * abs(wanted)


def operand(value: Value | None, *kinds: type[Op]) -> Value | None:
    """The first operand of the op of one of these kinds that makes the value."""
    node = value.producer if value is not None else None
    return node.inputs[0] if node is not None and isinstance(node.op, kinds) else None


def made_of(value: Value | None, *kinds: type[Op]) -> tuple[Value, Value] | None:
    """Both operands of the op of one of these kinds that makes the value."""
    node = value.producer if value is not None else None
    if node is None or not isinstance(node.op, kinds) or len(node.inputs) != 2:
        return None
    one, other = node.inputs
    return None if one is None or other is None else (one, other)


def both_ways(value: Value | None, kind: type[Op]) -> Sequence[tuple[Value, Value]]:
    """The operands of an op of this kind that makes the value, in both orders."""
    pair = made_of(value, kind)
    return () if pair is None else (pair, pair[::-1])


def product(value: Value, whole: Value | None = None) -> tuple[float, list[Value]]:
    """(c, factors) of a value that is c times a product, spelled with Mul, Neg, Div by numbers, squares and cubes.

    whole   a factor that is not taken apart, if it is met
    """
    factor, parts, pending = 1.0, list[Value](), [value]
    while pending and len(parts) + len(pending) <= _MOST_FACTORS:
        each = pending.pop()
        number = constant_number(each)
        inner = () if each is whole else _factors(each)
        if number is not None:
            factor *= number
        elif inner:
            pending += inner
        elif each is not whole and (quotient := _over_number(each)) is not None:
            factor /= quotient[1]
            pending.append(quotient[0])
        elif each is not whole and (negated := operand(each, Neg)) is not None:
            factor = -factor
            pending.append(negated)
        else:
            parts.append(each)
    return factor, [*parts, *pending]


def _factors(value: Value) -> tuple[Value, ...]:
    """The factors of a product of two, of a square or of a cube."""
    power = made_of(value, Pow)
    exponent = None if power is None else constant_number(power[1])
    if power is not None:
        return (power[0],) * int(exponent) if exponent in (2.0, 3.0) else ()
    return made_of(value, Mul) or ()


def _over_number(value: Value) -> tuple[Value, float] | None:
    """(x, c) of a value that is x / c."""
    pair = made_of(value, Div)
    number = None if pair is None else constant_number(pair[1])
    return None if pair is None or number is None or number == 0 else (pair[0], number)


def gated(y: Value, *gates: type[Op]) -> Iterator[tuple[Value, float, Value]]:
    """(x, c, gate) for each way to read y as c * x * gate, x of the type of y, the gate made by one of these ops."""
    pending, seen = [y], list[Value]()
    while pending and len(seen) < _MOST_FACTORS:
        each = pending.pop()
        quotient = _over_number(each)
        pending += _factors(each)[:2] if quotient is None else quotient[:1]
        seen.append(each)
    if not any(value.producer is not None and isinstance(value.producer.op, gates) for value in seen):
        return
    for x in dict.fromkeys(seen[1:]):
        if x.type != y.type:
            continue
        factor, parts = product(y, x)
        if len(parts) == 2 and x in parts:
            gate = parts[1 - parts.index(x)]
            if gate.producer is not None and isinstance(gate.producer.op, gates):
                yield x, factor, gate


def scaled(value: Value | None, number: float) -> Value | None:
    """x of a value that is number * x."""
    if value is None:
        return None
    factor, parts = product(value)
    return parts[0] if len(parts) == 1 and is_number(factor, number, value) else None


def multiple(value: Value | None, x: Value) -> float | None:
    """c of a value that is c * x."""
    if value is None:
        return None
    factor, parts = product(value, x)
    return factor if parts == [x] and math.isfinite(factor) else None


def terms(value: Value | None) -> tuple[Value, ...]:
    """The operands of a sum."""
    return made_of(value, Add) or ()


def other_term(value: Value | None, number: float) -> Value | None:
    """x of a value that is x + number."""
    pair = made_of(value, Add)
    for one, other in (pair, pair[::-1]) if pair is not None else ():
        if constant_number(one) == number:
            return other
    difference = made_of(value, Sub)
    return difference[0] if difference is not None and constant_number(difference[1]) == -number else None


def line(value: Value, whole: Value | None = None) -> Line:
    """(x, a, b) of a value that is a * x + b; (value, 1, 0) of any other. `whole` is not taken apart."""
    slope, offset, x = 1.0, 0.0, value
    for _ in range(_MOST_FACTORS):
        node = x.producer
        if x is whole or node is None or not isinstance(node.op, Add | Sub | Mul | Div | Neg):
            break
        number, inner = _with_number(x)
        if inner is None or inner.type != value.type:
            break
        if isinstance(node.op, Add):
            offset += slope * number
        elif isinstance(node.op, Sub):
            swapped = inner is not node.inputs[0]
            offset += slope * (number if swapped else -number)
            slope = -slope if swapped else slope
        else:
            slope *= number
        x = inner
    return x, slope, offset


def _with_number(value: Value) -> tuple[float, Value | None]:
    """(number, operand) of an op on both: what is added or taken away, or what the operand is multiplied by."""
    node = value.producer
    if node is None:
        return 0.0, None
    if isinstance(node.op, Neg):
        return -1.0, node.inputs[0]
    one, other = node.inputs
    number = constant_number(other)
    if number is not None and not (isinstance(node.op, Div) and number == 0):
        return (1 / number if isinstance(node.op, Div) else number), one
    number = None if isinstance(node.op, Div) else constant_number(one)
    return (number, other) if number is not None else (0.0, None)


def limits(value: Value | None) -> tuple[Value, float | None, float | None] | None:
    """(x, lowest, highest) of a value that is x between limits, spelled with Clip, Relu, Min and Max."""
    low: float | None = None
    high: float | None = None
    x = value
    for _ in range(2):
        found = _limited(x)
        if found is None:
            break
        inner, least, most = found
        low = least if low is None else low if least is None else max(low, least)
        high = most if high is None else high if most is None else min(high, most)
        x = inner
    if x is None or x is value or (low is not None and high is not None and low > high):
        return None
    return x, low, high


def _limited(value: Value | None) -> tuple[Value, float | None, float | None] | None:
    """(x, lowest, highest) of one op."""
    node = value.producer if value is not None else None
    if node is None or not node.inputs or node.inputs[0] is None:
        return None
    if isinstance(node.op, Relu):
        return node.inputs[0], 0.0, None
    if isinstance(node.op, Clip):
        bounds = (None if bound is None else float(bound) for bound in (node.op.min, node.op.max))
        return node.inputs[0], *bounds  # type: ignore[return-value]
    pair = made_of(value, Min, Max)
    for x, bound in (pair, pair[::-1]) if pair is not None else ():
        number = constant_number(bound)
        if number is not None and value is not None and x.type == value.type:
            return (x, number, None) if isinstance(node.op, Max) else (x, None, number)
    return None


def where_above(y: Value) -> tuple[Value, float, Value] | None:
    """(x, t, other) of a value that is x where x > t, or x >= t, else other."""
    node = y.producer
    if node is None or not isinstance(node.op, Where):
        return None
    condition, kept, other = node.inputs
    for x, rest, above in ((kept, other, True), (other, kept, False)):
        kinds = (Greater, GreaterOrEqual) if above else (Less, LessOrEqual)
        swapped = (Less, LessOrEqual) if above else (Greater, GreaterOrEqual)
        pair = made_of(condition, *kinds) or (made_of(condition, *swapped) or ())[::-1]
        if pair and rest is not None and pair[0] is x and (limit := constant_number(pair[1])) is not None:
            return pair[0], limit, rest
    return None


def maker(value: Value | None) -> Op | None:
    """The op that makes a value."""
    return value.producer.op if value is not None and value.producer is not None else None
