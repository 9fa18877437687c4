"""Activations in ONNX: most have the IR's name and attributes."""

from __future__ import annotations

import math

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import DType, Node, Op, Value, ops

_PLAIN = {
    "Relu": ops.Relu, "HardSwish": ops.HardSwish, "Mish": ops.Mish, "Sigmoid": ops.Sigmoid, "Softplus": ops.Softplus,
    "Softsign": ops.Softsign, "Tanh": ops.Tanh,
}  # fmt: skip
_WITH_FLOATS: dict[str, tuple[type[Op], dict[str, float]]] = {
    "LeakyRelu": (ops.LeakyRelu, {"alpha": 0.01}),
    "Elu": (ops.Elu, {"alpha": 1.0}),
    "Celu": (ops.Celu, {"alpha": 1.0}),
    "Selu": (ops.Selu, {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}),
    "HardSigmoid": (ops.HardSigmoid, {"alpha": 0.2, "beta": 0.5}),
    "Swish": (ops.Swish, {"alpha": 1.0}),
    "ThresholdedRelu": (ops.ThresholdedRelu, {"alpha": 1.0}),
    "Shrink": (ops.Shrink, {"lambd": 0.5, "bias": 0.0}),
}


@rules.imports(*_PLAIN)
def read_plain(node: OnnxNode) -> Value:
    return node.emit(_PLAIN[node.kind](), node.value(0))


@rules.imports(*_WITH_FLOATS)
def read_with_floats(node: OnnxNode) -> Value:
    kind, defaults = _WITH_FLOATS[node.kind]
    return node.emit(
        kind(**{name: float(node.attribute(name, default)) for name, default in defaults.items()}), node.value(0)
    )


@rules.imports("Gelu")
def read_gelu(node: OnnxNode) -> Value:
    return node.emit(ops.Gelu("tanh" if node.attribute("approximate", "none") == "tanh" else "none"), node.value(0))


@rules.imports("PRelu")
def read_prelu(node: OnnxNode) -> Value:
    x, slope = node.value(0), node.value(1)
    if node.opset < 7 and slope.rank == 1 and slope.shape[0] != 1 and x.rank > 2:  # a slope per channel
        slope = node.emit(ops.Reshape((slope.shape[0], *(1,) * (x.rank - 2))), slope)
    return node.emit(ops.PRelu(), x, slope)


@rules.imports("Clip")
def read_clip(node: OnnxNode) -> Value:
    x = node.value(0)
    if node.opset < 11:
        low, high = node.attribute("min"), node.attribute("max")
        limit = float(np.finfo(np.float32).max)
        return node.emit(
            ops.Clip(None if low is None or low <= -limit else low, None if high is None or high >= limit else high), x
        )
    if all(not node.has(position) or node.inputs[position] in node.graph.constants for position in (1, 2)):
        low, high = (None if bound is None else bound.item() for bound in (node.constant(1), node.constant(2)))
        return node.emit(ops.Clip(None if low == -math.inf else low, None if high == math.inf else high), x)
    for position, op in ((1, ops.Max()), (2, ops.Min())):
        bound = node.optional(position)
        x = x if bound is None else node.emit(op, x, bound)
    return x


@rules.imports("Softmax", "LogSoftmax")
def read_softmax(node: OnnxNode) -> Value:
    x = node.value(0)
    kind = ops.Softmax if node.kind == "Softmax" else ops.LogSoftmax
    if node.opset >= 13:
        return node.emit(kind(axis=node.axis(x.rank, -1)), x)
    axis = node.axis(x.rank, 1)
    if axis == x.rank - 1:
        return node.emit(kind(axis=axis), x)
    # before opset 13: over all axes from `axis` on, as one
    flat = node.emit(kind(axis=1), node.emit(ops.Flatten(axis), x))
    return node.emit(ops.Reshape(x.shape), flat)


@rules.imports("Dropout")
def read_dropout(node: OnnxNode) -> list[Value]:
    """The data as they are, and of the mask, where it is asked for, True for all (since opset 10; 1 before)."""
    if node.opset < 7 and not node.attribute("is_test", 0):
        node.refuse("training mode (is_test=0)")
    training = node.constant(2) if node.opset >= 12 else None
    if training is not None and bool(training):
        node.refuse("training mode")
    ratio = node.constant(1) if node.opset >= 12 else node.attribute("ratio", 0.5)
    x = node.value(0)
    y = node.emit(ops.Dropout(0.5 if ratio is None else float(ratio)), x)
    if not any(node.outputs[1:]):
        return [y]
    return [y, node.emit(ops.ConstantOfShape(x.shape, 1, DType.BOOL if node.opset >= 10 else x.dtype))]


@rules.exports(
    ops.Relu, ops.LeakyRelu, ops.PRelu, ops.Elu, ops.Celu, ops.Selu, ops.Gelu, ops.Sigmoid, ops.HardSigmoid,
    ops.HardSwish, ops.Swish, ops.Mish, ops.Softplus, ops.Softsign, ops.Tanh, ops.ThresholdedRelu, ops.Shrink,
    ops.Softmax, ops.LogSoftmax,
)  # fmt: skip
def write_activation(export: Export, node: Node) -> None:
    export.replace(node.op.name, node, **node.op.attributes())


@rules.exports(ops.Clip)
def write_clip(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Clip) and node.inputs[0] is not None
    dtype = node.inputs[0].dtype
    low, high = node.op.min, node.op.max
    if dtype.is_float:  # onnxruntime takes the largest finite number for a bound that is absent
        low, high = -math.inf if low is None else low, math.inf if high is None else high
    bounds = [
        None if bound is None else export.constant(np.asarray(bound, dtype.numpy), name)
        for name, bound in (("min", low), ("max", high))
    ]
    export.replace("Clip", node, inputs=[node.inputs[0], *bounds])


@rules.exports(ops.Dropout)
def write_dropout(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Dropout)
    export.replace(
        "Dropout", node, inputs=[node.inputs[0], export.constant(np.asarray(node.op.ratio, np.float32), "ratio")]
    )
