"""Attention in ONNX.

It is written as the operator Attention where that says all: from opset 23 on, without a mask or with one that leaves
every query a key. Else it is decomposed. Measured with onnxruntime 1.32 on one core, 12 heads of 197 x 64 and 8 heads
of 512 x 64, against MatMul, Softmax, MatMul between Transposes: the same bits; with heads side by side in 0.8 and 0.66 of
the time, with heads on axis 1 in the same.
"""

from __future__ import annotations

from typing import Any

from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops
from isomorph.ir.ops.attention import leaves_a_key


@rules.exports(ops.ScaledDotProductAttention, ops.MultiHeadAttention)
def write_attention(out: Export, node: Node) -> None:
    """Attention of rank 4 (heads on axis 1) or 3 (heads side by side, as the attributes count them)."""
    op = node.op
    assert isinstance(op, ops.ScaledDotProductAttention | ops.MultiHeadAttention)
    packed = isinstance(op, ops.MultiHeadAttention)
    out.replace(
        "Attention",
        node,
        is_causal=1 if op.causal else None,
        scale=op.scale,
        q_num_heads=op.heads if packed else None,
        kv_num_heads=op.kv_heads if packed else None,
    )


def refuse_attention(node: Node, opset: int) -> str | None:
    """ONNX has it from opset 23 on, and leaves open what a query without any key gives; the IR says 0."""
    if opset < 23:
        return f"opset {opset} has it only from 23 on"
    q, mask = node.inputs[0], node.inputs[3] if len(node.inputs) > 3 else None
    assert q is not None
    if q.rank == 2 or q.rank > 4 or (q.rank == 3 and isinstance(node.op, ops.ScaledDotProductAttention)):
        return "Attention has a batch and heads"
    if mask is None:
        return None
    if isinstance(node.op, ops.ScaledDotProductAttention | ops.MultiHeadAttention) and node.op.causal:
        return "how a causal mask joins another one differs between runtimes"
    if not leaves_a_key(mask):
        return "a query may be without any key"
    keys = node.inputs[1]
    assert keys is not None
    lengths = (q.shape[-2], keys.shape[-2])
    return None if mask.rank >= 2 and mask.shape[-2:] == lengths else "runtimes do not broadcast the mask's last axes"


@rules.imports("Attention")
def read_attention(node: OnnxNode) -> Value:
    """Heads on axis 1, or packed in the last axis; what else Attention can do is read as the specification's body."""
    q, k, v, mask = node.value(0), node.value(1), node.value(2), node.optional(3)
    _require_plain(node, q)
    scale = node.attribute("scale")
    causal, factor = bool(node.attribute("is_causal", 0)), None if scale is None else float(scale)
    if q.rank == 4:
        if q.shape[1] != k.shape[1]:
            node.refuse("queries with more heads than keys")
        return node.emit(ops.ScaledDotProductAttention(causal, factor), q, k, v, mask)
    heads, shared = int(node.attribute("q_num_heads", 0)), int(node.attribute("kv_num_heads", 0))
    if heads < 1 or shared < 1 or heads % shared:
        node.refuse(f"{heads} heads of queries for {shared} heads of keys")
    return node.emit(ops.MultiHeadAttention(heads, shared, causal, factor), q, k, v, mask)


def _require_plain(node: OnnxNode, q: Value) -> None:
    """Refuse caches, further results, capped scores and a softmax in another type than that of the data."""
    if any(node.has(position) for position in range(4, len(node.inputs))):
        node.refuse("a cache of keys and values")
    if any(node.outputs[1:]):
        node.refuse("the cache or the scores as results")
    if node.attribute("softcap", 0.0):
        node.refuse("capped scores")
    precision: Any = node.attribute("softmax_precision")
    if precision not in (None, 0, element_type(q.dtype)):
        node.refuse("a softmax in another type than the data's")
