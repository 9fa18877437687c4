"""Moves elements as little as possible.

    a chain of Reshape, Transpose, Squeeze …      ->  the shortest chain that does the same, often nothing
    Linear(move(x)), the last axis kept           ->  move(Linear(x)), where only more moves follow
    Slices that are all parts of an axis          ->  Split
    Squeeze(one element of an axis)               ->  Gather of that element

Every rule is exact: elements are moved, none is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.linear import Linear
from isomorph.ir.ops.shape import Slice, Split, Squeeze
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.share import share
from isomorph.ir.passes.views import MOVES, Part, View, cost, materialize, merged, trace
from isomorph.ir.shapes import Dim

__all__ = ["join_slices", "pick_elements", "shorten_moves", "sink_moves"]


def shorten_moves(model: Model) -> Model:
    """The model with every chain of moves as short as we can say it."""
    graph = model.graph
    views, users = trace(graph, cuts=False), _Users(graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if not isinstance(node.op, MOVES) or users.only_moves(node.output):
            return None
        view = views[node.output]
        if view.source is node.output or cost(view) >= users.chain(node):
            return None
        made = materialize(b, view, b.new(view.source))
        return None if made is None else (made,)

    return prune(rewrite(model, "movement", change))


def sink_moves(model: Model) -> Model:
    """The model with Linears before the moves of their operands, where what reads them only moves as well."""
    graph = model.graph
    views, users = trace(graph, cuts=False), _Users(graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        x = node.inputs[0] if node.inputs else None
        if not isinstance(node.op, Linear) or x is None or not users.only_moves(node.output):
            return None
        view = views[x]
        if view.source is x or not _keeps_last(view):
            return None
        product = b.emit(node.op, b.new(view.source), *(value and b.new(value) for value in node.inputs[1:]))
        last = Part(view.source.rank - 1, product.shape[-1], 1)
        groups = (*view.groups[:-1], (last,) if product.shape[-1] != 1 else ())
        made = materialize(b, View(view.source, groups), product)
        return None if made is None else (made,)

    return prune(rewrite(model, "movement", change))


def _keeps_last(view: View) -> bool:
    """Whether the last axis is the last axis of the source, whole."""
    source = view.source
    if source.rank == 0 or not view.groups or source.shape[-1] == 1:
        return False
    return merged(view.groups[-1]) == [Part(source.rank - 1, source.shape[-1], 1)]


class _Users:
    """Who reads the values of a graph."""

    def __init__(self, graph: Graph) -> None:
        self._readers = graph.users()
        self._shown = set(graph.outputs.values())

    def only_moves(self, value: Value) -> bool:
        """Whether some node reads the value, and all that do only move it."""
        readers = self._readers.get(value, [])
        return value not in self._shown and bool(readers) and all(isinstance(each.op, MOVES) for each in readers)

    def only_squeezed(self, value: Value) -> bool:
        """Whether the value is read, and only by Squeezes."""
        readers = self._readers.get(value, [])
        return value not in self._shown and bool(readers) and all(isinstance(each.op, Squeeze) for each in readers)

    def chain(self, node: Node) -> int:
        """Number of moves up to this node that nothing else reads."""
        count = 1
        while True:
            operand = node.inputs[0]
            if operand is None or operand.producer is None or operand in self._shown:
                return count
            node = operand.producer
            if not isinstance(node.op, MOVES) or len(self._readers[operand]) != 1:
                return count
            count += 1


def join_slices(model: Model) -> Model:
    """The model with Splits instead of Slices that cut an axis into all its parts."""
    cuts = _partitions(model.graph)
    done: dict[tuple[Value, int], Sequence[Value]] = {}

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = cuts.get(node)
        if found is None:
            return None
        source, axis, sizes, position = found
        if (source, axis) not in done:
            done[source, axis] = b.emit_many(Split(axis, sizes), b.new(source))
        return (done[source, axis][position],)

    return prune(rewrite(model, "movement", change)) if cuts else model


def pick_elements(model: Model) -> Model:
    """The model with Gather where a Slice or a Split takes single elements that are squeezed."""
    users = _Users(model.graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        cut = node.inputs[0].producer if isinstance(node.op, Squeeze) and node.inputs[0] is not None else None
        if cut is None or not isinstance(node.op, Squeeze) or not all(map(users.only_squeezed, cut.outputs)):
            return None
        source = cut.inputs[0]
        at = None if source is None else _position(cut, node.inputs[0])
        if source is None or at is None or node.op.axes != (at[0],):
            return None
        return (b.emit(Gather(at[0]), b.new(source), b.constant(np.int64(at[1]), "index")),)

    return share(prune(rewrite(model, "movement", change)))


def _position(cut: Node, piece: Value | None) -> tuple[int, int] | None:
    """(axis, index) of the single element that a Slice, or this output of a Split into single elements, takes."""
    op, source = cut.op, cut.inputs[0]
    if isinstance(op, Split) and set(op.sizes) == {1} and source is not None:
        return op.axis % source.rank, next(at for at, value in enumerate(cut.outputs) if value is piece)
    if not isinstance(op, Slice) or len(op.axes) != 1 or op.steps != (1,) or source is None:
        return None
    axis, start = op.axes[0] % source.rank, op.starts[0] or 0
    single = cut.output.shape[axis] == 1 and source.shape[axis] != 1
    return (axis, start) if single and isinstance(start, int) else None


Cut = tuple[Value, int, tuple[Dim, ...], int]


def _partitions(graph: Graph) -> Mapping[Node, Cut]:
    """{slice: (source, axis, sizes of all parts, which of them it is)}."""
    slices: dict[tuple[Value, int], dict[int, Node]] = {}
    for node in graph.nodes:
        op, source = node.op, node.inputs[0] if node.inputs else None
        if not isinstance(op, Slice) or len(op.axes) != 1 or op.steps != (1,) or source is None:
            continue
        start = op.starts[0] or 0
        if isinstance(start, int) and start >= 0 and isinstance(node.output.shape[op.axes[0]], int):
            slices.setdefault((source, op.axes[0] % source.rank), {}).setdefault(start, node)
    cuts: dict[Node, Cut] = {}
    for (source, axis), parts in slices.items():
        starts = sorted(parts)
        sizes = tuple(parts[start].output.shape[axis] for start in starts)
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        if len(starts) > 1 and starts[0] == 0 and [*starts[1:], source.shape[axis]] == ends and 0 not in sizes:
            cuts.update((parts[start], (source, axis, sizes, at)) for at, start in enumerate(starts))
    return cuts
