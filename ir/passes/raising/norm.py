"""Root mean square normalization that a source spells out.

    s = x * x, or x ^ 2
    r = 1 / sqrt(mean(s, last axis) + epsilon), or (…) ^ -0.5
    w * (x * r)                                            ->  RMSNormalization(x, w, epsilon)

The same formula in float32; rounding may differ in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.elementwise import Add, Div, Mul, Pow, Reciprocal, Sqrt
from isomorph.ir.ops.norm import RMSNormalization
from isomorph.ir.ops.reduce import ReduceMean
from isomorph.ir.passes.canonicalize import prune

__all__ = ["raise_norms"]


def raise_norms(model: Model) -> Model:
    """The model with RMSNormalization where its formula is spelled out over the last axis."""
    if not any(isinstance(node.op, ReduceMean) for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _scaled(node)
        if found is None:
            return None
        x, weight, epsilon = found
        return (b.emit(RMSNormalization(epsilon, x.rank - 1), b.new(x), b.new(weight)),)

    return prune(rewrite(model, "raise_norms", change))


def _scaled(node: Node) -> tuple[Value, Value, float] | None:
    """(x, weight, epsilon) of a node that is weight * normalized x."""
    if not isinstance(node.op, Mul):
        return None
    for weight, product in (node.inputs, node.inputs[::-1]):
        if weight is None or product is None or weight.rank != 1 or product.producer is None:
            continue
        found = _normalized(product.producer)
        if found is not None and weight.shape == found[0].shape[-1:] and node.output.shape == found[0].shape:
            return found[0], weight, found[1]
    return None


def _normalized(node: Node) -> tuple[Value, float] | None:
    """(x, epsilon) of a node that is x over its root mean square."""
    if isinstance(node.op, Div):
        x, root = node.inputs
        return None if x is None else _matched(x, _operand(root, Sqrt))
    if not isinstance(node.op, Mul):
        return None
    for x, factor in (node.inputs, node.inputs[::-1]):
        inverse = _operand(_operand(factor, Reciprocal), Sqrt) or _powered(factor, -0.5)
        found = None if x is None else _matched(x, inverse)
        if found is not None:
            return found
    return None


def _matched(x: Value, shifted: Value | None) -> tuple[Value, float] | None:
    """(x, epsilon) if the value is the mean of the squares of x over its last axis, plus epsilon."""
    if shifted is None or shifted.producer is None or not isinstance(shifted.producer.op, Add):
        return None
    if x.dtype is not DType.FLOAT32 or x.rank == 0:
        return None
    for mean, constant in (shifted.producer.inputs, shifted.producer.inputs[::-1]):
        epsilon = _number(constant)
        squares = _operand(mean, ReduceMean)
        if epsilon is None or squares is None or mean is None or mean.producer is None:
            continue
        op = mean.producer.op
        last = isinstance(op, ReduceMean) and op.axes == (x.rank - 1,) and op.keepdims
        if last and epsilon > 0 and _squared(squares) is x:
            return x, epsilon
    return None


def _squared(value: Value) -> Value | None:
    """x of x * x or x ^ 2."""
    node = value.producer
    if node is not None and isinstance(node.op, Mul) and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    return _powered(value, 2.0)


def _powered(value: Value | None, exponent: float) -> Value | None:
    """The base of a power with this exponent."""
    node = value.producer if value is not None else None
    if node is None or not isinstance(node.op, Pow) or _number(node.inputs[1]) != exponent:
        return None
    return node.inputs[0]


def _operand(value: Value | None, kind: type[Op]) -> Value | None:
    """The operand of the op of this kind that made the value."""
    node = value.producer if value is not None else None
    return node.inputs[0] if node is not None and isinstance(node.op, kind) else None


def _number(value: Value | None) -> float | None:
    """The value of a constant of one element and no axes."""
    if value is None or value.parameter is None or value.parameter.role != "constant" or value.rank != 0:
        return None
    return float(value.parameter.data.numpy())
