"""Arithmetic, comparison, logic and casts, with PyTorch's type promotion."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Number, Operand, result_type
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Sym, Value, ops
from isomorph.ir.op import Op, broadcast

__all__ = ["both", "truncated"]


def both(name: str, *overloads: str) -> tuple[str, ...]:
    """The functional and the in-place names of the overloads."""
    return tuple(f"aten.{name}{mark}.{overload}" for overload in overloads for mark in ("", "_"))


def _scaled(b: Lowering, other: Operand, alpha: Number, dtype: DType) -> Operand:
    """alpha * other, computed in `dtype`."""
    if not isinstance(alpha, Sym) and alpha == 1:
        return other
    if not isinstance(other, Value | Sym) and not isinstance(alpha, Sym):
        return other * alpha
    times = ops.And() if dtype is DType.BOOL else ops.Mul()
    return b.emit(times, b.operand(other, dtype), b.number(alpha, dtype))


@rules.imports(*both("add", "Tensor", "Scalar"))
def add(b: Lowering, self: Value, other: Operand, alpha: Number = 1) -> Value:
    """add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1): self + alpha * other; of bools: or"""
    dtype = result_type(self, other)
    left, right = b.aligned(b.operand(self, dtype), b.operand(_scaled(b, other, alpha, dtype), dtype))
    return b.emit(ops.Or() if left.dtype is DType.BOOL else ops.Add(), left, right)


@rules.imports(*both("sub", "Tensor", "Scalar"))
def sub(b: Lowering, self: Operand, other: Operand, alpha: Number = 1) -> Value:
    """sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1): self - alpha * other"""
    dtype = result_type(self, other)
    return b.emit(ops.Sub(), *b.aligned(b.operand(self, dtype), b.operand(_scaled(b, other, alpha, dtype), dtype)))


@rules.imports("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(b: Lowering, self: Value, other: Operand, alpha: Number = 1) -> Value:
    """rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1): other - alpha * self"""
    return sub(b, other, self, alpha)


@rules.imports(*both("mul", "Tensor", "Scalar"))
def mul(b: Lowering, self: Value, other: Operand) -> Value:
    """mul.Tensor(Tensor self, Tensor other); of bools: and"""
    left, right = b.promoted(self, other)
    return b.emit(ops.And() if left.dtype is DType.BOOL else ops.Mul(), left, right)


@rules.imports(*both("div", "Tensor", "Scalar"), "aten.true_divide.Tensor")
def div(b: Lowering, self: Value, other: Operand) -> Value:
    """div.Tensor(Tensor self, Tensor other); integers are divided as float32"""
    dtype = result_type(self, other)
    dtype = dtype if dtype.is_float or dtype.is_complex else DType.FLOAT32
    return b.emit(ops.Div(), b.operand(self, dtype), b.operand(other, dtype))


@rules.imports(*both("div", "Tensor_mode", "Scalar_mode"))
def div_mode(b: Lowering, self: Value, other: Operand, rounding_mode: str | None = None) -> Value:
    """div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode): None, 'trunc' or 'floor'"""
    if rounding_mode is None:
        return div(b, self, other)
    left, right = b.promoted(self, other)
    if rounding_mode == "floor":
        return _floor_div(b, left, right)
    quotient = b.emit(ops.Div(), left, right)
    return quotient if left.dtype.is_integer else truncated(b, quotient)


@rules.imports(*both("floor_divide", "default", "Scalar"))
def floor_divide(b: Lowering, self: Value, other: Operand) -> Value:
    """floor_divide(Tensor self, Tensor other): floor(self / other), of floating point as Python's //"""
    return _floor_div(b, *b.promoted(self, other))


