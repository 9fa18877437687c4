"""Reductions in ONNX. Their axes became an operand at opset 18, ReduceSum's at 13."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops

REDUCTIONS = (
    ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd, ops.ReduceL1, ops.ReduceL2, ops.ReduceSumSquare,
    ops.ReduceLogSumExp,
)  # fmt: skip


@rules.exports(*REDUCTIONS)
def write_reduction(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, REDUCTIONS)
    if not op.axes:
        export.replace("Identity", node)
    elif export.opset >= 18 or isinstance(op, ops.ReduceSum):
        export.replace(op.name, node, inputs=[node.inputs[0], export.ints(op.axes, "axes")], keepdims=int(op.keepdims))
    else:
        export.replace(op.name, node, axes=op.axes, keepdims=int(op.keepdims))


@rules.exports(ops.ArgMax, ops.ArgMin)
def write_arg(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.ArgMax | ops.ArgMin)
    export.replace(op.name, node, axis=op.axis, keepdims=int(op.keepdims), select_last_index=int(op.select_last_index))


@rules.exports(ops.CumSum)
def write_cumsum(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.CumSum)
    axis = export.constant(np.asarray(op.axis, np.int64), "axis")
    export.replace("CumSum", node, inputs=[node.inputs[0], axis], exclusive=int(op.exclusive), reverse=int(op.reverse))
