"""Products of 8-bit integers in ONNX."""

from __future__ import annotations

from isomorph.converters.onnx.conv import explicit_pads, pad_attributes
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops


@rules.imports("MatMulInteger")
def read_matmul_integer(node: OnnxNode) -> Value:
    return node.emit(ops.MatMulInteger(), node.value(0), node.value(1), node.optional(2), node.optional(3))


@rules.imports("ConvInteger")
def read_conv_integer(node: OnnxNode) -> Value:
    x, w = node.value(0), node.value(1)
    rank = w.rank - 2
    stated = tuple(node.attribute("kernel_shape", w.shape[2:]))
    if stated != w.shape[2:]:
        node.refuse(f"a kernel_shape of {stated} for the weight {w.type}")
    strides, dilations = (tuple(node.attribute(name, [1] * rank)) for name in ("strides", "dilations"))
    op = ops.ConvInteger(strides, explicit_pads(node, rank), dilations, int(node.attribute("group", 1)))
    return node.emit(op, x, w, node.optional(2), node.optional(3))


@rules.exports(ops.MatMulInteger)
def write_matmul_integer(export: Export, node: Node) -> None:
    export.replace("MatMulInteger", node)


@rules.exports(ops.ConvInteger)
def write_conv_integer(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.ConvInteger)
    x, w = node.inputs[:2]
    assert x is not None and w is not None
    pads = pad_attributes(op.pads, x.shape[2:], w.shape[2:], op.strides, op.dilations)
    export.replace("ConvInteger", node, strides=op.strides, dilations=op.dilations, group=op.group, **pads)
