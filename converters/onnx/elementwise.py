"""Element-wise ops in ONNX: they have the IR's names."""

from __future__ import annotations

from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Node, ops


@rules.exports(
    ops.Abs, ops.Acos, ops.Acosh, ops.Add, ops.And, ops.Asin, ops.Asinh, ops.Atan, ops.Atanh, ops.BitwiseAnd, ops.BitwiseNot, ops.BitwiseOr,
    ops.BitwiseXor, ops.Ceil, ops.Cos, ops.Cosh, ops.Div, ops.Equal, ops.Erf, ops.Exp, ops.Floor, ops.Greater, ops.GreaterOrEqual,
    ops.Identity, ops.IsInf, ops.IsNaN, ops.Less, ops.LessOrEqual, ops.Log, ops.Max, ops.Min, ops.Mul, ops.Neg, ops.Not, ops.Or, ops.Pow,
    ops.Reciprocal, ops.Round, ops.Sign, ops.Sin, ops.Sinh, ops.Sqrt, ops.Sub, ops.Tan, ops.Where, ops.Xor,
)  # fmt: skip
def write_elementwise(export: Export, node: Node) -> None:
    export.replace(node.op.name, node)


@rules.exports(ops.Mod)
def write_mod(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Mod)
    export.replace("Mod", node, fmod=int(node.op.fmod))


@rules.exports(ops.Cast)
def write_cast(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Cast)
    export.replace("Cast", node, to=element_type(node.op.to))
