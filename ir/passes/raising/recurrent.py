"""Recurrent layers that a source spells out, as a loop over steps or step by step.

    Scan(h, c, x; body: a step of an LSTM, a GRU or an RNN)            ->  LSTM(x, …), GRU(x, …), RNN(x, …)
    Loop(T, h, c, x; body: a step with x[t])                           ->  the same
    h1 = step(x[0], h0), h2 = step(x[1], h1), …, all steps of x        ->  the same
    Concat(LSTM(x), LSTM(x, direction="reverse")) along the last axis  ->  LSTM(x, direction="bidirectional")

Steps of x may run from its end: direction "reverse". The data of one layer may be the states of another one. What a
step is says cells.py. The same formulas; rounding may differ in the last places.
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.activation import Relu, Tanh
from isomorph.ir.ops.control import Loop, Scan
from isomorph.ir.ops.elementwise import Cast
from isomorph.ir.ops.shape import Dims, Slice, Squeeze, Transpose, Unsqueeze
from isomorph.ir.passes.canonicalize import canonicalize, prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.cells import Cell, read_cell
from isomorph.ir.passes.raising.directions import join_directions, put_batch_first
from isomorph.ir.passes.raising.frames import Frame, is_kept, read_frame
from isomorph.ir.passes.raising.layers import layer_of, made
from isomorph.ir.passes.raising.reversals import raise_reversals
from isomorph.ir.passes.raising.steps import raise_steps
from isomorph.ir.passes.sizes import with_sizes
from isomorph.ir.shapes import Dim, names_in

__all__ = ["raise_recurrent"]


def raise_recurrent(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with LSTM, GRU and RNN where their steps are spelled out."""
    before = model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        frame = read_frame(node)
        return None if frame is None else _raised(b, node, frame, refuse)

    if any(isinstance(node.op, Loop | Scan) for node in model.graph.nodes):
        model = prune(rewrite(_settled(model), "raise_recurrent", change))
    if any(isinstance(node.op, Tanh | Relu) for node in model.graph.nodes):
        model = raise_steps(model, refuse)
    model = raise_reversals(model, refuse)
    if model is not before:
        model = canonicalize(put_batch_first(canonicalize(model)))
    return join_directions(model, refuse)


def _settled(model: Model) -> Model:
    """The model with the number of steps wherever a loop over them is said to decide its own number of turns."""
    while sizes := next(filter(None, map(_decided, model.graph.nodes)), None):
        model = with_sizes(model, sizes, "raise_recurrent")
    return model


def _decided(node: Node) -> dict[str, Dim]:
    """The sizes that a loop is said to decide, which are the number of steps of what it takes apart."""
    frame = read_frame(node) if isinstance(node.op, Loop) and node.op.decides else None
    if not isinstance(node.op, Loop) or frame is None or _step(frame) is None:
        return {}
    turns = {str(kind.shape[0]) for kind in node.op.types[node.op.carried :]}
    unused = node.op.defines() - set(names_in(kind.shape for kind in node.op.types))
    return dict.fromkeys((turns & node.op.defines()) | unused, frame.x.shape[frame.axis])


def _raised(b: Rewriter, node: Node, frame: Frame, refuse: Refuse) -> Sequence[Value] | None:
    """The results of a loop whose body is a step of a layer: the last states, and y for each h that it gives."""
    found = _step(frame)
    layer = None if found is None else layer_of(found[0], frame.before[found[1][0]])
    if found is None or layer is None or layer.inside.data is not frame.taken or node.op.defines():
        return None
    cell, order = found
    if any(value is not cell.h_next for value in frame.given) or (layer.inside.weight is None and frame.axis):
        return None
    outside = _Outside(b, node, frame)
    products = (layer.inside.weight, layer.inside.bias, layer.back.weight, layer.back.bias)
    if not all(each is None or outside.has(each) for each in (*products, *layer.vectors, *layer.peepholes)):
        return None
    first = [b.emit(Unsqueeze((0,)), b.new(frame.initial[place])) for place in order]
    way = "reverse" if frame.backwards else "forward"
    data = frame.x if layer.inside.weight is None else b.new(frame.x)
    lengths = frame.lengths and b.new(frame.lengths)
    results = made(b, layer, data, first, outside.carry, lengths=lengths, direction=way, batch_first=frame.axis == 1)
    if results is None or refuses(refuse, results[0]):
        return None
    y, *states = results
    if frame.given:
        y = _as_given(b, y, frame)
    last = {frame.places[at]: b.emit(Squeeze((0,)), state) for at, state in zip(order, states, strict=True)}
    for place, value in frame.fixed.items():
        last[place] = b.new(value) if isinstance(value, Value) else _number(b, value, node.outputs[place].dtype)
    return *(last[place] for place in sorted(last)), *([y] * len(frame.given))


def _number(b: Rewriter, size: Dim, dtype: DType) -> Value:
    number = b.emit(Dims((size,), scalar=True))
    return number if dtype is DType.INT64 else b.emit(Cast(dtype), number)


def _as_given(b: Rewriter, y: Value, frame: Frame) -> Value:
    """y as a loop stacks it: the first step first."""
    first = b.emit(Transpose((1, 0, 2)), y) if frame.axis == 1 else y
    return b.emit(Slice((0,), (None,), (None,), (-1,)), first) if frame.turned else first


class _Outside:
    """What values of a body are outside: operands of the loop that stay the same, parameters, what is made of them."""

    def __init__(self, b: Rewriter, node: Node, frame: Frame) -> None:
        self.b = b
        changing = {*frame.before, frame.taken, frame.live}
        self.operands = {
            inner: outer
            for inner, outer in zip(node.regions[0].inputs, node.inputs, strict=True)
            if outer is not None and inner not in changing and _is_constant_input(node, inner)
        }
        self.made: dict[Value, Value] = {}

    def has(self, value: Value) -> bool:
        if value in self.operands or value.parameter is not None:
            return True
        node = value.producer
        plain = node is not None and len(node.outputs) > 0 and not node.regions and not node.op.is_random
        return node is not None and plain and bool(node.inputs) and all(map(self.has, node.operands()))

    def carry(self, value: Value) -> Value:
        if value.parameter is not None:
            return self.b.parameter(value.parameter)
        if value in self.operands:
            return self.b.new(self.operands[value])
        if value not in self.made:
            node = value.producer
            assert node is not None
            operands = (each and self.carry(each) for each in node.inputs)
            self.made.update(zip(node.outputs, self.b.emit_many(node.op, *operands), strict=True))
        return self.made[value]


def _is_constant_input(node: Node, value: Value) -> bool:
    if not isinstance(node.op, Loop):
        return True
    return node.regions[0].inputs.index(value) >= 2 and is_kept(node, value)


def _step(frame: Frame) -> tuple[Cell, list[int]] | None:
    """(cell, [which state is h, which is c]) of a body."""
    before, after = frame.before, frame.after
    for place, value in enumerate(after):
        cell = read_cell(value)
        if cell is None or len(after) != len(cell.kind.STATES):
            continue
        if len(after) == 2 and cell.c is before[1 - place] and cell.c_next is after[1 - place]:
            return cell, [place, 1 - place]
        if len(after) == 1 and cell.h in (None, before[0]):
            return cell, [0]
    return None
