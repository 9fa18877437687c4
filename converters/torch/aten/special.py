"""Functions that are composed of others: log1p, expm1, frac, logit and their kin, accurate where torch is."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math

import ml_dtypes

from isomorph.converters.torch.aten.elementwise import both, truncated
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops


@rules.imports(*both("log1p", "default"))
def log1p(b: Lowering, self: Value) -> Value:
    """log1p(Tensor self): log(1 + x), with all digits near 0"""
    return b.emit(ops.Log1p(), b.floating(self))


@rules.imports(*both("expm1", "default"))
def expm1(b: Lowering, self: Value) -> Value:
    """expm1(Tensor self): exp(x) - 1, with all digits near 0"""
    return b.emit(ops.Expm1(), b.floating(self))


@rules.imports(*both("exp2", "default"))
def exp2(b: Lowering, self: Value) -> Value:
    """exp2(Tensor self): 2^x"""
    x = b.floating(self)
    return b.emit(ops.Pow(), b.number(2, x.dtype), x)


@rules.imports(*both("frac", "default"))
def frac(b: Lowering, self: Value) -> Value:
    """frac(Tensor self): x - trunc(x)"""
    return b.emit(ops.Sub(), self, truncated(b, self))


@rules.imports(*both("logit", "default"))
def logit(b: Lowering, self: Value, eps: float | None = None) -> Value:
    """logit(Tensor self, float? eps=None): log(z / (1 - z)), z the clamp of x to [eps, 1 - eps]"""
    x = b.floating(self)
    if eps is None:
        z = x
    elif eps <= 0.5:
        z = b.emit(ops.Clip(eps, 1 - eps), x)
    else:  # the lower bound counts first, and above it all are over the upper one
        low, high = b.number(eps, x.dtype), b.number(1 - eps, x.dtype)
        z = b.emit(ops.Where(), b.emit(ops.Less(), x, low), low, b.emit(ops.Min(), x, high))
    return b.emit(ops.Log(), b.emit(ops.Div(), z, b.emit(ops.Sub(), b.number(1, z.dtype), z)))


@rules.imports(*both("nan_to_num", "default"))
def nan_to_num(
    b: Lowering, self: Value, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Value:
    """nan_to_num(Tensor self, float? nan=None, float? posinf=None, float? neginf=None): 0 and the extremes"""
    if not self.dtype.is_float:
        return self
    extreme = float(ml_dtypes.finfo(self.dtype.numpy).max)
    zero = b.number(0, self.dtype)
    infinite = b.emit(ops.IsInf(), self)
    high = b.number(extreme if posinf is None else posinf, self.dtype)
    low = b.number(-extreme if neginf is None else neginf, self.dtype)
    bound = b.emit(ops.Where(), b.emit(ops.Greater(), self, zero), high, low)
    finite = b.emit(ops.Where(), infinite, bound, self)
    return b.emit(ops.Where(), b.emit(ops.IsNaN(), self), b.number(nan or 0.0, self.dtype), finite)


@rules.imports("aten.positive.default")
def positive(b: Lowering, self: Value) -> Value:
    """positive(Tensor self): the same elements"""
    return self


@rules.imports(*both("rad2deg", "default"))
def rad2deg(b: Lowering, self: Value) -> Value:
    """rad2deg(Tensor self): 180 x / pi"""
    x = b.floating(self)
    return b.emit(ops.Mul(), x, b.number(180 / math.pi, x.dtype))


@rules.imports(*both("deg2rad", "default"))
def deg2rad(b: Lowering, self: Value) -> Value:
    """deg2rad(Tensor self): pi x / 180"""
    x = b.floating(self)
    return b.emit(ops.Mul(), x, b.number(math.pi / 180, x.dtype))


@rules.imports(*both("round", "decimals"))
def round_decimals(b: Lowering, self: Value, decimals: int = 0) -> Value:
    """round.decimals(Tensor self, *, int decimals): round(x 10^d) / 10^d, for d < 0 round(x / 10^-d) 10^-d"""
    if not self.dtype.is_float:
        b.require(decimals == 0, f"decimals={decimals} of {self.dtype}")
        return self
    factor = b.number(10.0 ** abs(decimals), self.dtype)
    there, back = (ops.Mul(), ops.Div()) if decimals >= 0 else (ops.Div(), ops.Mul())
    return b.emit(back, b.emit(ops.Round(), b.emit(there, self, factor)), factor)


@rules.imports("aten.xlogy.Tensor", "aten.xlogy.Scalar_Other", "aten.special_xlogy.default")
def xlogy(b: Lowering, self: Value, other: Operand) -> Value:
    """xlogy.Tensor(Tensor self, Tensor other): x log(y), 0 where x is 0 unless y is NaN"""
    x, y = b.promoted(b.floating(self), other)
    nothing = b.emit(ops.Equal(), x, b.number(0, x.dtype))
    plain = b.emit(ops.Mul(), x, b.emit(ops.Log(), y))
    known = b.emit(ops.Where(), nothing, b.number(0, x.dtype), plain)
    return b.emit(ops.Where(), b.emit(ops.IsNaN(), y), y, known)


@rules.imports("aten.isclose.default")
def isclose(
    b: Lowering, self: Value, other: Value, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Value:
    """isclose(Tensor self, Tensor other, float rtol, float atol, bool equal_nan): |x - y| <= atol + |rtol y|"""
    x, y = b.promoted(self, other)
    if not x.dtype.is_float:
        if rtol == 0 and atol == 0:
            return b.emit(ops.Equal(), x, y)
        x, y = b.cast(x, DType.FLOAT64), b.cast(y, DType.FLOAT64)
        equal_nan = False
    span = b.emit(ops.Abs(), b.emit(ops.Mul(), y, b.number(rtol, y.dtype)))
    distance = b.emit(ops.Abs(), b.emit(ops.Sub(), x, y))
    near = b.emit(ops.LessOrEqual(), distance, b.emit(ops.Add(), span, b.number(atol, y.dtype)))
    near = b.emit(ops.And(), near, b.emit(ops.Less(), distance, b.number(math.inf, y.dtype)))
    same = b.emit(ops.Or(), near, b.emit(ops.Equal(), x, y))
    if not equal_nan:
        return same
    return b.emit(ops.Or(), same, b.emit(ops.And(), b.emit(ops.IsNaN(), x), b.emit(ops.IsNaN(), y)))
