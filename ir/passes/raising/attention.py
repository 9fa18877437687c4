"""Attention whose heads were split off an axis and are joined again: the heads stay side by side.

    q, k, v = Transpose(Reshape(x, (N, L, H, E)), (0, 2, 1, 3)) …        q, k, v = x …
    y = ScaledDotProductAttention(q, k, v)                         ->    y = MultiHeadAttention(q, k, v, heads=H)
    Reshape(Transpose(y, (0, 2, 1, 3)), (N, L, H * E))

However the source spells it: heads that are split off batch first or sequence first, through (N * H, L, E), or out of
one product that holds queries, keys and values. What splits and joins is left to die, or to be shortened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.attention import MultiHeadAttention, ScaledDotProductAttention
from isomorph.ir.ops.shape import Reshape, Transpose
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.views import Group, Part, View, cost, materialize, trace
from isomorph.ir.shapes import elements

__all__ = ["raise_attention"]


def raise_attention(model: Model) -> Model:
    """The model with MultiHeadAttention where the heads of queries, keys and values lie side by side."""
    if not any(isinstance(node.op, ScaledDotProductAttention) for node in model.graph.nodes):
        return model
    views = trace(model.graph, cuts=True)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        packed = _packed_operands(node, views)
        if packed is None:
            return None
        op = node.op
        assert isinstance(op, ScaledDotProductAttention)
        q, k, v = (materialize(b, view, b.new(view.source)) for view in packed)
        mask = node.inputs[3] if len(node.inputs) > 3 else None
        batch, heads, length, width = node.output.shape
        if q is None or k is None or v is None or not isinstance(heads, int):
            return None
        y = b.emit(MultiHeadAttention(heads, heads, op.causal, op.scale), q, k, v, mask and b.new(mask))
        apart = b.emit(Reshape((batch, length, heads, width)), y)
        return (b.emit(Transpose((0, 2, 1, 3)), apart),)

    return prune(rewrite(model, "raise_attention", change))


_MOST_MOVES = 3


def _packed_operands(node: Node, views: Mapping[Value, View]) -> list[View] | None:
    """The queries, keys and values as views (N, L, H * E) of what they were split from; None if one is no such view."""
    if not isinstance(node.op, ScaledDotProductAttention) or node.output.rank != 4:
        return None
    batch, heads, _, _ = node.output.shape
    found = []
    for operand in node.inputs[:3]:
        if operand is None or operand.rank != 4 or operand.shape[:2] != (batch, heads):
            return None
        view = _packed(views[operand])
        if view is None or view.source is operand or cost(view) > _MOST_MOVES:
            return None
        found.append(view)
    return found


def _packed(view: View) -> View | None:
    """(N, H, L, E) as (N, L, H * E), where H and E are parts of one axis that stand side by side there."""
    batch, heads, length, width = view.groups
    joined: Group = (*heads, *width)
    if not heads or not width or len({part.axis for part in joined}) != 1:
        return None
    last: Part = joined[-1]
    apart = all(one.stride == other.stride * other.size for one, other in pairwise(joined))
    if not apart or last.stride != 1 or any(part.axis == last.axis for part in (*batch, *length)):
        return None
    whole = Part(last.axis, elements(part.size for part in joined), 1)
    return View(view.source, (batch, length, (whole,)), view.origin)
