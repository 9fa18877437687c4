"""Arithmetic, comparison, logic and casts, element by element with NumPy broadcasting.

Operands of a binary op have one element type: readers insert the casts that their framework's promotion implies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from isomorph.errors import DTypeError, GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule
from isomorph.ir.op import Op, TensorType, broadcast, operation
from isomorph.ir.ops.numerics import Array, erf, in_single, powers_of_two, small_float

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Cos", "Cosh",
    "Div", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual",
    "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual", "Log", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow",
    "Reciprocal", "Round", "Sign", "Sin", "Sinh", "Sqrt", "Sub", "Tan", "Where", "Xor",
]  # fmt: skip


def scalar(b: Builder, number: float, like: Value) -> Value:
    """A constant of shape () in the element type of `like`, for decompositions."""
    return b.constant(np.asarray(number).astype(like.dtype.numpy), "scalar")


def _divide(a: Array, b: Array) -> Array:
    if not DType.of(a.dtype).is_integer:
        return a / b
    quotient = a // b
    toward_zero = (quotient < 0) & (quotient * b != a)
    return (quotient + toward_zero.astype(a.dtype)).astype(a.dtype)  # type: ignore[no-any-return]


@operation
class _Unary(Op):
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE
    function: ClassVar[Any]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return self.function(x)  # type: ignore[no-any-return]


@operation
class _FloatUnary(_Unary):
    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self.function, x)


@operation
class _Predicate(_Unary):
    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(DType.BOOL, x.shape),)


@operation
class _Binary(Op):
    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE
    function: ClassVar[Any]

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(self.require_same_dtype(a, b), broadcast(a.shape, b.shape)),)

    def evaluate(self, a: Array, b: Array) -> Array:  # type: ignore[override]
        return self.function(a, b)  # type: ignore[no-any-return]


@operation
class _Comparison(_Binary):
    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_same_dtype(a, b)
        return (TensorType(DType.BOOL, broadcast(a.shape, b.shape)),)


@operation
class _Logical(_Binary):
    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if self.require_same_dtype(a, b) is not DType.BOOL:
            raise DTypeError(f"{self.name}: bool operands are needed, not {a.dtype}")
        return (TensorType(DType.BOOL, broadcast(a.shape, b.shape)),)


@operation
class _Arithmetic(_Binary):
    def decompose(self, b: Builder, left: Value, right: Value) -> Value:  # type: ignore[override]
        """Of narrow integers, in int64: the cast back keeps the low bits."""
        if not left.dtype.is_integer or left.dtype.bits > 32:
            raise GraphError(f"{self.name} of {left.dtype} is not put together from other operations")
        wide = [b.emit(Cast(DType.INT64), value) for value in (left, right)]
        return b.emit(Cast(left.dtype), b.emit(type(self)(), *wide))


@operation
class Add(_Arithmetic):
    """y = a + b. See: ONNX Add-14."""

    function: ClassVar[Any] = np.add


@operation
class Sub(_Arithmetic):
    """y = a - b. See: ONNX Sub-14."""

    function: ClassVar[Any] = np.subtract


@operation
class Mul(_Arithmetic):
    """y = a * b. See: ONNX Mul-14."""

    function: ClassVar[Any] = np.multiply


@operation
class Div(_Arithmetic):
    """y = a / b; integers are truncated toward zero. See: ONNX Div-14."""

    function: ClassVar[Any] = staticmethod(_divide)


@operation
class Max(_Binary):
    """y = max(a, b), NaN if either is. Differs from ONNX Max-13: two operands."""

    function: ClassVar[Any] = np.maximum


@operation
class Min(_Binary):
    """y = min(a, b), NaN if either is. Differs from ONNX Min-13: two operands."""

    function: ClassVar[Any] = np.minimum


@operation
class Equal(_Comparison):
    """y = (a == b). See: ONNX Equal-19."""

    function: ClassVar[Any] = np.equal


@operation
class Greater(_Comparison):
    """y = (a > b). See: ONNX Greater-13."""

    function: ClassVar[Any] = np.greater


@operation
class GreaterOrEqual(_Comparison):
    """y = (a >= b). See: ONNX GreaterOrEqual-16."""

    function: ClassVar[Any] = np.greater_equal

    def decompose(self, b: Builder, left: Value, right: Value) -> Value:  # type: ignore[override]
        """Not the contrary, which is true of NaN."""
        return b.emit(Or(), b.emit(Greater(), left, right), b.emit(Equal(), left, right))


@operation
class Less(_Comparison):
    """y = (a < b). See: ONNX Less-13."""

    function: ClassVar[Any] = np.less


@operation
class LessOrEqual(_Comparison):
    """y = (a <= b). See: ONNX LessOrEqual-16."""

    function: ClassVar[Any] = np.less_equal

    def decompose(self, b: Builder, left: Value, right: Value) -> Value:  # type: ignore[override]
        """Not the contrary, which is true of NaN."""
        return b.emit(Or(), b.emit(Less(), left, right), b.emit(Equal(), left, right))


@operation
class And(_Logical):
    """y = a and b. See: ONNX And-7."""

    function: ClassVar[Any] = np.logical_and


@operation
class Or(_Logical):
    """y = a or b. See: ONNX Or-7."""

    function: ClassVar[Any] = np.logical_or


@operation
class Xor(_Logical):
    """y = a xor b. See: ONNX Xor-7."""

    function: ClassVar[Any] = np.logical_xor


@operation
class Identity(_Unary):
    """y = x. See: ONNX Identity-24."""

    function: ClassVar[Any] = staticmethod(np.asarray)


@operation
class Abs(_Unary):
    """y = |x|. See: ONNX Abs-13."""

    function: ClassVar[Any] = np.abs


@operation
class Neg(_Unary):
    """y = -x. See: ONNX Neg-13."""

    function: ClassVar[Any] = np.negative


@operation
class Sign(_Unary):
    """y = -1, 0 or 1 with the sign of x. See: ONNX Sign-13."""

    function: ClassVar[Any] = np.sign


@operation
class Not(_Predicate):
    """y = not x, for bool. See: ONNX Not-1."""

    function: ClassVar[Any] = np.logical_not


@operation
class IsNaN(_Predicate):
    """y = x is NaN. See: ONNX IsNaN-20."""

    function: ClassVar[Any] = np.isnan

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Not(), b.emit(Equal(), x, x))


@operation
class IsInf(_Predicate):
    """y = x is plus or minus infinity. See: ONNX IsInf-20."""

    function: ClassVar[Any] = np.isinf

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(Equal(), b.emit(Abs(), x), scalar(b, math.inf, x))


@operation
class Sqrt(_FloatUnary):
    """y = sqrt(x). See: ONNX Sqrt-13."""

    function: ClassVar[Any] = np.sqrt


@operation
class Exp(_FloatUnary):
    """y = exp(x). See: ONNX Exp-13."""

    function: ClassVar[Any] = np.exp


@operation
class Log(_FloatUnary):
    """y = log(x), natural. See: ONNX Log-13."""

    function: ClassVar[Any] = np.log


@operation
class Reciprocal(_FloatUnary):
    """y = 1 / x. See: ONNX Reciprocal-13."""

    function: ClassVar[Any] = np.reciprocal


@operation
class Floor(_FloatUnary):
    """y = the largest integer not above x. See: ONNX Floor-13."""

    function: ClassVar[Any] = np.floor


@operation
class Ceil(_FloatUnary):
    """y = the smallest integer not below x. See: ONNX Ceil-13."""

    function: ClassVar[Any] = np.ceil


@operation
class Round(_FloatUnary):
    """y = the nearest integer, halves to even. See: ONNX Round-22."""

    function: ClassVar[Any] = np.rint


@operation
class Erf(_FloatUnary):
    """y = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x. See: ONNX Erf-13."""

    function: ClassVar[Any] = staticmethod(erf)


@operation
class Sin(_FloatUnary):
    """y = sin(x), radians. See: ONNX Sin-22."""

    function: ClassVar[Any] = np.sin


@operation
class Cos(_FloatUnary):
    """y = cos(x), radians. See: ONNX Cos-22."""

    function: ClassVar[Any] = np.cos


@operation
class Tan(_FloatUnary):
    """y = tan(x), radians. See: ONNX Tan-22."""

    function: ClassVar[Any] = np.tan


@operation
class Asin(_FloatUnary):
    """y = arcsin(x), radians. See: ONNX Asin-22."""

    function: ClassVar[Any] = np.arcsin


@operation
class Acos(_FloatUnary):
    """y = arccos(x), radians. See: ONNX Acos-22."""

    function: ClassVar[Any] = np.arccos


@operation
class Atan(_FloatUnary):
    """y = arctan(x), radians. See: ONNX Atan-22."""

    function: ClassVar[Any] = np.arctan


@operation
class Sinh(_FloatUnary):
    """y = sinh(x). See: ONNX Sinh-22."""

    function: ClassVar[Any] = np.sinh


@operation
class Cosh(_FloatUnary):
    """y = cosh(x). See: ONNX Cosh-22."""

    function: ClassVar[Any] = np.cosh


@operation
class Asinh(_FloatUnary):
    """y = arsinh(x). See: ONNX Asinh-22."""

    function: ClassVar[Any] = np.arcsinh


@operation
class Acosh(_FloatUnary):
    """y = arcosh(x). See: ONNX Acosh-22."""

    function: ClassVar[Any] = np.arccosh


@operation
class Atanh(_FloatUnary):
    """y = artanh(x). See: ONNX Atanh-22."""

    function: ClassVar[Any] = np.arctanh


@operation
class Pow(Op):
    """y = a ^ b in the type of a; b may have another type. See: ONNX Pow-15."""

    inputs: ClassVar[tuple[str, ...]] = ("a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(a.dtype, broadcast(a.shape, b.shape)),)

    def evaluate(self, a: Array, b: Array) -> Array:  # type: ignore[override]
        if DType.of(a.dtype).is_integer and (not DType.of(b.dtype).is_integer or bool(np.any(b < 0))):
            return np.power(a.astype(np.float64), b.astype(np.float64)).astype(a.dtype)
        if DType.of(a.dtype).is_integer:
            return np.power(a, b.astype(a.dtype))  # type: ignore[no-any-return]
        return in_single(np.power, a, b.astype(np.result_type(a, b) if a.dtype.itemsize >= 4 else np.float64)).astype(
            a.dtype
        )


@operation
class Mod(_Binary):
    """y = a - b * floor(a / b), with the sign of b; with `fmod` a - b * trunc(a / b), with the sign of a.

    Differs from ONNX Mod-13: floating-point operands also without `fmod`.
    """

    fmod: bool = False

    def evaluate(self, a: Array, b: Array) -> Array:  # type: ignore[override]
        return np.fmod(a, b) if self.fmod else np.mod(a, b)

    def decompose(self, b: Builder, left: Value, right: Value) -> Value:  # type: ignore[override]
        self.require(not self.fmod, "with fmod it is no combination of other ops")
        rest = b.emit(Mod(fmod=True), left, right)
        signs = b.emit(Xor(), *(b.emit(Less(), side, scalar(b, 0, side)) for side in (rest, right)))
        whole = b.emit(Equal(), rest, scalar(b, 0, rest))
        wrong = b.emit(And(), signs, b.emit(Not(), whole))
        return b.emit(Where(), wrong, b.emit(Add(), rest, right), rest)


@operation
class Where(Op):
    """y = a where condition, else b. See: ONNX Where-16."""

    inputs: ClassVar[tuple[str, ...]] = ("condition", "a", "b")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, condition: TensorType, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if condition.dtype is not DType.BOOL:
            raise DTypeError(f"Where: a bool condition is needed, not {condition.dtype}")
        return (TensorType(self.require_same_dtype(a, b), broadcast(condition.shape, a.shape, b.shape)),)

    def evaluate(self, condition: Array, a: Array, b: Array) -> Array:  # type: ignore[override]
        return np.where(condition, a, b)

    def decompose(self, builder: Builder, condition: Value, a: Value, b: Value) -> Value:  # type: ignore[override]
        """Of bools by logic, of short integers in int32, of bfloat16 in float32."""
        if a.dtype is DType.BOOL:
            others = builder.emit(And(), builder.emit(Not(), condition), b)
            return builder.emit(Or(), builder.emit(And(), condition, a), others)
        wider = {DType.INT16: DType.INT32, DType.BFLOAT16: DType.FLOAT32}.get(a.dtype)
        if wider is None:
            raise GraphError(f"a choice of {a.dtype} is not put together from other operations")
        wide = (builder.emit(Cast(wider), each) for each in (a, b))
        return builder.emit(Cast(a.dtype), builder.emit(Where(), condition, *wide))


@operation
class Cast(Op):
    """y = x in the element type `to`; floating point to integer truncates toward zero, anything to bool is x != 0.

    saturate  what a float of 8 bits is too small for becomes its largest number; else infinity, or NaN
    rounding  how a number becomes a power of two, to float8_e8m0fnu: "up", "down" or "nearest"
    See: ONNX Cast-24.
    """

    to: DType
    saturate: bool = True
    rounding: Literal["up", "down", "nearest"] = "up"

    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(self.to, x.shape),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        if x.dtype.kind in "fV" and self.to is DType.FLOAT8_E8M0FNU:
            return powers_of_two(x.astype(np.float32), self.saturate, self.rounding)
        if self.to.is_float and self.to.itemsize == 1 and DType.of(x.dtype).is_float:
            return small_float(x if x.dtype.itemsize >= 4 else x.astype(np.float32), self.to, self.saturate)
        return x.astype(self.to.numpy)
