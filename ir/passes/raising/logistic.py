"""Sigmoid, softplus and what is made of them, read backwards from the result: the formulas are in activations.py."""

from __future__ import annotations

import math

import ml_dtypes

from isomorph.ir.graph import Value
from isomorph.ir.ops.activation import (
    LogSigmoid,
    Mish,
    Sigmoid,
    Softplus,
    Softsign,
    Swish,
    Tanh,
)
from isomorph.ir.ops.elementwise import (
    Abs,
    Add,
    Div,
    Exp,
    Greater,
    GreaterOrEqual,
    Log,
    Reciprocal,
    Where,
)
from isomorph.ir.ops.special import Log1p
from isomorph.ir.passes.raising.arithmetic import (
    Found,
    both_ways,
    gated,
    limits,
    made_of,
    multiple,
    operand,
    other_term,
    scaled,
    where_above,
)
from isomorph.ir.passes.raising.scores import constant_number

__all__ = [
    "read_log_sigmoid", "read_mish", "read_sigmoid", "read_softplus", "read_softsign", "read_stable_sigmoid",
    "read_stable_softplus", "read_swish",
]  # fmt: skip


def read_sigmoid(y: Value) -> Found | None:
    pair = made_of(y, Div)
    denominator = operand(y, Reciprocal) if pair is None else pair[1] if constant_number(pair[0]) == 1 else None
    x = scaled(_exponent(denominator), -1.0)
    return None if x is None else (x, Sigmoid())


def _exponent(value: Value | None) -> Value | None:
    """e of a value that is 1 + exp(e)."""
    return operand(other_term(value, 1.0), Exp)


def read_stable_sigmoid(y: Value) -> Found | None:
    above, whole = made_of(y, Div) or (None, None)
    small, chosen = other_term(whole, 1.0), above.producer if above is not None else None
    if small is None or chosen is None or not isinstance(chosen.op, Where):
        return None
    condition, one, other = chosen.inputs
    x, limit = made_of(condition, Greater, GreaterOrEqual) or (None, None)
    fits = x is not None and constant_number(limit) == 0 and constant_number(one) == 1 and other is small
    return (x, Sigmoid()) if x is not None and fits and _is_small(small, x) else None


def read_swish(y: Value) -> Found | None:
    for x, factor, gate in gated(y, Sigmoid):
        alpha = multiple(operand(gate, Sigmoid), x)
        if factor == 1 and alpha is not None and alpha != 0:
            return x, Swish(alpha)
    pair = made_of(y, Div)
    alpha = None if pair is None else multiple(_exponent(pair[1]), pair[0])
    return (pair[0], Swish(-alpha)) if pair is not None and alpha is not None and alpha != 0 else None


def read_softplus(y: Value) -> Found | None:
    """Frameworks cut softplus off where x + log(1 + exp(-x)) is x, to the last place of these types."""
    x, limit, other = where_above(y) or (None, 0.0, None)
    if x is None or operand(other, Softplus) is not x:
        return None
    lost = math.exp(-limit) <= limit * float(ml_dtypes.finfo(y.dtype.numpy).eps) / 4
    return (x, Softplus()) if limit > 0 and lost else None


def read_stable_softplus(y: Value) -> Found | None:
    for positive, rest in both_ways(y, Add):
        x, low, high = limits(positive) or (None, None, None)
        small = operand(rest, Log1p) or other_term(operand(rest, Log), 1.0)
        if x is not None and (low, high) == (0.0, None) and _is_small(small, x):
            return x, Softplus()
    return None


def _is_small(value: Value | None, x: Value) -> bool:
    """Whether a value is exp(-|x|)."""
    size = scaled(operand(value, Exp), -1.0)
    return size is not None and operand(size, Abs) is x


def read_mish(y: Value) -> Found | None:
    for x, factor, gate in gated(y, Tanh):
        inner = operand(gate, Tanh)
        if (
            inner is not None
            and factor == 1
            and (operand(inner, Softplus) or (read_softplus(inner) or (None,))[0]) is x
        ):
            return x, Mish()
    return None


def read_log_sigmoid(y: Value) -> Found | None:
    x = scaled(operand(scaled(y, -1.0), Softplus), -1.0)
    return None if x is None else (x, LogSigmoid())


def read_softsign(y: Value) -> Found | None:
    pair = made_of(y, Div)
    if pair is None or operand(other_term(pair[1], 1.0), Abs) is not pair[0]:
        return None
    return pair[0], Softsign()
