"""Normalization layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import DerivedTensor, Node, TensorSource, Value, ops

_SMALLEST_DEVIATION = 1e-7  # keras.config.epsilon()


@rules.imports("BatchNormalization")
def _batch_norm(layer: Layer, x: Value) -> Value:
    if layer.config.get("mode") or layer.config.get("renorm") or layer.config.get("virtual_batch_size"):
        raise layer.unsupported("a mode that uses the statistics of the batch")
    if layer.always_training:
        raise layer.unsupported("a call with training=True, which uses the statistics of the batch")
    kept = layer.number("momentum", 0.99)
    op = ops.BatchNormalization(layer.number("epsilon", 1e-3), layer.axis("axis", x.rank), momentum=kept)
    scale, bias = layer.optional("gamma"), layer.optional("beta")
    return layer.emit(op, x, scale, bias, layer.weight("moving_mean"), layer.weight("moving_variance"))


@rules.imports("LayerNormalization")
def _layer_norm(layer: Layer, x: Value) -> Value:
    """Trailing axes are one op; other axes are written out."""
    if layer.flag("rms_scaling", False):
        raise layer.unsupported("rms_scaling, which Keras itself deprecates")
    axes, epsilon = layer.axes("axis", x.rank), layer.number("epsilon", 1e-3)
    scale, bias = layer.optional("gamma"), layer.optional("beta")
    if axes == tuple(range(axes[0], x.rank)):
        return layer.emit(ops.LayerNormalization(epsilon, axes[0]), x, scale, bias)
    centred = layer.emit(ops.Sub(), x, layer.emit(ops.ReduceMean(axes), x))
    variance = layer.emit(ops.ReduceMean(axes), layer.emit(ops.Mul(), centred, centred))
    deviation = layer.emit(ops.Sqrt(), layer.emit(ops.Add(), variance, layer.constant(epsilon, x, "epsilon")))
    made = layer.emit(ops.Div(), centred, deviation)
    shape = tuple(x.shape[axis] if axis in axes else 1 for axis in range(axes[0], x.rank))
    for op, vector in ((ops.Mul(), scale), (ops.Add(), bias)):
        if vector is not None:
            made = layer.emit(op, made, layer.emit(ops.Reshape(shape), vector))
    return made


def _operand(layer: Layer, data: Any, like: Value) -> Value | None:
    """An optional tensor of an operation: a tensor of the graph or an array, in the element type of `like`."""
    if data is None:
        return None
    return layer.cast(data, like.dtype) if isinstance(data, Value) else layer.constant(data, like)


@rules.imports("ops.LayerNorm")
def _layer_norm_operation(layer: Layer, x: Value, gamma: Any = None, beta: Any = None) -> Value:
    """keras.ops.layer_normalization over trailing axes; it computes half precision in float32."""
    axes = layer.axes("axis", x.rank)
    gamma, beta = layer.kwargs.get("gamma", gamma), layer.kwargs.get("beta", beta)
    if layer.flag("rms_scaling", False) or axes != tuple(range(axes[0], x.rank)):
        raise layer.unsupported("rms_scaling, or axes that are not the last ones")
    stated = layer.config.get("epsilon")
    op = ops.LayerNormalization(_SMALLEST_DEVIATION if stated is None else layer.number("epsilon"), axes[0])
    return layer.emit(op, x, _operand(layer, gamma, x), _operand(layer, beta, x))


@rules.imports("ops.RMSNorm")
def _rms_norm_operation(layer: Layer, x: Value, scale: Any = None) -> Value:
    axes, stated = layer.axes("axis", x.rank), layer.config.get("epsilon")
    if axes != tuple(range(axes[0], x.rank)):
        raise layer.unsupported("axes that are not the last ones")
    op = ops.RMSNormalization(_SMALLEST_DEVIATION if stated is None else layer.number("epsilon"), axes[0])
    return layer.emit(op, x, _operand(layer, layer.kwargs.get("scale", scale), x))


@rules.imports("ops.Normalize")
def _normalize(layer: Layer, x: Value) -> Value:
    """x / max(norm, epsilon), the norm of order 1 or 2."""
    axes, order, stated = layer.axes("axis", x.rank), layer.integer("order", 2), layer.config.get("epsilon")
    if order not in (1, 2) or (order == 1 and len(axes) > 1) or not x.dtype.is_float:
        raise layer.unsupported(f"the norm of order {order} over axes {list(axes)} of {x.dtype}")
    epsilon = _SMALLEST_DEVIATION if stated is None else layer.number("epsilon")
    return layer.emit(ops.LpNormalization(axes, order, epsilon), x)


@rules.imports("GroupNormalization")
def _group_norm(layer: Layer, x: Value) -> Value:
    axis, groups = layer.axis("axis", x.rank), layer.integer("groups", 32)
    channels = x.shape[axis]
    if groups == -1:
        if not isinstance(channels, int):
            raise layer.unsupported("one group for each of an unknown number of channels")
        groups = channels
    op = ops.GroupNormalization(groups, layer.number("epsilon", 1e-3), axis)
    return layer.emit(op, x, layer.optional("gamma"), layer.optional("beta"))


@rules.imports("RMSNormalization")
def _rms_norm(layer: Layer, x: Value) -> Value:
    axes = layer.axes("axis", x.rank)
    if axes != tuple(range(axes[0], x.rank)):
        raise layer.unsupported("axes that are not the last ones")
    return layer.emit(ops.RMSNormalization(layer.number("epsilon", 1e-6), axes[0]), x, layer.optional("scale"))


@rules.imports("UnitNormalization")
def _unit_norm(layer: Layer, x: Value) -> Value:
    """x / max(norm, epsilon); TensorFlow's l2_normalize of Keras 2 bounds the squared norm by 1e-12."""
    return layer.emit(ops.LpNormalization(layer.axes("axis", x.rank), 2, 1e-12 if layer.major >= 3 else 1e-6), x)


