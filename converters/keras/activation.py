"""Activation functions, fused into layers or standing as layers, softmax, and dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import DType, Node, Op, Value, ops

Function: TypeAlias = Callable[[Layer, Value], Value]


def _is(op: Any) -> Function:
    return lambda layer, x: layer.emit(op, x)


def _hard_sigmoid(layer: Layer, x: Value) -> Value:
    """Keras 3 clips x / 6 + 1/2, Keras 1 and 2 clip 0.2 * x + 1/2."""
    return layer.emit(ops.HardSigmoid(alpha=1 / 6 if layer.major >= 3 else 0.2, beta=0.5), x)


def _softmax(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Softmax(axis=x.rank - 1), x)


def _tanh_shrink(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Sub(), x, layer.emit(ops.Tanh(), x))


def _squareplus(layer: Layer, x: Value) -> Value:
    """(x + sqrt(x^2 + 4)) / 2"""
    inside = layer.emit(ops.Add(), layer.emit(ops.Mul(), x, x), layer.constant(4.0, x))
    total = layer.emit(ops.Add(), x, layer.emit(ops.Sqrt(), inside))
    return layer.emit(ops.Div(), total, layer.constant(2.0, x))


_FUNCTIONS: dict[str, Function] = {
    "relu": _is(ops.Relu()),
    "relu6": _is(ops.Clip(0.0, 6.0)),
    "elu": _is(ops.Elu(1.0)),
    "selu": _is(ops.Selu()),
    "celu": _is(ops.Celu(1.0)),
    "leaky_relu": _is(ops.LeakyRelu(0.2)),
    "sigmoid": _is(ops.Sigmoid()),
    "hard_sigmoid": _hard_sigmoid,
    "tanh": _is(ops.Tanh()),
    "softplus": _is(ops.Softplus()),
    "softsign": _is(ops.Softsign()),
    "softmax": _softmax,
    "log_softmax": lambda layer, x: layer.emit(ops.LogSoftmax(axis=x.rank - 1), x),
    "log_sigmoid": _is(ops.LogSigmoid()),
    "silu": _is(ops.Swish()),
    "swish": _is(ops.Swish()),
    "hard_silu": _is(ops.HardSwish()),
    "hard_swish": _is(ops.HardSwish()),
    "gelu": _is(ops.Gelu("none")),
    "mish": _is(ops.Mish()),
    "exponential": _is(ops.Exp()),
    "hard_tanh": _is(ops.Clip(-1.0, 1.0)),
    "hard_shrink": _is(ops.Shrink(0.5, 0.0)),
    "soft_shrink": _is(ops.Shrink(0.5, 0.5)),
    "tanh_shrink": _tanh_shrink,
    "squareplus": _squareplus,
}


def activation_name(layer: Layer, stated: Any) -> str | None:
    """The name of an activation function, None for "linear"; Keras writes a name or a function object."""
    if isinstance(stated, Mapping):
        stated = stated.get("config") if stated.get("class_name") == "function" else stated.get("class_name")
    if stated is None or stated == "linear":
        return None
    if not isinstance(stated, str):
        raise layer.malformed(f"the activation is {stated!r}")
    return stated


def activate(layer: Layer, x: Value, key: str = "activation") -> Value:
    """The activation that a layer states, applied to its output; it may itself be a layer object."""
    stated = layer.config.get(key)
    if isinstance(stated, Mapping) and isinstance(stated.get("config"), Mapping) and "name" in stated["config"]:
        inner = layer.nested(stated)
        rule = rules.importer(inner.cls)
        if rule is None:
            raise layer.unsupported(f"the activation {inner.cls}")
        made = rule(inner, x)
        return made if isinstance(made, Value) else made[0]
    name = activation_name(layer, stated)
    if name is None:
        return x
    function = _FUNCTIONS.get(name)
    if function is None:
        raise layer.unsupported(f"the activation {name!r}")
    return function(layer, x)


@rules.imports("Activation")
def _activation(layer: Layer, x: Value) -> Value:
    made = activate(layer, x)
    return layer.emit(ops.Identity(), x) if made is x else made


@rules.imports("ReLU")
def _relu(layer: Layer, x: Value) -> Value:
    """f(x) = max_value above it, x from threshold on, negative_slope * (x - threshold) below."""
    slope, threshold = (
        layer.number(key, 0.0) if layer.config.get(key) is not None else 0.0 for key in ("negative_slope", "threshold")
    )
    ceiling = None if layer.config.get("max_value") is None else layer.number("max_value")
    if threshold == 0.0 and slope == 0.0:
        return layer.emit(ops.Relu() if ceiling is None else ops.Clip(0.0, ceiling), x)
    if threshold == 0.0:
        made = layer.emit(ops.LeakyRelu(slope), x)
    elif slope == 0.0:  # Keras keeps x where it is strictly above the threshold
        made = (
            layer.emit(ops.ThresholdedRelu(threshold), x) if threshold > 0 else _thresholded(layer, x, threshold, slope)
        )
    else:
        made = _thresholded(layer, x, threshold, slope)
    return made if ceiling is None else layer.emit(ops.Clip(None, ceiling), made)


def _thresholded(layer: Layer, x: Value, threshold: float, slope: float) -> Value:
    edge = layer.constant(threshold, x, "threshold")
    below = layer.emit(ops.Mul(), layer.emit(ops.Sub(), x, edge), layer.constant(slope, x, "slope"))
    return layer.emit(ops.Where(), layer.emit(ops.Greater(), x, edge), x, below)


@rules.imports("LeakyReLU")
def _leaky_relu(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.LeakyRelu(layer.number("negative_slope", 0.3)), x)


@rules.imports("ELU")
def _elu(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Elu(layer.number("alpha", 1.0)), x)


@rules.imports("ThresholdedReLU")
def _thresholded_relu(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.ThresholdedRelu(layer.number("theta", 1.0)), x)


@rules.imports("PReLU")
def _prelu(layer: Layer, x: Value) -> Value:
    """alpha has the shape of x without the batch; shared axes have size 1."""
    alpha = layer.weight("alpha")
    if alpha.rank < x.rank - 1:
        raise layer.malformed(f"alpha has rank {alpha.rank} for data of rank {x.rank}")
    return layer.emit(ops.PRelu(), x, alpha)


@rules.imports("Softmax")
def _softmax_of_layer(layer: Layer, x: Value) -> Value:
    if layer.kwargs.get("mask") is not None:
        raise layer.unsupported("a mask")
    axes = layer.axes("axis", x.rank)
    if len(axes) != 1:
        raise layer.unsupported("a softmax over several axes")
    return layer.emit(ops.Softmax(axis=axes[0]), x)


@rules.imports("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout")
def _dropout(layer: Layer, x: Value) -> Value:
    """Nothing at inference; only plain dropout keeps its ratio, the others are another distribution when trained."""
    if layer.always_training:
        raise layer.unsupported("a call with training=True, which is random")
    return layer.emit(ops.Dropout(layer.number("rate", 0.5)) if layer.cls == "Dropout" else ops.Identity(), x)


@rules.imports(
    "GaussianNoise", "StochasticDepth", "RandomFlip", "RandomRotation", "RandomZoom", "RandomTranslation",
    "RandomContrast", "RandomBrightness", "RandomShear", "RandomSaturation", "RandomHue", "RandomColorJitter",
    "RandomErasing", "MixUp", "CutMix",
)  # fmt: skip
def _noise(layer: Layer, x: Value) -> Value:
    if layer.always_training:
        raise layer.unsupported("a call with training=True, which is random")
    return layer.emit(ops.Identity(), x)


def _operation(name: str) -> Function:
    """A rule of its own for each operation, so that a registry key is never two functions."""

    def rule(layer: Layer, x: Value) -> Value:
        return _FUNCTIONS[name](layer, x)

    return rule


for _class, _name in {
    "Relu": "relu", "Relu6": "relu6", "Selu": "selu", "Sigmoid": "sigmoid", "LogSigmoid": "log_sigmoid",
    "Tanh": "tanh", "Silu": "silu", "Softplus": "softplus", "Softsign": "softsign", "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu", "HardTanh": "hard_tanh", "TanhShrink": "tanh_shrink", "Squareplus": "squareplus",
    "Mish": "mish",
}.items():  # fmt: skip
    rules.imports(f"ops.{_class}")(_operation(_name))
for _function, _name in {
    "nn.relu": "relu", "nn.relu6": "relu6", "nn.sigmoid": "sigmoid", "math.sigmoid": "sigmoid", "nn.tanh": "tanh",
    "math.tanh": "tanh", "nn.silu": "silu", "nn.swish": "silu", "nn.softplus": "softplus", "math.softplus": "softplus",
    "nn.elu": "elu", "nn.selu": "selu", "nn.softsign": "softsign",
}.items():  # fmt: skip
    rules.imports(f"tf.{_function}")(_operation(_name))


@rules.imports("ops.Glu")
def _gated(layer: Layer, x: Value) -> Value:
    """a * sigmoid(b), a and b the halves of x along an axis."""
    axis = layer.axis("axis", x.rank)
    size = x.shape[axis]
    if not isinstance(size, int) or size % 2:
        raise layer.unsupported(f"halves of {size} elements")
    a, b = layer.emit_many(ops.Split(axis, (size // 2,) * 2), x)
    return layer.emit(ops.Mul(), a, layer.emit(ops.Sigmoid(), b))


@rules.imports("ops.Gelu", "tf.nn.gelu")
def _gelu_operation(layer: Layer, x: Value) -> Value:
    stated = layer.config.get("approximate") if layer.cls.startswith("ops.") else layer.kwargs.get("approximate")
    default = layer.cls.startswith("ops.")  # keras.ops.gelu approximates unless told otherwise, tf.nn.gelu does not
    return layer.emit(ops.Gelu("tanh" if (default if stated is None else stated) else "none"), x)


@rules.imports("ops.LeakyRelu")
def _leaky_relu_operation(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.LeakyRelu(layer.number("negative_slope", 0.2)), x)


@rules.imports("tf.nn.leaky_relu")
def _tf_leaky_relu(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.LeakyRelu(float(layer.kwargs.get("alpha", 0.2))), x)


@rules.imports("ops.Elu", "ops.Celu")
def _elu_operation(layer: Layer, x: Value) -> Value:
    alpha = layer.number("alpha", 1.0)
    return layer.emit(ops.Elu(alpha) if layer.cls == "ops.Elu" else ops.Celu(alpha), x)


@rules.imports("ops.Softmax", "ops.LogSoftmax", "tf.nn.softmax", "tf.nn.log_softmax")
def _softmax_operation(layer: Layer, x: Value) -> Value:
    axis = layer.config.get("axis", -1) if layer.source.cls.startswith("ops.") else layer.kwargs.get("axis", -1)
    axis = -1 if axis is None and layer.cls.startswith("tf.") else axis
    if type(axis) is not int or not -x.rank <= axis < x.rank:
        raise layer.unsupported(f"axis {axis!r}")
    log = "log" in layer.cls.lower()
    return layer.emit((ops.LogSoftmax if log else ops.Softmax)(axis=axis % x.rank), x)


@rules.imports("ops.HardShrink", "ops.SoftShrink")
def _shrink_operation(layer: Layer, x: Value) -> Value:
    threshold = layer.number("threshold", 0.5)
    return layer.emit(ops.Shrink(threshold, threshold if layer.cls == "ops.SoftShrink" else 0.0), x)


@rules.imports("Cast", "ops.Cast", "tf.cast")
def _cast(layer: Layer, x: Value, dtype: Any = None) -> Value:
    stated = layer.config.get("dtype") or layer.kwargs.get("dtype") or layer.kwargs.get("_dtype") or dtype
    if not isinstance(stated, str):
        raise layer.unsupported(f"a cast to {stated!r}")
    return layer.emit(ops.Cast(DType.of(stated)), x)


_NAMED: dict[type[Op], str] = {
    ops.Sigmoid: "sigmoid", ops.Tanh: "tanh", ops.Softplus: "softplus", ops.Softsign: "softsign", ops.Mish: "mish",
    ops.LogSigmoid: "log_sigmoid", ops.HardSwish: "hard_silu", ops.HardSigmoid: "hard_sigmoid", ops.Swish: "silu",
    ops.Selu: "selu",
}  # fmt: skip
"""Activations that Keras knows by a name."""
_KERAS_FORMS: tuple[Op, ...] = (ops.HardSigmoid(1 / 6, 0.5), ops.Swish(), ops.Selu())
"""The attributes for which the name means the same."""


def _is_named(op: Op) -> bool:
    variants = [form for form in _KERAS_FORMS if type(form) is type(op)]
    if isinstance(op, ops.HardSigmoid):
        return op.beta == 0.5 and np.float32(op.alpha) == np.float32(1 / 6)
    return type(op) in _NAMED and (not variants or op in variants)


@refuses(*_NAMED)
def _named_refusal(node: Node) -> str | None:
    return None if _is_named(node.op) else f"Keras' {_NAMED[type(node.op)]} has other constants"


@rules.exports(*_NAMED)
def _named_layer(out: Emitter, node: Node) -> Tensor:
    return out.layer(node, "Activation", {"activation": _NAMED[type(node.op)]}, out.tensor(node.inputs[0]))


@rules.exports(ops.Gelu)
def _gelu_layer(out: Emitter, node: Node) -> Tensor:
    """The layer means the exact function; the approximation is an operation."""
    assert isinstance(node.op, ops.Gelu)
    x = out.tensor(node.inputs[0])
    if node.op.approximate == "none":
        return out.layer(node, "Activation", {"activation": "gelu"}, x)
    return out.operation(node, "Gelu", {"approximate": True}, x)


@rules.exports(ops.Relu)
def _relu_layer(out: Emitter, node: Node) -> Tensor:
    x = out.tensor(node.inputs[0])
    return out.layer(node, "ReLU", {}, x) if x.type.dtype.is_float else out.operation(node, "Relu", {}, x)


@rules.exports(ops.Clip)
def _clip_layer(out: Emitter, node: Node) -> Tensor:
    """ReLU with a maximum where the minimum is 0; an open side is Maximum or Minimum with a number."""
    op = node.op
    assert isinstance(op, ops.Clip)
    x = out.tensor(node.inputs[0])
    if op.min == 0 and op.max is not None and op.max > 0 and x.type.dtype.is_float:
        return out.layer(node, "ReLU", {"max_value": float(op.max)}, x)
    if op.min is not None:
        x = out.operation(node, "Maximum", {}, x, op.min, suffix="" if op.max is None else "low")
    return x if op.max is None else out.operation(node, "Minimum", {}, x, op.max)


@rules.exports(ops.LeakyRelu)
def _leaky_relu_layer(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.LeakyRelu)
    return out.layer(node, "LeakyReLU", {"negative_slope": node.op.alpha}, out.tensor(node.inputs[0]))


@rules.exports(ops.Elu)
def _elu_layer(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Elu)
    return out.layer(node, "ELU", {"alpha": node.op.alpha}, out.tensor(node.inputs[0]))


@rules.exports(ops.Celu)
def _celu(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Celu)
    return out.operation(node, "Celu", {"alpha": node.op.alpha}, out.tensor(node.inputs[0]))


@refuses(ops.Shrink)
def _shrink_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.Shrink)
    return None if node.op.bias in (0.0, node.op.lambd) else "Keras shrinks by the threshold or not at all"


@rules.exports(ops.Shrink)
def _shrink(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Shrink)
    cls = "HardShrink" if node.op.bias == 0.0 else "SoftShrink"
    return out.operation(node, cls, {"threshold": node.op.lambd}, out.tensor(node.inputs[0]))


@refuses(ops.PRelu)
def _prelu_refusal(node: Node) -> str | None:
    x, slope = node.inputs
    assert x is not None and slope is not None
    if not slope.is_parameter:
        return "a slope that is computed"
    if x.rank < 2 or slope.rank > x.rank or (slope.rank == x.rank and slope.shape[0] != 1):
        return "a slope for each sample"
    inner = (*(1,) * (x.rank - slope.rank), *slope.shape)[1:]
    wrong = any(size not in (1, whole) for size, whole in zip(inner, x.shape[1:], strict=True))
    return "a slope that does not broadcast" if wrong else None


@rules.exports(ops.PRelu)
def _prelu_layer(out: Emitter, node: Node) -> Tensor:
    """The slopes have one axis less than the data; axes of size 1 are shared."""
    x, slope = node.inputs
    assert x is not None and slope is not None and slope.parameter is not None
    inner = [int(size) for size in (*(1,) * (x.rank - slope.rank), *slope.shape)[1:]]  # type: ignore[arg-type]
    shared = [axis for axis, size in enumerate(inner, start=1) if size == 1]
    view = slope.parameter.data.reshaped(inner)
    return out.layer(node, "PReLU", {"shared_axes": shared or None}, out.tensor(x), weights=[out.held(slope, view)])


@rules.exports(ops.Softmax)
def _softmax_layer(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Softmax)
    axis = -1 if node.op.axis == node.output.rank - 1 else node.op.axis
    return out.layer(node, "Softmax", {"axis": axis}, out.tensor(node.inputs[0]))


@rules.exports(ops.LogSoftmax)
def _log_softmax(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.LogSoftmax)
    axis = -1 if node.op.axis == node.output.rank - 1 else node.op.axis
    return out.operation(node, "LogSoftmax", {"axis": axis}, out.tensor(node.inputs[0]))


@refuses(ops.Dropout)
def _dropout_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.Dropout)
    return None if 0.0 <= node.op.ratio < 1.0 else f"a rate of {node.op.ratio}"


@rules.exports(ops.Dropout)
def _dropout_layer(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Dropout)
    return out.layer(node, "Dropout", {"rate": node.op.ratio}, out.tensor(node.inputs[0]))
