"""Element-wise ops in ONNX: they have the IR's names."""

from __future__ import annotations

from typing import Any

import numpy as np

from isomorph.converters.onnx.codec import dtype_of, element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.errors import MalformedError
from isomorph.ir import OPS, DType, Node, Value, ops

_UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Cos", "Cosh", "Erf", "Exp",
    "Floor", "Identity", "IsNaN", "Log", "Neg", "Not", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Tan",
)  # fmt: skip
_BINARY = (
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "Mul", "Or", "Pow", "Sub", "Xor",
)  # fmt: skip


@rules.imports(*_UNARY)
def read_unary(node: OnnxNode) -> Value:
    return node.emit(OPS[node.kind](), node.value(0))


@rules.imports("Erfc", "Expm1", "Log1p")
def read_leftover(node: OnnxNode) -> Value:
    """What ONNX has not, and tf2onnx leaves in a file under TensorFlow's name; no runtime runs such a file."""
    return node.emit(OPS[node.kind](), node.value(0))


@rules.imports("IsInf")
def read_is_inf(node: OnnxNode) -> Value:
    x = node.value(0)
    negative, positive = bool(node.attribute("detect_negative", 1)), bool(node.attribute("detect_positive", 1))
    if negative and positive:
        return node.emit(ops.IsInf(), x)
    if not negative and not positive:
        node.refuse("infinities of neither sign")
    sought = node.graph.builder.constant(np.asarray(np.inf if positive else -np.inf, x.dtype.numpy), "infinity")
    return node.emit(ops.Equal(), x, sought)


@rules.imports(*_BINARY)
def read_binary(node: OnnxNode) -> Value:
    a, b = node.value(0), node.value(1)
    if node.opset < 7:
        b = _aligned(node, a, b)
    return node.emit(OPS[node.kind](), a, b)


def _aligned(node: OnnxNode, a: Value, b: Value) -> Value:
    """The second operand as NumPy broadcasts it: before opset 7 its axes lie at `axis` and after, if `broadcast`."""
    axis = int(node.attribute("axis", a.rank - b.rank))
    if not node.attribute("broadcast", 0) and a.shape != b.shape:
        raise MalformedError(f"{node.kind} has operands {a.type} and {b.type}", at=node.where)
    if not -a.rank <= axis <= a.rank:
        raise MalformedError(f"{node.kind} of {a.type} and {b.type} at axis {axis}", at=node.where)
    behind = a.rank - (axis + a.rank if axis < 0 else axis) - b.rank
    return b if behind < 1 else node.emit(ops.Reshape((*b.shape, *(1,) * behind)), b)


@rules.imports("Mod")
def read_mod(node: OnnxNode) -> Value:
    return node.emit(ops.Mod(bool(node.attribute("fmod", 0))), node.value(0), node.value(1))


@rules.imports("Max", "Min", "Sum", "Mean")
def read_variadic(node: OnnxNode) -> Value:
    op = {"Max": ops.Max(), "Min": ops.Min()}.get(node.kind, ops.Add())
    total = node.value(0)
    for position in range(1, len(node.inputs)):
        total = node.emit(op, total, node.value(position))
    if node.kind == "Mean" and len(node.inputs) > 1:
        count = node.graph.builder.constant(np.asarray(len(node.inputs), total.dtype.numpy), "count")
        total = node.emit(ops.Div(), total, count)
    return total if len(node.inputs) > 1 else node.emit(ops.Identity(), total)


@rules.imports("Where")
def read_where(node: OnnxNode) -> Value:
    return node.emit(ops.Where(), node.value(0), node.value(1), node.value(2))


@rules.imports("Cast")
def read_cast(node: OnnxNode) -> Value:
    return _cast(node, dtype_of(int(node.attribute("to")), node.where))


@rules.imports("CastLike")
def read_cast_like(node: OnnxNode) -> Value:
    return _cast(node, node.value(1).dtype)


def _cast(node: OnnxNode, to: DType) -> Value:
    saturate, rounding = bool(node.attribute("saturate", 1)), node.attribute("round_mode", "up")
    if rounding not in ("up", "down", "nearest"):
        node.refuse(f"round_mode {rounding!r}")
    narrow = to.is_float and to.itemsize == 1
    powers = to is DType.FLOAT8_E8M0FNU
    return node.emit(ops.Cast(to, saturate or not narrow, rounding if powers else "up"), node.value(0))


@rules.exports(
    ops.Abs, ops.Acos, ops.Acosh, ops.Add, ops.And, ops.Asin, ops.Asinh, ops.Atan, ops.Atanh, ops.BitwiseAnd,
    ops.BitwiseNot, ops.BitwiseOr, ops.BitwiseXor, ops.Ceil, ops.Cos, ops.Cosh, ops.Div, ops.Equal, ops.Erf, ops.Exp,
    ops.Floor, ops.Greater, ops.GreaterOrEqual, ops.Identity, ops.IsInf, ops.IsNaN, ops.Less, ops.LessOrEqual,
    ops.Log, ops.Max, ops.Min, ops.Mul, ops.Neg, ops.Not, ops.Or, ops.Pow, ops.Reciprocal, ops.Round, ops.Sign,
    ops.Sin, ops.Sinh, ops.Sqrt, ops.Sub, ops.Tan, ops.Where, ops.Xor,
)  # fmt: skip
def write_elementwise(export: Export, node: Node) -> None:
    export.replace(node.op.name, node)


@rules.exports(ops.Mod)
def write_mod(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Mod)
    export.replace("Mod", node, fmod=int(node.op.fmod))


@rules.exports(ops.Cast)
def write_cast(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Cast)
    rounding = None if op.rounding == "up" else op.rounding
    stated: dict[str, Any] = {"saturate": None if op.saturate else 0, "round_mode": rounding}
    export.replace("Cast", node, to=element_type(op.to), **stated)
