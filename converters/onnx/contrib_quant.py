"""Quantized operators of the domain com.microsoft, as float operators between DequantizeLinear and QuantizeLinear.

What onnxruntime computes in whole numbers may differ from that by one step where a quotient is close to a half.
See: docs/ContribOperators.md of microsoft/onnxruntime.
"""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.pool import read_average_pool
from isomorph.converters.onnx.qoperator import dequantized, quantized
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DerivedTensor, DType, Layout, Op, Parameter, TensorSource, Value, ops

_DOMAIN = "com.microsoft"


@rules.imports(f"{_DOMAIN}.QLinearAdd", f"{_DOMAIN}.QLinearMul")
def read_binary(node: OnnxNode) -> Value:
    a, b = (dequantized(node, node.value(at), node.value(at + 1), node.optional(at + 2)) for at in (0, 3))
    op: Op = ops.Add() if node.kind.endswith("Add") else ops.Mul()
    return quantized(node, node.emit(op, a, b), node.value(6), node.optional(7), node.value(0).dtype)


@rules.imports(f"{_DOMAIN}.QLinearSigmoid", f"{_DOMAIN}.QLinearLeakyRelu", f"{_DOMAIN}.QLinearSoftmax")
def read_unary(node: OnnxNode) -> Value:
    x = node.value(0)
    op: Op = ops.Sigmoid()
    if node.kind.endswith("LeakyRelu"):
        op = ops.LeakyRelu(float(node.attribute("alpha", 0.01)))
    elif node.kind.endswith("Softmax"):
        axis = node.axis(x.rank, -1)
        if int(node.attribute("opset", 13)) < 13 and axis != x.rank - 1:
            node.refuse("a softmax over several axes")
        op = ops.Softmax(axis)
    y = node.emit(op, dequantized(node, x, node.value(1), node.optional(2)))
    return quantized(node, y, node.value(3), node.optional(4), x.dtype)


@rules.imports(f"{_DOMAIN}.QLinearAveragePool", f"{_DOMAIN}.QLinearGlobalAveragePool")
def read_pool(node: OnnxNode) -> Value:
    x = node.value(0)
    data = dequantized(node, x, node.value(1), node.optional(2))
    if node.kind.endswith("QLinearGlobalAveragePool"):
        last = bool(node.attribute("channels_last", 0))
        y = node.emit(ops.GlobalAveragePool(layout=Layout.CHANNELS_LAST if last else Layout.CHANNELS_FIRST), data)
    elif node.attribute("channels_last", 0):
        node.refuse("channels last")
    else:
        y = read_average_pool(node, data)
    return quantized(node, y, node.value(3), node.optional(4), x.dtype)


@rules.imports(f"{_DOMAIN}.QLinearConcat")
def read_concat(node: OnnxNode) -> Value:
    zero_point = node.value(1)
    parts = [
        dequantized(node, node.value(at), node.value(at + 1), node.value(at + 2))
        for at in range(2, len(node.inputs), 3)
    ]
    y = node.emit(ops.Concat(node.axis(parts[0].rank, 0)), *parts)
    return quantized(node, y, node.value(0), zero_point, zero_point.dtype)


@rules.imports(f"{_DOMAIN}.QuantizeLinear", f"{_DOMAIN}.DequantizeLinear")
def read_linear(node: OnnxNode) -> Value:
    x, scale, zero_point = node.value(0), node.value(1), node.optional(2)
    axis = node.axis(x.rank, 1) if scale.rank and "axis" in node.attributes else 0
    if scale.rank and scale.type.size == 1:
        scale = node.emit(ops.Reshape(()), scale)
        zero_point = None if zero_point is None else node.emit(ops.Reshape(()), zero_point)
    if node.kind.endswith("DequantizeLinear"):
        return node.emit(ops.DequantizeLinear(scale.dtype, axis), x, scale, zero_point)
    dtype = DType.UINT8 if zero_point is None else zero_point.dtype
    return node.emit(ops.QuantizeLinear(dtype, axis), x, scale, zero_point)


@rules.imports(f"{_DOMAIN}.QGemm")
def read_qgemm(node: OnnxNode) -> Value:
    """alpha * a' b' + c, c in steps of alpha * a_scale * b_scale; a float without a scale of the result."""
    trans_a, trans_b = bool(node.attribute("transA", 0)), bool(node.attribute("transB", 0))
    a = dequantized(node, node.value(0), node.value(1), node.value(2))
    b = dequantized(node, node.value(3), node.value(4), node.value(5), 0 if trans_b else 1)
    alpha = float(node.attribute("alpha", 1.0))
    c = None
    if node.has(6):
        steps = node.emit(ops.Mul(), *(_flat(node, node.value(position)) for position in (1, 4)))
        if alpha != 1.0:
            steps = node.emit(ops.Mul(), steps, _number(node, alpha, steps))
        c = dequantized(node, node.value(6), steps, None, -1)
    y = node.emit(ops.Gemm(alpha, 1.0, trans_a, trans_b), a, b, c)
    if not node.has(7):
        return y
    return quantized(node, y, node.value(7), node.optional(8), node.value(0).dtype)


