"""Recurrent layers whose data a source turns around: Keras with go_backwards, and Bidirectional.

    ReverseSequence(x, lengths that all are T)     ->  x[::-1] along the axis of the steps
    y, h = GRU(x[::-1])                            ->  y, h = GRU(x, direction="reverse"), y[::-1]
    x[::-1][::-1]                                  ->  x
    y[-1] of y, h = GRU(x)                         ->  h, as y[0] of a layer from the end, and y[::-1][0], y[::-1][-1]

and likewise LSTM and RNN. No number changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Cast, Identity
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.recurrent import GRU, LSTM, RNN
from isomorph.ir.ops.shape import Dims, Expand, Reshape, Slice, Squeeze
from isomorph.ir.ops.steps import ReverseSequence
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.ir.shapes import Dim

__all__ = ["raise_reversals"]


def raise_reversals(model: Model, refuse: Refuse) -> Model:
    """The model with layers that run from the end instead of such that are given their data turned around."""
    if not any(isinstance(node.op, RNN | GRU | LSTM) for node in model.graph.nodes):
        return model
    turned = rewrite(model, "raise_recurrent", _plain)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        return _backwards(b, node, refuse) if isinstance(node.op, RNN | GRU | LSTM) else None

    turned = rewrite(rewrite(turned, "raise_recurrent", change), "raise_recurrent", _twice)
    made = rewrite(turned, "raise_recurrent", _last)
    return model if made is model else prune(made)


def _plain(b: Rewriter, node: Node) -> Sequence[Value] | None:
    """A ReverseSequence that turns all of its data around."""
    if not isinstance(node.op, ReverseSequence):
        return None
    x, lengths = node.operands()
    axis = 1 if node.op.batch_first else 0
    return (b.emit(_reversal(axis), b.new(x)),) if _are(lengths, x.shape[axis]) else None


def _are(lengths: Value, size: Dim) -> bool:
    """Whether all elements are this size."""
    if lengths.parameter is not None and lengths.parameter.role == "constant" and isinstance(size, int):
        return lengths.type.size != 0 and bool(np.all(lengths.parameter.data.numpy() == size))
    if lengths.producer is not None and isinstance(lengths.producer.op, Dims):
        return set(lengths.producer.op.dims) == {size}
    inner = operand(lengths, Expand, Reshape, Identity, Cast)
    return inner is not None and _are(inner, size)


def _reversal(axis: int) -> Slice:
    return Slice((axis,), (None,), (None,), (-1,))


def _turned(value: Value | None, axis: int) -> Value | None:
    """What a value is from its end along an axis."""
    op = value.producer.op if value is not None and value.producer is not None else None
    return operand(value, Slice) if op == _reversal(axis) else None


def _backwards(b: Rewriter, node: Node, refuse: Refuse) -> Sequence[Value] | None:
    op = node.op
    assert isinstance(op, RNN | GRU | LSTM)
    axis = 1 if op.batch_first else 0
    x = _turned(node.inputs[0], axis)
    if x is None or op.direction == "bidirectional" or op.operands(node.inputs)["lengths"] is not None:
        return None
    other = replace(op, direction="reverse" if op.direction == "forward" else "forward")
    y, *states = b.emit_many(other, b.new(x), *b.new_inputs(node)[1:])
    return None if refuses(refuse, y) else (b.emit(_reversal(axis), y), *states)


def _twice(b: Rewriter, node: Node) -> Sequence[Value] | None:
    """What is turned around twice."""
    if not isinstance(node.op, Slice) or len(node.op.axes) != 1:
        return None
    axis = node.op.axes[0]
    inner = _turned(_turned(node.output, axis), axis)
    return None if inner is None else (b.new(inner),)


def _last(b: Rewriter, node: Node) -> Sequence[Value] | None:
    """The last state, for the step of y behind which a layer stops."""
    found = _taken(node)
    if found is None:
        return None
    y, axis, step = found
    source = _turned(y, axis)
    layer = (source or y).producer
    if layer is None or not isinstance(layer.op, RNN | GRU | LSTM) or layer.op.direction == "bidirectional":
        return None
    backwards = (layer.op.direction == "reverse") is (source is None)
    ends = (0, -y.shape[axis]) if backwards else (-1, y.shape[axis] - 1)
    whole = layer.outputs[0] is (source or y) and layer.op.operands(layer.inputs)["lengths"] is None
    if not whole or axis != (1 if layer.op.batch_first else 0) or step not in ends:
        return None
    return (b.emit(Squeeze((0,)), b.new(layer.outputs[1])),)


def _taken(node: Node) -> tuple[Value, int, float] | None:
    """(y, axis, index) of a node that takes a single step of y (T, N, H), as it is or from the end."""
    if isinstance(node.op, Gather):
        data, index = node.operands()
        step = None if index.rank else constant_number(index)
        return None if step is None or data.rank != 3 else (data, node.op.axis % 3, step)
    part = operand(node.output, Squeeze) if isinstance(node.op, Squeeze) else None
    cut = part.producer.op if part is not None and part.producer is not None else None
    y = operand(part, Slice)
    if y is None or y.rank != 3 or not isinstance(cut, Slice) or not isinstance(node.op, Squeeze):
        return None
    if len(cut.axes) != 1 or cut.steps != (1,) or [axis % 3 for axis in node.op.axes] != [cut.axes[0] % 3]:
        return None
    start, end = cut.starts[0] or 0, cut.ends[0]
    single = isinstance(start, int) and end == (None if start == -1 else start + 1)
    return (y, cut.axes[0] % 3, start) if single and isinstance(start, int) else None
