"""Arithmetic, comparison, logic and casts, element by element with NumPy broadcasting.

Operands of a binary op have one element type: readers insert the casts that their framework's promotion implies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule
from isomorph.ir.op import Op, TensorType, broadcast

__all__ = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast",
    "Ceil", "Cos", "Cosh", "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less",
    "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt",
    "Sub", "Tan", "Where", "Xor",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Unary(Op):
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (x,)


@dataclass(frozen=True, slots=True)
class _FloatUnary(_Unary):
    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (x,)


@dataclass(frozen=True, slots=True)
class _Predicate(_Unary):
    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(DType.BOOL, x.shape),)


@dataclass(frozen=True, slots=True)
class _Binary(Op):
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(self.require_same_dtype(a, b), broadcast(a.shape, b.shape)),)


@dataclass(frozen=True, slots=True)
class _Comparison(_Binary):
    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_same_dtype(a, b)
        return (TensorType(DType.BOOL, broadcast(a.shape, b.shape)),)


@dataclass(frozen=True, slots=True)
class _Logical(_Binary):
    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if self.require_same_dtype(a, b) is not DType.BOOL:
            raise DTypeError(f"{self.name}: bool operands are needed, not {a.dtype}")
        return (TensorType(DType.BOOL, broadcast(a.shape, b.shape)),)


@dataclass(frozen=True, slots=True)
class _Bitwise(_Binary):
    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if not self.require_same_dtype(a, b).is_integer:
            raise DTypeError(f"{self.name}: integer operands are needed, not {a.dtype}")
        return (TensorType(a.dtype, broadcast(a.shape, b.shape)),)


@dataclass(frozen=True, slots=True)
class Add(_Binary):
    """y = a + b. See: ONNX Add-14."""


@dataclass(frozen=True, slots=True)
class Sub(_Binary):
    """y = a - b. See: ONNX Sub-14."""


@dataclass(frozen=True, slots=True)
class Mul(_Binary):
    """y = a * b. See: ONNX Mul-14."""


@dataclass(frozen=True, slots=True)
class Div(_Binary):
    """y = a / b; integers are truncated toward zero. See: ONNX Div-14."""


@dataclass(frozen=True, slots=True)
class Max(_Binary):
    """y = max(a, b), NaN if either is. Differs from ONNX Max-13: two operands."""


@dataclass(frozen=True, slots=True)
class Min(_Binary):
    """y = min(a, b), NaN if either is. Differs from ONNX Min-13: two operands."""


@dataclass(frozen=True, slots=True)
class Equal(_Comparison):
    """y = (a == b). See: ONNX Equal-19."""


@dataclass(frozen=True, slots=True)
class Greater(_Comparison):
    """y = (a > b). See: ONNX Greater-13."""


@dataclass(frozen=True, slots=True)
class GreaterOrEqual(_Comparison):
    """y = (a >= b). See: ONNX GreaterOrEqual-16."""


@dataclass(frozen=True, slots=True)
class Less(_Comparison):
    """y = (a < b). See: ONNX Less-13."""


@dataclass(frozen=True, slots=True)
class LessOrEqual(_Comparison):
    """y = (a <= b). See: ONNX LessOrEqual-16."""


@dataclass(frozen=True, slots=True)
class And(_Logical):
    """y = a and b. See: ONNX And-7."""


@dataclass(frozen=True, slots=True)
class Or(_Logical):
    """y = a or b. See: ONNX Or-7."""


@dataclass(frozen=True, slots=True)
class Xor(_Logical):
    """y = a xor b. See: ONNX Xor-7."""


@dataclass(frozen=True, slots=True)
class BitwiseAnd(_Bitwise):
    """y = a & b. See: ONNX BitwiseAnd-18."""


@dataclass(frozen=True, slots=True)
class BitwiseOr(_Bitwise):
    """y = a | b. See: ONNX BitwiseOr-18."""


@dataclass(frozen=True, slots=True)
class BitwiseXor(_Bitwise):
    """y = a ^ b. See: ONNX BitwiseXor-18."""


@dataclass(frozen=True, slots=True)
class Identity(_Unary):
    """y = x. See: ONNX Identity-24."""


@dataclass(frozen=True, slots=True)
class Abs(_Unary):
    """y = |x|. See: ONNX Abs-13."""


@dataclass(frozen=True, slots=True)
class Neg(_Unary):
    """y = -x. See: ONNX Neg-13."""


@dataclass(frozen=True, slots=True)
class Sign(_Unary):
    """y = -1, 0 or 1 with the sign of x. See: ONNX Sign-13."""


@dataclass(frozen=True, slots=True)
class Not(_Predicate):
    """y = not x, for bool. See: ONNX Not-1."""


@dataclass(frozen=True, slots=True)
class BitwiseNot(_Unary):
    """y = ~x, for integers. See: ONNX BitwiseNot-18."""


@dataclass(frozen=True, slots=True)
class IsNaN(_Predicate):
    """y = x is NaN. See: ONNX IsNaN-20."""


@dataclass(frozen=True, slots=True)
class IsInf(_Predicate):
    """y = x is plus or minus infinity. See: ONNX IsInf-20."""


@dataclass(frozen=True, slots=True)
class Sqrt(_FloatUnary):
    """y = sqrt(x). See: ONNX Sqrt-13."""


@dataclass(frozen=True, slots=True)
class Exp(_FloatUnary):
    """y = exp(x). See: ONNX Exp-13."""


@dataclass(frozen=True, slots=True)
class Log(_FloatUnary):
    """y = log(x), natural. See: ONNX Log-13."""


@dataclass(frozen=True, slots=True)
class Reciprocal(_FloatUnary):
    """y = 1 / x. See: ONNX Reciprocal-13."""


@dataclass(frozen=True, slots=True)
class Floor(_FloatUnary):
    """y = the largest integer not above x. See: ONNX Floor-13."""


@dataclass(frozen=True, slots=True)
class Ceil(_FloatUnary):
    """y = the smallest integer not below x. See: ONNX Ceil-13."""


@dataclass(frozen=True, slots=True)
class Round(_FloatUnary):
    """y = the nearest integer, halves to even. See: ONNX Round-22."""


@dataclass(frozen=True, slots=True)
class Erf(_FloatUnary):
    """y = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x. See: ONNX Erf-13."""


@dataclass(frozen=True, slots=True)
class Sin(_FloatUnary):
    """y = sin(x), radians. See: ONNX Sin-22."""


@dataclass(frozen=True, slots=True)
class Cos(_FloatUnary):
    """y = cos(x), radians. See: ONNX Cos-22."""


@dataclass(frozen=True, slots=True)
class Tan(_FloatUnary):
    """y = tan(x), radians. See: ONNX Tan-22."""


@dataclass(frozen=True, slots=True)
class Asin(_FloatUnary):
    """y = arcsin(x), radians. See: ONNX Asin-22."""


@dataclass(frozen=True, slots=True)
class Acos(_FloatUnary):
    """y = arccos(x), radians. See: ONNX Acos-22."""


@dataclass(frozen=True, slots=True)
class Atan(_FloatUnary):
    """y = arctan(x), radians. See: ONNX Atan-22."""


@dataclass(frozen=True, slots=True)
class Sinh(_FloatUnary):
    """y = sinh(x). See: ONNX Sinh-22."""


@dataclass(frozen=True, slots=True)
class Cosh(_FloatUnary):
    """y = cosh(x). See: ONNX Cosh-22."""


@dataclass(frozen=True, slots=True)
class Asinh(_FloatUnary):
    """y = arsinh(x). See: ONNX Asinh-22."""


@dataclass(frozen=True, slots=True)
class Acosh(_FloatUnary):
    """y = arcosh(x). See: ONNX Acosh-22."""


@dataclass(frozen=True, slots=True)
class Atanh(_FloatUnary):
    """y = artanh(x). See: ONNX Atanh-22."""


@dataclass(frozen=True, slots=True)
class Pow(Op):
    """y = a ^ b in the type of a; b may have another type. See: ONNX Pow-15."""

    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(a.dtype, broadcast(a.shape, b.shape)),)


@dataclass(frozen=True, slots=True)
class Mod(_Binary):
    """y = a - b * floor(a / b), with the sign of b; with `fmod` a - b * trunc(a / b), with the sign of a.

    Differs from ONNX Mod-13: floating-point operands also without `fmod`.
    """

    fmod: bool = False


@dataclass(frozen=True, slots=True)
class Where(Op):
    """y = a where condition, else b. See: ONNX Where-16."""

    inputs: ClassVar[tuple[str, ...]] = ("condition", "a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if condition.dtype is not DType.BOOL:
            raise DTypeError(f"Where: a bool condition is needed, not {condition.dtype}")
        return (TensorType(self.require_same_dtype(a, b), broadcast(condition.shape, a.shape, b.shape)),)


@dataclass(frozen=True, slots=True)
class Cast(Op):
    """y = x in the element type `to`; floating point to integer truncates toward zero, anything to bool is x != 0.

    See: ONNX Cast-24.
    """

    to: DType

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(self.to, x.shape),)
