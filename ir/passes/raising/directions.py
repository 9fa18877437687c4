"""Two recurrent layers that read the same data from both ends are one layer of two directions.

Concat(LSTM(x), LSTM(x, direction="reverse")) along the last axis  ->  y of LSTM(x, direction="bidirectional")
Concat of their last states along axis 0                           ->  its last states
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.recurrent import GRU, LSTM, RNN
from isomorph.ir.ops.shape import Concat, Transpose
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.scores import Readers

__all__ = ["join_directions", "put_batch_first"]

_Pair = tuple[Node, Node]


def join_directions(model: Model, refuse: Refuse) -> Model:
    """The model with a layer of two directions for each pair of layers above."""
    layers = [node for node in model.graph.nodes if isinstance(node.op, RNN | GRU | LSTM)]
    if len(layers) < 2:
        return model
    readers = Readers(model.graph)
    pairs = {node: pair for node in model.graph.nodes if (pair := _pair(node, readers)) is not None}
    made: dict[_Pair, tuple[Value, ...]] = {}

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        pair = pairs.get(node)
        if pair is None:
            return None
        if pair not in made:
            made[pair] = _joined(b, pair)
        if refuses(refuse, made[pair][0]):
            return None
        place = next(at for at, value in enumerate(pair[0].outputs) if value is node.inputs[0])
        return (made[pair][place],)

    return prune(rewrite(model, "raise_recurrent", change))


def _pair(node: Node, readers: Readers) -> _Pair | None:
    """(forward, reverse) of a Concat of the same result of both, if all that reads them are such."""
    found = _layers(node)
    if found is None or not _fit(*found):
        return None
    for one, other in zip(found[0].outputs, found[1].outputs, strict=True):
        users = [*readers.of(one), *readers.of(other)]
        shown = readers.is_shown(one) or readers.is_shown(other)
        if shown or any(_layers(user) != found for user in users):
            return None
    return found


def _layers(node: Node) -> _Pair | None:
    if not isinstance(node.op, Concat) or len(node.inputs) != 2:
        return None
    one, other = (value.producer if value is not None else None for value in node.inputs)
    if one is None or other is None or type(one.op) is not type(other.op) or not isinstance(one.op, RNN | GRU | LSTM):
        return None
    places = [
        next(at for at, each in enumerate(maker.outputs) if each is value)
        for maker, value in zip((one, other), node.inputs, strict=True)
    ]
    axis = node.op.axis % node.output.rank
    return (one, other) if places[0] == places[1] and axis == (2 if places[0] == 0 else 0) else None


def _fit(one: Node, other: Node) -> bool:
    """Whether two layers differ in direction and weights alone."""
    first, second = one.op, other.op
    assert isinstance(first, RNN | GRU | LSTM) and isinstance(second, RNN | GRU | LSTM)
    if (first.direction, second.direction) != ("forward", "reverse"):
        return False
    plain = [replace(op, direction="forward", activations=(), alphas=(), betas=()) for op in (first, second)]
    default = [not (op.activations or op.alphas or op.betas) for op in (first, second)]
    a, b = first.operands(one.inputs), second.operands(other.inputs)
    states = all((a[name] is None) == (b[name] is None) for name in first.STATES)
    same = a["x"] is b["x"] and a["lengths"] is b["lengths"]
    return plain[0] == plain[1] and same and states and (all(default) or first.activations == second.activations != ())


def _joined(b: Rewriter, pair: _Pair) -> tuple[Value, ...]:
    """The results of both layers as one."""
    one, other = pair
    op, back_op = one.op, other.op
    assert isinstance(op, RNN | GRU | LSTM) and isinstance(back_op, RNN | GRU | LSTM)
    first, second = op.operands(one.inputs), back_op.operands(other.inputs)
    given: dict[str, Value | None] = {}
    for name in (each.rstrip("?") for each in op.inputs):
        own: object = second[name.removesuffix("_back")] if name.endswith("_back") else first[name]
        new = b.new(own) if isinstance(own, Value) else None
        if name in op.STATES and new is not None and isinstance(back := second[name], Value):
            new = b.emit(Concat(0), new, b.new(back))
        given[name] = new
    both = replace(
        op,
        direction="bidirectional",
        activations=(*op.activations, *back_op.activations),
        alphas=(*op.alphas, *back_op.alphas),
        betas=(*op.betas, *back_op.betas),
    )
    return b.emit_many(both, *given.values())


_SWAPPED = Transpose((1, 0, 2))


def put_batch_first(model: Model) -> Model:
    """The model with layers that take and give data (N, T, I) instead of such that are transposed before and behind."""
    if not any(isinstance(node.op, RNN | GRU | LSTM) for node in model.graph.nodes):
        return model
    readers = Readers(model.graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        op = node.op
        if not isinstance(op, RNN | GRU | LSTM) or op.batch_first or readers.is_shown(node.outputs[0]):
            return None
        x, maker = node.inputs[0], node.inputs[0].producer if node.inputs[0] is not None else None
        source = operand(x, Transpose) if maker is not None and maker.op == _SWAPPED else None
        if source is None or any(user.op != _SWAPPED for user in readers.of(node.outputs[0])):
            return None
        y, *states = b.emit_many(replace(op, batch_first=True), b.new(source), *b.new_inputs(node)[1:])
        return (b.emit(_SWAPPED, y), *states)

    return prune(rewrite(model, "raise_recurrent", change))
