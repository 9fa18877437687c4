"""Attention of the domain com.microsoft, without a cache of keys and values: with one it is kept as it is.

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
    masks = [_key_mask(node, 3, q, k), node.optional(5)]
    return _attend(node, (q, k, v), masks)


def _thirds(node: OnnxNode, width: Dim) -> list[int]:
    if not isinstance(width, int) or width % 3:
        node.refuse(f"queries, keys and values in {width} columns")
    return [width // 3] * 3


@rules.imports("com.microsoft.MultiHeadAttention")
def read_multi_head_attention(node: OnnxNode) -> Value:
    """q (N, L, H * E), k (N, S, H * E), v (N, S, H * V), or k and v (N, H, S, E); a bias for all three in one."""
    if any(node.has(position) for position in range(6, len(node.inputs))) or any(node.outputs[1:]):
        node.refuse("a cache of keys and values, or the scores as a result")
    if not (node.has(1) and node.has(2)):
        node.refuse("queries, keys and values in one tensor")
    q, k, v = node.value(0), node.value(1), node.value(2)
    if q.rank != 3 or k.rank != v.rank or k.rank not in (3, 4):
        node.refuse(f"operands {q.type}, {k.type}, {v.type}")
    if node.has(3):
        q, k, v = _biased(node, q, k, v)
    if k.rank == 4:
        k, v = (_side_by_side(node, each) for each in (k, v))
    masks = [_key_mask(node, 4, q, k), node.optional(5)]
    return _attend(node, (q, k, v), masks)


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


def _key_mask(node: OnnxNode, position: int, q: Value, k: Value) -> Value | None:
    """What is added to the scores: of a mask (N, S) or (N, L, S), 1 for what counts, or of lengths (N,)."""
    filtered = float(node.attribute("mask_filter_value", _FILTER))
    if not node.has(position):
        return None
    mask = node.value(position)
    if mask.rank == 1:
        if mask.shape[0] != q.shape[0]:
            node.refuse(f"lengths {mask.type} for a batch of {q.shape[0]}")
        keys = node.emit(ops.Range(0, 1, k.shape[1], mask.dtype))
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
    given = [mask for mask in masks if mask is not None]
    mask = given[0] if len(given) == 1 else node.emit(ops.Add(), *given) if given else None
    if heads < 1 or q.shape[-1] % heads != 0:
        node.refuse(f"{heads} heads of {q.type}")
    if causal and (q.dtype is DType.BFLOAT16 or q.shape[1] != k.shape[1]):
        node.refuse("causal attention of as many queries as keys is expressed")
    return node.emit(ops.MultiHeadAttention(heads, heads, causal, scale), q, k, v, mask)
