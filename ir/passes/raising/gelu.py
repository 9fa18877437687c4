"""GELU that a source spells out.

    0.5 * x * (1 + erf(x / sqrt(2)))                                    ->  Gelu(x)
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))           ->  Gelu(x, approximate="tanh")
    0.5 * x * (1 + tanh(sqrt(2 / pi) * x * (1 + 0.044715 * x^2)))       ->  Gelu(x, approximate="tanh")

Factors stand in any order. Constants are these numbers in the type of x, to the last place. The same formula; rounding
may differ in the last places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import ml_dtypes

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Gelu, Tanh
from isomorph.ir.ops.elementwise import Add, Div, Erf, Mul, Pow
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.scores import constant_number

__all__ = ["raise_gelu"]

_MOST_FACTORS = 8


def raise_gelu(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with Gelu where its formula is spelled out."""
    if not any(isinstance(node.op, Erf | Tanh) for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _matched(node) if isinstance(node.op, Mul | Div) else None
        if found is None:
            return None
        y = b.emit(found[1], b.new(found[0]))
        return None if refuses(refuse, y) else (y,)

    return prune(rewrite(model, "raise_gelu", change))


def _matched(node: Node) -> tuple[Value, Gelu] | None:
    """(x, op) of a node that is 0.5 * x * (1 + bend(x))."""
    y = node.output
    if not y.dtype.is_float:
        return None
    factor, parts = _product(y)
    if len(parts) != 2 or not _is(factor, 0.5, y):
        return None
    for x, sum_ in (parts, parts[::-1]):
        bend = _other(sum_, 1.0)
        if x.type != y.type or bend is None or bend.producer is None:
            continue
        if isinstance(bend.producer.op, Erf) and _scaled(bend.producer.inputs[0], math.sqrt(0.5)) is x:
            return x, Gelu()
        if isinstance(bend.producer.op, Tanh) and _is_cubic(bend.producer.inputs[0], x):
            return x, Gelu("tanh")
    return None


def _is_cubic(value: Value | None, x: Value) -> bool:
    """Whether a value is sqrt(2 / pi) * (x + 0.044715 * x^3)."""
    if value is None:
        return False
    factor, parts = _product(value)
    if not _is(factor, math.sqrt(2 / math.pi), x):
        return False
    if len(parts) == 2:  # x * (1 + 0.044715 * x^2)
        sums = [part for part in parts if part is not x]
        return len(sums) == 1 and _is_power(_other(sums[0], 1.0), x, 2)
    terms = _terms(parts[0]) if len(parts) == 1 else ()
    return any(one is x and _is_power(other, x, 3) for one, other in (terms, terms[::-1]) if len(terms) == 2)


def _is_power(value: Value | None, x: Value, exponent: int) -> bool:
    """Whether a value is 0.044715 * x^exponent."""
    if value is None:
        return False
    factor, parts = _product(value)
    return _is(factor, 0.044715, x) and len(parts) == exponent and all(part is x for part in parts)


def _product(value: Value) -> tuple[float, list[Value]]:
    """(c, factors) of a value that is c times a product, as far as it is spelled with Mul, Div and whole powers."""
    factor, parts, pending = 1.0, list[Value](), [value]
    while pending and len(parts) + len(pending) <= _MOST_FACTORS:
        each = pending.pop()
        number = constant_number(each)
        node = each.producer
        if number is not None:
            factor *= number
        elif node is not None and isinstance(node.op, Mul):
            pending += [operand for operand in node.inputs if operand is not None]
        elif node is not None and isinstance(node.op, Div) and constant_number(node.inputs[1]) not in (None, 0.0):
            factor /= constant_number(node.inputs[1]) or 1.0
            pending += [operand for operand in node.inputs[:1] if operand is not None]
        elif node is not None and isinstance(node.op, Pow) and constant_number(node.inputs[1]) in (2.0, 3.0):
            count = int(constant_number(node.inputs[1]) or 0)
            pending += [operand for operand in node.inputs[:1] if operand is not None] * count
        else:
            parts.append(each)
    return factor, [*parts, *pending]


def _scaled(value: Value | None, number: float) -> Value | None:
    """x of a value that is number * x."""
    if value is None:
        return None
    factor, parts = _product(value)
    return parts[0] if len(parts) == 1 and _is(factor, number, value) else None


def _terms(value: Value | None) -> tuple[Value, ...]:
    """The operands of a sum."""
    node = value.producer if value is not None else None
    return tuple(node.operands()) if node is not None and _is_sum(node.op) else ()


def _is_sum(op: Op) -> bool:
    return isinstance(op, Add)


def _other(value: Value | None, number: float) -> Value | None:
    """x of a value that is x + number."""
    terms = _terms(value)
    for one, other in (terms, terms[::-1]) if len(terms) == 2 else ():
        if constant_number(one) == number:
            return other
    return None


def _is(found: float, wanted: float, x: Value) -> bool:
    """Whether a product of constants in the type of x is a number, to the last places."""
    return abs(found - wanted) <= 4 * float(ml_dtypes.finfo(x.dtype.numpy).eps) * abs(wanted)
