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
    x where x > threshold, else softplus(x)                          ->  Softplus(x)      see `read_softplus`
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

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import (
    Clip,
    HardSigmoid,
    HardSwish,
    Relu,
)  # fmt: skip
from isomorph.ir.ops.elementwise import (
    Add,
    Div,
    Max,
    Min,
    Mul,
    Neg,
    Reciprocal,
    Where,
)
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import (
    Found,
    gated,
    is_number,
    limits,
    maker,
    operand,
)
from isomorph.ir.passes.raising.logistic import (
    read_log_sigmoid,
    read_mish,
    read_sigmoid,
    read_softplus,
    read_softsign,
    read_stable_sigmoid,
    read_stable_softplus,
    read_swish,
)
from isomorph.ir.passes.raising.piecewise import (
    limited_line,
    read_celu,
    read_elu,
    read_hard_sigmoid,
    read_leaky,
    read_selu,
    read_thresholded,
)

__all__ = ["raise_activations"]

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


def _hard_swish(y: Value) -> Found | None:
    for x, factor, gate in gated(y, HardSigmoid, Clip, Min, Max):
        made = maker(gate)
        known = (operand(gate, HardSigmoid), made) if isinstance(made, HardSigmoid) and factor == 1 else None
        inner, op = known or limited_line(gate, factor, x) or (None, None)
        if inner is x and isinstance(op, HardSigmoid) and is_number(op.alpha, 1 / 6, y) and is_number(op.beta, 0.5, y):
            return x, HardSwish()
    return None


_RULES: Mapping[type[Op], Sequence[Callable[[Value], Found | None]]] = {
    Max: (read_leaky, read_hard_sigmoid, _clip),
    Min: (read_hard_sigmoid, _clip),
    Clip: (read_hard_sigmoid, _clip),
    Add: (read_celu, read_stable_softplus),
    Mul: (_hard_swish, read_swish, read_mish, read_selu, read_hard_sigmoid),
    Div: (_hard_swish, read_swish, read_sigmoid, read_stable_sigmoid, read_softsign, read_hard_sigmoid),
    Where: (read_leaky, read_elu, read_softplus, read_thresholded),
    Reciprocal: (read_sigmoid,),
    Neg: (read_log_sigmoid,),
}
"""What the last op of a formula may belong to, in the order in which it is tried."""
