"""Normalization over the last axis that a source spells out.

    s = x * x, or x ^ 2
    r = 1 / sqrt(mean(s, last axis) + epsilon), or (…) ^ -0.5
    w * (x * r)                                            ->  RMSNormalization(x, w, epsilon)
    x * r, w * (x * r), x = z - mean(z, last axis)         ->  LayerNormalization(z, w, epsilon)
    LayerNormalization(z, w) + b                           ->  LayerNormalization(z, w, b)

The same formula in float32; rounding may differ in the last place.
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.elementwise import Add, Div, Mul, Pow, Reciprocal, Sqrt, Sub
from isomorph.ir.ops.norm import LayerNormalization, RMSNormalization
from isomorph.ir.ops.reduce import ReduceMean
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all

__all__ = ["raise_norms"]


def raise_norms(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with RMSNormalization and LayerNormalization where their formulas are spelled out over the last axis.

    A target that refuses RMSNormalization gets our spelling of it, which runtimes recognize.
    """
    if not any(isinstance(node.op, ReduceMean) for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _scaled(node)
        x, weight, epsilon = found or (None, None, 0.0)
        if found is None and isinstance(node.op, Mul | Div):
            x, epsilon = _normalized(node) or (None, 0.0)
        source = None if x is None else _centered(x)
        if x is not None and source is not None:
            y = b.emit(LayerNormalization(epsilon, x.rank - 1), b.new(source), weight and b.new(weight))
            return None if refuses(refuse, y) else (y,)
        if x is None or weight is None:
            return None
        return (b.emit(RMSNormalization(epsilon, x.rank - 1), b.new(x), b.new(weight)),)

    return _add_biases(prune(rewrite(model, "raise_norms", change)))


def _add_biases(model: Model) -> Model:
    """The model with vectors that are added to a LayerNormalization alone as its bias."""
    users, shown = model.graph.users(), set(model.graph.outputs.values())

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if not isinstance(node.op, Add):
            return None
        for y, bias in (node.inputs, node.inputs[::-1]):
            norm = y.producer if y is not None and y not in shown and len(users[y]) == 1 else None
            if y is None or bias is None or norm is None or not isinstance(norm.op, LayerNormalization):
                continue
            if len(norm.inputs) < 3 and bias.shape == y.shape[-1:] and norm.op.axis == y.rank - 1:
                operands = [value and b.new(value) for value in (*norm.inputs, None)[:2]]
                return (b.emit(norm.op, *operands, b.new(bias)),)
        return None

    return prune(rewrite(model, "raise_norms", change))


def _centered(x: Value) -> Value | None:
    """z of a value that is z less its mean over the last axis."""
    node = x.producer
    if node is None or not isinstance(node.op, Sub):
        return None
    z, mean = node.inputs
    maker = mean.producer if mean is not None else None
    if z is None or maker is None or not isinstance(maker.op, ReduceMean) or maker.inputs[0] is not z:
        return None
    return z if maker.op.axes == (z.rank - 1,) and maker.op.keepdims and z.type == x.type else None


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
