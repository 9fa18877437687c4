"""Functions of two arguments and of signs and infinities: atan2, hypot, logaddexp, fmax, copysign and their kin."""

from __future__ import annotations

import math

from isomorph.converters.torch.aten.elementwise import both, mul, power
from isomorph.converters.torch.aten.special import log1p
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Number, Operand, result_type
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import Op


def _floats(b: Lowering, left: Operand, right: Operand) -> tuple[Value, Value]:
    """Both in their common floating-point type; integers and bools become float32."""
    dtype = result_type(left, right)
    dtype = dtype if dtype.is_float else DType.FLOAT32
    return b.operand(left, dtype), b.operand(right, dtype)


def _either(b: Lowering, left: Value, right: Value) -> Value:
    return b.emit(ops.Or(), left, right)


def negative(b: Lowering, x: Value) -> Value:
    """Whether the sign of x is minus, -0.0 included (of NaN it is taken to be plus)."""
    below = b.emit(ops.Less(), x, b.number(0, x.dtype))
    if not x.dtype.is_float:
        return below
    return _either(b, below, b.emit(ops.Equal(), b.emit(ops.Reciprocal(), x), b.number(-math.inf, x.dtype)))


@rules.imports(*both("atan2", "default"), *both("arctan2", "default"))
def atan2(b: Lowering, self: Value, other: Value) -> Value:
    """atan2(Tensor self, Tensor other): the angle of the point (other, self), in (-pi, pi]

    atan of the smaller over the larger of |x| and |y|, then reflected: exact at zeros and infinities of either sign.
    """
    y, x = _floats(b, self, other)
    height, width = b.emit(ops.Abs(), y), b.emit(ops.Abs(), x)
    low, high = b.emit(ops.Min(), height, width), b.emit(ops.Max(), height, width)
    same = b.emit(ops.Equal(), low, high)  # 0 / 0 is 0, inf / inf is 1
    one = b.emit(ops.Min(), high, b.number(1, high.dtype))
    ratio = b.emit(ops.Where(), same, b.emit(ops.Sign(), one), b.emit(ops.Div(), low, high))
    angle = b.emit(ops.Atan(), ratio)
    steep = b.emit(ops.Greater(), height, width)
    angle = b.emit(ops.Where(), steep, b.emit(ops.Sub(), b.number(math.pi / 2, y.dtype), angle), angle)
    angle = b.emit(ops.Where(), negative(b, x), b.emit(ops.Sub(), b.number(math.pi, y.dtype), angle), angle)
    return b.emit(ops.Where(), negative(b, y), b.emit(ops.Neg(), angle), angle)


@rules.imports(*both("hypot", "default"))
def hypot(b: Lowering, self: Value, other: Value) -> Value:
    """hypot(Tensor self, Tensor other): sqrt(x^2 + y^2) without overflow, infinite where either is"""
    x, y = (b.emit(ops.Abs(), each) for each in _floats(b, self, other))
    low, high = b.emit(ops.Min(), x, y), b.emit(ops.Max(), x, y)
    ratio = b.emit(ops.Div(), low, high)
    one = b.number(1, x.dtype)
    long = b.emit(ops.Mul(), high, b.emit(ops.Sqrt(), b.emit(ops.Add(), one, b.emit(ops.Mul(), ratio, ratio))))
    infinity = b.number(math.inf, x.dtype)
    infinite = _either(b, b.emit(ops.Equal(), x, infinity), b.emit(ops.Equal(), y, infinity))
    known = b.emit(ops.Where(), b.emit(ops.Equal(), high, b.number(0, x.dtype)), high, long)
    return b.emit(ops.Where(), infinite, infinity, known)


