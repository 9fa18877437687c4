"""Operators of the domain com.microsoft that onnxruntime's optimizers write in place of several of ONNX's.

They are read as what they stand for: files are written without them, and onnxruntime fuses them again.
Attention is in contrib_attention.py, quantized operators are in contrib_quant.py.
See: docs/ContribOperators.md of microsoft/onnxruntime.
"""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.conv import read_conv
from isomorph.converters.onnx.linear import read_gemm
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Op, Value, ops

_DOMAIN = "com.microsoft"


@rules.imports(f"{_DOMAIN}.FusedMatMul", f"{_DOMAIN}.TransposeMatMul")
def read_fused_matmul(node: OnnxNode) -> Value:
    """alpha * a' b', matrices in the last two axes or, with transBatch, in the first and the last."""
    a, b = (_matrices(node, position, side) for position, side in enumerate("AB"))
    product = node.emit(ops.MatMul(), a, b)
    alpha = float(node.attribute("alpha", 1.0))
    return product if alpha == 1.0 else node.emit(ops.Mul(), product, _number(node, alpha, product))


def _matrices(node: OnnxNode, position: int, side: str) -> Value:
    x = node.value(position)
    swapped, first = bool(node.attribute(f"trans{side}", 0)), bool(node.attribute(f"transBatch{side}", 0))
    if x.rank < 2 or not (swapped or first):
        return x
    axes = [*range(1, x.rank - 1), 0, x.rank - 1] if first else list(range(x.rank))
    if swapped:
        axes[-2:] = axes[:-3:-1]
    return node.emit(ops.Transpose(tuple(axes)), x)


@rules.imports(f"{_DOMAIN}.Gelu", f"{_DOMAIN}.BiasGelu", f"{_DOMAIN}.FastGelu")
def read_gelu(node: OnnxNode) -> Value:
    x, bias = node.value(0), node.optional(1)
    if bias is not None:
        x = node.emit(ops.Add(), x, bias)
    return node.emit(ops.Gelu("tanh" if node.kind.endswith("FastGelu") else "none"), x)


@rules.imports(f"{_DOMAIN}.QuickGelu")
def read_quick_gelu(node: OnnxNode) -> Value:
    return node.emit(ops.Swish(float(node.attribute("alpha", 1.702))), node.value(0))


@rules.imports(f"{_DOMAIN}.BiasSplitGelu")
def read_bias_split_gelu(node: OnnxNode) -> Value:
    """The left half of x + bias times GELU of the right half."""
    x = node.emit(ops.Add(), node.value(0), node.value(1))
    half = x.shape[-1] // 2
    left, right = node.graph.builder.emit_many(ops.Split(x.rank - 1, (half, x.shape[-1] - half)), x)
    return node.emit(ops.Mul(), left, node.emit(ops.Gelu(), right))


@rules.imports(f"{_DOMAIN}.BiasAdd")
def read_bias_add(node: OnnxNode) -> Value:
    return node.emit(ops.Add(), node.emit(ops.Add(), node.value(0), node.value(1)), node.value(2))


@rules.imports(f"{_DOMAIN}.SkipLayerNormalization", f"{_DOMAIN}.SkipSimplifiedLayerNormalization")
def read_skip_normalization(node: OnnxNode) -> list[Value]:
    """The normalized sum of x, skip and bias, and as the fourth result the sum."""
    simplified = "Simplified" in node.kind
    bias = node.optional(3 if simplified else 4)
    total = node.emit(ops.Add(), node.value(0), node.value(1))
    if bias is not None:
        total = node.emit(ops.Add(), total, bias)
    if any(node.outputs[1:3]):
        node.refuse("the statistics as results")
    epsilon, axis = float(node.attribute("epsilon", 1e-12)), total.rank - 1
    if simplified:
        y = node.emit(ops.RMSNormalization(epsilon, axis), total, node.value(2))
    else:
        y = node.emit(ops.LayerNormalization(epsilon, axis), total, node.value(2), node.optional(3))
    return [y, total, total, total]


@rules.imports("SimplifiedLayerNormalization")
def read_simplified_normalization(node: OnnxNode) -> Value:
    """RMSNormalization before opset 23 had it; onnxruntime has it in ONNX's own domain."""
    x, scale = node.value(0), node.value(1)
    if any(node.outputs[1:]):
        node.refuse("the statistics as results")
    if int(node.attribute("stash_type", 1)) != 1 and x.dtype is not DType.FLOAT64:
        node.refuse("statistics in another type than float32")
    op = ops.RMSNormalization(float(node.attribute("epsilon", 1e-5)), node.axis(x.rank, -1))
    if scale.dtype is x.dtype:
        return node.emit(op, x, scale)
    return node.emit(op, node.require_dtype(x, scale.dtype), scale)


