"""Gathering, scattering and sorting in ONNX."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops


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
    depth = export.constant(np.asarray(node.op.depth, np.int64), "depth")
    export.replace("OneHot", node, inputs=[node.inputs[0], depth, node.inputs[1]], axis=node.op.axis)


@rules.exports(ops.TopK)
def write_top_k(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.TopK)
    export.replace("TopK", node, inputs=[node.inputs[0], export.ints([op.k], "k")], axis=op.axis, largest=int(op.largest), sorted=int(op.sorted))


@rules.exports(ops.Trilu)
def write_trilu(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Trilu)
    operands = [node.inputs[0], export.constant(np.asarray(node.op.k, np.int64), "k")] if node.op.k else [node.inputs[0]]
    export.replace("Trilu", node, inputs=operands, upper=int(node.op.upper))
