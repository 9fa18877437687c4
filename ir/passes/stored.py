"""Weights in the shape that they are read in, so that no node has to give it to them.

    Reshape(w), Squeeze(w), Unsqueeze(w), Flatten(w)    ->  w, stored in that shape

of a weight that nothing else reads; chains of them one after another. The weight keeps its name and its elements, in
order. (Weights that are transposed are stored so by the writer, which notes it.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.shape import Flatten, Reshape, Squeeze, Unsqueeze
from isomorph.ir.passes.canonicalize import prune

__all__ = ["store_reshaped"]


_KINDS = (Flatten, Reshape, Squeeze, Unsqueeze)


def store_reshaped(model: Model) -> Model:
    """The model without reshapes of weights."""
    users, shown = model.graph.users(), set(model.graph.outputs.values())
    inner = {
        value.parameter for graph in model.graph.graphs() for value in graph.parameters if graph is not model.graph
    }

    def alone(value: Value) -> bool:
        return value not in shown and len(users.get(value, ())) == 1

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        y = node.outputs[0] if isinstance(node.op, _KINDS) else None
        if y is None or y in shown or (alone(y) and isinstance(users[y][0].op, _KINDS)):
            return None
        weight = node.inputs[0]
        while weight is not None and alone(weight) and weight.producer and isinstance(weight.producer.op, _KINDS):
            weight = weight.producer.inputs[0]
        sizes = [size for size in y.shape if isinstance(size, int)]
        if weight is None or weight.parameter is None or not alone(weight) or len(sizes) != y.rank:
            return None
        if weight.parameter in inner:
            return None
        stored = replace(weight.parameter, data=weight.parameter.data.reshaped(sizes))
        return (b.keep(b.parameter(stored), weight.name),)

    return prune(rewrite(model, "store_reshaped", change))