def _floor_div(b: Lowering, left: Value, right: Value) -> Value:
    """(a - a mod b) / b, which is exact where a / b rounds up to an integer; a / b where b is 0.

    Of floating point from fmod(a, b), less 1 where that has the other sign, so that an infinite b gives 0 or -1.
    """
    if left.dtype.is_integer:
        return b.emit(ops.Div(), b.emit(ops.Sub(), left, b.emit(ops.Mod(), left, right)), right)
    zero = b.number(0, right.dtype)
    rest = b.emit(ops.Mod(fmod=True), left, right)
    quotient = b.emit(ops.Div(), b.emit(ops.Sub(), left, rest), right)
    apart = b.emit(ops.Xor(), b.emit(ops.Less(), rest, zero), b.emit(ops.Less(), right, zero))
    wrong = b.emit(ops.And(), apart, b.emit(ops.Not(), b.emit(ops.Equal(), rest, zero)))
    quotient = b.emit(ops.Sub(), quotient, b.cast(wrong, left.dtype))
    by_zero = b.emit(ops.Equal(), right, zero)
    return b.emit(ops.Where(), by_zero, b.emit(ops.Div(), left, right), b.emit(ops.Round(), quotient))


def truncated(b: Lowering, x: Value) -> Value:
    negative = b.emit(ops.Less(), x, b.number(0, x.dtype))
    return b.emit(ops.Where(), negative, b.emit(ops.Ceil(), x), b.emit(ops.Floor(), x))


@rules.imports(*both("remainder", "Tensor", "Scalar"))
def remainder(b: Lowering, self: Value, other: Operand) -> Value:
    """remainder.Tensor(Tensor self, Tensor other): with the sign of other"""
    return b.emit(ops.Mod(), *b.promoted(self, other))


@rules.imports(*both("fmod", "Tensor", "Scalar"))
def fmod(b: Lowering, self: Value, other: Operand) -> Value:
    """fmod.Tensor(Tensor self, Tensor other): with the sign of self"""
    return b.emit(ops.Mod(fmod=True), *b.promoted(self, other))


@rules.imports(*both("pow", "Tensor_Scalar", "Tensor_Tensor"))
def power(b: Lowering, self: Value, exponent: Operand) -> Value:
    """pow.Tensor_Scalar(Tensor self, Scalar exponent); 1/2 and 2 as torch computes them, by sqrt and by x * x

    Integers are multiplied, so that they wrap around; with exponents in a tensor only powers below 2^53 are exact.
    """
    dtype = result_type(self, exponent)
    base = b.cast(self, dtype)
    if not isinstance(exponent, Value | Sym):
        if exponent == 2 or (dtype.is_integer and 0 < exponent <= _MOST_FACTORS):
            return _multiplied(b, base, int(exponent))
        if exponent == 0.5:
            return b.emit(ops.Sqrt(), base)
    return b.emit(ops.Pow(), base, b.operand(exponent, dtype))


_MOST_FACTORS = 64


def _multiplied(b: Lowering, base: Value, exponent: int) -> Value:
    """base^exponent by squaring."""
    result: Value | None = None
    while True:
        if exponent & 1:
            result = base if result is None else b.emit(ops.Mul(), result, base)
        exponent >>= 1
        if not exponent:
            assert result is not None
            return result
        base = b.emit(ops.Mul(), base, base)


@rules.imports("aten.pow.Scalar")
def power_of_number(b: Lowering, self: Number, exponent: Value) -> Value:
    """pow.Scalar(Scalar self, Tensor exponent)"""
    return b.emit(ops.Pow(), *b.promoted(self, exponent))


def _register_binary(op: Op, *names: str) -> None:
    @rules.imports(*names)
    def binary(b: Lowering, self: Value, other: Operand) -> Value:
        return b.emit(op, *b.promoted(self, other))

    binary.__doc__ = f"{names[0]}(Tensor self, other), operands promoted"


_COMPARISONS: dict[str, Op] = {
    "eq": ops.Equal(),
    "gt": ops.Greater(),
    "ge": ops.GreaterOrEqual(),
    "lt": ops.Less(),
    "le": ops.LessOrEqual(),
}
for _name, _op in _COMPARISONS.items():
    _register_binary(_op, f"aten.{_name}.Tensor", f"aten.{_name}.Scalar")
