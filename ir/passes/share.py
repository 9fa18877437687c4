"""Computes once what a graph computes twice: equal ops of equal operands, and equal small constants.

    a = Cos(x); b = Cos(x)       ->  a twice
    2.0, 2.0                     ->  one constant

Layers stay: what reads a trained parameter is not shared, nor is Dropout, a random op, or an op with regions.
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Dropout
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.shapes import Sym

__all__ = ["share"]

_LARGEST_CONSTANT = 4096
"""Elements of the largest constant whose bytes are compared."""


def share(model: Model) -> Model:
    """The model in which nothing is computed twice."""
    equal = _equal_constants(model)
    made: dict[tuple[object, ...], Sequence[Value]] = {}

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        inputs = [value and b.new(equal.get(value, value)) for value in node.inputs]
        key = _key(node, inputs)
        if key is not None and key in made:
            return [b.new(value) for value in made[key]]
        if key is not None:
            made[key] = node.outputs
        moved = any(value is not None and equal.get(value, value) is not value for value in node.inputs)
        return b.copy(node, inputs=inputs) if moved else None

    return prune(rewrite(model, "share", change))


def _key(node: Node, inputs: Sequence[Value | None]) -> tuple[object, ...] | None:
    """What two nodes must have in common to be the same computation; None for a node that is not shared."""
    op = node.op
    if op.has_side_state or op.is_random or node.regions or op.defines() or isinstance(op, Dropout):
        return None
    if any(value is not None and value.parameter is not None and value.parameter.role == "weight" for value in inputs):
        return None
    return (type(op), _attributes(op), *map(id, inputs))


def _attributes(op: Op) -> tuple[object, ...]:
    """The attributes as they are written: 0.0 is not -0.0, 1 is not True."""
    return tuple(f"{value!r}" for value in op.attributes().values())


def _equal_constants(model: Model) -> dict[Value, Value]:
    """{constant: the first one with the same elements}."""
    first: dict[tuple[object, ...], Value] = {}
    equal: dict[Value, Value] = {}
    shown = set(model.graph.outputs.values())
    for value in model.graph.parameters:
        parameter, size = value.parameter, value.type.size
        if parameter is None or parameter.role != "constant" or value in shown or isinstance(size, Sym):
            continue
        if size <= _LARGEST_CONSTANT and value.dtype is not DType.STRING:
            key = (value.dtype, value.shape, parameter.data.numpy().tobytes())
            equal[value] = first.setdefault(key, value)
    return equal
