"""Attention in ONNX.

It is written as the operator Attention from opset 23 on. A query without any key gives 0, as the errata of onnx 1.23
say and onnxruntime 1.32 does. Measured with the latter on one core, 12 heads of 197 x 64 and 8 heads of 512 x 64,
against MatMul, Softmax, MatMul between Transposes: the same bits; with heads side by side in 0.8 and 0.66 of the time,
with heads on axis 1 in the same.

A mask of numbers is another matter: onnxruntime 1.32 takes the type's lowest number for -inf, so that a query whose
keys are all masked with it gives 0, where the specification, PyTorch and softmax attend to all keys alike. Such a mask
is written with the number next to the lowest, which leaves as little of a score.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Value, ops
from isomorph.ir.bounds import bounds


@rules.exports(ops.ScaledDotProductAttention, ops.MultiHeadAttention)
def write_attention(out: Export, node: Node) -> None:
    """Attention of rank 4 (heads on axis 1) or 3 (heads side by side, as the attributes count them)."""
    op = node.op
    assert isinstance(op, ops.ScaledDotProductAttention | ops.MultiHeadAttention)
    heads = (op.heads, op.kv_heads) if isinstance(op, ops.MultiHeadAttention) else (None, None)
    causal = 1 if op.causal else None
    operands = [*node.inputs[:3], *(_without_lowest(out, node, mask) for mask in node.inputs[3:])]
    out.replace(
        "Attention",
        node,
        inputs=operands,
        is_causal=causal,
        scale=op.scale,
        q_num_heads=heads[0],
        kv_num_heads=heads[1],
    )


def _without_lowest(out: Export, node: Node, mask: Value | None) -> Value | str | None:
    """The mask with another number in place of the lowest of its type. An Attention of ONNX keeps what it has."""
    if mask is None or mask.dtype is DType.BOOL or node.origin.op == "Attention":
        return mask
    dtype = mask.dtype.numpy
    lowest = ml_dtypes.finfo(dtype).min
    least = bounds(mask)[0]
    if least > lowest:
        return mask
    if mask not in out.masks:
        above = out.constant(np.asarray(np.nextafter(lowest, np.zeros((), dtype)), dtype), "above_lowest")
        if least > -np.inf:
            out.masks[mask] = out.emit("Max", [mask, above])
        else:
            found = out.emit("Equal", [mask, out.constant(np.asarray(lowest, dtype), "lowest")])
            out.masks[mask] = out.emit("Where", [found, above, mask])
    return out.masks[mask]


def refuse_attention(node: Node, opset: int) -> str | None:
    """ONNX has it from opset 23 on, for a batch with heads."""
    if opset < 23:
        return f"opset {opset} has it only from 23 on"
    q, mask = node.inputs[0], node.inputs[3] if len(node.inputs) > 3 else None
    assert q is not None
    if q.rank == 2 or q.rank > 4 or (q.rank == 3 and isinstance(node.op, ops.ScaledDotProductAttention)):
        return "Attention has a batch and heads"
    keys = node.inputs[1]
    assert keys is not None
    lengths = (q.shape[-2], keys.shape[-2])
    plain = mask is None or (mask.rank >= 2 and mask.shape[-2:] == lengths)
    return None if plain else "runtimes do not broadcast the mask's last axes"


@rules.imports("Attention")
def read_attention(node: OnnxNode) -> Value:
    """Heads on axis 1, or packed in the last axis; what else Attention can do is read as the specification's body."""
    q, k, v, mask = node.value(0), node.value(1), node.value(2), node.optional(3)
    _require_plain(node, q)
    scale = node.attribute("scale")
    causal, factor = bool(node.attribute("is_causal", 0)), None if scale is None else float(scale)
    if q.rank == 4:
        return node.emit(ops.ScaledDotProductAttention(causal, factor, _group(node, q, k)), q, k, v, mask)
    heads, shared = int(node.attribute("q_num_heads", 0)), int(node.attribute("kv_num_heads", 0))
    if heads < 1 or shared < 1 or heads % shared:
        node.refuse(f"{heads} heads of queries for {shared} heads of keys")
    return node.emit(ops.MultiHeadAttention(heads, shared, causal, factor), q, k, v, mask)


def _group(node: OnnxNode, q: Value, k: Value) -> int:
    """The number of heads of queries for each head of keys."""
    queries, keys = q.shape[1], k.shape[1]
    if queries == keys:
        return 1
    if not isinstance(queries, int) or not isinstance(keys, int) or keys == 0 or queries % keys:
        node.refuse(f"{queries} heads of queries for {keys} heads of keys")
    return queries // keys


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