_register_binary(ops.Max(), "aten.maximum.default", "aten.max.other")
_register_binary(ops.Min(), "aten.minimum.default", "aten.min.other")


@rules.imports("aten.ne.Tensor", "aten.ne.Scalar")
def not_equal(b: Lowering, self: Value, other: Operand) -> Value:
    """ne.Tensor(Tensor self, Tensor other)"""
    return b.emit(ops.Not(), b.emit(ops.Equal(), *b.promoted(self, other)))


_BITWISE: dict[str, tuple[Op, Op]] = {
    "and": (ops.And(), ops.BitwiseAnd()),
    "or": (ops.Or(), ops.BitwiseOr()),
    "xor": (ops.Xor(), ops.BitwiseXor()),
}


def _register_logic(name: str, logical: Op, bitwise: Op) -> None:
    @rules.imports(*both(f"logical_{name}", "default"))
    def of_truth(b: Lowering, self: Value, other: Value) -> Value:
        return b.emit(logical, b.cast(self, DType.BOOL), b.cast(other, DType.BOOL))

    @rules.imports(*both(f"bitwise_{name}", "Tensor", "Scalar"), f"aten.__{name}__.Tensor", f"aten.__{name}__.Scalar")
    def of_bits(b: Lowering, self: Value, other: Operand) -> Value:
        left, right = b.promoted(self, other)
        return b.emit(logical if left.dtype is DType.BOOL else bitwise, left, right)

    of_truth.__doc__ = f"logical_{name}(Tensor self, Tensor other): of x != 0"
    of_bits.__doc__ = f"bitwise_{name}.Tensor(Tensor self, Tensor other)"


for _name, (_logical, _bitwise) in _BITWISE.items():
    _register_logic(_name, _logical, _bitwise)


@rules.imports(*both("logical_not", "default"))
def logical_not(b: Lowering, self: Value) -> Value:
    """logical_not(Tensor self)"""
    return b.emit(ops.Not(), b.cast(self, DType.BOOL))


@rules.imports("aten.bitwise_not.default")
def bitwise_not(b: Lowering, self: Value) -> Value:
    """bitwise_not(Tensor self)"""
    return b.emit(ops.Not() if self.dtype is DType.BOOL else ops.BitwiseNot(), self)


@rules.imports("aten.isnan.default")
def isnan(b: Lowering, self: Value) -> Value:
    """isnan(Tensor self)"""
    return b.emit(ops.IsNaN(), b.floating(self))


@rules.imports("aten.isinf.default")
def isinf(b: Lowering, self: Value) -> Value:
    """isinf(Tensor self)"""
    return b.emit(ops.IsInf(), b.floating(self))


@rules.imports("aten.isfinite.default")
def isfinite(b: Lowering, self: Value) -> Value:
    """isfinite(Tensor self)"""
    x = b.floating(self)
    return b.emit(ops.Not(), b.emit(ops.Or(), b.emit(ops.IsNaN(), x), b.emit(ops.IsInf(), x)))


def _sign(b: Lowering, x: Value) -> Value:
    """The sign; 0 of NaN, of which ONNX says nothing."""
    if not x.dtype.is_float:
        return x if x.dtype is DType.BOOL else b.emit(ops.Sign(), x)
    return b.emit(ops.Where(), b.emit(ops.IsNaN(), x), b.number(0, x.dtype), b.emit(ops.Sign(), x))


def _register_unary(name: str, compute: Callable[[Lowering, Value], Value], *, floating: bool) -> None:
    @rules.imports(*both(name, "default"))
    def unary(b: Lowering, self: Value) -> Value:
        return compute(b, b.floating(self) if floating else self)

    unary.__doc__ = f"{name}(Tensor self)"


def _one(op: Op) -> Callable[[Lowering, Value], Value]:
    return lambda b, x: b.emit(op, x)


def _logarithm(base: float) -> Callable[[Lowering, Value], Value]:
    return lambda b, x: b.emit(ops.Mul(), b.emit(ops.Log(), x), b.number(1 / math.log(base), x.dtype))


