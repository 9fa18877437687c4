"""Merging layers, arithmetic and comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import DType, Node, Op, Value, ops
from isomorph.ir.op import normalize_axis


def as_list(layer: Layer, xs: Any, *rest: Any) -> list[Value]:
    """The operands of a merging layer, which Keras passes as one list."""
    given = [*(xs if isinstance(xs, list) else [xs]), *rest]
    if not any(isinstance(item, Value) for item in given):
        raise layer.malformed("tensors are merged, and other things were given")
    return [as_tensor(layer, item) for item in given]


def as_tensor(layer: Layer, item: Any) -> Value:
    """An operand that is a tensor or an array of the configuration. Raises MalformedError for anything else."""
    if isinstance(item, np.ndarray):
        return layer.builder.constant(item, f"{layer.name}/constant")
    if not isinstance(item, Value):
        raise layer.malformed(f"a tensor is needed, and {type(item).__name__} was given")
    return item


def _same_rank(layer: Layer, values: list[Value]) -> list[Value]:
    """Keras inserts axes after the batch until all operands have the highest rank."""
    rank = max(value.rank for value in values)
    return [
        value if value.rank == rank else layer.emit(ops.Unsqueeze(tuple(range(1, 1 + rank - value.rank))), value)
        for value in values
    ]


def _fold(layer: Layer, op: Op, values: list[Value]) -> Value:
    if len(values) < 2:
        raise layer.malformed("at least two tensors are merged")
    made = values[0]
    for value in values[1:]:
        made = layer.emit(op, made, value)
    return made


_MERGES: dict[str, Op] = {
    "Add": ops.Add(), "Subtract": ops.Sub(), "Multiply": ops.Mul(), "Average": ops.Add(), "Maximum": ops.Max(),
    "Minimum": ops.Min(),
}  # fmt: skip


@rules.imports(*_MERGES)
def _merge(layer: Layer, xs: Any, *rest: Any) -> Value:
    values = _same_rank(layer, as_list(layer, xs, *rest))
    if layer.cls == "Subtract" and len(values) != 2:
        raise layer.malformed(f"{len(values)} operands of a subtraction")
    made = _fold(layer, _MERGES[layer.cls], values)
    if layer.cls == "Average":
        made = layer.emit(ops.Div(), made, layer.constant(float(len(values)), made, "count"))
    return made


@rules.imports("Dot")
def _dot(layer: Layer, xs: Any, *rest: Any) -> Value:
    """Products along one axis of each operand, the batch kept; two vectors give (N, 1)."""
    a, b = as_list(layer, xs, *rest)
    stated = layer.config.get("axes", -1)
    both = stated if isinstance(stated, (list, tuple)) else [stated, stated]
    if len(both) == 1 and isinstance(both[0], (list, tuple)):
        both = both[0]
    if len(both) != 2 or not all(type(axis) is int for axis in both):
        raise layer.unsupported(f"axes {stated!r}")
    left, right = normalize_axis(both[0], a.rank), normalize_axis(both[1], b.rank)
    if left == 0 or right == 0:
        raise layer.unsupported("a product along the batch")
    if layer.flag("normalize", False):
        epsilon = 1e-7 if layer.major >= 3 else 1e-6  # Keras' epsilon(); TensorFlow 2 clips the squared sum at 1e-12
        a, b = (
            layer.emit(ops.LpNormalization((left,), 2, epsilon), a),
            layer.emit(ops.LpNormalization((right,), 2, epsilon), b),
        )
    letters = "nabcdefgh"
    first = letters[: a.rank]
    second = "n" + "stuvwxyz"[: b.rank - 1]
    second = second[:right] + first[left] + second[right + 1 :]
    result = first[:left] + first[left + 1 :] + "".join(letter for letter in second[1:] if letter != first[left])
    made = layer.emit(ops.Einsum(f"{first},{second}->{result}"), a, b)
    return layer.emit(ops.Unsqueeze((1,)), made) if made.rank == 1 else made


_LADDER = [
    DType.BOOL, DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64, DType.FLOAT16, DType.BFLOAT16,
    DType.FLOAT32, DType.FLOAT64,
]  # fmt: skip


def pair(layer: Layer, a: Any, b: Any) -> tuple[Value, Value]:
    """Two operands in one element type: a Python number takes the tensor's, two tensors Keras' promotion.

    Only promotions that need no table are made: equal types, a float with an integer, two floats. Others are refused.
    """
    if not isinstance(a, Value) and not isinstance(b, Value):
        raise layer.malformed("neither operand is a tensor")
    if isinstance(a, Value) and isinstance(b, Value):
        return _promoted(layer, a, b)
    tensor, number = (a, b) if isinstance(a, Value) else (b, a)
    if isinstance(number, np.ndarray):
        other = layer.builder.constant(number, f"{layer.name}/constant")
        return _promoted(layer, a, other) if tensor is a else _promoted(layer, other, b)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise layer.unsupported(f"an operand that is no number: {number!r}")
    if tensor.dtype is DType.BOOL or (isinstance(number, float) and not tensor.dtype.is_float):
        tensor = layer.cast(tensor, DType.FLOAT32 if isinstance(number, float) else DType.INT32)
    literal = layer.constant(number, tensor)
    return (tensor, literal) if isinstance(a, Value) else (literal, tensor)


def _promoted(layer: Layer, a: Value, b: Value) -> tuple[Value, Value]:
    if a.dtype is b.dtype:
        return a, b
    if a.dtype.is_float and b.dtype.is_float:
        if {a.dtype, b.dtype} == {DType.FLOAT16, DType.BFLOAT16}:
            return layer.cast(a, DType.FLOAT32), layer.cast(b, DType.FLOAT32)
        wider = max(a.dtype, b.dtype, key=_LADDER.index)
        return layer.cast(a, wider), layer.cast(b, wider)
    if a.dtype.is_float or b.dtype.is_float:
        wanted = a.dtype if a.dtype.is_float else b.dtype
        other = b.dtype if a.dtype.is_float else a.dtype
        if other in (DType.INT64, DType.UINT64) and wanted is not DType.FLOAT64:
            wanted = DType.FLOAT32
        return layer.cast(a, wanted), layer.cast(b, wanted)
    raise layer.unsupported(f"operands of {a.dtype} and {b.dtype}")


_BINARY: dict[str, Op] = {
    "Add": ops.Add(), "Subtract": ops.Sub(), "Multiply": ops.Mul(), "Maximum": ops.Max(), "Minimum": ops.Min(),
    "Greater": ops.Greater(), "GreaterEqual": ops.GreaterOrEqual(), "Less": ops.Less(), "LessEqual": ops.LessOrEqual(),
    "Equal": ops.Equal(), "LogicalAnd": ops.And(), "LogicalOr": ops.Or(), "LogicalXor": ops.Xor(), "Power": ops.Pow(),
    "Mod": ops.Mod(), "Fmod": ops.Mod(fmod=True), "BitwiseAnd": ops.BitwiseAnd(),
    "BitwiseOr": ops.BitwiseOr(), "BitwiseXor": ops.BitwiseXor(),
}  # fmt: skip
_TF_BINARY: dict[str, Op] = {
    "math.add": ops.Add(), "__operators__.add": ops.Add(), "math.subtract": ops.Sub(), "math.multiply": ops.Mul(),
    "math.maximum": ops.Max(), "math.minimum": ops.Min(), "math.pow": ops.Pow(), "math.greater": ops.Greater(),
    "math.less": ops.Less(),
}  # fmt: skip
_DIVIDE = ("ops.Divide", "ops.TrueDivide", "tf.math.divide", "tf.math.truediv")


def _second(layer: Layer, b: Any) -> Any:
    """The second operand, which tf.keras passes by keyword."""
    return layer.kwargs.get("y") if b is None else b


def _binary(op: Op) -> Callable[..., Value]:
    def rule(layer: Layer, a: Any, b: Any = None) -> Value:
        if isinstance(a, list) and b is None and len(a) == 2:
            a, b = a
        return layer.emit(op, *pair(layer, a, _second(layer, b)))

    return rule


for _class, _op in _BINARY.items():
    rules.imports(f"ops.{_class}")(_binary(_op))
for _class, _op in _TF_BINARY.items():
    rules.imports(f"tf.{_class}")(_binary(_op))


@rules.imports(*_DIVIDE)
def _divide(layer: Layer, a: Any, b: Any = None) -> Value:
    if isinstance(a, list) and b is None and len(a) == 2:
        a, b = a
    left, right = pair(layer, a, _second(layer, b))
    if not left.dtype.is_float:
        left, right = layer.cast(left, DType.FLOAT32), layer.cast(right, DType.FLOAT32)
    return layer.emit(ops.Div(), left, right)


@rules.imports("ops.NotEqual")
def _not_equal(layer: Layer, a: Any, b: Any) -> Value:
    return layer.emit(ops.Not(), layer.emit(ops.Equal(), *pair(layer, a, b)))


@rules.imports("ops.FloorDivide")
def _floor_divide(layer: Layer, a: Any, b: Any) -> Value:
    """floor(a / b); of integers (a - a mod b) / b, which is exact."""
    left, right = pair(layer, a, b)
    if left.dtype.is_float:
        return layer.emit(ops.Floor(), layer.emit(ops.Div(), left, right))
    if not left.dtype.is_integer:
        raise layer.unsupported(f"a division of {left.dtype}")
    return layer.emit(ops.Div(), layer.emit(ops.Sub(), left, layer.emit(ops.Mod(), left, right)), right)


_UNARY: dict[str, Op] = {
    "Abs": ops.Abs(), "Absolute": ops.Abs(), "Negative": ops.Neg(), "Sign": ops.Sign(), "LogicalNot": ops.Not(),
    "Isnan": ops.IsNaN(), "Isinf": ops.IsInf(), "Exp": ops.Exp(), "Log": ops.Log(), "Sqrt": ops.Sqrt(),
    "Reciprocal": ops.Reciprocal(), "Floor": ops.Floor(), "Ceil": ops.Ceil(), "Erf": ops.Erf(), "Sin": ops.Sin(),
    "Cos": ops.Cos(), "Tan": ops.Tan(), "Arcsin": ops.Asin(), "Arccos": ops.Acos(), "Arctan": ops.Atan(),
    "Sinh": ops.Sinh(), "Cosh": ops.Cosh(), "Arcsinh": ops.Asinh(), "Arccosh": ops.Acosh(), "Arctanh": ops.Atanh(),
    "Round": ops.Round(), "BitwiseNot": ops.BitwiseNot(), "Expm1": ops.Expm1(), "Log1p": ops.Log1p(),
    "Erfc": ops.Erfc(),
}  # fmt: skip
_TF_UNARY: dict[str, Op] = {
    "math.abs": ops.Abs(), "math.negative": ops.Neg(), "math.exp": ops.Exp(), "math.log": ops.Log(),
    "math.sqrt": ops.Sqrt(), "math.sin": ops.Sin(), "math.cos": ops.Cos(), "math.floor": ops.Floor(),
    "math.ceil": ops.Ceil(), "math.expm1": ops.Expm1(), "math.log1p": ops.Log1p(), "math.erfc": ops.Erfc(),
    "identity": ops.Identity(),
}  # fmt: skip
_ANY_TYPE = (ops.Abs, ops.Neg, ops.Sign, ops.Identity, ops.Not, ops.BitwiseNot)


def _unary(op: Op) -> Callable[[Layer, Value], Value]:
    def rule(layer: Layer, x: Value) -> Value:
        if not x.dtype.is_float and not isinstance(op, _ANY_TYPE):
            raise layer.unsupported(f"an operand of {x.dtype}")
        return layer.emit(op, x)

    return rule


for _class, _op in _UNARY.items():
    rules.imports(f"ops.{_class}")(_unary(_op))
for _class, _op in _TF_UNARY.items():
    rules.imports(f"tf.{_class}")(_unary(_op))


@rules.imports("ops.Square", "tf.math.square")
def _square(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Mul(), x, x)


@rules.imports("ops.Rsqrt", "tf.math.rsqrt")
def _rsqrt(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Reciprocal(), layer.emit(ops.Sqrt(), x))


@rules.imports("ops.Identity")
def _identity(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Identity(), x)


@rules.imports("ops.Clip")
def _clip(layer: Layer, x: Value) -> Value:
    """x within x_min and x_max, both plain numbers."""
    low, high = layer.config.get("x_min"), layer.config.get("x_max")
    if not all(
        bound is None or (isinstance(bound, (int, float)) and not isinstance(bound, bool)) for bound in (low, high)
    ):
        raise layer.unsupported("bounds that are tensors")
    return layer.emit(ops.Clip(low, high), x)


@rules.imports("ops.Where")
def _where(layer: Layer, condition: Any, a: Any = None, b: Any = None) -> Value:
    condition, a, b = (
        layer.builder.constant(item, f"{layer.name}/constant") if isinstance(item, np.ndarray) else item
        for item in (condition, a, b)
    )
    if not isinstance(condition, Value):
        raise layer.unsupported(f"the condition {condition!r}")
    left, right = pair(layer, a, b)
    return layer.emit(ops.Where(), layer.cast(condition, DType.BOOL), left, right)


@rules.imports("LayerScale")
def _layer_scale(layer: Layer, x: Value) -> Value:
    """y = gamma * x: a class of keras.applications.convnext."""
    return layer.emit(ops.Mul(), x, layer.weight("gamma"))


@rules.imports("Rescaling")
def _rescaling(layer: Layer, x: Value) -> Value:
    """y = x * scale + offset, numbers or one number for each channel (the last axis)."""
    kind = layer.compute_dtype or DType.FLOAT32
    x = layer.cast(x, kind)
    scale, offset = (_numbers(layer, key, default) for key, default in (("scale", 1.0), ("offset", 0.0)))
    if scale.ndim and layer.config.get("data_format") == "channels_first":
        raise layer.unsupported("a scale for each channel, channels first")
    made = layer.emit(ops.Mul(), x, layer.constant(scale, x, "scale"))
    return layer.emit(ops.Add(), made, layer.constant(offset, x, "offset")) if offset.any() else made


def _numbers(layer: Layer, key: str, default: float) -> Any:
    value = layer.config.get(key, default)
    if isinstance(value, dict):
        value = value.get("config", {}).get("value", value.get("value"))
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise layer.malformed(f"{key} is {value!r}") from None


_LAYERS: dict[type[Op], str] = {
    ops.Add: "Add", ops.Sub: "Subtract", ops.Mul: "Multiply", ops.Max: "Maximum", ops.Min: "Minimum",
}  # fmt: skip
_OPERATIONS: dict[type[Op], str] = {
    ops.Abs: "Absolute", ops.Acos: "Arccos", ops.Acosh: "Arccosh", ops.And: "LogicalAnd", ops.Asin: "Arcsin",
    ops.Asinh: "Arcsinh", ops.Atan: "Arctan", ops.Atanh: "Arctanh", ops.BitwiseAnd: "BitwiseAnd",
    ops.BitwiseNot: "BitwiseNot", ops.BitwiseOr: "BitwiseOr", ops.BitwiseXor: "BitwiseXor", ops.Ceil: "Ceil",
    ops.Cos: "Cos", ops.Cosh: "Cosh", ops.Div: "Divide", ops.Equal: "Equal", ops.Erf: "Erf", ops.Exp: "Exp",
    ops.Expm1: "Expm1", ops.Log1p: "Log1p",
    ops.Floor: "Floor", ops.Greater: "Greater", ops.GreaterOrEqual: "GreaterEqual", ops.IsInf: "Isinf",
    ops.IsNaN: "Isnan", ops.Less: "Less", ops.LessOrEqual: "LessEqual", ops.Log: "Log", ops.Neg: "Negative",
    ops.Not: "LogicalNot", ops.Or: "LogicalOr", ops.Pow: "Power", ops.Reciprocal: "Reciprocal", ops.Round: "Round",
    ops.Sign: "Sign", ops.Sin: "Sin", ops.Sinh: "Sinh", ops.Sqrt: "Sqrt", ops.Tan: "Tan", ops.Where: "Where",
    ops.Xor: "LogicalXor",
}  # fmt: skip


def merges(out: Emitter, node: Node) -> bool:
    """Whether a merging layer does what NumPy broadcasting does: tensors of one rank (>= 2) and one batch.

    Where one batch is open and the other is 1, Keras' merging layers take the result's batch to be 1.
    """
    operands = list(node.operands())
    if not all(value.dtype.is_float and out.literal(value) is None for value in operands):
        return False
    batches = {value.shape[0] for value in operands if value.rank}
    return len({value.rank for value in operands}) == 1 and operands[0].rank >= 2 and len(batches) == 1


@rules.exports(*_LAYERS)
def _merging_layer(out: Emitter, node: Node) -> Tensor:
    """A layer between tensors, an operation with a number or an array."""
    cls = _LAYERS[type(node.op)]
    if merges(out, node):
        return out.layer(node, cls, {}, [out.tensor(value) for value in node.operands()])
    return out.operation(node, cls, {}, *out.arguments(node))


@rules.exports(*_OPERATIONS)
def _elementwise_operation(out: Emitter, node: Node) -> Tensor:
    return out.operation(node, _OPERATIONS[type(node.op)], {}, *out.arguments(node))


@refuses(ops.Div)
def _div_refusal(node: Node) -> str | None:
    return None if node.output.dtype.is_float else "a division of integers toward zero"


@refuses(ops.Pow)
def _pow_refusal(node: Node) -> str | None:
    a, b = node.operands()
    return (
        None
        if a.dtype is b.dtype or (a.dtype.is_float and b.dtype.is_integer)
        else f"{a.dtype} to the power of {b.dtype}"
    )


@rules.exports(ops.Mod)
def _mod(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Mod)
    return out.operation(node, "Fmod" if node.op.fmod else "Mod", {}, *out.arguments(node))


@rules.exports(ops.Cast)
def _cast(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Cast)
    return out.operation(node, "Cast", {"dtype": node.op.to.value}, *out.arguments(node))


@rules.exports(ops.Identity)
def _identity_layer(out: Emitter, node: Node) -> Tensor:
    return out.layer(node, "Identity", {}, out.tensor(node.inputs[0]))