@rules.imports("Normalization")
def _normalization(layer: Layer, x: Value) -> Value:
    """(x - mean) / max(sqrt(variance), 1e-7), or the inverse of it, by statistics that were given or adapted."""
    stated = layer.config.get("axis", -1)
    axes = () if stated is None else layer.axes("axis", x.rank)
    kind = layer.compute_dtype
    x = x if kind is None else layer.cast(x, kind)
    mean, deviation = _statistics(layer, x, axes)
    if layer.flag("invert", False):
        return layer.emit(ops.Add(), layer.emit(ops.Mul(), x, deviation), mean)
    return layer.emit(ops.Div(), layer.emit(ops.Sub(), x, mean), deviation)


def _statistics(layer: Layer, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """Mean and standard deviation, shaped to stand on `axes` of x."""

    def shaped(source: TensorSource) -> TensorSource:
        sizes = iter(source.shape)
        shape = [next(sizes, 1) if axis in axes else 1 for axis in range(axes[0], x.rank)] if axes else []
        return source.reshaped(shape)

    def rooted(source: TensorSource) -> TensorSource:
        return DerivedTensor(
            source.dtype, source.shape, (source,), lambda array: np.maximum(np.sqrt(array), _SMALLEST_DEVIATION)
        )

    if layer.has("mean"):
        return layer.weight("mean", shaped), layer.weight("variance", lambda source: rooted(shaped(source)))
    try:
        mean, variance = (np.asarray(layer.config.get(key), np.float32) for key in ("mean", "variance"))
    except (TypeError, ValueError):
        raise layer.malformed("mean or variance is not made of numbers") from None
    deviation = np.maximum(np.sqrt(variance), np.float32(_SMALLEST_DEVIATION))

    def placed(array: Any) -> Any:
        flat = array.reshape(-1)
        if flat.size == 1:
            return flat.reshape(())
        if len(axes) != 1:
            raise layer.unsupported("given statistics of several axes")
        return flat.reshape((-1, *(1,) * (x.rank - 1 - axes[0])))

    return layer.constant(placed(mean), x, "mean"), layer.constant(placed(deviation), x, "deviation")


def _unheld(node: Node, names: Sequence[str]) -> str | None:
    """A vector of a normalization that is computed has no place in a layer."""
    operands = dict(zip(names, node.inputs[1:], strict=False))
    return next(
        (
            f"a {name} that is computed"
            for name, value in operands.items()
            if value is not None and not value.is_parameter
        ),
        None,
    )


@refuses(ops.BatchNormalization)
def _batch_norm_refusal(node: Node) -> str | None:
    return _unheld(node, ("scale", "bias", "mean", "variance"))


@rules.exports(ops.BatchNormalization)
def _batch_norm_layer(out: Emitter, node: Node) -> Tensor:
    op = node.op
    assert isinstance(op, ops.BatchNormalization)
    x, scale, bias, mean, variance = node.inputs
    axis = -1 if op.axis == node.output.rank - 1 else op.axis
    config = {"axis": axis, "epsilon": op.epsilon, "center": bias is not None, "scale": scale is not None}
    config["momentum"] = op.momentum
    weights = [out.held(value) for value in (scale, bias, mean, variance)]
    return out.layer(node, "BatchNormalization", config, out.tensor(x), weights=weights)


@refuses(ops.LayerNormalization)
def _layer_norm_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.LayerNormalization)
    normal = node.output.shape[node.op.axis :]
    if any(value is not None and value.shape != normal for value in node.inputs[1:]):
        return "a scale or bias that does not have the shape of the normalized axes"
    return _unheld(node, ("scale", "bias"))


