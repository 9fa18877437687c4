"""Attention whose heads were split off an axis and are joined again: the heads stay side by side.

    q, k, v = Transpose(Reshape(x, (N, L, H, E)), (0, 2, 1, 3)) …        q, k, v = x …
    y = ScaledDotProductAttention(q, k, v)                         ->    y = MultiHeadAttention(q, k, v, heads=H)
    Reshape(Transpose(y, (0, 2, 1, 3)), (N, L, H * E))

However the source spells it: heads that are split off batch first or sequence first, through (N * H, L, E), or out of
one product that holds queries, keys and values. Rotary position embedding on the way takes heads side by side as well.
What splits and joins is left to die, or to be shortened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.attention import MultiHeadAttention, ScaledDotProductAttention
from isomorph.ir.ops.rotary import RotaryEmbedding
from isomorph.ir.ops.shape import Expand, Reshape, Transpose
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.views import MOVES, Group, Part, View, cost, materialize, trace
from isomorph.ir.shapes import Dim, elements

__all__ = ["pack_heads"]


def pack_heads(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with MultiHeadAttention where the heads of queries, keys and values lie side by side."""
    if not any(isinstance(node.op, ScaledDotProductAttention) for node in model.graph.nodes):
        return model
    model = _pack_rotary(model, refuse)
    views = trace(model.graph, cuts=True)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        op = node.op
        if not isinstance(op, ScaledDotProductAttention) or node.output.rank != 4:
            return None
        batch, heads, length, width = node.output.shape
        if not isinstance(heads, int):
            return None
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        group, shared = _shared_heads(node, op)
        packed = _packed_operands(shared, (batch, heads, heads // group), views)
        if packed is None and group == op.group:
            return None
        if packed is None:
            kept = (None if value is None else b.new(value) for value in (*shared, mask))
            return (b.emit(replace(op, group=group), *kept),)
        q, k, v = (materialize(b, view, b.new(view.source)) for view in packed)
        y = b.emit(MultiHeadAttention(heads, heads // group, op.causal, op.scale), q, k, v, mask and b.new(mask))
        if refuses(refuse, y):
            return None
        apart = b.emit(Reshape((batch, length, heads, width)), y)
        return (b.emit(Transpose((0, 2, 1, 3)), apart),)

    return prune(rewrite(model, "pack_heads", change))


def _pack_rotary(model: Model, refuse: Refuse) -> Model:
    """The model with RotaryEmbedding of heads side by side where they were split off one axis."""
    views = trace(model.graph, cuts=True)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        op, x = node.op, node.inputs[0] if node.inputs else None
        if not isinstance(op, RotaryEmbedding) or op.heads is not None or x is None:
            return None
        batch, heads, length, width = x.shape
        view = _packed(views[x]) if isinstance(heads, int) else None
        if view is None or view.source is x or cost(view) > _MOST_MOVES:
            return None
        packed = materialize(b, view, b.new(view.source))
        angles = (value and b.new(value) for value in node.inputs[1:])
        y = b.emit(replace(op, heads=int(heads)), packed, *angles)  # type: ignore[arg-type]
        if refuses(refuse, y):
            return None
        return (b.emit(Transpose((0, 2, 1, 3)), b.emit(Reshape((batch, length, heads, width)), y)),)

    return prune(rewrite(model, "pack_heads", change))


_MOST_MOVES = 3


def _shared_heads(node: Node, op: ScaledDotProductAttention) -> tuple[int, tuple[Value | None, ...]]:
    """(queries for each head of keys, operands) without copies of the heads of keys and values."""
    q, k, v = node.inputs[:3]
    assert k is not None and v is not None
    (copies, keys), (others, values) = _uncopied(k), _uncopied(v)
    return (op.group * copies, (q, keys, values)) if copies == others else (op.group, (q, k, v))


def _uncopied(x: Value) -> tuple[int, Value]:
    """(r, heads) of Reshape(Expand(Unsqueeze(heads, 2), (N, G, r, S, E)), (N, G * r, S, E)), else (1, x)."""
    outer = x.producer
    inner = outer.inputs[0] if outer is not None and isinstance(outer.op, Reshape) else None
    middle = inner.producer if inner is not None else None
    if inner is None or middle is None or not isinstance(middle.op, Expand) or inner.rank != 5 or x.rank != 4:
        return 1, x
    batch, heads, copies, length, width = inner.shape
    single = middle.inputs[0]
    if single is None or single.shape != (batch, heads, 1, length, width) or not isinstance(copies, int):
        return 1, x
    move = single.producer
    source = move.inputs[0] if move is not None and isinstance(move.op, MOVES) else None
    fits = source is not None and source.shape == (batch, heads, length, width)
    return (copies, source) if fits and source is not None and x.shape[1] == heads * copies else (1, x)


def _packed_operands(
    operands: Sequence[Value | None], sizes: tuple[Dim, int, int], views: Mapping[Value, View]
) -> list[View] | None:
    """The queries, keys and values as views (N, L, H * E) of what they were split from; None if one is no such view."""
    batch, heads, shared = sizes
    found = []
    for operand, count in zip(operands, (heads, shared, shared), strict=True):
        if operand is None or operand.rank != 4 or operand.shape[:2] != (batch, count):
            return None
        view = _packed(views[operand])
        if view is None or view.source is operand or cost(view) > _MOST_MOVES:
            return None
        found.append(view)
    return found


def _packed(view: View) -> View | None:
    """(N, H, L, E) as (N, L, H * E), where H and E stand side by side: parts of one axis, or two axes that follow each
    other."""
    batch, heads, length, width = view.groups
    joined: Group = (*heads, *width)
    axes = {part.axis for part in joined}
    if not heads or not width or any(part.axis in axes for part in (*batch, *length)):
        return None
    if len(axes) == 2:
        ends = [view.source.shape[part.axis] == part.size and part.stride == 1 for part in joined]
        follow = len(joined) == 2 and width[0].axis == heads[0].axis + 1
        return View(view.source, (batch, length, joined), view.origin) if follow and all(ends) else None
    last: Part = joined[-1]
    apart = all(one.stride == other.stride * other.size for one, other in pairwise(joined))
    if len(axes) != 1 or not apart or last.stride != 1:
        return None
    whole = Part(last.axis, elements(part.size for part in joined), 1)
    return View(view.source, (batch, length, (whole,)), view.origin)
