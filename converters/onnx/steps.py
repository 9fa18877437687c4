"""ReverseSequence and TensorScatter in ONNX."""

from __future__ import annotations

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, Value, ops


@rules.imports("ReverseSequence")
def read_reverse_sequence(node: OnnxNode) -> Value:
    axes = int(node.attribute("time_axis", 0)), int(node.attribute("batch_axis", 1))
    if axes not in ((0, 1), (1, 0)):
        node.refuse(f"time_axis and batch_axis are {axes}")
    return node.emit(ops.ReverseSequence(axes == (1, 0)), node.value(0), node.value(1))


@rules.imports("TensorScatter")
def read_tensor_scatter(node: OnnxNode) -> Value:
    cache = node.value(0)
    op = ops.TensorScatter(node.axis(cache.rank, -2), node.attribute("mode", "linear"))
    return node.emit(op, cache, node.value(1), node.optional(2))


@rules.exports(ops.ReverseSequence)
def write_reverse_sequence(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.ReverseSequence)
    time, batch = (1, 0) if node.op.batch_first else (0, 1)
    export.replace("ReverseSequence", node, time_axis=time, batch_axis=batch)


@rules.exports(ops.TensorScatter)
def write_tensor_scatter(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.TensorScatter)
    export.replace("TensorScatter", node, axis=node.op.axis, mode=node.op.mode)
