"""Pooling in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isomorph.converters.onnx.conv import explicit_pads, flat_pads, pad_attributes
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, DType, Node, Shape, Sym, Value, ops
from isomorph.ir.ops.conv import window_output
from isomorph.ir.shapes import ceil_div, elements


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
def read_max_pool(node: OnnxNode) -> Value | Sequence[Value]:
    if len(node.outputs) > 1 and node.outputs[1]:
        x = node.value(0)
        y, indices = node.graph.builder.emit_many(ops.MaxPoolWithIndices(**_window(node)), x)
        return [y, _columns_first(node, indices, x) if node.attribute("storage_order", 0) else indices]
    return node.emit(ops.MaxPool(**_window(node)), node.value(0))


def _columns_first(node: OnnxNode, indices: Value, x: Value) -> Value:
    """Indices that count the first spatial axis fastest, of those that count the last one fastest."""

    def number(size: Dim) -> Value:
        return node.emit(ops.Dims((size,), scalar=True))

    total, step = indices, elements(x.shape[2:])
    rest = node.emit(ops.Mod(), indices, number(step))
    made = node.emit(ops.Sub(), total, rest)  # where the channel begins
    faster: Dim = 1
    for size in x.shape[2:]:
        step = step // size
        cell = node.emit(ops.Div(), rest, number(step))
        rest = node.emit(ops.Mod(), rest, number(step))
        made = node.emit(ops.Add(), made, node.emit(ops.Mul(), cell, number(faster)))
        faster = faster * size
    return made


@rules.imports("MaxUnpool")
def read_max_unpool(node: OnnxNode) -> Value:
    """Each element put at its index, which counts those of the whole result; 0 elsewhere."""
    x, indices, shape = node.value(0), node.value(1), node.sizes(2)
    if shape is None:
        window = _window(node)
        if isinstance(window["pads"], str):
            node.refuse("auto_pad")
        sizes = zip(x.shape[2:], window["strides"], window["kernel_shape"], window["pads"], strict=True)
        spatial = [(size - 1) * stride + extent - sum(pads) for size, stride, extent, pads in sizes]
        shape = [*x.shape[:2], *spatial]
    empty = node.emit(ops.ConstantOfShape((elements(shape),), 0, x.dtype))
    flat = [node.emit(ops.Reshape((elements(x.shape),)), value) for value in (indices, x)]
    return node.emit(ops.Reshape(tuple(shape)), node.emit(ops.ScatterElements(0), empty, *flat))


@rules.imports("AveragePool")
def read_average_pool(node: OnnxNode, x: Value | None = None) -> Value:
    """The pool that the attributes describe, of the first operand or of `x`."""
    op = ops.AveragePool(**_window(node), count_include_pad=bool(node.attribute("count_include_pad", 0)))
    return node.emit(op, node.value(0) if x is None else x)


@rules.imports("LpPool")
def read_lp_pool(node: OnnxNode) -> Value:
    return node.emit(ops.LpPool(**_window(node), p=int(node.attribute("p", 2))), node.value(0))


@rules.imports("GlobalAveragePool", "GlobalMaxPool")
def read_global_pool(node: OnnxNode) -> Value:
    return node.emit(
        ops.GlobalAveragePool() if node.kind == "GlobalAveragePool" else ops.GlobalMaxPool(), node.value(0)
    )


def window_attributes(
    op: ops.MaxPool | ops.AveragePool | ops.LpPool, spatial: Shape, opset: int
) -> dict[str, Any] | None:
    """`pads` and `ceil_mode` that give the op's windows, None if this opset cannot say it.

    Opset 22 drops a last window that would start in the end padding, as the IR does. Before, runtimes differ: what is
    written there gives the same windows with and without that rule.
    """
    plain = pad_attributes(op.pads, spatial, op.kernel_shape, op.strides, op.dilations)
    if isinstance(op.pads, str) or not op.ceil_mode:
        return plain
    rounded = {**plain, "ceil_mode": 1}
    if opset >= 22:
        return rounded
    kept, floors, ceils = (
        window_output(spatial, op.kernel_shape, op.strides, op.pads, op.dilations, ceil_mode=True),
        window_output(spatial, op.kernel_shape, op.strides, op.pads, op.dilations),
        tuple(_ceil_count(op, op.pads, axis, size) for axis, size in enumerate(spatial)),
    )
    if kept == ceils:
        return rounded
    if kept == floors:
        return plain
    if any(isinstance(dim, Sym) for dim in (*spatial, *kept)):
        return None
    if (isinstance(op, ops.AveragePool) and op.count_include_pad) or set(op.dilations) != {1}:
        return None
    pads = []
    for axis, (begin, end) in enumerate(op.pads):  # more padding at the end instead of ceil_mode
        needed = (int(kept[axis]) - 1) * op.strides[axis] + op.kernel_shape[axis]  # type: ignore[arg-type]
        pads.append((begin, max(end, needed - int(spatial[axis]) - begin)))  # type: ignore[arg-type]
    return {"pads": flat_pads(pads)}


def _ceil_count(
    op: ops.MaxPool | ops.AveragePool | ops.LpPool, pads: tuple[tuple[int, int], ...], axis: int, size: Dim
) -> Dim:
    extent = (op.kernel_shape[axis] - 1) * op.dilations[axis] + 1
    return ceil_div(size + (sum(pads[axis]) - extent), op.strides[axis]) + 1


@rules.exports(ops.MaxPoolWithIndices)
def write_pool_with_indices(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.MaxPoolWithIndices) and node.inputs[0] is not None
    op = node.op.plain()
    attributes = window_attributes(op, node.inputs[0].shape[2:], export.opset)
    assert attributes is not None, "`target` refuses it"
    if any(step != 1 for step in op.dilations):
        attributes["dilations"] = op.dilations
    export.replace("MaxPool", node, kernel_shape=op.kernel_shape, strides=op.strides, **attributes)


@rules.exports(ops.MaxPool, ops.AveragePool, ops.LpPool)
def write_pool(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.MaxPool | ops.AveragePool | ops.LpPool) and node.inputs[0] is not None
    attributes = window_attributes(op, node.inputs[0].shape[2:], export.opset)
    assert attributes is not None, "`target` refuses it"
    if any(step != 1 for step in op.dilations):
        attributes["dilations"] = op.dilations
    if isinstance(op, ops.AveragePool) and op.count_include_pad:
        attributes["count_include_pad"] = 1
    if isinstance(op, ops.LpPool):
        attributes["p"] = op.p
    export.replace(op.name, node, kernel_shape=op.kernel_shape, strides=op.strides, **attributes)


@rules.exports(ops.GlobalAveragePool, ops.GlobalMaxPool)
def write_global_pool(export: Export, node: Node) -> None:
    export.replace(node.op.name, node)


def refuse_global(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.GlobalAveragePool | ops.GlobalMaxPool)
    return None if node.op.keepdims else "ONNX's global pools keep the reduced axes"


def refuse_average(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.AveragePool)
    dilated = any(step != 1 for step in node.op.dilations)
    return f"opset {opset} has dilations only from 19 on" if dilated and opset < 19 else refuse_ceil(node, opset)


def refuse_lp_pool(node: Node, opset: int) -> str | None:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.LpPool) and x is not None
    if opset < 18 and (op.ceil_mode or any(step != 1 for step in op.dilations)):
        return f"opset {opset} has dilations and ceil_mode only from 18 on"
    return refuse_ceil(node, opset) if x.dtype is DType.FLOAT32 else f"onnxruntime has no kernel for {x.dtype}"


def refuse_ceil(node: Node, opset: int) -> str | None:
    assert isinstance(node.op, ops.AveragePool | ops.MaxPool | ops.LpPool) and node.inputs[0] is not None
    if window_attributes(node.op, node.inputs[0].shape[2:], opset) is None:
        return f"opset {opset} keeps a last window that lies in the padding"
    return None


def refuse_indices(node: Node, opset: int) -> str | None:
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.MaxPoolWithIndices) and x is not None
    if window_attributes(op.plain(), x.shape[2:], opset) is None:
        return f"opset {opset} keeps a last window that lies in the padding"
    return None
