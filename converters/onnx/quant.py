"""Quantization in ONNX. Blocks, 4-bit and 16-bit integers came with opset 21, 8-bit floats with 19."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.onnx.codec import DTYPES, element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Value, ops

__all__ = ["refuse_quantization"]


def _output_dtype(node: OnnxNode, default: DType) -> DType:
    code = int(node.attribute("output_dtype", 0))
    if not code:
        return default
    if code not in DTYPES:
        node.refuse(f"the element type with code {code} is not expressed")
    return DTYPES[code]


@rules.imports("QuantizeLinear")
def read_quantize(node: OnnxNode) -> Value:
    x, scale, zero_point = _operands(node)
    dtype = zero_point.dtype if zero_point is not None else _output_dtype(node, DType.UINT8)
    precision = int(node.attribute("precision", 0))
    if precision and DTYPES.get(precision) is not scale.dtype:
        node.refuse("a precision other than that of the scale")
    op = ops.QuantizeLinear(
        dtype, _axis(node, x), int(node.attribute("block_size", 0)), bool(node.attribute("saturate", 1))
    )
    return node.emit(op, x, scale, zero_point)


@rules.imports("DequantizeLinear")
def read_dequantize(node: OnnxNode) -> Value:
    x, scale, zero_point = _operands(node)
    dtype = _output_dtype(node, scale.dtype)
    return node.emit(
        ops.DequantizeLinear(dtype, _axis(node, x), int(node.attribute("block_size", 0))), x, scale, zero_point
    )


def _operands(node: OnnxNode) -> tuple[Value, Value, Value | None]:
    """x, scale and zero point; a single zero point in the shape of the scale."""
    x, scale, zero_point = node.value(0), node.value(1), node.optional(2)
    if zero_point is not None and zero_point.shape != scale.shape and zero_point.type.size == scale.type.size == 1:
        zero_point = node.emit(ops.Reshape(scale.shape), zero_point)
    return x, scale, zero_point


def _axis(node: OnnxNode, x: Value) -> int:
    axis = int(node.attribute("axis", 1))
    return axis % x.rank if x.rank and -x.rank <= axis < x.rank else 0


@rules.imports("DynamicQuantizeLinear")
def read_dynamic(node: OnnxNode) -> Sequence[Value]:
    return node.graph.builder.emit_many(ops.DynamicQuantizeLinear(), node.value(0))


@rules.exports(ops.QuantizeLinear)
def write_quantize(export: Export, node: Node) -> None:
    op, scale, zero_point = node.op, node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert isinstance(op, ops.QuantizeLinear) and scale is not None
    inputs: list[Value | str | None] = [node.inputs[0], scale, zero_point]
    stated = export.opset >= 21 and zero_point is None and op.dtype is not DType.UINT8
    if zero_point is None and op.dtype is not DType.UINT8 and not stated:
        inputs[2] = export.constant(np.zeros([int(dim) for dim in scale.shape], op.dtype.numpy), "zero_point")  # type: ignore[arg-type]
    export.replace(
        "QuantizeLinear",
        node,
        inputs=inputs,
        axis=op.axis if scale.rank else None,
        block_size=op.block_size or None,
        saturate=None if op.saturate else 0,
        output_dtype=element_type(op.dtype) if stated else None,
    )


@rules.exports(ops.DequantizeLinear)
def write_dequantize(export: Export, node: Node) -> None:
    op, scale = node.op, node.inputs[1]
    assert isinstance(op, ops.DequantizeLinear) and scale is not None
    export.replace(
        "DequantizeLinear",
        node,
        axis=op.axis if scale.rank else None,
        block_size=op.block_size or None,
        output_dtype=None if op.dtype is scale.dtype else element_type(op.dtype),
    )


@rules.exports(ops.DynamicQuantizeLinear)
def write_dynamic(export: Export, node: Node) -> None:
    export.replace("DynamicQuantizeLinear", node)


def refuse_quantization(node: Node, opset: int) -> str | None:
    op, scale = node.op, node.inputs[1]
    assert isinstance(op, ops.QuantizeLinear | ops.DequantizeLinear) and scale is not None
    if op.block_size and opset < 21:
        return f"opset {opset} has blocks only from 21 on"
    if isinstance(op, ops.DequantizeLinear) and op.dtype is not scale.dtype and opset < 23:
        return f"opset {opset} gives the type of the scale"
    if isinstance(op, ops.QuantizeLinear) and not scale.type.is_static and opset < 21:
        return f"opset {opset} needs zero points"
    return None
