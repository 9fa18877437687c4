"""Operators on quantized tensors in ONNX (the QOperator form), read as the float operator between DequantizeLinear and
QuantizeLinear (the QDQ form), which is what they compute up to the rounding of halves.

See: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, "ONNX quantization representation".
"""

from __future__ import annotations

from isomorph.converters.onnx.conv import explicit_pads
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Op, Value, ops

__all__ = ["dequantized", "quantized"]


def dequantized(node: OnnxNode, x: Value, scale: Value, zero_point: Value | None, axis: int = 0) -> Value:
    """(x - zero_point) * scale, with one scale, or one for each index of `axis`."""
    scale, zero_point = _paired(node, x, scale, zero_point, axis)
    return node.emit(ops.DequantizeLinear(scale.dtype, axis % max(x.rank, 1)), x, scale, zero_point)


def quantized(node: OnnxNode, y: Value, scale: Value, zero_point: Value | None, dtype: DType) -> Value:
    """y in steps of the scale, of the type of its zero point."""
    scale, zero_point = _paired(node, y, scale, zero_point, 0)
    return node.emit(ops.QuantizeLinear(dtype if zero_point is None else zero_point.dtype, 0), y, scale, zero_point)


def _paired(node: OnnxNode, x: Value, scale: Value, zero_point: Value | None, axis: int) -> tuple[Value, Value | None]:
    """Scale and zero point in the form that the IR has: both (), or both (D,)."""

    def formed(vector: Value) -> Value:
        if vector.rank == 0:
            return vector
        if vector.type.size == 1:
            return node.emit(ops.Reshape(()), vector)
        if vector.rank != 1 or vector.shape[0] != x.shape[axis]:
            node.refuse(f"scales or zero points {vector.type} for {x.type}")
        return vector

    scale, zero_point = formed(scale), None if zero_point is None else formed(zero_point)
    if zero_point is not None and zero_point.shape != scale.shape:
        wide = scale.shape or zero_point.shape
        scale, zero_point = (
            vector if vector.shape == wide else node.emit(ops.Expand(wide), vector) for vector in (scale, zero_point)
        )
    return scale, zero_point


@rules.imports("QLinearMatMul")
def read_qlinear_matmul(node: OnnxNode) -> Value:
    a, b = node.value(0), node.value(3)
    left = dequantized(node, a, node.value(1), node.value(2), a.rank - 2 if a.rank > 1 else 0)
    right = dequantized(node, b, node.value(4), node.value(5), b.rank - 1)
    return quantized(node, node.emit(ops.MatMul(), left, right), node.value(6), node.value(7), a.dtype)


@rules.imports("QLinearConv")
def read_qlinear_conv(node: OnnxNode) -> Value:
    x, w, bias = node.value(0), node.value(3), node.optional(8)
    rank = w.rank - 2
    stated = tuple(node.attribute("kernel_shape", w.shape[2:]))
    if stated != w.shape[2:]:
        node.refuse(f"a kernel_shape of {stated} for the weight {w.type}")
    strides, dilations = (tuple(node.attribute(name, [1] * rank)) for name in ("strides", "dilations"))
    op: Op = ops.Conv(strides, explicit_pads(node, rank), dilations, int(node.attribute("group", 1)))
    data = dequantized(node, x, node.value(1), node.value(2))
    kernel = dequantized(node, w, node.value(4), node.value(5))
    if bias is not None:
        steps = node.emit(ops.Mul(), _scalar(node, node.value(1)), _scalar(node, node.value(4)))
        bias = dequantized(node, bias, steps, None)
    return quantized(node, node.emit(op, data, kernel, bias), node.value(6), node.value(7), x.dtype)


def _scalar(node: OnnxNode, scale: Value) -> Value:
    return node.emit(ops.Reshape(()), scale) if scale.rank and scale.type.size == 1 else scale
