"""Activation functions, fused into layers or standing as layers, softmax, and dropout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import DType, Value, ops

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
def _softmax_layer(layer: Layer, x: Value) -> Value:
    if layer.kwargs.get("mask") is not None:
        raise layer.unsupported("a mask")
    axes = layer.axes("axis", x.rank)
    if len(axes) != 1:
        raise layer.unsupported("a softmax over several axes")
    return layer.emit(ops.Softmax(axis=axes[0]), x)


@rules.imports("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout", "GaussianDropout")
def _dropout(layer: Layer, x: Value) -> Value:
    """Nothing at inference; only plain dropout keeps its ratio, the others are another distribution when trained."""
    if layer.kwargs.get("training") is True:
        raise layer.unsupported("a call with training=True, which is random")
    return layer.emit(ops.Dropout(layer.number("rate", 0.5)) if layer.cls == "Dropout" else ops.Identity(), x)


@rules.imports("GaussianNoise", "StochasticDepth")
def _noise(layer: Layer, x: Value) -> Value:
    if layer.kwargs.get("training") is True:
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
def _shrink(layer: Layer, x: Value) -> Value:
    threshold = layer.number("threshold", 0.5)
    return layer.emit(ops.Shrink(threshold, threshold if layer.cls == "ops.SoftShrink" else 0.0), x)


@rules.imports("Cast", "ops.Cast", "tf.cast")
def _cast(layer: Layer, x: Value, dtype: Any = None) -> Value:
    stated = layer.config.get("dtype") or layer.kwargs.get("dtype") or layer.kwargs.get("_dtype") or dtype
    if not isinstance(stated, str):
        raise layer.unsupported(f"a cast to {stated!r}")
    return layer.emit(ops.Cast(DType.of(stated)), x)
