"""Attention of the domain com.microsoft.

A padding mask there adds `mask_filter_value`, -10000 where the file does not say, to the scores of keys that do not
count. See: docs/ContribOperators.md of microsoft/onnxruntime, Attention and MultiHeadAttention.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, DType, Value, ops

_FILTER = -10000.0


@rules.imports("com.microsoft.Attention")
def read_attention(node: OnnxNode) -> Value:
    """Self-attention with its projection: x (N, L, I), weight (I, 2 * H * E + H * V), bias."""
    x, weight, bias = node.value(0), node.value(1), node.optional(2)
    if node.has(4) or any(node.outputs[1:]) or node.attribute("past_present_share_buffer", 0):
        node.refuse("a cache of keys and values")
    if node.attribute("do_rotary", 0):
        node.refuse("rotary embedding")
    node.attribute("rotary_embedding_dim")  # says nothing without do_rotary
    widths = node.attribute("qkv_hidden_sizes") or _thirds(node, weight.shape[1])
    packed = node.emit(ops.MatMul(), x, weight)
    packed = packed if bias is None else node.emit(ops.Add(), packed, bias)
    q, k, v = node.graph.builder.emit_many(ops.Split(2, tuple(int(width) for width in widths)), packed)
    masks = [_key_mask(node, 3, q, k.shape[1]), node.optional(5)]
    return _attend(node, (q, k, v), masks)


def _thirds(node: OnnxNode, width: Dim) -> list[int]:
    if not isinstance(width, int) or width % 3:
        node.refuse(f"queries, keys and values in {width} columns")
    return [width // 3] * 3


@rules.imports("com.microsoft.MultiHeadAttention")
def read_multi_head_attention(node: OnnxNode) -> list[Value]:
    """q (N, L, H * E), k (N, S, H * E), v (N, S, H * V), or k and v (N, H, S, E); a bias for all three in one.

    Keys and values of a cache, (N, H, P, E), stand before the new ones; all of them are the further results.
    """
    if any(node.has(position) for position in range(8, len(node.inputs))) or any(node.outputs[3:]):
        node.refuse("a cache that is written in place, or the scores as a result")
    if not (node.has(1) and node.has(2)) or node.has(6) != node.has(7):
        node.refuse("queries, keys and values in one tensor, or half a cache")
    q, k, v = node.value(0), node.value(1), node.value(2)
    if q.rank != 3 or k.rank != v.rank or k.rank not in (3, 4):
        node.refuse(f"operands {q.type}, {k.type}, {v.type}")
    if node.has(3):
        q, k, v = _biased(node, q, k, v)
    if k.rank == 3 and (node.has(6) or any(node.outputs[1:])):
        return _with_cache(node, q, k, v)
    if any(node.outputs[1:]) or node.has(6):
        node.refuse("a cache beside keys that are apart")
    if k.rank == 4:
        k, v = (_side_by_side(node, each) for each in (k, v))
    masks = [_key_mask(node, 4, q, k.shape[1]), node.optional(5)]
    return [_attend(node, (q, k, v), masks)]


def _with_cache(node: OnnxNode, q: Value, k: Value, v: Value) -> list[Value]:
    heads = int(node.attribute("num_heads"))
    q, k, v = (heads_apart(node, each, heads) for each in (q, k, v))
    if node.has(6):
        k, v = (node.emit(ops.Concat(2), node.value(at), each) for at, each in ((6, k), (7, v)))
    total, length = k.shape[2], q.shape[2]
    masks = [_key_mask(node, 4, q, total), node.optional(5)]
    mask = _sum(node, masks)
    if node.attribute("unidirectional", 0):
        steps = node.emit(ops.Range(total - length, 1, length, DType.INT64))
        mask = _before(node, node.emit(ops.Reshape((length, 1)), steps), total, mask, q.dtype)
    scale = float(node.attribute("scale", 0.0)) or None
    y = node.emit(ops.ScaledDotProductAttention(scale=scale), q, k, v, mask)
    return [_side_by_side(node, y), k, v]


def _before(node: OnnxNode, steps: Value, total: Dim, mask: Value | None, dtype: DType) -> Value:
    """The mask of a query at each of `steps` (..., L, 1) for the keys up to it: bool, or with `mask` numbers."""
    allowed = node.emit(ops.LessOrEqual(), node.emit(ops.Range(0, 1, total, DType.INT64)), steps)
    if mask is None:
        return allowed
    none = node.graph.builder.constant(np.asarray(-np.inf, dtype.numpy), "minus_infinity")
    return node.emit(ops.Where(), allowed, mask, none)


def _sum(node: OnnxNode, masks: Sequence[Value | None]) -> Value | None:
    given = [mask for mask in masks if mask is not None]
    return node.emit(ops.Add(), *given) if len(given) == 2 else given[0] if given else None


def heads_apart(node: OnnxNode, x: Value, heads: int) -> Value:
    """(N, L, H * E) as (N, H, L, E)."""
    batch, length, width = x.shape
    if heads < 1 or not isinstance(width, int) or width % heads:
        node.refuse(f"{heads} heads of {x.type}")
    apart = node.emit(ops.Reshape((batch, length, heads, width // heads)), x)
    return node.emit(ops.Transpose((0, 2, 1, 3)), apart)


def _biased(node: OnnxNode, q: Value, k: Value, v: Value) -> list[Value]:
    bias, widths = node.value(3), tuple(each.shape[-1] for each in (q, k, v))
    if k.rank == 4:
        node.refuse("a bias of keys that are apart")
    parts = node.graph.builder.emit_many(ops.Split(0, widths), bias)
    return [node.emit(ops.Add(), each, part) for each, part in zip((q, k, v), parts, strict=True)]


def _side_by_side(node: OnnxNode, x: Value) -> Value:
    """(N, H, S, E) as (N, S, H * E)."""
    batch, heads, length, width = x.shape
    return node.emit(ops.Reshape((batch, length, heads * width)), node.emit(ops.Transpose((0, 2, 1, 3)), x))


def _key_mask(node: OnnxNode, position: int, q: Value, total: Dim) -> Value | None:
    """What is added to the scores of all keys: of a mask (N, S) or (N, L, S), 1 for what counts, or lengths (N,)."""
    filtered = float(node.attribute("mask_filter_value", _FILTER))
    if not node.has(position):
        return None
    mask = node.value(position)
    if mask.rank == 1:
        if mask.shape[0] != q.shape[0]:
            node.refuse(f"lengths {mask.type} for a batch of {q.shape[0]}")
        keys = node.emit(ops.Range(0, 1, total, mask.dtype))
        counts = node.emit(ops.Less(), keys, node.emit(ops.Reshape((q.shape[0], 1, 1, 1)), mask))
    elif mask.rank in (2, 3):
        zero = node.graph.builder.constant(np.zeros((), mask.dtype.numpy), "zero")
        rows = mask.shape[1:-1] or (1,)
        shaped = node.emit(ops.Reshape((mask.shape[0], 1, *rows, mask.shape[-1])), mask)
        counts = node.emit(ops.Greater(), shaped, zero)
    else:
        node.refuse(f"a mask {mask.type}")
    none, low = (node.graph.builder.constant(np.asarray(x, q.dtype.numpy), "mask_value") for x in (0.0, filtered))
    return node.emit(ops.Where(), counts, none, low)


def _attend(node: OnnxNode, qkv: Sequence[Value], masks: Sequence[Value | None]) -> Value:
    (q, k, v), heads = qkv, int(node.attribute("num_heads"))
    causal, scale = bool(node.attribute("unidirectional", 0)), float(node.attribute("scale", 0.0)) or None
    mask = _sum(node, masks)
    if heads < 1 or q.shape[-1] % heads != 0:
        node.refuse(f"{heads} heads of {q.type}")
    if causal and q.shape[1] != k.shape[1]:
        node.refuse("causal attention of another number of queries than keys")
    return node.emit(ops.MultiHeadAttention(heads, heads, causal, scale), q, k, v, mask)
