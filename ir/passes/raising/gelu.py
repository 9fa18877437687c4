"""GELU that a source spells out.

    0.5 * x * (1 + erf(x / sqrt(2)))                                    ->  Gelu(x)
    0.5 * x * erfc(-x / sqrt(2))                                        ->  Gelu(x)
    0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))           ->  Gelu(x, approximate="tanh")
    0.5 * x * (1 + tanh(sqrt(2 / pi) * x * (1 + 0.044715 * x^2)))       ->  Gelu(x, approximate="tanh")

Factors stand in any order. Constants are these numbers in the type of x, to the last place. The same formula; rounding
may differ in the last places. The form with erfc is raised for any target, as erfc is longer to spell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.activation import Gelu, Tanh
from isomorph.ir.ops.elementwise import Add, Div, Erf, Mul
from isomorph.ir.ops.special import Erfc
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import gated, is_number, multiple, operand, other_term, product, terms

__all__ = ["raise_gelu"]


def raise_gelu(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with Gelu where its formula is spelled out."""
    if not any(isinstance(node.op, Erf | Erfc | Tanh) for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _matched(node) if isinstance(node.op, Mul | Div) else None
        if found is None:
            return None
        y = b.emit(found[1], b.new(found[0]))
        return None if refuses(refuse, y) and _of_the_tail(node.output) is None else (y,)

    return prune(rewrite(model, "raise_gelu", change))


def _matched(node: Node) -> tuple[Value, Gelu] | None:
    """(x, op) of a node that is 0.5 * x * (1 + bend(x))."""
    y = node.output
    if not y.dtype.is_float:
        return None
    for x, factor, sum_ in gated(y, Add):
        bend = other_term(sum_, 1.0)
        if not is_number(factor, 0.5, y) or bend is None or bend.producer is None:
            continue
        inner = bend.producer.inputs[0]
        if isinstance(bend.producer.op, Erf) and _is(multiple(inner, x), math.sqrt(0.5), x):
            return x, Gelu()
        if isinstance(bend.producer.op, Tanh) and _is_cubic(inner, x):
            return x, Gelu("tanh")
    return _of_the_tail(y)


def _of_the_tail(y: Value) -> tuple[Value, Gelu] | None:
    """(x, op) of a node that is 0.5 * x * erfc(-x / sqrt(2))."""
    factor, parts = product(y)
    tails = [part for part in parts if operand(part, Erfc) is not None]
    if len(parts) != 2 or len(tails) != 1 or not is_number(factor, 0.5, y):
        return None
    x = parts[0] if parts[1] is tails[0] else parts[1]
    return (x, Gelu()) if _is(multiple(operand(tails[0], Erfc), x), -math.sqrt(0.5), x) else None


def _is(found: float | None, wanted: float, x: Value) -> bool:
    return found is not None and is_number(found, wanted, x)


def _is_cubic(value: Value | None, x: Value) -> bool:
    """Whether a value is sqrt(2 / pi) * (x + 0.044715 * x^3)."""
    if value is None:
        return False
    factor, parts = product(value, x)
    if not is_number(factor, math.sqrt(2 / math.pi), x):
        return False
    if len(parts) == 2:  # x * (1 + 0.044715 * x^2)
        sums = [part for part in parts if part is not x]
        return len(sums) == 1 and _is_power(other_term(sums[0], 1.0), x, 2)
    sum_ = terms(parts[0]) if len(parts) == 1 else ()
    return any(one is x and _is_power(other, x, 3) for one, other in (sum_, sum_[::-1]) if len(sum_) == 2)


def _is_power(value: Value | None, x: Value, exponent: int) -> bool:
    """Whether a value is 0.044715 * x^exponent."""
    if value is None:
        return False
    factor, parts = product(value, x)
    return is_number(factor, 0.044715, x) and len(parts) == exponent and all(part is x for part in parts)