def _log_of_sum(b: Lowering, left: Value, right: Value, *, binary: bool) -> Value:
    """max + log(1 + exp(-|x - y|)), or with 2 as the base; equal infinities are kept."""
    x, y = b.promoted(left, right)
    far = b.emit(ops.Neg(), b.emit(ops.Abs(), b.emit(ops.Sub(), x, y)))
    if binary:
        rest = b.emit(ops.Div(), log1p(b, b.emit(ops.Pow(), b.number(2, x.dtype), far)), b.number(math.log(2), x.dtype))
    else:
        rest = log1p(b, b.emit(ops.Exp(), far))
    made = b.emit(ops.Add(), b.emit(ops.Max(), x, y), rest)
    same = b.emit(ops.And(), b.emit(ops.IsInf(), x), b.emit(ops.Equal(), x, y))
    return b.emit(ops.Where(), same, x, made)


@rules.imports("aten.logaddexp.default")
def logaddexp(b: Lowering, self: Value, other: Value) -> Value:
    """logaddexp(Tensor self, Tensor other): log(exp(x) + exp(y))"""
    return _log_of_sum(b, self, other, binary=False)


@rules.imports("aten.logaddexp2.default")
def logaddexp2(b: Lowering, self: Value, other: Value) -> Value:
    """logaddexp2(Tensor self, Tensor other): log2(2^x + 2^y)"""
    return _log_of_sum(b, self, other, binary=True)


def _register_extreme(name: str, op: Op, of_bools: Op) -> None:
    @rules.imports(f"aten.{name}.default")
    def extreme(b: Lowering, self: Value, other: Value) -> Value:
        x, y = b.promoted(self, other)
        if not x.dtype.is_float:
            return b.emit(of_bools if x.dtype is DType.BOOL else op, x, y)
        known = b.emit(ops.Where(), b.emit(ops.IsNaN(), y), x, b.emit(op, x, y))
        return b.emit(ops.Where(), b.emit(ops.IsNaN(), x), y, known)

    extreme.__doc__ = f"{name}(Tensor self, Tensor other): NaN only where both are"


_register_extreme("fmax", ops.Max(), ops.Or())
_register_extreme("fmin", ops.Min(), ops.And())


@rules.imports(*both("copysign", "Tensor", "Scalar"))
def copysign(b: Lowering, self: Value, other: Operand) -> Value:
    """copysign.Tensor(Tensor self, Tensor other): |self| with the sign of other, zeros included"""
    x, y = _floats(b, self, other)
    size = b.emit(ops.Abs(), x)
    return b.emit(ops.Where(), negative(b, y), b.emit(ops.Neg(), size), size)


@rules.imports("aten.signbit.default")
def signbit(b: Lowering, self: Value) -> Value:
    """signbit(Tensor self): whether the sign is minus"""
    if self.dtype is DType.BOOL:
        return b.emit(ops.ConstantOfShape(self.shape, False, DType.BOOL))
    return negative(b, self)


@rules.imports(*both("heaviside", "default"))
def heaviside(b: Lowering, self: Value, values: Value) -> Value:
    """heaviside(Tensor self, Tensor values): 0 below 0, 1 above, `values` at 0"""
    dtype = result_type(self, values)
    x = b.cast(self, DType.INT32) if self.dtype is DType.BOOL else self
    zero = b.number(0, x.dtype)
    step = b.cast(b.emit(ops.Greater(), x, zero), dtype)
    return b.emit(ops.Where(), b.emit(ops.Equal(), x, zero), b.cast(values, dtype), step)


def _register_infinity(name: str, bound: float) -> None:
    @rules.imports(f"aten.{name}.default")
    def infinite(b: Lowering, self: Value) -> Value:
        if not self.dtype.is_float:
            return b.emit(ops.ConstantOfShape(self.shape, False, DType.BOOL))
        return b.emit(ops.Equal(), self, b.number(bound, self.dtype))

    infinite.__doc__ = f"{name}(Tensor self): whether an element is {bound}"


_register_infinity("isposinf", math.inf)
_register_infinity("isneginf", -math.inf)


@rules.imports(
    "aten.float_power.Tensor_Tensor", "aten.float_power.Tensor_Scalar", "aten.float_power_.Tensor",
    "aten.float_power_.Scalar",
)  # fmt: skip
def float_power(b: Lowering, self: Value, exponent: Operand) -> Value:
    """float_power.Tensor_Tensor(Tensor self, Tensor exponent): in float64"""
    raised = b.cast(exponent, DType.FLOAT64) if isinstance(exponent, Value) else exponent
    return power(b, b.cast(self, DType.FLOAT64), raised)


