"""Reductions in ONNX. Their axes became an operand at opset 18, ReduceSum's at 13."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import OPS, Node, Value, ops
from isomorph.ir.op import normalize_axes, normalize_axis

REDUCTIONS = (
    ops.ReduceMean, ops.ReduceSum, ops.ReduceMax, ops.ReduceMin, ops.ReduceProd, ops.ReduceL1, ops.ReduceL2,
    ops.ReduceSumSquare, ops.ReduceLogSumExp,
)  # fmt: skip


@rules.imports(*(kind.__name__ for kind in REDUCTIONS), "ReduceLogSum")
def read_reduction(node: OnnxNode) -> Value:
    x = node.value(0)
    given = node.ints(1, "axes")
    if not given:
        given = () if node.attribute("noop_with_empty_axes", 0) else tuple(range(x.rank))
    axes = tuple(sorted(normalize_axes(given, x.rank)))
    keepdims = bool(node.attribute("keepdims", 1))
    if node.kind == "ReduceLogSum":
        return node.emit(ops.Log(), node.emit(ops.ReduceSum(axes, keepdims), x))
    kind = OPS[node.kind]
    return node.emit(kind(axes, keepdims), x)  # type: ignore[call-arg]


@rules.imports("ArgMax", "ArgMin")
def read_arg(node: OnnxNode) -> Value:
    x = node.value(0)
    kind = ops.ArgMax if node.kind == "ArgMax" else ops.ArgMin
    return node.emit(
        kind(node.axis(x.rank, 0), bool(node.attribute("keepdims", 1)), bool(node.attribute("select_last_index", 0))), x
    )


@rules.imports("CumSum", "CumProd")
def read_running(node: OnnxNode) -> Value:
    x, axis = node.value(0), node.constant(1)
    if axis is None:
        node.refuse("no axis")
    where = normalize_axis(int(axis.ravel()[0]), x.rank)
    kind = ops.CumSum if node.kind == "CumSum" else ops.CumProd
    return node.emit(kind(where, bool(node.attribute("exclusive", 0)), bool(node.attribute("reverse", 0))), x)


@rules.exports(*REDUCTIONS)
def write_reduction(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, REDUCTIONS)
    if not op.axes:  # runtimes disagree on noop_with_empty_axes
        _write_unreduced(export, node)
    elif export.opset >= 18 or isinstance(op, ops.ReduceSum):
        export.replace(op.name, node, inputs=[node.inputs[0], export.ints(op.axes, "axes")], keepdims=int(op.keepdims))
    else:
        export.replace(op.name, node, axes=op.axes, keepdims=int(op.keepdims))


def _write_unreduced(export: Export, node: Node) -> None:
    """A reduction over no axes works on single elements."""
    if isinstance(node.op, ops.ReduceL1 | ops.ReduceL2):
        export.replace("Abs", node)
    elif isinstance(node.op, ops.ReduceSumSquare):
        export.replace("Mul", node, inputs=[node.inputs[0], node.inputs[0]])
    else:
        export.replace("Identity", node)


@rules.exports(ops.ArgMax, ops.ArgMin)
def write_arg(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.ArgMax | ops.ArgMin)
    export.replace(op.name, node, axis=op.axis, keepdims=int(op.keepdims), select_last_index=int(op.select_last_index))


@rules.exports(ops.CumSum, ops.CumProd)
def write_running(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.CumSum | ops.CumProd)
    axis = export.constant(np.asarray(op.axis, np.int64), "axis")
    export.replace(op.name, node, inputs=[node.inputs[0], axis], exclusive=int(op.exclusive), reverse=int(op.reverse))
