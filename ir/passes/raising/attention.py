"""Attention that a source spells out.

    s = q @ k^T, q or the product times or over a number
    s = s + mask, or Where(allowed, s, lowest)               lowest: a number that leaves nothing of a score
    s = s as (N, H, L, S), of (N * H, L, S)
    softmax(s) @ v                                       ->  ScaledDotProductAttention(q, k, v, mask)

The same formula; rounding may differ in the last place. Where every key of a query is hidden by -inf, softmax gives NaN
and the op 0: a mask that could add -inf everywhere is left alone (`leaves_a_key`), unless the source says 0 as well,

    Where(max(s) == -inf, 0, softmax(s)) @ v,  Where(IsNaN(softmax(s)), 0, softmax(s)) @ v

So is left alone what something else reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.ir.bounds import bounds
from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.activation import Softmax
from isomorph.ir.ops.attention import ScaledDotProductAttention, leaves_a_key
from isomorph.ir.ops.elementwise import Add, Not, Where
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.shape import ConstantOfShape, Expand, Reshape, Transpose
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.scores import Choice, Readers, Scores, constant_number, read_weights
from isomorph.ir.shapes import Shape, elements

__all__ = ["raise_attention"]

_DTYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
"""Element types for which runtimes have a kernel of attention."""


def raise_attention(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with ScaledDotProductAttention where its formula is spelled out for a batch of heads, (N, H, L, E).

    A target that refuses it gets our spelling of it, which scales once and looks for hidden queries only where there
    can be some.
    """
    if not any(isinstance(node.op, Softmax) for node in model.graph.nodes):
        return model
    readers = Readers(model.graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _matched(node, readers)
        if found is None:
            return None
        mask = _joined(b, found)
        certain = mask is None or leaves_a_key(mask)
        if not certain and not found.guarded:
            return None
        values = node.inputs[1]
        assert values is not None
        q, keys = (_apart(b, value, found.shape) for value in (found.q, found.keys))
        keys = b.emit(Transpose((0, 1, 3, 2)), keys)
        y = b.emit(ScaledDotProductAttention(scale=found.scale), q, keys, _apart(b, values, found.shape), mask)
        if not certain and refuses(refuse, y):
            return None
        return (y if y.shape == node.output.shape else b.emit(Reshape(node.output.shape), y),)

    return prune(rewrite(model, "raise_attention", change))


def _matched(node: Node, readers: Readers) -> Scores | None:
    """The scores of a node that is softmax(scores) @ values over a batch of heads."""
    if not isinstance(node.op, MatMul) or node.output.rank not in (3, 4) or node.output.dtype not in _DTYPES:
        return None
    weights, values = node.inputs
    found = read_weights(_divided_weights(weights, readers), readers)
    if found is None or values is None or len(found.shape) != 4 or not 0 < found.scale < np.inf:
        return None
    operands = (found.q, found.keys, values, node.output)
    fits = all(_batch(value, found.shape) == found.shape[:2] for value in operands)
    return found if fits and found.shape[3] == values.shape[-2] else None


def _divided_weights(weights: Value | None, readers: Readers) -> Value | None:
    """Weights (N, H, L, S) that are read as (N * H, L, S)."""
    node = readers.maker(weights, Reshape)
    if node is None or weights is None or node.inputs[0] is None:
        return weights
    inner = node.inputs[0]
    fits = inner.rank == 4 and weights.rank == 3 and inner.shape[2:] == weights.shape[1:]
    return inner if fits else weights


def _batch(value: Value, scores: Shape) -> Shape:
    """(N, H) of an operand of the product, which may have them as one axis."""
    together = value.rank == 3 and value.shape[0] == elements(scores[:2])
    return scores[:2] if together else value.shape[:-2]


def _apart(b: Rewriter, value: Value, scores: Shape) -> Value:
    """The operand with N and H on axes of their own."""
    new = b.new(value)
    return new if new.rank == 4 else b.emit(Reshape((*scores[:2], *value.shape[1:])), new)


def _joined(b: Rewriter, found: Scores) -> Value | None:
    """All masks as one (…, L, S): a truth value where one mask chooses between scores and -inf, else what is added."""
    masks = found.masks
    if len(masks) == 1 and isinstance(masks[0], Choice) and _hides_all(masks[0]):
        condition = b.new(masks[0].condition)
        return _spread(b, condition if masks[0].allowed else b.emit(Not(), condition), found.shape)
    total: Value | None = None
    for mask in masks:
        if isinstance(mask, Value) and _is_zero(mask):
            continue
        added = _apart_mask(b, mask, found.shape) if isinstance(mask, Value) else _chosen(b, mask)
        total = added if total is None else b.emit(Add(), total, added)
    return None if total is None else _spread(b, total, found.shape)


def _hides_all(mask: Value | Choice) -> bool:
    return isinstance(mask, Choice) and constant_number(mask.lowest) == -np.inf


def _apart_mask(b: Rewriter, mask: Value, scores: Shape) -> Value:
    """A mask that is added, (N * H, L, S) as (N, H, L, S)."""
    new = b.new(mask)
    together = new.rank == 3 and new.shape[0] == elements(scores[:2]) != 1
    return b.emit(Reshape((*scores[:2], *new.shape[1:])), new) if together else new


def _chosen(b: Rewriter, mask: Choice) -> Value:
    hidden = b.new(mask.lowest)
    nothing = b.constant(np.zeros((), hidden.dtype.numpy), "zero")
    return b.emit(Where(), b.new(mask.condition), *((nothing, hidden) if mask.allowed else (hidden, nothing)))


def _spread(b: Rewriter, mask: Value, scores: Shape) -> Value:
    """The mask with its last axes as the scores have them."""
    if mask.rank >= 2 and mask.shape[-2:] == scores[-2:]:
        return mask
    return b.emit(Expand((*mask.shape[:-2], *scores[-2:])), mask)


def _is_zero(value: Value) -> bool:
    """Whether a value is zeros that a constant or their number say."""
    if value.producer is not None and isinstance(value.producer.op, ConstantOfShape):
        return value.producer.op.value == 0
    return value.parameter is not None and value.parameter.role == "constant" and bounds(value) == (0.0, 0.0)
