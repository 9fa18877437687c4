"""Removes what says nothing, so that later passes and writers see one spelling of each computation.

    Identity(x)                            ->  x
    Reshape(x) to the shape of x           ->  x
    Reshape(Reshape(x))                    ->  Reshape(x)
    Transpose(x) that moves nothing        ->  x
    Transpose(Transpose(x))                ->  Transpose(x), or x
    Squeeze(Unsqueeze(x)), the same axes   ->  x, and the other way round
    Cast(x) to the type of x               ->  x
    MaxPoolWithIndices(x), indices unread  ->  MaxPool(x)

and nodes and parameters that no output needs; and, when layers are to be raised,

    MatMul(x, Transpose(w))                ->  Linear(x, w)            w a parameter of rank 2
    Gemm(x, w, b), w transposed            ->  Linear(x, w, b)         w, b parameters, b (O,), nothing scaled
    Add(Linear(x, w), b)                   ->  Linear(x, w, b)         b a parameter (O,), the Linear read once

Every rule is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.layout import compose
from isomorph.ir.op import Op
from isomorph.ir.ops.elementwise import Add, Cast, Identity
from isomorph.ir.ops.indexed_pool import MaxPoolWithIndices
from isomorph.ir.ops.linear import Gemm, Linear, MatMul
from isomorph.ir.ops.shape import Reshape, Squeeze, Transpose, Unsqueeze
from isomorph.ir.shapes import names_in

__all__ = ["canonicalize", "prune"]

GraphT = TypeVar("GraphT", bound=Graph)
Rule = Callable[[Rewriter, Node], Value | None]


def canonicalize(model: Model, *, raise_layers: bool = True) -> Model:
    """The model under the rules above. Inputs, outputs and their names stay.

    raise_layers   False after a model was legalized: then products stay as the target has them
    """
    single: dict[Graph, set[str]] = {}

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if isinstance(node.op, Add | Gemm | MatMul) and not raise_layers:
            return None
        if isinstance(node.op, MaxPoolWithIndices):
            return _without_indices(b, node)
        if isinstance(node.op, Add):
            if b.source not in single:
                single[b.source] = _read_once(b.source)
            value = _add_bias(b, node, single[b.source])
        else:
            rule = _RULES.get(type(node.op))
            value = rule(b, node) if rule else None
        return None if value is None else (value,)

    if any(isinstance(node.op, MaxPoolWithIndices) for node in model.graph.nodes):
        model = prune(model)  # what reads indices, and is itself not read
    return prune(rewrite(model, "canonicalize", change, regions=True))


def prune(model: Model) -> Model:
    """The model without nodes and parameters that no output needs, in regions too."""
    graph = _pruned(model.graph)
    return model if graph is model.graph else model.with_graph(graph)


def _pruned(graph: GraphT) -> GraphT:
    needed = set(graph.outputs.values())
    deciding = {node for node in graph.nodes if type(node.op).defines is not Op.defines and node.op.defines()}
    sizes = set(names_in(value.shape for value in graph.outputs.values())) if deciding else set()
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if (
            not needed.isdisjoint(node.outputs)
            or _has_effect(node)
            or (node in deciding and not sizes.isdisjoint(node.op.defines()))
        ):
            if node.regions:
                node.regions = tuple(map(_pruned, node.regions))
            kept.append(node)
            needed.update(node.operands())
            if deciding:
                sizes.update(_dims_of(node))
    kept.reverse()
    parameters = [value for value in graph.parameters if value in needed]
    if len(kept) == len(graph.nodes) and len(parameters) == len(graph.parameters):
        return graph
    return type(graph)(graph.name, graph.inputs, graph.outputs, kept, parameters)


def _has_effect(node: Node) -> bool:
    return node.op.has_side_state or any(_has_effect(inner) for region in node.regions for inner in region.nodes)


def _dims_of(node: Node) -> Iterator[str]:
    """Names of the dimensions that a node and its regions speak of."""
    yield from names_in(node.op.attributes().values())
    yield from names_in(value.shape for value in node.outputs)
    for region in node.regions:
        yield from names_in(value.shape for value in region.inputs)
        for inner in region.nodes:
            yield from _dims_of(inner)


def _read_once(graph: Graph) -> set[str]:
    """Names of the values that one node reads and no output shows."""
    shown = set(graph.outputs.values())
    return {value.name for value, users in graph.users().items() if len(users) == 1 and value not in shown}


def _operand(b: Rewriter, node: Node, position: int = 0) -> Value:
    value = node.inputs[position]
    assert value is not None
    return b.new(value)


def _producer(value: Value, kind: type[Op]) -> Node | None:
    return value.producer if value.producer is not None and isinstance(value.producer.op, kind) else None


def _identity(b: Rewriter, node: Node) -> Value | None:
    return _operand(b, node)


def _cast(b: Rewriter, node: Node) -> Value | None:
    x = _operand(b, node)
    return x if x.dtype is node.output.dtype else None


def _reshape(b: Rewriter, node: Node) -> Value | None:
    x = _operand(b, node)
    shape = node.output.shape
    if x.shape == shape:
        return x
    inner = _producer(x, Reshape)
    if inner is None:
        return None
    source = inner.inputs[0]
    assert source is not None
    return source if source.shape == shape else b.emit(Reshape(shape), source)


def _transpose(b: Rewriter, node: Node) -> Value | None:
    assert isinstance(node.op, Transpose)
    x, perm = _operand(b, node), node.op.perm
    inner = _producer(x, Transpose)
    if inner is not None:
        assert isinstance(inner.op, Transpose)
        source = inner.inputs[0]
        assert source is not None
        x, perm = source, compose(inner.op.perm, perm)
    if perm == tuple(range(x.rank)):
        return x
    return None if inner is None else b.emit(Transpose(perm), x)


def _squeeze(b: Rewriter, node: Node) -> Value | None:
    assert isinstance(node.op, Squeeze)
    inner = _producer(_operand(b, node), Unsqueeze)
    if inner is None or inner.inputs[0] is None or inner.op.attributes()["axes"] != node.op.axes:
        return None
    return inner.inputs[0]


def _unsqueeze(b: Rewriter, node: Node) -> Value | None:
    assert isinstance(node.op, Unsqueeze)
    inner = _producer(_operand(b, node), Squeeze)
    if inner is None or inner.inputs[0] is None or inner.op.attributes()["axes"] != node.op.axes:
        return None
    return inner.inputs[0]


def _without_indices(b: Rewriter, node: Node) -> Sequence[Value] | None:
    assert isinstance(node.op, MaxPoolWithIndices)
    indices = node.outputs[1]
    if b.source.users().get(indices) or indices in b.source.outputs.values():
        return None
    value = b.emit(node.op.plain(), _operand(b, node))
    return value, value


def _matmul(b: Rewriter, node: Node) -> Value | None:
    transpose = _producer(_operand(b, node, 1), Transpose)
    if transpose is None:
        return None
    weight = transpose.inputs[0]
    if weight is None or not weight.is_parameter or weight.rank != 2:
        return None
    return b.emit(Linear(), _operand(b, node, 0), weight)


def _gemm(b: Rewriter, node: Node) -> Value | None:
    """A fully connected layer whose weight has become a parameter."""
    x, weight, bias = (*node.inputs, None)[:3]
    assert x is not None and weight is not None
    if node.op != Gemm(trans_b=True) or not b.new(weight).is_parameter:
        return None
    if bias is None:
        return b.emit(Linear(), b.new(x), b.new(weight))
    bias = b.new(bias)
    return b.emit(Linear(), b.new(x), b.new(weight), bias) if bias.shape == weight.shape[:1] else None


def _add_bias(b: Rewriter, node: Node, single: set[str]) -> Value | None:
    for product, bias in (node.inputs, node.inputs[::-1]):
        if product is None or bias is None or product.name not in single:
            continue
        linear = _producer(b.new(product), Linear)
        if linear is None or len(linear.inputs) != 2 or not bias.is_parameter:
            continue
        x, weight = linear.inputs
        if weight is not None and bias.shape == weight.shape[:1]:
            return b.emit(Linear(), x, weight, b.new(bias))
    return None


_RULES: dict[type[Op], Rule] = {
    Identity: _identity,
    Cast: _cast,
    Reshape: _reshape,
    Transpose: _transpose,
    Squeeze: _squeeze,
    Unsqueeze: _unsqueeze,
    MatMul: _matmul,
    Gemm: _gemm,
}
