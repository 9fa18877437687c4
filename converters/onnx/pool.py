"""Pooling in ONNX."""

from __future__ import annotations

from isomorph.converters.onnx.conv import pad_attributes
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops


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