def _kept_integers(op: Op) -> Callable[[Lowering, Value], Value]:
    return lambda b, x: b.emit(op, x) if x.dtype.is_float else b.emit(ops.Identity(), x)


_FLOATING: dict[str, Op] = {
    "sqrt": ops.Sqrt(),
    "exp": ops.Exp(),
    "log": ops.Log(),
    "reciprocal": ops.Reciprocal(),
    "erf": ops.Erf(),
    "sin": ops.Sin(),
    "cos": ops.Cos(),
    "tan": ops.Tan(),
    "asin": ops.Asin(),
    "acos": ops.Acos(),
    "atan": ops.Atan(),
    "sinh": ops.Sinh(),
    "cosh": ops.Cosh(),
    "asinh": ops.Asinh(),
    "acosh": ops.Acosh(),
    "atanh": ops.Atanh(),
}
_ANY_TYPE: dict[str, Op] = {"abs": ops.Abs(), "neg": ops.Neg()}
_ROUNDING: dict[str, Op] = {"floor": ops.Floor(), "ceil": ops.Ceil(), "round": ops.Round()}
for _name, _op in _FLOATING.items():
    _register_unary(_name, _one(_op), floating=True)
for _name, _op in _ANY_TYPE.items():
    _register_unary(_name, _one(_op), floating=False)
for _name, _op in _ROUNDING.items():
    _register_unary(_name, _kept_integers(_op), floating=False)
_register_unary("rsqrt", lambda b, x: b.emit(ops.Reciprocal(), b.emit(ops.Sqrt(), x)), floating=True)
_register_unary("square", lambda b, x: power(b, x, 2), floating=False)
for _name in ("sign", "sgn"):
    _register_unary(_name, _sign, floating=False)
_register_unary("trunc", lambda b, x: truncated(b, x) if x.dtype.is_float else x, floating=False)
_register_unary("log2", _logarithm(2), floating=True)
_register_unary("log10", _logarithm(10), floating=True)


@rules.imports(*both("clamp", "default"))
def clamp(b: Lowering, self: Value, min: Number | None = None, max: Number | None = None) -> Value:
    """clamp(Tensor self, Scalar? min=None, Scalar? max=None)"""
    bounds = [bound for bound in (min, max) if bound is not None]
    dtype = result_type(self, *bounds)
    x = b.cast(self, dtype)
    if isinstance(min, Sym) or isinstance(max, Sym):
        low = x if min is None else b.emit(ops.Max(), x, b.number(min, dtype))
        return low if max is None else b.emit(ops.Min(), low, b.number(max, dtype))
    return b.emit(ops.Clip(min, max), x)


@rules.imports(*both("clamp_min", "default", "Tensor"))
def clamp_min(b: Lowering, self: Value, min: Operand) -> Value:
    """clamp_min(Tensor self, Scalar min)"""
    return clamp_tensor(b, self, min) if isinstance(min, Value) else clamp(b, self, min)


@rules.imports(*both("clamp_max", "default", "Tensor"))
def clamp_max(b: Lowering, self: Value, max: Operand) -> Value:
    """clamp_max(Tensor self, Scalar max)"""
    return clamp_tensor(b, self, None, max) if isinstance(max, Value) else clamp(b, self, None, max)