@rules.exports(ops.LayerNormalization)
def _layer_norm_layer(out: Emitter, node: Node) -> Tensor:
    op = node.op
    assert isinstance(op, ops.LayerNormalization)
    x, scale, bias = (*node.inputs, None, None)[:3]
    rank = node.output.rank
    axes = -1 if op.axis == rank - 1 else list(range(op.axis, rank))
    config = {"axis": axes, "epsilon": op.epsilon, "center": bias is not None, "scale": scale is not None}
    return out.layer(node, "LayerNormalization", config, out.tensor(x), weights=[out.held(scale), out.held(bias)])


@refuses(ops.RMSNormalization)
def _rms_norm_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.RMSNormalization)
    scale = (*node.inputs, None)[1]
    if node.op.axis != node.output.rank - 1 or scale is None or scale.shape != node.output.shape[-1:]:
        return "a layer that always has a scale, over the last axis"
    return _unheld(node, ("scale",))


@rules.exports(ops.RMSNormalization)
def _rms_norm_layer(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.RMSNormalization)
    x, scale = node.inputs
    return out.layer(
        node, "RMSNormalization", {"axis": -1, "epsilon": node.op.epsilon}, out.tensor(x), weights=[out.held(scale)]
    )


@refuses(ops.GroupNormalization, ops.InstanceNormalization)
def _group_norm_refusal(node: Node) -> str | None:
    return _unheld(node, ("scale", "bias"))


@rules.exports(ops.GroupNormalization, ops.InstanceNormalization)
def _group_norm_layer(out: Emitter, node: Node) -> Tensor:
    """Instance normalization is group normalization with a group for each channel, which Keras states as -1 groups."""
    op = node.op
    assert isinstance(op, (ops.GroupNormalization, ops.InstanceNormalization))
    x, scale, bias = (*node.inputs, None, None)[:3]
    axis = -1 if op.axis == node.output.rank - 1 else op.axis
    groups = op.num_groups if isinstance(op, ops.GroupNormalization) else -1
    config = {
        "groups": groups,
        "axis": axis,
        "epsilon": op.epsilon,
        "center": bias is not None,
        "scale": scale is not None,
    }
    return out.layer(node, "GroupNormalization", config, out.tensor(x), weights=[out.held(scale), out.held(bias)])
