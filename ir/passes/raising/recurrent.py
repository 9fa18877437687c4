"""Recurrent layers that a source spells out, as a loop over steps or step by step.

    Scan(h, c, x; body: a step of an LSTM, a GRU or an RNN)            ->  LSTM(x, …), GRU(x, …), RNN(x, …)
    Loop(T, h, c, x; body: a step with x[t])                           ->  the same
    h1 = step(x[0], h0), h2 = step(x[1], h1), …, all steps of x        ->  the same
    Concat(LSTM(x), LSTM(x, direction="reverse")) along the last axis  ->  LSTM(x, direction="bidirectional")

Steps of x may run from its end: direction "reverse". The data of one layer may be the states of another one. What a
step is says cells.py. The same formulas; rounding may differ in the last places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Relu, Tanh
from isomorph.ir.ops.control import Loop, Scan
from isomorph.ir.ops.elementwise import Identity
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.shape import Dims, Slice, Squeeze, Transpose, Unsqueeze
from isomorph.ir.passes.canonicalize import canonicalize, prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.cells import Cell, read_cell
from isomorph.ir.passes.raising.directions import join_directions, put_batch_first
from isomorph.ir.passes.raising.layers import layer_of, made
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.ir.passes.raising.steps import raise_steps

__all__ = ["raise_recurrent"]


def raise_recurrent(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with LSTM, GRU and RNN where their steps are spelled out."""
    before = model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        read = _FRAMES.get(type(node.op))
        frame = None if read is None else read(node)
        return None if frame is None else _raised(b, node, frame, refuse)

    if any(type(node.op) in _FRAMES for node in model.graph.nodes):
        model = prune(rewrite(model, "raise_recurrent", change))
    if any(isinstance(node.op, Tanh | Relu) for node in model.graph.nodes):
        model = raise_steps(model, refuse)
    if model is not before:
        model = canonicalize(put_batch_first(canonicalize(model)))
    return join_directions(model, refuse)


@dataclass(frozen=True, slots=True)
class _Frame:
    """A loop over the steps of data `x`: the states before and after a step, what it takes of x, and what it gives.

    Values but x are of the body; `initial` are the states that the loop begins with, and x is taken apart along `axis`.
    """

    before: Sequence[Value]
    after: Sequence[Value]
    initial: Sequence[Value]
    taken: Value
    given: Sequence[Value]
    x: Value
    axis: int = 0
    backwards: bool = False


def _scan(node: Node) -> _Frame | None:
    op, (body,) = node.op, node.regions
    assert isinstance(op, Scan)
    if op.scanned != 1 or op.axes != (0,) or any(op.output_axes) or op.decides:
        return None
    if any(back != op.reverse[0] for back in op.output_reverse):
        return None
    results, operands = list(body.outputs.values()), list(node.operands())
    return _Frame(
        body.inputs[: op.carried],
        results[: op.carried],
        operands[: op.carried],
        body.inputs[op.carried],
        results[op.carried :],
        operands[op.carried],
        backwards=op.reverse[0],
    )


def _loop(node: Node) -> _Frame | None:
    """A Loop that takes step t of x in turn t, as many as there are."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, Loop)
    trips, going, *operands = node.operands()
    turn, condition, *inputs = body.inputs
    goes_on, *results = body.outputs.values()
    if not _is_true(going) or not (_is_true(goes_on) or _source(goes_on) is condition):
        return None
    gathers = [each for each in body.nodes if isinstance(each.op, Gather) and _source(each.inputs[1]) is turn]
    if len(gathers) != 1 or any(turn in each.inputs and each is not gathers[0] for each in body.nodes):
        return None
    source = _source(gathers[0].inputs[0])
    place = inputs.index(source) if source in inputs else -1
    gather = gathers[0].op
    if place < op.carried or not isinstance(gather, Gather) or operands[place].rank != 3 or gather.axis % 3 == 2:
        return None
    x, axis = operands[place], gather.axis % 3
    if not _counts(trips, x, axis):
        return None
    before, after = inputs[: op.carried], results[: op.carried]
    return _Frame(before, after, operands[: op.carried], gathers[0].output, results[op.carried :], x, axis)


def _source(value: Value | None) -> Value | None:
    """What a value is, before an Identity, or a Slice that takes all of it."""
    inner = operand(value, Identity, Slice)
    whole = inner is not None and value is not None and inner.type == value.type and _takes_all(value)
    return _source(inner) if whole else value


def _takes_all(value: Value) -> bool:
    op = value.producer.op if value.producer is not None else None
    plain = isinstance(op, Slice) and all(start in (None, 0) for start in op.starts) and not any(op.ends)
    return isinstance(op, Identity) or (plain and isinstance(op, Slice) and all(step == 1 for step in op.steps))


def _is_true(value: Value) -> bool:
    inner = _source(value)
    return constant_number(inner) == 1


def _counts(trips: Value, x: Value, axis: int) -> bool:
    """Whether a number of turns is the size of x along an axis."""
    op = trips.producer.op if trips.producer is not None else None
    size = x.shape[axis]
    return (isinstance(op, Dims) and op.dims == (size,)) or (isinstance(size, int) and constant_number(trips) == size)


_FRAMES: Mapping[type[Op], Callable[[Node], _Frame | None]] = {Scan: _scan, Loop: _loop}


def _raised(b: Rewriter, node: Node, frame: _Frame, refuse: Refuse) -> Sequence[Value] | None:
    """The results of a loop whose body is a step of a layer: the last states, and y for each h that it gives."""
    found = _step(frame)
    layer = None if found is None else layer_of(found[0], frame.before[found[1][0]])
    if found is None or layer is None or layer.inside.data is not frame.taken:
        return None
    cell, order = found
    if any(value is not cell.h_next for value in frame.given) or (layer.inside.weight is None and frame.axis):
        return None
    (body,) = node.regions
    outer = dict(zip(body.inputs, node.inputs, strict=True))
    weights = (layer.inside.weight, layer.inside.bias, layer.back.weight, layer.back.bias, *layer.vectors)
    if any(each is not None and each not in outer and each.parameter is None for each in weights):
        return None

    def carry(value: Value) -> Value:
        known = outer.get(value)
        return b.parameter(value.parameter) if known is None and value.parameter is not None else b.new(known or value)

    first = [b.emit(Unsqueeze((0,)), b.new(frame.initial[place])) for place in order]
    way = "reverse" if frame.backwards else "forward"
    data = frame.x if layer.inside.weight is None else b.new(frame.x)
    results = made(b, layer, data, first, carry, direction=way, batch_first=frame.axis == 1)
    if results is None or refuses(refuse, results[0]):
        return None
    y, *states = results
    y = b.emit(Transpose((1, 0, 2)), y) if frame.axis == 1 and frame.given else y
    last = {place: b.emit(Squeeze((0,)), state) for place, state in zip(order, states, strict=True)}
    return *(last[place] for place in range(len(order))), *([y] * len(frame.given))


def _step(frame: _Frame) -> tuple[Cell, list[int]] | None:
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