@rules.imports(*both("clamp", "Tensor"))
def clamp_tensor(b: Lowering, self: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """clamp.Tensor(Tensor self, Tensor? min=None, Tensor? max=None)"""
    dtype = result_type(self, *(bound for bound in (min, max) if bound is not None))
    low = b.cast(self, dtype) if min is None else b.emit(ops.Max(), b.cast(self, dtype), b.cast(min, dtype))
    return low if max is None else b.emit(ops.Min(), low, b.cast(max, dtype))


@rules.imports("aten.where.self", "aten.where.ScalarOther", "aten.where.ScalarSelf", "aten.where.Scalar")
def where(b: Lowering, condition: Value, self: Operand, other: Operand) -> Value:
    """where.self(Tensor condition, Tensor self, Tensor other)"""
    return b.emit(ops.Where(), b.cast(condition, DType.BOOL), *b.promoted(self, other))


@rules.imports(*both("masked_fill", "Scalar", "Tensor"))
def masked_fill(b: Lowering, self: Value, mask: Value, value: Operand) -> Value:
    """masked_fill.Scalar(Tensor self, Tensor mask, Scalar value): value where mask, in the type of self"""
    return b.emit(ops.Where(), mask, b.operand(value, self.dtype), self)


@rules.imports("aten.lerp.Scalar", "aten.lerp.Tensor")
def lerp(b: Lowering, self: Value, end: Value, weight: Operand) -> Value:
    """lerp.Scalar(Tensor self, Tensor end, Scalar weight): self + weight * (end - self)"""
    step = b.emit(ops.Mul(), b.emit(ops.Sub(), end, self), b.operand(weight, self.dtype))
    return b.emit(ops.Add(), self, step)


@rules.imports(*both("addcmul", "default"))
def addcmul(b: Lowering, self: Value, tensor1: Value, tensor2: Value, value: Number = 1) -> Value:
    """addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1): self + value * tensor1 * tensor2"""
    return add(b, self, mul(b, tensor1, tensor2), value)


@rules.imports(*both("addcdiv", "default"))
def addcdiv(b: Lowering, self: Value, tensor1: Value, tensor2: Value, value: Number = 1) -> Value:
    """addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1): self + value * tensor1 / tensor2"""
    return add(b, self, div(b, tensor1, tensor2), value)


@rules.imports("aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten._to_copy.default")
def to(
    b: Lowering,
    self: Value,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: object = None,
) -> Value:
    """to.dtype(Tensor self, ScalarType dtype, …); the device and the layout in memory are not a matter of the model"""
    return self if dtype is None else b.cast(self, dtype)


@rules.imports("aten.to.other", "aten.type_as.default")
def to_other(
    b: Lowering, self: Value, other: Value, non_blocking: bool = False, copy: bool = False, memory_format: object = None
) -> Value:
    """to.other(Tensor self, Tensor other, …), type_as(Tensor self, Tensor other)"""
    return b.cast(self, other.dtype)


@rules.imports(
    "aten.contiguous.default",
    "aten.clone.default",
    "aten.detach.default",
    "aten.detach_.default",
    "aten.alias.default",
    "aten.lift_fresh_copy.default",
    "aten.lift_fresh.default",
    "aten.requires_grad_.default",
)
def identity(b: Lowering, self: Value, memory_format: object = None, requires_grad: bool = True) -> Value:
    """clone(Tensor self, …) and the like: the same elements"""
    return self


@rules.imports("aten.broadcast_tensors.default")
def broadcast_tensors(b: Lowering, tensors: Sequence[Value]) -> tuple[Value, ...]:
    """broadcast_tensors(Tensor[] tensors): all in their common shape"""
    shape = broadcast(*(each.shape for each in tensors))
    return tuple(each if each.shape == shape else b.emit(ops.Expand(shape), each) for each in tensors)


@rules.imports("aten.copy_.default", "aten.copy.default")
def copy(b: Lowering, self: Value, src: Value, non_blocking: bool = False) -> Value:
    """copy_(Tensor(a!) self, Tensor src): the elements of src, in the shape and the type of self"""
    _, source = b.aligned(self, b.cast(src, self.dtype))
    return source if source.shape == self.shape else b.emit(ops.Expand(self.shape), source)


@rules.imports("aten.fill_.Scalar", "aten.fill_.Tensor", "aten.fill.Scalar", "aten.fill.Tensor")
def fill(b: Lowering, self: Value, value: Operand) -> Value:
    """fill_.Scalar(Tensor(a!) self, Scalar value)"""
    return b.emit(ops.Expand(self.shape), b.operand(value, self.dtype))


@rules.imports("aten.zero_.default")
def zero(b: Lowering, self: Value) -> Value:
    """zero_(Tensor(a!) self)"""
    return fill(b, self, 0)
