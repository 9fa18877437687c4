"""Complex roots, hyperbolic functions and powers, element by element.

Functions of complex64 are computed in float64 and rounded once at the end, so that differences of near numbers keep
their digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from isomorph.converters.torch.aten.complex import PARTS, AnyNumber, AnyOperand, Complex, as_complex, real_dtype
from isomorph.converters.torch.aten.complex_elementwise import (
    absolute,
    add,
    exp,
    is_negative,
    log,
    multiplied,
    reciprocal,
    sub,
)
from isomorph.converters.torch.aten.polynomial import horner
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules
from isomorph.ir import DType, Value, ops

__all__ = ["powers"]

_STEEPEST = 300.0
"""tanh is 1 to all digits behind it, and the squares of sinh and cosh are finite up to it."""
_NEAR_ZERO = 0.01
"""Below it the series of sinh is exact to x^8 / 9! < 3e-22, and a difference of exponentials loses digits."""


def _in_double(b: Lowering, z: Complex, compute: Callable[[Complex], Complex]) -> Complex:
    """compute(z) in float64, rounded to the type of z."""
    part = PARTS[z.dtype]
    wide = z.each(b, lambda x: b.cast(x, DType.FLOAT64))
    return compute(wide).each(b, lambda x: b.cast(x, part))


def _root(b: Lowering, z: Complex) -> Complex:
    """t = sqrt((|z| + |a|) / 2), u = b / 2t: (t, u) for a >= 0, else (|u|, t with the sign of b)."""
    x, y = z.parts(b)
    zero, half = b.number(0, x.dtype), b.number(0.5, x.dtype)
    size = b.emit(ops.Add(), absolute(b, z), b.emit(ops.Abs(), x))
    t = b.emit(ops.Sqrt(), b.emit(ops.Mul(), size, half))
    nothing = b.emit(ops.Equal(), t, zero)
    divisor = b.emit(ops.Where(), nothing, b.number(1, x.dtype), t)
    u = b.emit(ops.Div(), b.emit(ops.Mul(), y, half), divisor)
    right = b.emit(ops.GreaterOrEqual(), x, zero)
    signed = b.emit(ops.Where(), is_negative(b, y), b.emit(ops.Neg(), t), t)
    real = b.emit(ops.Where(), right, t, b.emit(ops.Abs(), u))
    return Complex(None, (real, b.emit(ops.Where(), right, u, signed)))


@complex_rules.imports("aten.sqrt.default", "aten.sqrt_.default")
def sqrt(b: Lowering, self: Complex) -> Complex:
    """sqrt(Tensor self): the root with a real part of 0 or more"""
    return _in_double(b, self, lambda z: _root(b, z))


@complex_rules.imports("aten.rsqrt.default", "aten.rsqrt_.default")
def rsqrt(b: Lowering, self: Complex) -> Complex:
    """rsqrt(Tensor self): 1 / sqrt(self)"""
    return _in_double(b, self, lambda z: reciprocal(b, _root(b, z)))


def _hyperbolic(b: Lowering, x: Value) -> tuple[Value, Value]:
    """(sinh x, cosh x) by exponentials, for which runtimes have kernels of float64; sinh near 0 by its series."""
    half = b.number(0.5, x.dtype)
    grown = b.emit(ops.Mul(), b.emit(ops.Exp(), x), half)
    shrunk = b.emit(ops.Mul(), b.emit(ops.Exp(), b.emit(ops.Neg(), x)), half)
    series = b.emit(ops.Mul(), x, horner(b, b.emit(ops.Mul(), x, x), (1, 1 / 6, 1 / 120, 1 / 5040)))
    near = b.emit(ops.Less(), b.emit(ops.Abs(), x), b.number(_NEAR_ZERO, x.dtype))
    sinh = b.emit(ops.Where(), near, series, b.emit(ops.Sub(), grown, shrunk))
    return sinh, b.emit(ops.Add(), grown, shrunk)


def _tanh(b: Lowering, z: Complex) -> Complex:
    """(sinh a cosh a + i sin b cos b) / (sinh^2 a + cos^2 b)"""
    x, y = z.parts(b)
    bound = b.number(_STEEPEST, x.dtype)
    x = b.emit(ops.Min(), b.emit(ops.Max(), x, b.number(-_STEEPEST, x.dtype)), bound)
    sinh, cosh = _hyperbolic(b, x)
    sine, cosine = b.emit(ops.Sin(), y), b.emit(ops.Cos(), y)
    squares = (b.emit(ops.Mul(), each, each) for each in (sinh, cosine))
    divisor = b.emit(ops.Add(), *squares)
    products = (b.emit(ops.Mul(), *pair) for pair in ((sinh, cosh), (sine, cosine)))
    real, imaginary = (b.emit(ops.Div(), each, divisor) for each in products)
    return Complex(None, (real, imaginary))


@complex_rules.imports("aten.tanh.default", "aten.tanh_.default")
def tanh(b: Lowering, self: Complex) -> Complex:
    """tanh(Tensor self)"""
    return _in_double(b, self, lambda z: _tanh(b, z))


@complex_rules.imports("aten.tan.default", "aten.tan_.default")
def tan(b: Lowering, self: Complex) -> Complex:
    """tan(Tensor self): -i tanh(i self)"""

    def compute(z: Complex) -> Complex:
        x, y = z.parts(b)
        real, imaginary = _tanh(b, Complex(None, (b.emit(ops.Neg(), y), x))).parts(b)
        return Complex(None, (imaginary, b.emit(ops.Neg(), real)))

    return _in_double(b, self, compute)


@complex_rules.imports("aten.sigmoid.default", "aten.sigmoid_.default")
def sigmoid(b: Lowering, self: Complex) -> Complex:
    """sigmoid(Tensor self): 1 / (1 + exp(-self))"""
    return _in_double(b, self, lambda z: reciprocal(b, add(b, exp(b, z.each(b, lambda x: b.emit(ops.Neg(), x))), 1.0)))


@complex_rules.imports("aten.silu.default", "aten.silu_.default")
def silu(b: Lowering, self: Complex) -> Complex:
    """silu(Tensor self): self sigmoid(self)"""
    return _in_double(b, self, lambda z: multiplied(b, z, sigmoid(b, z), DType.FLOAT64))


@complex_rules.imports("aten.exp2.default")
def exp2(b: Lowering, self: Complex) -> Complex:
    """exp2(Tensor self): exp(self log 2)"""
    return _in_double(b, self, lambda z: exp(b, multiplied(b, z, math.log(2), DType.FLOAT64)))


@complex_rules.imports("aten.expm1.default")
def expm1(b: Lowering, self: Complex) -> Complex:
    """expm1(Tensor self): (e^a - 1) cos b - 2 sin^2(b / 2) + i e^a sin b, e^a - 1 = 2 e^(a / 2) sinh(a / 2)"""

    def compute(z: Complex) -> Complex:
        x, y = z.parts(b)
        half, two = b.number(0.5, x.dtype), b.number(2, x.dtype)
        low = b.emit(ops.Mul(), x, half)
        less = b.emit(ops.Mul(), b.emit(ops.Mul(), two, b.emit(ops.Exp(), low)), _hyperbolic(b, low)[0])
        sine = b.emit(ops.Sin(), b.emit(ops.Mul(), y, half))
        fall = b.emit(ops.Mul(), two, b.emit(ops.Mul(), sine, sine))
        real = b.emit(ops.Sub(), b.emit(ops.Mul(), less, b.emit(ops.Cos(), y)), fall)
        return Complex(None, (real, b.emit(ops.Mul(), b.emit(ops.Exp(), x), b.emit(ops.Sin(), y))))

    return _in_double(b, self, compute)


def _is_zero(b: Lowering, z: Complex) -> Value:
    parts = z.parts(b)
    return b.emit(ops.And(), *(b.emit(ops.Equal(), part, b.number(0, part.dtype)) for part in parts))


def powers(b: Lowering, x: AnyOperand, exponent: AnyOperand) -> Complex:
    """exp(w log z), with 0^0 = 1 and 0^w = 0"""
    part = real_dtype(b, x, exponent)
    base = as_complex(b, x, part)
    nothing = _is_zero(b, base)
    real, imaginary = base.parts(b)
    safe = Complex.of_parts(b, b.emit(ops.Where(), nothing, b.number(1, part), real), imaginary)
    logarithm = log(b, safe).each(b, lambda value: b.cast(value, DType.FLOAT64))
    power = as_complex(b, exponent, DType.FLOAT64)
    real, imaginary = exp(b, multiplied(b, power, logarithm, DType.FLOAT64)).parts(b)
    real = b.emit(ops.Where(), nothing, b.cast(_is_zero(b, power), DType.FLOAT64), real)
    imaginary = b.emit(ops.Where(), nothing, b.number(0, DType.FLOAT64), imaginary)
    return Complex.of_parts(b, b.cast(real, part), b.cast(imaginary, part))


@complex_rules.imports("aten.pow.Tensor_Scalar", "aten.pow_.Scalar", "aten.float_power.Tensor_Scalar")
def power(b: Lowering, self: AnyOperand, exponent: AnyNumber) -> Complex:
    """pow.Tensor_Scalar(Tensor self, Scalar exponent): small exponents as products, 0.5 as the root"""
    part = real_dtype(b, self)
    z = as_complex(b, self, part)
    if exponent == -1:
        return reciprocal(b, z)
    if exponent == 0.5:
        return sqrt(b, z)
    if exponent not in (1, 2, 3):
        return powers(b, z, exponent)
    result = z
    for _ in range(int(exponent.real) - 1):  # type: ignore[union-attr]
        result = multiplied(b, result, z, part)
    return result


@complex_rules.imports("aten.pow.Tensor_Tensor", "aten.pow.Scalar", "aten.pow_.Tensor",
                       "aten.float_power.Tensor_Tensor")  # fmt: skip
def pow_of(b: Lowering, self: AnyOperand, exponent: AnyOperand) -> Complex:
    """pow.Tensor_Tensor(Tensor self, Tensor exponent), pow.Scalar(Scalar self, Tensor exponent)"""
    return powers(b, self, exponent)


@complex_rules.imports("aten.lerp.Scalar", "aten.lerp.Tensor", "aten.lerp_.Scalar", "aten.lerp_.Tensor")
def lerp(b: Lowering, self: AnyOperand, end: AnyOperand, weight: AnyOperand) -> Complex:
    """lerp.Tensor(Tensor self, Tensor end, Tensor weight): self + weight (end - self)"""
    part = real_dtype(b, self, end)
    return add(b, self, multiplied(b, sub(b, end, self), weight, part))


_NORMS = {0: None, 1: ops.ReduceMean, 2: ops.ReduceSum}


@complex_rules.imports("aten.l1_loss.default")
def l1_loss(b: Lowering, self: AnyOperand, target: AnyOperand, reduction: AnyNumber = 1) -> Value:
    """l1_loss(Tensor self, Tensor target, int reduction=Mean): |self - target|"""
    size = absolute(b, sub(b, self, target))
    kind = _NORMS[int(reduction.real)]  # type: ignore[union-attr]
    return size if kind is None else b.emit(kind(tuple(range(size.rank)), keepdims=False), size)
