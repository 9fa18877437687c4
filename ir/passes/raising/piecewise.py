"""Activations with one formula above a threshold and another one below, read backwards: see activations.py."""

from __future__ import annotations

from isomorph.ir.graph import Value
from isomorph.ir.ops.activation import (
    Celu,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Selu,
    ThresholdedRelu,
)
from isomorph.ir.ops.elementwise import (
    Add,
    Exp,
    Greater,
    Less,
    Max,
)
from isomorph.ir.ops.special import Expm1
from isomorph.ir.passes.raising.arithmetic import (
    Found,
    both_ways,
    is_number,
    limits,
    line,
    maker,
    multiple,
    operand,
    other_term,
    product,
    where_above,
)
from isomorph.ir.passes.raising.scores import constant_number

__all__ = [
    "limited_line", "read_celu", "read_elu", "read_hard_sigmoid", "read_leaky", "read_selu", "read_thresholded",
]  # fmt: skip


def read_leaky(y: Value) -> Found | None:
    found = where_above(y)
    x, limit, other = found or (None, 0.0, None)
    if x is None:
        for x, other in both_ways(y, Max):
            alpha = multiple(other, x)
            if alpha is not None and 0 < alpha < 1:
                return x, LeakyRelu(alpha)
        return None
    alpha = multiple(other, x) if limit == 0 else None
    return None if alpha is None or alpha == 0 else (x, LeakyRelu(alpha))


def read_thresholded(y: Value) -> Found | None:
    x, limit, other = where_above(y) or (None, 0.0, None)
    if x is None or constant_number(other) != 0 or y.producer is None:
        return None
    condition = maker(y.producer.inputs[0])
    strict = isinstance(condition, Greater | Less) if y.producer.inputs[1] is x else False
    return (x, ThresholdedRelu(limit)) if strict else None


def read_elu(y: Value) -> Found | None:
    x, limit, other = where_above(y) or (None, 0.0, None)
    if x is None or limit != 0:
        return None
    alpha, slope = _grown(other, x) or (0.0, 0.0)
    return (x, Elu(alpha)) if slope == 1 and alpha != 0 else None


def read_selu(y: Value) -> Found | None:
    factor, parts = product(y)
    made = parts[0].producer if len(parts) == 1 else None
    if made is None or made.inputs[0] is None:
        return None
    op = made.op
    fits = isinstance(op, Elu) and is_number(op.alpha, Selu().alpha, y) and is_number(factor, Selu().gamma, y)
    return (made.inputs[0], Selu()) if fits else None


def read_celu(y: Value) -> Found | None:
    for positive, negative in both_ways(y, Add):
        x, low, high = limits(positive) or (None, None, None)
        if x is None or (low, high) != (0.0, None):
            continue
        grown, least, most = limits(negative) or (negative, None, None)
        alpha, slope = _grown(grown, x) or (0.0, 0.0)
        if least is None and most is None:
            (alpha, slope), most = _grown_below(negative, x) or (0.0, 0.0), 0.0
        if (least, most) == (None, 0.0) and alpha > 0 and is_number(alpha * slope, 1.0, y):
            return x, Celu(alpha)
    return None


def _grown(value: Value | None, x: Value) -> tuple[float, float] | None:
    """(c, a) of a value that is c * (exp(a * x) - 1)."""
    if value is None:
        return None
    factor, parts = product(value)
    if len(parts) == 1 and (inner := operand(parts[0], Expm1)) is not None:
        slope = multiple(inner, x)
        return None if slope is None else (factor, slope)
    inner = operand(other_term(parts[0], -1.0), Exp) if len(parts) == 1 else None
    slope = None if inner is None else multiple(inner, x)
    return None if slope is None else (factor, slope)


def _grown_below(value: Value, x: Value) -> tuple[float, float] | None:
    """(c, a) of a value that is c * expm1(a * min(x, 0))."""
    factor, parts = product(value)
    inner = operand(parts[0], Expm1) if len(parts) == 1 else None
    slope, below = (0.0, []) if inner is None else product(inner)
    return (factor, slope) if len(below) == 1 and limits(below[0]) == (x, None, 0.0) else None


def read_hard_sigmoid(y: Value) -> Found | None:
    factor, parts = product(y)
    return limited_line(parts[0], factor) if len(parts) == 1 else None


def limited_line(value: Value, factor: float, whole: Value | None = None) -> Found | None:
    """(x, HardSigmoid) that factor * value is."""
    inner, low, high = limits(value) or (None, None, None)
    if inner is None or low != 0 or high is None or not is_number(factor * high, 1.0, value):
        return None
    x, slope, offset = line(inner, whole)
    return None if x is inner or slope == 0 else (x, HardSigmoid(slope * factor, offset * factor))
