"""Ops whose output size the data decide, in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Value, ops


@rules.imports("NonZero")
def read_non_zero(node: OnnxNode) -> Value:
    return node.emit(ops.NonZero(node.graph.new_dim("nonzero")), node.value(0))


@rules.imports("Compress")
def read_compress(node: OnnxNode) -> Value:
    x = node.value(0)
    axis = None if node.attribute("axis") is None else node.axis(x.rank, 0)
    return node.emit(ops.Compress(node.graph.new_dim("kept"), axis), x, node.value(1))


@rules.imports("Unique")
def read_unique(node: OnnxNode) -> Sequence[Value]:
    x = node.value(0)
    axis = None if node.attribute("axis") is None else node.axis(x.rank, 0)
    op = ops.Unique(node.graph.new_dim("unique"), axis, bool(node.attribute("sorted", 1)))
    return node.graph.builder.emit_many(op, x)[: len(node.outputs)]


_NOT_ZERO = (DType.BOOL, DType.FLOAT32, DType.INT32, DType.INT64, DType.UINT8)
_COMPARED = (DType.FLOAT32, DType.FLOAT64, DType.FLOAT16, DType.INT8, DType.INT64)
"""The element types for which onnxruntime has a kernel."""


@rules.exports(ops.NonZero)
def write_non_zero(export: Export, node: Node) -> None:
    (x,) = node.operands()
    operand = x if x.dtype in _NOT_ZERO else export.cast(x, DType.BOOL)
    export.replace("NonZero", node, inputs=[operand])


@rules.exports(ops.Compress)
def write_compress(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Compress)
    export.replace("Compress", node, axis=node.op.axis)


@rules.exports(ops.Unique)
def write_unique(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Unique)
    (x,) = node.operands()
    attributes: dict[str, Any] = {"axis": node.op.axis, "sorted": int(node.op.sorted)}
    if x.dtype in _COMPARED:
        export.replace("Unique", node, **attributes)
        return
    wide = export.fresh(f"{node.outputs[0].name}.wide")
    export.emit("Unique", [export.cast(x, DType.INT64)], [wide, *node.outputs[1:]], **attributes)
    export.emit("Cast", [wide], [node.outputs[0]], to=element_type(x.dtype))
