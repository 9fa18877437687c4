"""Gathering, scattering and sorting in ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Value, ops
from isomorph.ir.shapes import elements


@rules.imports("Gather")
def read_gather(node: OnnxNode) -> Value:
    x = node.value(0)
    return node.emit(ops.Gather(node.axis(x.rank, 0)), x, node.value(1))


@rules.imports("GatherElements")
def read_gather_elements(node: OnnxNode) -> Value:
    x = node.value(0)
    return node.emit(ops.GatherElements(node.axis(x.rank, 0)), x, node.value(1))


@rules.imports("GatherND")
def read_gather_nd(node: OnnxNode) -> Value:
    return node.emit(ops.GatherND(int(node.attribute("batch_dims", 0))), node.value(0), node.value(1))


@rules.imports("ScatterElements", "Scatter")
def read_scatter_elements(node: OnnxNode) -> Value:
    x = node.value(0)
    op = ops.ScatterElements(node.axis(x.rank, 0), node.attribute("reduction", "none"))
    return node.emit(op, x, node.value(1), node.value(2))


@rules.imports("ScatterND")
def read_scatter_nd(node: OnnxNode) -> Value:
    return node.emit(ops.ScatterND(node.attribute("reduction", "none")), node.value(0), node.value(1), node.value(2))


@rules.imports("OneHot")
def read_one_hot(node: OnnxNode) -> Value:
    indices, depth = node.value(0), node.constant(1)
    if depth is None or not indices.dtype.is_integer:
        node.refuse("needs a constant depth and integer indices")
    return node.emit(ops.OneHot(int(depth.ravel()[0]), node.axis(indices.rank + 1, -1)), indices, node.value(2))


@rules.imports("Hardmax")
def read_hardmax(node: OnnxNode) -> Value:
    """Before opset 13 over all axes from `axis` on, as if they were one."""
    x = node.value(0)
    if node.opset >= 13:
        return node.emit(ops.Hardmax(node.axis(x.rank, -1)), x)
    axis = node.axis(x.rank, 1)
    flat = node.emit(ops.Reshape((elements(x.shape[:axis]), elements(x.shape[axis:]))), x)
    return node.emit(ops.Reshape(x.shape), node.emit(ops.Hardmax(1), flat))


@rules.imports("TopK")
def read_top_k(node: OnnxNode) -> Sequence[Value]:
    x = node.value(0)
    k = node.sizes(1) if node.opset >= 10 else [node.attribute("k")]
    if not k or k[0] is None:
        node.refuse("no k")
    op = ops.TopK(k[0], node.axis(x.rank, -1), bool(node.attribute("largest", 1)), bool(node.attribute("sorted", 1)))
    return node.graph.builder.emit_many(op, x)


@rules.imports("Trilu")
def read_trilu(node: OnnxNode) -> Value:
    k = node.constant(1)
    return node.emit(ops.Trilu(0 if k is None else int(k.ravel()[0]), bool(node.attribute("upper", 1))), node.value(0))


@rules.exports(ops.Hardmax)
def write_hardmax(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Hardmax)
    export.replace("Hardmax", node, axis=node.op.axis)


@rules.exports(ops.Gather, ops.GatherElements, ops.GatherND)
def write_gather(export: Export, node: Node) -> None:
    export.replace(node.op.name, node, **node.op.attributes())


@rules.exports(ops.Embedding)
def write_embedding(export: Export, node: Node) -> None:
    export.replace("Gather", node, inputs=[node.inputs[1], node.inputs[0]], axis=0)


@rules.exports(ops.ScatterElements, ops.ScatterND)
def write_scatter(export: Export, node: Node) -> None:
    attributes = node.op.attributes()
    if attributes["reduction"] == "none":
        del attributes["reduction"]
    export.replace(node.op.name, node, **attributes)


@rules.exports(ops.OneHot)
def write_one_hot(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.OneHot)
    indices = node.inputs[0]
    assert indices is not None
    kind = np.int32 if indices.dtype is DType.INT32 else np.int64  # onnxruntime wants the depth in the indices' type
    depth = export.constant(np.asarray(node.op.depth, kind), "depth")
    export.replace("OneHot", node, inputs=[node.inputs[0], depth, node.inputs[1]], axis=node.op.axis)


@rules.exports(ops.TopK)
def write_top_k(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.TopK)
    export.replace(
        "TopK",
        node,
        inputs=[node.inputs[0], export.sizes([op.k], "k")],
        axis=op.axis,
        largest=int(op.largest),
        sorted=int(op.sorted),
    )


@rules.exports(ops.Trilu)
def write_trilu(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Trilu)
    operands = (
        [node.inputs[0], export.constant(np.asarray(node.op.k, np.int64), "k")] if node.op.k else [node.inputs[0]]
    )
    export.replace("Trilu", node, inputs=operands, upper=int(node.op.upper))
