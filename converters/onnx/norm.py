"""Normalization in ONNX. What ONNX demands and the IR leaves out (a scale of ones) is written as a constant."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.errors import Unsupported, UnsupportedError
from isomorph.ir import Dim, DType, Node, Shape, Sym, Value, ops
from isomorph.ir.shapes import format_shape


def smallest_epsilon(dtype: DType) -> float:
    """The least positive number of a type: ONNX defines x / norm as 0 where the norm is 0, and so is 0 / this."""
    return float(ml_dtypes.finfo(dtype.numpy).smallest_subnormal) if dtype.is_float else 0.0


def _vector(export: Export, value: Value | None, like: Value, size: Dim, fill: float) -> Value | str:
    """A vector over the channels; one that is left out in the IR is stated in full."""
    return value if value is not None else _filled(export, like, (size,), fill)


def _filled(export: Export, like: Value, shape: Shape, fill: float) -> str:
    """A constant of this shape. Raises UnsupportedError if its sizes are not known."""
    sizes = [size for size in shape if not isinstance(size, Sym)]
    if len(sizes) < len(shape):
        reason = f"ONNX wants a scale and a bias, and the normalized sizes are {format_shape(shape)}"
        raise UnsupportedError("write onnx", [Unsupported("normalization", reason, like.name)])
    return export.constant(np.full(sizes, fill, like.dtype.numpy), "ones" if fill else "zeros")


@rules.imports("BatchNormalization")
def read_batch_normalization(node: OnnxNode) -> Value | list[Value]:
    if node.opset >= 14 and node.attribute("training_mode", 0):
        return _with_batch_statistics(node)
    if node.opset < 14 and len([name for name in node.outputs if name]) > 1:
        node.refuse("batch statistics of training mode")
    if node.opset < 7 and not node.attribute("is_test", 0):
        node.refuse("batch statistics of training mode (is_test=0)")
    if node.opset < 9 and not node.attribute("spatial", 1):
        node.refuse("statistics per element (spatial=0)")
    operands = [node.value(position) for position in range(5)]
    epsilon, momentum = float(node.attribute("epsilon", 1e-5)), float(node.attribute("momentum", 0.9))
    return node.emit(ops.BatchNormalization(epsilon, momentum=momentum), *operands)


def _with_batch_statistics(node: OnnxNode) -> list[Value]:
    """Training mode: normalized by the mean and variance of the batch; running ones move to them by 1 - momentum."""
    x, scale, bias, mean, variance = (node.value(position) for position in range(5))
    axes = tuple(axis for axis in range(x.rank) if axis != 1)
    found = node.emit(ops.ReduceMean(axes), x)
    centered = node.emit(ops.Sub(), x, found)
    spread = node.emit(ops.ReduceMean(axes, keepdims=False), node.emit(ops.Mul(), centered, centered))
    batch = [
        node.require_dtype(node.emit(ops.Squeeze(axes), found), mean.dtype),
        node.require_dtype(spread, mean.dtype),
    ]
    op = ops.BatchNormalization(float(node.attribute("epsilon", 1e-5)))
    momentum = float(node.attribute("momentum", 0.9))
    running = []
    for before, now in zip((mean, variance), batch, strict=True):
        old, new = (
            node.graph.builder.constant(np.asarray(part, before.dtype.numpy), "momentum")
            for part in (momentum, 1 - momentum)
        )
        running.append(node.emit(ops.Add(), node.emit(ops.Mul(), before, old), node.emit(ops.Mul(), now, new)))
    return [node.emit(op, x, scale, bias, *batch), *running]


@rules.imports("InstanceNormalization")
def read_instance_normalization(node: OnnxNode) -> Value:
    return node.emit(
        ops.InstanceNormalization(float(node.attribute("epsilon", 1e-5))), node.value(0), node.value(1), node.value(2)
    )


@rules.imports("GroupNormalization")
def read_group_normalization(node: OnnxNode) -> Value:
    groups = int(node.attribute("num_groups"))
    x, vectors = node.value(0), [node.value(1), node.value(2)]
    channels = x.shape[1]
    if node.opset < 21:
        if not isinstance(channels, int) or channels % groups:
            node.refuse("a scale per group of an unknown number of channels")
        vectors = [_per_channel(node, vector, groups, channels) for vector in vectors]
    return node.emit(ops.GroupNormalization(groups, float(node.attribute("epsilon", 1e-5))), x, *vectors)


def _per_channel(node: OnnxNode, vector: Value, groups: int, channels: int) -> Value:
    """A vector per group (before opset 21) as one per channel."""
    repeated = node.emit(ops.Expand((groups, channels // groups)), node.emit(ops.Unsqueeze((1,)), vector))
    return node.emit(ops.Reshape((channels,)), repeated)


@rules.imports("LayerNormalization", "RMSNormalization")
def read_layer_normalization(node: OnnxNode) -> Value:
    if any(node.outputs[1:]):
        node.refuse("the statistics as results")
    x = node.value(0)
    axis, epsilon = node.axis(x.rank, -1), float(node.attribute("epsilon", 1e-5))
    if node.kind == "RMSNormalization":
        return node.emit(ops.RMSNormalization(epsilon, axis), x, node.value(1))
    return node.emit(ops.LayerNormalization(epsilon, axis), x, node.value(1), node.optional(2))


@rules.imports("LpNormalization")
def read_lp_normalization(node: OnnxNode) -> Value:
    x = node.value(0)
    op = ops.LpNormalization((node.axis(x.rank, -1),), int(node.attribute("p", 2)), smallest_epsilon(x.dtype))
    return node.emit(op, x)


@rules.imports("LRN")
def read_lrn(node: OnnxNode) -> Value:
    alpha, beta, bias = (
        float(node.attribute(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    return node.emit(ops.LocalResponseNormalization(int(node.attribute("size")), alpha, beta, bias), node.value(0))


@rules.exports(ops.BatchNormalization)
def write_batch_normalization(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.BatchNormalization)
    x, scale, bias, mean, var = node.inputs
    assert x is not None and mean is not None
    size = mean.shape[0]
    operands = [x, _vector(export, scale, x, size, 1.0), _vector(export, bias, x, size, 0.0), mean, var]
    momentum = None if node.op.momentum == 0.9 else node.op.momentum
    export.replace("BatchNormalization", node, inputs=operands, epsilon=node.op.epsilon, momentum=momentum)


@rules.exports(ops.InstanceNormalization, ops.GroupNormalization)
def write_instance_normalization(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.InstanceNormalization | ops.GroupNormalization)
    x, scale, bias, *_ = (*node.inputs, None, None)
    assert x is not None
    size = x.shape[1]
    operands = [x, _vector(export, scale, x, size, 1.0), _vector(export, bias, x, size, 0.0)]
    groups = op.num_groups if isinstance(op, ops.GroupNormalization) else None
    export.replace(op.name, node, inputs=operands, epsilon=op.epsilon, num_groups=groups)


@rules.exports(ops.LayerNormalization, ops.RMSNormalization)
def write_layer_normalization(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.LayerNormalization | ops.RMSNormalization)
    x, scale, *rest = (*node.inputs, None)
    assert x is not None
    if scale is None:
        ones = _filled(export, x, x.shape[op.axis :], 1.0)
        export.replace(op.name, node, inputs=[x, ones, *rest[:1]], axis=op.axis, epsilon=op.epsilon)
    else:
        export.replace(op.name, node, axis=op.axis, epsilon=op.epsilon)


@rules.exports(ops.LpNormalization)
def write_lp_normalization(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.LpNormalization)
    export.replace("LpNormalization", node, axis=node.op.axes[0], p=node.op.p)


@rules.exports(ops.LocalResponseNormalization)
def write_lrn(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.LocalResponseNormalization)
    export.replace("LRN", node, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)
