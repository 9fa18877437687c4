"""Activations in ONNX: most have the IR's name and attributes."""

from __future__ import annotations

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops


@rules.exports(
    ops.Relu, ops.LeakyRelu, ops.PRelu, ops.Elu, ops.Celu, ops.Selu, ops.Gelu, ops.Sigmoid, ops.HardSigmoid, ops.HardSwish, ops.Swish,
    ops.Mish, ops.Softplus, ops.Softsign, ops.Tanh, ops.ThresholdedRelu, ops.Shrink, ops.Softmax, ops.LogSoftmax,
)  # fmt: skip
def write_activation(export: Export, node: Node) -> None:
    export.replace(node.op.name, node, **node.op.attributes())


@rules.exports(ops.Clip)
def write_clip(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Clip) and node.inputs[0] is not None
    kind = node.inputs[0].dtype.numpy
    bounds = [
        None if bound is None else export.constant(np.asarray(bound, kind), name) for name, bound in (("min", node.op.min), ("max", node.op.max))
    ]
    export.replace("Clip", node, inputs=[node.inputs[0], *bounds])


@rules.exports(ops.Dropout)
def write_dropout(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Dropout)
    export.replace("Dropout", node, inputs=[node.inputs[0], export.constant(np.asarray(node.op.ratio, np.float32), "ratio")])
