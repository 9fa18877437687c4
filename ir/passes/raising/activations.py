"""Activation functions that a source spells out.

    max(x, lo) and min(x, hi), one around the other                  ->  Clip(x)
    max(x, 0)                                                        ->  Relu(x)
    x where x >= 0, else alpha * x; max(x, alpha * x), 0 < alpha < 1 ->  LeakyRelu(x)
    x where x > 0, else alpha * (exp(x) - 1)                         ->  Elu(x)
    gamma * Elu(x), both numbers Klambauer's                         ->  Selu(x)
    max(x, 0) + min(0, alpha * (exp(x / alpha) - 1))                 ->  Celu(x)      also with expm1(min(x, 0) / alpha)
    1 / (1 + exp(-x))                                                ->  Sigmoid(x)
    clip(alpha * x + beta, 0, c) / c                                 ->  HardSigmoid(x)
    x * clip(x + 3, 0, 6) / 6                                        ->  HardSwish(x)
    x * sigmoid(alpha * x), x / (1 + exp(-x))                        ->  Swish(x)
    x where x > threshold, else softplus(x)                          ->  Softplus(x)      see `_softplus`
    max(x, 0) + log(1 + exp(-|x|))                                   ->  Softplus(x)
    (1 where x >= 0, else e) / (1 + e), e = exp(-|x|)                ->  Sigmoid(x)
    x * tanh(softplus(x))                                            ->  Mish(x)
    -softplus(-x)                                                    ->  LogSigmoid(x)
    x / (1 + |x|)                                                    ->  Softsign(x)
    x where x > alpha, else 0                                        ->  ThresholdedRelu(x)

Factors and terms stand in any order; a number may be spelled before or behind. The same formulas; rounding may differ
in the last places. Left alone are log(sigmoid(x)) and log(1 + exp(x)), which are infinite where LogSigmoid and
Softplus are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import ml_dtypes

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import (
    Celu,
    Clip,
    Elu,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    LogSigmoid,
    Mish,
    Relu,
    Selu,
    Sigmoid,
    Softplus,
    Softsign,
    Swish,
    Tanh,
    ThresholdedRelu,
)  # fmt: skip
from isomorph.ir.ops.elementwise import (
    Abs,
    Add,
    Div,
    Exp,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Log,
    Max,
    Min,
    Mul,
    Neg,
    Reciprocal,
    Where,
)
from isomorph.ir.ops.special import Expm1, Log1p
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import (
    both_ways,
    gated,
    is_number,
    limits,
    line,
    made_of,
    multiple,
    operand,
    other_term,
    product,
    scaled,
)
from isomorph.ir.passes.raising.scores import constant_number

__all__ = ["raise_activations"]

Found = tuple[Value, Op]
"""x, and the function of it that a value is."""
_DTYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
"""Element types whose numbers are numbers of an attribute, which formats have in float32."""


def raise_activations(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with the activation functions above where their formulas are spelled out."""
    if not any(type(node.op) in _RULES for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        rules = _RULES.get(type(node.op), ())
        if not rules or node.output.dtype not in _DTYPES:
            return None
        for rule in rules:
            found = rule(node.output)
            if found is None or found[0].type != node.output.type:
                continue
            y = b.emit(found[1], b.new(found[0]))
            if not refuses(refuse, y):
                return (y,)
        return None

    return prune(rewrite(model, "raise_activations", change, regions=True))


def _clip(y: Value) -> Found | None:
    found = limits(y)
    if found is None or y.producer is None or isinstance(y.producer.op, Relu):
        return None
    x, low, high = found
    if (low, high) == (0.0, None):
        return x, Relu()
    if y.producer.inputs[0] is x or low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    return x, Clip(low, high)


def _where_above(y: Value) -> tuple[Value, float, Value] | None:
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


def _leaky(y: Value) -> Found | None:
    found = _where_above(y)
    x, limit, other = found or (None, 0.0, None)
    if x is None:
        for x, other in both_ways(y, Max):
            alpha = multiple(other, x)
            if alpha is not None and 0 < alpha < 1:
                return x, LeakyRelu(alpha)
        return None
    alpha = multiple(other, x) if limit == 0 else None
    return None if alpha is None or alpha == 0 else (x, LeakyRelu(alpha))


def _thresholded(y: Value) -> Found | None:
    x, limit, other = _where_above(y) or (None, 0.0, None)
    if x is None or constant_number(other) != 0 or y.producer is None:
        return None
    condition = _maker(y.producer.inputs[0])
    strict = isinstance(condition, Greater | Less) if y.producer.inputs[1] is x else False
    return (x, ThresholdedRelu(limit)) if strict else None


def _maker(value: Value | None) -> Op | None:
    """The op that makes a value."""
    return value.producer.op if value is not None and value.producer is not None else None


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


def _elu(y: Value) -> Found | None:
    x, limit, other = _where_above(y) or (None, 0.0, None)
    if x is None or limit != 0:
        return None
    alpha, slope = _grown(other, x) or (0.0, 0.0)
    return (x, Elu(alpha)) if slope == 1 and alpha != 0 else None


def _selu(y: Value) -> Found | None:
    factor, parts = product(y)
    maker = parts[0].producer if len(parts) == 1 else None
    if maker is None or maker.inputs[0] is None:
        return None
    op = maker.op
    fits = isinstance(op, Elu) and is_number(op.alpha, Selu().alpha, y) and is_number(factor, Selu().gamma, y)
    return (maker.inputs[0], Selu()) if fits else None


def _celu(y: Value) -> Found | None:
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


def _sigmoid(y: Value) -> Found | None:
    pair = made_of(y, Div)
    denominator = operand(y, Reciprocal) if pair is None else pair[1] if constant_number(pair[0]) == 1 else None
    x = scaled(_exponent(denominator), -1.0)
    return None if x is None else (x, Sigmoid())


def _exponent(value: Value | None) -> Value | None:
    """e of a value that is 1 + exp(e)."""
    return operand(other_term(value, 1.0), Exp)


def _hard_sigmoid(y: Value) -> Found | None:
    factor, parts = product(y)
    return _limited_line(parts[0], factor) if len(parts) == 1 else None


def _limited_line(value: Value, factor: float, whole: Value | None = None) -> Found | None:
    """(x, HardSigmoid) that factor * value is."""
    inner, low, high = limits(value) or (None, None, None)
    if inner is None or low != 0 or high is None or not is_number(factor * high, 1.0, value):
        return None
    x, slope, offset = line(inner, whole)
    return None if x is inner or slope == 0 else (x, HardSigmoid(slope * factor, offset * factor))


def _hard_swish(y: Value) -> Found | None:
    for x, factor, gate in gated(y, HardSigmoid, Clip, Min, Max):
        maker = _maker(gate)
        known = (operand(gate, HardSigmoid), maker) if isinstance(maker, HardSigmoid) and factor == 1 else None
        inner, op = known or _limited_line(gate, factor, x) or (None, None)
        if inner is x and isinstance(op, HardSigmoid) and is_number(op.alpha, 1 / 6, y) and is_number(op.beta, 0.5, y):
            return x, HardSwish()
    return None


def _swish(y: Value) -> Found | None:
    for x, factor, gate in gated(y, Sigmoid):
        alpha = multiple(operand(gate, Sigmoid), x)
        if factor == 1 and alpha is not None and alpha != 0:
            return x, Swish(alpha)
    pair = made_of(y, Div)
    alpha = None if pair is None else multiple(_exponent(pair[1]), pair[0])
    return (pair[0], Swish(-alpha)) if pair is not None and alpha is not None and alpha != 0 else None


def _softplus(y: Value) -> Found | None:
    """Frameworks cut softplus off where x + log(1 + exp(-x)) is x, to the last place of these types."""
    x, limit, other = _where_above(y) or (None, 0.0, None)
    if x is None or operand(other, Softplus) is not x:
        return None
    lost = math.exp(-limit) <= limit * float(ml_dtypes.finfo(y.dtype.numpy).eps) / 4
    return (x, Softplus()) if limit > 0 and lost else None


def _stable_softplus(y: Value) -> Found | None:
    for positive, rest in both_ways(y, Add):
        x, low, high = limits(positive) or (None, None, None)
        small = operand(rest, Log1p) or other_term(operand(rest, Log), 1.0)
        if x is not None and (low, high) == (0.0, None) and _is_small(small, x):
            return x, Softplus()
    return None


def _stable_sigmoid(y: Value) -> Found | None:
    above, whole = made_of(y, Div) or (None, None)
    small, chosen = other_term(whole, 1.0), above.producer if above is not None else None
    if small is None or chosen is None or not isinstance(chosen.op, Where):
        return None
    condition, one, other = chosen.inputs
    x, limit = made_of(condition, Greater, GreaterOrEqual) or (None, None)
    fits = x is not None and constant_number(limit) == 0 and constant_number(one) == 1 and other is small
    return (x, Sigmoid()) if x is not None and fits and _is_small(small, x) else None


def _is_small(value: Value | None, x: Value) -> bool:
    """Whether a value is exp(-|x|)."""
    size = scaled(operand(value, Exp), -1.0)
    return size is not None and operand(size, Abs) is x


def _mish(y: Value) -> Found | None:
    for x, factor, gate in gated(y, Tanh):
        inner = operand(gate, Tanh)
        if inner is not None and factor == 1 and (operand(inner, Softplus) or (_softplus(inner) or (None,))[0]) is x:
            return x, Mish()
    return None


def _log_sigmoid(y: Value) -> Found | None:
    x = scaled(operand(scaled(y, -1.0), Softplus), -1.0)
    return None if x is None else (x, LogSigmoid())


def _softsign(y: Value) -> Found | None:
    pair = made_of(y, Div)
    if pair is None or operand(other_term(pair[1], 1.0), Abs) is not pair[0]:
        return None
    return pair[0], Softsign()


_RULES: Mapping[type[Op], Sequence[Callable[[Value], Found | None]]] = {
    Max: (_leaky, _hard_sigmoid, _clip),
    Min: (_hard_sigmoid, _clip),
    Clip: (_hard_sigmoid, _clip),
    Add: (_celu, _stable_softplus),
    Mul: (_hard_swish, _swish, _mish, _selu, _hard_sigmoid),
    Div: (_hard_swish, _swish, _sigmoid, _stable_sigmoid, _softsign, _hard_sigmoid),
    Where: (_leaky, _elu, _softplus, _thresholded),
    Reciprocal: (_sigmoid,),
    Neg: (_log_sigmoid,),
}
"""What the last op of a formula may belong to, in the order in which it is tried."""