@rules.imports(f"{_DOMAIN}.DynamicQuantizeMatMul", f"{_DOMAIN}.MatMulIntegerToFloat")
def read_integer_product(node: OnnxNode) -> Value:
    """The product of 8-bit integers times both scales, plus a bias: exact sums in int32."""
    if node.kind.endswith("DynamicQuantizeMatMul"):
        a, a_scale, a_zero = node.graph.builder.emit_many(ops.DynamicQuantizeLinear(), node.value(0))
        b_scale, b_zero, bias = node.value(2), node.optional(3), node.optional(4)
    else:
        a, a_scale, a_zero = node.value(0), node.value(2), node.optional(4)  # type: ignore[assignment]
        b_scale, b_zero, bias = node.value(3), node.optional(5), node.optional(6)
    a_scale, b_scale = _flat(node, a_scale), _flat(node, b_scale)
    if a_scale.rank or (a_zero is not None and a_zero.type.size != 1):
        node.refuse(f"several scales {a_scale.type} of the data")
    exact = node.emit(ops.MatMulInteger(), a, node.value(1), a_zero, b_zero)
    whole = node.emit(ops.Cast(a_scale.dtype), exact)
    y = node.emit(ops.Mul(), whole, node.emit(ops.Mul(), a_scale, b_scale))
    return y if bias is None else node.emit(ops.Add(), y, bias)


@rules.imports(f"{_DOMAIN}.MatMulNBits")
def read_matmul_nbits(node: OnnxNode) -> Value:
    """A linear layer whose weight (N, K) has blocks of `block_size` along K: (w - zero_point) * scale."""
    columns, width, bits = int(node.attribute("N")), int(node.attribute("K")), int(node.attribute("bits", 4))
    block, dtype = int(node.attribute("block_size")), {2: DType.UINT2, 4: DType.UINT4, 8: DType.UINT8}.get(bits)
    node.attribute("accuracy_level")  # how the runtime computes
    if dtype is None or node.has(4) or int(node.attribute("weight_prepacked", 0)):
        node.refuse(f"weights of {bits} bits, in another order, or packed anew")
    if min(columns, width, block) < 1:
        node.refuse(f"a weight of {columns} x {width} in blocks of {block}")
    blocks = -(-width // block)
    weight = _unpacked(node, 1, dtype, (columns, blocks * block), (columns, width))
    scale = node.emit(ops.Reshape((columns, blocks)), node.value(2))
    if node.has(3):
        zero_point = _unpacked(node, 3, dtype, (columns, -(-blocks * bits // 8) * 8 // bits), (columns, blocks))
    else:
        middle = np.full((columns, blocks), 1 << bits - 1, np.uint8).astype(dtype.numpy)
        zero_point = node.graph.builder.constant(middle, "zero_point")
    w = node.emit(ops.DequantizeLinear(scale.dtype, 1, block), weight, scale, zero_point)
    return node.emit(ops.Linear(), node.value(0), w, node.optional(5))


def _unpacked(node: OnnxNode, position: int, dtype: DType, stored: tuple[int, int], shape: tuple[int, int]) -> Value:
    """A parameter of small integers, the first in the lowest bits of each byte of one that the file has."""
    name = node.inputs[position]
    packed = node.graph.constants.get(name)
    if packed is None or packed.data.dtype is not DType.UINT8 or name in node.graph.perms:
        node.refuse(f"operand {position} is computed, or is no bytes")
    if packed.data.size * 8 != stored[0] * stored[1] * dtype.bits:
        node.refuse(f"operand {position} has {packed.data.size} bytes for {stored[0]} x {stored[1]} of {dtype}")
    key = (name, dtype, shape)
    if key not in node.graph.parts:
        node.graph.parts[key] = Parameter(name, _cut(packed.data, dtype, stored, shape), packed.trainable, packed.role)
    made = node.graph.parts[key]
    assert made is not None
    return node.graph.builder.parameter(made)


def _cut(packed: TensorSource, dtype: DType, stored: tuple[int, int], shape: tuple[int, int]) -> TensorSource:
    def elements(data: np.ndarray) -> np.ndarray:
        shifts = np.arange(0, 8, dtype.bits, dtype=np.uint8)
        codes = (data.reshape(-1, 1) >> shifts) & ((1 << dtype.bits) - 1)
        return codes.reshape(stored)[:, : shape[1]].astype(np.uint8).astype(dtype.numpy)

    return DerivedTensor(dtype, shape, (packed,), elements)


def _flat(node: OnnxNode, scale: Value) -> Value:
    return node.emit(ops.Reshape(()), scale) if scale.rank and scale.type.size == 1 else scale


def _number(node: OnnxNode, number: float, like: Value) -> Value:
    return node.graph.builder.constant(np.asarray(number, like.dtype.numpy), "scalar")
