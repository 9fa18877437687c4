"""GroupQueryAttention of the domain com.microsoft: attention of a decoder with a cache.

Sequence n has seqlens_k[n] + 1 keys when the new ones, of L queries, are counted. Its queries stand at the steps from
seqlens_k[n] + 1 - L on, in a first run (L is the total length) from 0 on. New keys and values are written there, and
each query attends to the keys up to its own step. Rows of queries beyond the end of a sequence are unspecified.
See: docs/ContribOperators.md of microsoft/onnxruntime, GroupQueryAttention.
"""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.contrib_attention import heads_apart
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.shapes import as_dim, dim_max

_REFUSED = {
    "softcap": 0.0, "smooth_softmax": 0, "sliding_window_cache": 0, "qk_output": 0, "kv_cache_bit_width": 0,
    "k_quant_type": "NONE", "v_quant_type": "NONE",
}  # fmt: skip
"""Attributes that are expressed with this value alone."""


@rules.imports("com.microsoft.GroupQueryAttention")
def read_group_query_attention(node: OnnxNode) -> list[Value]:
    heads, groups = _plain(node)
    q, k, v = _projections(node, heads, groups)
    total = _total_length(node)
    length = q.shape[2]
    start = _starts(node, q.shape[0], length, total)
    steps = node.emit(ops.Add(), start, node.emit(ops.Range(0, 1, length, DType.INT64)))
    if node.attribute("do_rotary", 0):
        q, k = _rotated(node, q, k, steps)
    first = node.emit(ops.Reshape((q.shape[0],)), start)
    k, v = (_written(node, node.optional(at), each, first, total) for at, each in ((3, k), (4, v)))
    mask = _mask(node, steps, (q.shape[0], length, k.shape[2]), q.dtype)
    scale = float(node.attribute("scale", 0.0)) or None
    y = node.emit(ops.ScaledDotProductAttention(scale=scale, group=heads // groups), q, k, v, mask)
    joined = node.emit(ops.Transpose((0, 2, 1, 3)), y)
    return [node.emit(ops.Reshape((q.shape[0], length, heads * y.shape[3])), joined), k, v]


def _plain(node: OnnxNode) -> tuple[int, int]:
    """Heads of queries and of keys; what is not expressed is refused."""
    for name, value in _REFUSED.items():
        found = node.attribute(name, value)
        if found != value and not (name == "smooth_softmax" and found == -1):
            node.refuse(f"`{name}` = {found}")
    if not node.attribute("causal", 1) or any(node.has(position) for position in (9, *range(11, len(node.inputs)))):
        node.refuse("attention both ways, positions, sinks, a quantized cache or normalized queries")
    for name in ("qk_norm_epsilon", "q_norm_epsilon", "k_norm_epsilon"):
        node.attribute(name)  # without their weights they say nothing
    heads, groups = int(node.attribute("num_heads")), int(node.attribute("kv_num_heads"))
    if groups < 1 or heads % groups:
        node.refuse(f"{heads} heads of queries for {groups} of keys")
    return heads, groups


def _projections(node: OnnxNode, heads: int, groups: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values with heads apart; they may be side by side in one operand."""
    q = node.value(0)
    if node.has(1):
        k, v = node.value(1), node.value(2)
    else:
        width = q.shape[2]
        if not isinstance(width, int) or width % (heads + 2 * groups):
            node.refuse(f"queries, keys and values of {heads} and {groups} heads in {q.type}")
        each = width // (heads + 2 * groups)
        q, k, v = node.graph.builder.emit_many(ops.Split(2, (heads * each, groups * each, groups * each)), q)
    if k.rank != 3 or k.shape[1] != q.shape[1]:
        node.refuse(f"new keys {k.type} for queries {q.type}")
    return heads_apart(node, q, heads), heads_apart(node, k, groups), heads_apart(node, v, groups)


def _total_length(node: OnnxNode) -> Dim:
    known = node.graph.known(node.inputs[6])
    if known is None or known.size != 1:
        node.refuse("a total length that does not follow from shapes")
    return as_dim(known.ravel()[0])


def _starts(node: OnnxNode, batch: Dim, length: Dim, total: Dim) -> Value:
    """The step of the first query of each sequence, (N, 1)."""
    ends = node.emit(ops.Cast(DType.INT64), node.emit(ops.Reshape((batch, 1)), node.value(5)))
    count = node.emit(ops.Dims((length,), scalar=True))
    one = node.graph.builder.constant(np.asarray(1, np.int64), "one")
    after = node.emit(ops.Sub(), node.emit(ops.Add(), ends, one), count)
    zero = node.graph.builder.constant(np.asarray(0, np.int64), "zero")
    first_run = node.emit(ops.Equal(), count, node.emit(ops.Dims((total,), scalar=True)))
    return node.emit(ops.Where(), first_run, zero, after)


def _rotated(node: OnnxNode, q: Value, k: Value, steps: Value) -> tuple[Value, Value]:
    cos, sin = (node.emit(ops.Gather(0), node.value(at), steps) for at in (7, 8))
    op = ops.RotaryEmbedding(None, bool(node.attribute("rotary_interleaved", 0)))
    return node.emit(op, q, cos, sin), node.emit(op, k, cos, sin)


def _written(node: OnnxNode, past: Value | None, new: Value, first: Value, total: Dim) -> Value:
    """The cache with the new keys or values at their steps: of `total` steps, or as many as it has if that is more."""
    if past is None:
        if total != new.shape[2]:
            node.refuse(f"no cache of {total} steps")
        return new
    room = dim_max(total, past.shape[2])
    grown = (
        past if room == past.shape[2] else node.emit(ops.Pad(((0, 0), (0, 0), (0, room - past.shape[2]), (0, 0))), past)
    )
    return node.emit(ops.TensorScatter(2), grown, new, first)


def _mask(node: OnnxNode, steps: Value, sizes: tuple[Dim, Dim, Dim], dtype: DType) -> Value:
    """Keys up to the step of the query, and with a window only the last ones; scores may be added."""
    batch, length, total = sizes
    rows = node.emit(ops.Reshape((batch, 1, length, 1)), steps)
    keys = node.emit(ops.Range(0, 1, total, DType.INT64))
    allowed = node.emit(ops.LessOrEqual(), keys, rows)
    window = int(node.attribute("local_window_size", -1))
    if window >= 0:
        span = node.graph.builder.constant(np.asarray(window, np.int64), "window")
        inside = node.emit(ops.Greater(), keys, node.emit(ops.Sub(), rows, span))
        allowed = node.emit(ops.And(), allowed, inside)
    if not node.has(10):
        return allowed
    none = node.graph.builder.constant(np.asarray(-np.inf, dtype.numpy), "minus_infinity")
    return node.emit(ops.Where(), allowed, node.value(10), none)
