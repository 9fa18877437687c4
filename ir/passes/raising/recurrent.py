"""Recurrent layers that a source spells out, as a loop over steps or step by step.

    Scan(h, c, x; body: a step of an LSTM, a GRU or an RNN)            ->  LSTM(x, …), GRU(x, …), RNN(x, …)
    h1 = step(x[0], h0), h2 = step(x[1], h1), …, all steps of x        ->  the same
    Concat(LSTM(x), LSTM(x, direction="reverse")) along the last axis  ->  LSTM(x, direction="bidirectional")

Steps of x may run from its end: direction "reverse". The data of one layer may be the states of another one. What a
step is says cells.py. The same formulas; rounding may differ in the last places.
"""

from __future__ import annotations

from collections.abc import Sequence

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Region, Value
from isomorph.ir.ops.activation import Relu, Tanh
from isomorph.ir.ops.control import Scan
from isomorph.ir.ops.shape import Squeeze, Unsqueeze
from isomorph.ir.passes.canonicalize import canonicalize, prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.cells import Cell, read_cell
from isomorph.ir.passes.raising.directions import join_directions, put_batch_first
from isomorph.ir.passes.raising.layers import layer_of, made
from isomorph.ir.passes.raising.steps import raise_steps

__all__ = ["raise_recurrent"]


def raise_recurrent(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with LSTM, GRU and RNN where their steps are spelled out."""
    before = model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        return _scanned(b, node, refuse) if isinstance(node.op, Scan) else None

    if any(isinstance(node.op, Scan) for node in model.graph.nodes):
        model = prune(rewrite(model, "raise_recurrent", change))
    if any(isinstance(node.op, Tanh | Relu) for node in model.graph.nodes):
        model = raise_steps(model, refuse)
    if model is not before:
        model = canonicalize(put_batch_first(canonicalize(model)))
    return join_directions(model, refuse)


def _scanned(b: Rewriter, node: Node, refuse: Refuse) -> Sequence[Value] | None:
    """The last states and y of a Scan whose body is a step of a layer."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, Scan)
    if op.scanned != 1 or op.axes != (0,) or any(op.output_axes) or op.decides:
        return None
    if any(back != op.reverse[0] for back in op.output_reverse):
        return None
    found = _step(op, body)
    if found is None:
        return None
    cell, order = found
    inputs, outputs = body.inputs, list(body.outputs.values())
    layer = layer_of(cell, inputs[order[0]])
    slices = inputs[op.carried]
    if layer is None or layer.inside.data is not slices or any(y is not cell.h_next for y in outputs[op.carried :]):
        return None
    outer = dict(zip(inputs, node.inputs, strict=True))

    def carry(value: Value) -> Value:
        known = outer.get(value)
        return b.parameter(value.parameter) if known is None and value.parameter is not None else b.new(known or value)

    x = node.inputs[op.carried]
    weights = (layer.inside.weight, layer.inside.bias, layer.back.weight, layer.back.bias, *layer.vectors)
    if x is None or any(each is not None and each not in outer and each.parameter is None for each in weights):
        return None
    first = [b.emit(Unsqueeze((0,)), b.new(outer[inputs[place]])) for place in order]  # type: ignore[arg-type]
    way = "reverse" if op.reverse[0] else "forward"
    data = x if layer.inside.weight is None else b.new(x)
    y_and_states = made(b, layer, data, first, carry, direction=way)
    if y_and_states is None or refuses(refuse, y_and_states[0]):
        return None
    y, *states = y_and_states
    last = {place: b.emit(Squeeze((0,)), state) for place, state in zip(order, states, strict=True)}
    return *(last[place] for place in range(op.carried)), *([y] * (len(outputs) - op.carried))


def _step(op: Scan, body: Region) -> tuple[Cell, list[int]] | None:
    """(cell, [which carried variable is h, which is c]) of a body."""
    after = list(body.outputs.values())[: op.carried]
    before = body.inputs[: op.carried]
    for place, value in enumerate(after):
        cell = read_cell(value)
        if cell is None or len(after) != len(cell.kind.STATES):
            continue
        if len(after) == 2 and cell.c is before[1 - place] and cell.c_next is after[1 - place]:
            return cell, [place, 1 - place]
        if len(after) == 1 and cell.h in (None, before[0]):
            return cell, [0]
    return None
