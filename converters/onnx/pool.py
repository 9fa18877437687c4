"""Pooling in ONNX."""

from __future__ import annotations

from typing import Any

from isomorph.converters.onnx.conv import explicit_pads, pad_attributes
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops


def _window(node: OnnxNode) -> dict[str, Any]:
    kernel = tuple(int(size) for size in node.attribute("kernel_shape", ()))
    ones = [1] * len(kernel)
    return {
        "kernel_shape": kernel,
        "strides": tuple(int(size) for size in node.attribute("strides", ones)),
        "pads": explicit_pads(node, len(kernel)),
        "dilations": tuple(int(size) for size in node.attribute("dilations", ones)),
        "ceil_mode": bool(node.attribute("ceil_mode", 0)),
    }


@rules.imports("MaxPool")
def read_max_pool(node: OnnxNode) -> Value:
    if len(node.outputs) > 1 and node.outputs[1]:
        node.refuse("the indices of the maxima")
    return node.emit(ops.MaxPool(**_window(node)), node.value(0))


@rules.imports("AveragePool")
def read_average_pool(node: OnnxNode) -> Value:
    return node.emit(
        ops.AveragePool(**_window(node), count_include_pad=bool(node.attribute("count_include_pad", 0))), node.value(0)
    )


@rules.imports("GlobalAveragePool", "GlobalMaxPool")
def read_global_pool(node: OnnxNode) -> Value:
    return node.emit(
        ops.GlobalAveragePool() if node.kind == "GlobalAveragePool" else ops.GlobalMaxPool(), node.value(0)
    )


@rules.exports(ops.MaxPool, ops.AveragePool)
def write_pool(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.MaxPool | ops.AveragePool) and node.inputs[0] is not None
    attributes = pad_attributes(op.pads, node.inputs[0].shape[2:], op.kernel_shape, op.strides, op.dilations)
    if any(step != 1 for step in op.dilations):
        attributes["dilations"] = op.dilations
    if isinstance(op, ops.AveragePool) and op.count_include_pad:
        attributes["count_include_pad"] = 1
    if op.ceil_mode:
        attributes["ceil_mode"] = 1
    export.replace(op.name, node, kernel_shape=op.kernel_shape, strides=op.strides, **attributes)


@rules.exports(ops.GlobalAveragePool, ops.GlobalMaxPool)
def write_global_pool(export: Export, node: Node) -> None:
    export.replace(node.op.name, node)