@rules.imports(f"{_DOMAIN}.EmbedLayerNormalization")
def read_embed_normalization(node: OnnxNode) -> list[Value]:
    """The normalized sum of the embeddings of words, positions and segments; how many words count; the sum."""
    words, segments, positions = node.value(0), node.optional(1), node.optional(8)
    table = node.value(3)
    total = node.emit(ops.Embedding(), words, node.value(2))
    if positions is None:
        positions = node.emit(ops.Range(0, 1, words.shape[1], DType.INT64))
    total = node.emit(ops.Add(), total, node.emit(ops.Embedding(), positions, table))
    if segments is not None and node.has(4):
        total = node.emit(ops.Add(), total, node.emit(ops.Embedding(), segments, node.value(4)))
    op = ops.LayerNormalization(float(node.attribute("epsilon", 1e-12)), 2)
    y = node.emit(op, total, node.value(5), node.value(6))
    node.attribute("mask_index_type")  # says whether there is a second result
    return [y, _words_that_count(node, words, node.optional(7)), total]


def _words_that_count(node: OnnxNode, words: Value, mask: Value | None) -> Value:
    """The number of 1 in each row of the mask (N, L), int32; 0 without a mask."""
    if mask is None:
        return node.emit(ops.ConstantOfShape((words.shape[0],), 0, DType.INT32))
    kept = node.emit(ops.Equal(), mask, _number(node, 1, mask))
    return node.emit(ops.ReduceSum((1,), keepdims=False), node.emit(ops.Cast(DType.INT32), kept))


@rules.imports(f"{_DOMAIN}.FusedConv")
def read_fused_conv(node: OnnxNode) -> Value:
    """activation(conv(x, w) + b + z)."""
    y = read_conv(node)
    if node.has(3):
        y = node.emit(ops.Add(), y, node.value(3))
    given = [float(number) for number in node.attribute("activation_params", ())]
    return _activated(node, y, node.attribute("activation", ""), given)


@rules.imports(f"{_DOMAIN}.FusedGemm")
def read_fused_gemm(node: OnnxNode) -> Value:
    names = ("activation_alpha", "activation_beta")
    given = [float(node.attribute(name)) for name in names if name in node.attributes]
    return _activated(node, read_gemm(node), node.attribute("activation", ""), given)


def _activated(node: OnnxNode, x: Value, name: str, given: list[float]) -> Value:
    plain: dict[str, Op] = {"Relu": ops.Relu(), "Tanh": ops.Tanh(), "Sigmoid": ops.Sigmoid()}
    if not name or name in plain:
        return x if not name else node.emit(plain[name], x)
    if name == "LeakyRelu":
        return node.emit(ops.LeakyRelu(given[0] if given else 0.01), x)
    if name == "HardSigmoid" and len(given) in (0, 2):
        return node.emit(ops.HardSigmoid(*(given or (0.2, 0.5))), x)
    if name == "Clip" and len(given) == 2:
        return node.emit(ops.Clip(*given), x)
    return node.refuse(f"activation {name!r} with {given}")


@rules.imports(f"{_DOMAIN}.RotaryEmbedding")
def read_rotary(node: OnnxNode) -> Value:
    """Angles (max, R / 2) at the positions (N, L), or from one position (1,) on."""
    x, positions, cos, sin = (node.value(position) for position in range(4))
    heads, turned = int(node.attribute("num_heads", 0)), int(node.attribute("rotary_embedding_dim", 0))
    if float(node.attribute("scale", 1.0)) != 1.0 or node.attribute("is_packed_batching", 0):
        node.refuse("a scale, or sequences packed in one")
    if x.rank == 3 and not heads:
        width = 2 * cos.shape[1]
        if not isinstance(width, int) or not isinstance(x.shape[2], int) or x.shape[2] % width:
            node.refuse(f"packed heads of {x.type} that are not counted")
        heads = x.shape[2] // width
    if turned and cos.shape[1] != turned // 2:
        node.refuse(f"{cos.shape[1]} angles for {turned} elements")
    if positions.rank == 1:
        length = x.shape[1 if x.rank == 3 else 2]
        steps = node.emit(ops.Add(), node.emit(ops.Range(0, 1, length, DType.INT64)), positions)
        positions = node.emit(ops.Expand((x.shape[0], length)), steps)
    cos, sin = (node.emit(ops.Gather(0), table, positions) for table in (cos, sin))
    op = ops.RotaryEmbedding(heads if x.rank == 3 else None, bool(node.attribute("interleaved", 0)))
    return node.emit(op, x, cos, sin)


def _number(node: OnnxNode, number: float, like: Value) -> Value:
    return node.graph.builder.constant(np.asarray(number, like.dtype.numpy), "scalar")