@rules.imports("aten.float_power.Scalar")
def float_power_of_number(b: Lowering, self: Number, exponent: Value) -> Value:
    """float_power.Scalar(Scalar self, Tensor exponent): in float64"""
    return b.emit(ops.Pow(), b.number(self, DType.FLOAT64), b.cast(exponent, DType.FLOAT64))


@rules.imports(*both("ldexp", "Tensor"), "aten.ldexp.default", "aten.ldexp_.default")
def ldexp(b: Lowering, self: Value, other: Value) -> Value:
    """ldexp.Tensor(Tensor self, Tensor other): x 2^y, the power in the type of floating-point exponents or float32

    Since torch 2.14 the result has the type of a floating-point x where the exponents are integers.
    """
    exponent = b.floating(other)
    made = mul(b, self, b.emit(ops.Pow(), b.number(2, exponent.dtype), exponent))
    kind = b.recorded[0] if b.recorded else None
    return made if kind is None else b.cast(made, kind.dtype)


@rules.imports(*both("sinc", "default"), "aten.special_sinc.default")
def sinc(b: Lowering, self: Value) -> Value:
    """sinc(Tensor self): sin(pi x) / (pi x), 1 at 0"""
    x = b.floating(self)
    turned = b.emit(ops.Mul(), x, b.number(math.pi, x.dtype))
    wave = b.emit(ops.Div(), b.emit(ops.Sin(), turned), turned)
    return b.emit(ops.Where(), b.emit(ops.Equal(), x, b.number(0, x.dtype)), b.number(1, x.dtype), wave)


@rules.imports("aten.special_entr.default")
def entr(b: Lowering, self: Value) -> Value:
    """special_entr(Tensor self): -x log(x), 0 at 0, -inf below"""
    x = b.floating(self)
    zero = b.number(0, x.dtype)
    plain = b.emit(ops.Mul(), b.emit(ops.Neg(), x), b.emit(ops.Log(), x))
    known = b.emit(ops.Where(), b.emit(ops.Equal(), x, zero), zero, plain)
    return b.emit(ops.Where(), b.emit(ops.Less(), x, zero), b.number(-math.inf, x.dtype), known)


@rules.imports("aten.special_xlog1py.default", "aten.special_xlog1py.other_scalar", "aten.special_xlog1py.self_scalar")
def xlog1py(b: Lowering, self: Operand, other: Operand) -> Value:
    """special_xlog1py(Tensor self, Tensor other): x log(1 + y), 0 where x is 0 unless y is NaN"""
    x, y = _floats(b, self, other)
    zero = b.number(0, x.dtype)
    plain = b.emit(ops.Mul(), x, log1p(b, y))
    known = b.emit(ops.Where(), b.emit(ops.Equal(), x, zero), zero, plain)
    return b.emit(ops.Where(), b.emit(ops.IsNaN(), y), y, known)


@rules.imports("aten.real.default")
def real(b: Lowering, self: Value) -> Value:
    """real(Tensor self): of real numbers themselves"""
    return self


@rules.imports("aten.isreal.default")
def isreal(b: Lowering, self: Value) -> Value:
    """isreal(Tensor self): True of real numbers"""
    return b.emit(ops.ConstantOfShape(self.shape, True, DType.BOOL))


@rules.imports(*both("angle", "default"))
def angle(b: Lowering, self: Value) -> Value:
    """angle(Tensor self): pi below 0, else 0; NaN of NaN"""
    x = b.floating(self)
    below = b.emit(ops.Less(), x, b.number(0, x.dtype))
    turned = b.emit(ops.Where(), below, b.number(math.pi, x.dtype), b.number(0, x.dtype))
    return b.emit(ops.Where(), b.emit(ops.IsNaN(), x), x, turned)
