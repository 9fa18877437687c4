"""Folds batch normalization into the convolution or the dense layer before it.

    f = scale / sqrt(var + epsilon)
    BatchNormalization(Conv(x, w, b), scale, bias, mean, var)   ->  Conv(x, w * f, (b - mean) * f + bias)

f has one factor for each output channel. Weights are computed in float64 and rounded once to their type. On request
only: the normalization is a layer with parameters, and running statistics, of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import normalize_axis
from isomorph.ir.ops.conv import Conv, ConvTranspose
from isomorph.ir.ops.linear import Linear
from isomorph.ir.ops.norm import BatchNormalization
from isomorph.ir.params import Parameter
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.tensors import ArrayTensor

__all__ = ["fold_batch_norm"]

Array = npt.NDArray[np.float64]


def fold_batch_norm(model: Model) -> Model:
    """The model with batch normalization folded into Conv, ConvTranspose and Linear nodes that nothing else reads.

    All parameters of both are known, and no other node has the weight. Weights keep their names; a layer that gets a
    bias names it beside its weight (`conv1.weight`: `conv1.bias`).
    """
    users = model.graph.users()
    shown = set(model.graph.outputs.values())

    def alone(value: Value | None) -> bool:
        return value is not None and value not in shown and len(users.get(value, ())) == 1

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        layer = _layer_before(node)
        if layer is None or not alone(node.inputs[0]) or not alone(layer.inputs[1]):
            return None
        x, weight = layer.inputs[:2]
        bias = layer.inputs[2] if len(layer.inputs) > 2 else None
        assert x is not None and weight is not None and weight.parameter is not None
        factor, shift = _affine(node)
        data = weight.parameter.data
        folded = ArrayTensor(_scaled(data.numpy(), _spread(layer, factor, data.shape)))
        before = np.zeros(()) if bias is None else _wide(bias)
        added = ArrayTensor((before * factor + shift).astype(weight.dtype.numpy))
        name = _bias_name(weight.parameter.name) if bias is None or bias.parameter is None else bias.parameter.name
        trainable = weight.parameter.trainable
        new = [
            b.parameter(Parameter(weight.parameter.name, folded, trainable, weight.parameter.role)),
            b.parameter(Parameter(name, added, trainable, weight.parameter.role)),
        ]
        with b.at(layer.scope, layer.origin.changed_by("fold_batch_norm")):
            return (b.emit(layer.op, b.new(x), *new, name=layer.output.name),)

    return prune(rewrite(model, "fold_batch_norm", change, regions=False))


def _layer_before(node: Node) -> Node | None:
    """The layer whose output channels a batch normalization with known parameters scales."""
    if not isinstance(node.op, BatchNormalization):
        return None
    x = node.inputs[0]
    layer = x.producer if x is not None else None
    if x is None or layer is None or not isinstance(layer.op, Conv | ConvTranspose | Linear):
        return None
    operands = [value for value in (*layer.inputs[1:], *node.inputs[1:]) if value is not None]
    known = all(value.parameter is not None and value.dtype is x.dtype for value in operands)
    first = isinstance(layer.op, Conv | ConvTranspose) and layer.op.layout.split(tuple(range(x.rank)))[1] == 1
    channels = 1 if first else x.rank - 1
    return layer if known and normalize_axis(node.op.axis, x.rank) == channels else None


def _affine(node: Node) -> tuple[Array, Array]:
    """(factor, shift) for each channel: the normalization is y * factor + shift."""
    assert isinstance(node.op, BatchNormalization)
    scale, bias, mean, var = (None if value is None else _wide(value) for value in node.inputs[1:])
    assert mean is not None and var is not None
    factor = (1.0 if scale is None else scale) / np.sqrt(var + node.op.epsilon)
    return factor, (0.0 if bias is None else bias) - mean * factor


def _wide(value: Value) -> Array:
    assert value.parameter is not None
    return value.parameter.data.numpy().astype(np.float64)


def _scaled(weight: npt.NDArray[Any], factor: Array) -> npt.NDArray[Any]:
    """weight * factor, computed in float64 and rounded once; of NumPy's own types without a copy in float64."""
    if weight.dtype.kind != "f":
        return (weight.astype(np.float64) * factor).astype(weight.dtype)
    product = np.empty_like(weight)
    np.multiply(weight, factor, out=product, dtype=np.float64, casting="same_kind")
    return product


def _spread(layer: Node, factor: Array, shape: tuple[int, ...]) -> Array:
    """The factors of the output channels along the weight, (O, I, *K), of a ConvTranspose (C, O / group, *K)."""
    if not isinstance(layer.op, ConvTranspose):
        return factor.reshape(-1, *(1,) * (len(shape) - 1))
    group = layer.op.group
    each = np.repeat(factor.reshape(group, 1, -1), shape[0] // group, axis=1)
    return each.reshape(*shape[:2], *(1,) * (len(shape) - 2))


def _bias_name(weight: str) -> str:
    stem, dot, last = weight.rpartition(".")
    named = last.replace("weight", "bias").replace("kernel", "bias")
    return f"{stem}{dot}{named}" if named != last else f"{weight}.bias"
