"""Complex arithmetic, comparison and functions, element by element."""

from __future__ import annotations

import math

from isomorph.converters.torch.aten.complex import (
    PARTS,
    AnyNumber,
    AnyOperand,
    Complex,
    as_complex,
    constant,
    in_pairs,
    is_real,
    real_dtype,
)
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules
from isomorph.ir import DType, Sym, Value, ops
from isomorph.ir.op import Op
from isomorph.ir.shapes import elements

__all__ = ["absolute", "add", "conjugated", "is_negative", "multiplied"]


def multiplied(b: Lowering, x: AnyOperand, y: AnyOperand, part: DType) -> Complex:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i"""
    if is_real(x):
        x, y = y, x
    left = as_complex(b, x, part)
    if is_real(y):
        if left.value is not None:
            return Complex(b.emit(ops.Mul(), left.value, in_pairs(b, y, part)))  # type: ignore[arg-type]
        factor = b.operand(y, part)  # type: ignore[arg-type]
        return left.each(b, lambda each: b.emit(ops.Mul(), each, factor))
    right = as_complex(b, y, part)
    if left.value is None and right.value is None:
        return _product_of_parts(b, left, right)
    if _is_smaller(left, right):
        left, right = right, left
    pair = left.pair(b)
    real, signed = right.factors(b)
    swapped = b.emit(ops.Gather(left.rank), pair, constant(b, (1, 0), DType.INT64))
    return Complex(b.emit(ops.Add(), b.emit(ops.Mul(), pair, real), b.emit(ops.Mul(), swapped, signed)))


def _is_smaller(x: Complex, y: Complex) -> bool:
    """Whether x is the better one to make factors of."""
    left, right = elements(x.shape), elements(y.shape)
    if isinstance(left, int) and isinstance(right, int):
        return left < right
    return x.rank < y.rank


def _product_of_parts(b: Lowering, x: Complex, y: Complex) -> Complex:
    (a, c), (d, e) = x.parts(b), y.parts(b)
    real = b.emit(ops.Sub(), b.emit(ops.Mul(), a, d), b.emit(ops.Mul(), c, e))
    return Complex(None, (real, b.emit(ops.Add(), b.emit(ops.Mul(), a, e), b.emit(ops.Mul(), c, d))))


@complex_rules.imports("aten.mul.Tensor", "aten.mul.Scalar", "aten.mul_.Tensor", "aten.mul_.Scalar")
def mul(b: Lowering, self: AnyOperand, other: AnyOperand) -> Complex:
    """mul.Tensor(Tensor self, Tensor other)"""
    return multiplied(b, self, other, real_dtype(b, self, other))


def _summed(b: Lowering, x: AnyOperand, y: AnyOperand, op: Op, part: DType) -> Complex:
    """x + y or x - y; a real number only meets the real part."""
    left, right = (each if is_real(each) else as_complex(b, each, part) for each in (x, y))
    pairs = [_addend(b, each, part) for each in (left, right)]
    if pairs[0] is not None and pairs[1] is not None:
        return Complex(b.emit(op, *pairs))
    if isinstance(left, Complex) and isinstance(right, Complex):
        (a, c), (d, e) = left.parts(b), right.parts(b)
        return Complex(None, (b.emit(op, a, d), b.emit(op, c, e)))
    if isinstance(left, Complex):
        real, imaginary = left.parts(b)
        return Complex.of_parts(b, b.emit(op, real, b.operand(right, part)), imaginary)  # type: ignore[arg-type]
    assert isinstance(right, Complex)
    real, imaginary = right.parts(b)
    signed = imaginary if isinstance(op, ops.Add) else b.emit(ops.Neg(), imaginary)
    return Complex.of_parts(b, b.emit(op, b.operand(left, part), real), signed)  # type: ignore[arg-type]


def _addend(b: Lowering, x: AnyOperand, part: DType) -> Value | None:
    """An addend in pairs, if it comes as such or is a number."""
    if isinstance(x, Complex):
        return x.value
    return None if isinstance(x, Value | Sym) else constant(b, (float(x.real), 0.0), part)


@complex_rules.imports("aten.add.Tensor", "aten.add.Scalar", "aten.add_.Tensor", "aten.add_.Scalar")
def add(b: Lowering, self: AnyOperand, other: AnyOperand, alpha: AnyNumber = 1) -> Complex:
    """add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)"""
    part = real_dtype(b, self, other)
    return _summed(b, self, _scaled(b, other, alpha, part), ops.Add(), part)


@complex_rules.imports("aten.sub.Tensor", "aten.sub.Scalar", "aten.sub_.Tensor", "aten.sub_.Scalar")
def sub(b: Lowering, self: AnyOperand, other: AnyOperand, alpha: AnyNumber = 1) -> Complex:
    """sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)"""
    part = real_dtype(b, self, other)
    return _summed(b, self, _scaled(b, other, alpha, part), ops.Sub(), part)


@complex_rules.imports("aten.rsub.Tensor", "aten.rsub.Scalar")
def rsub(b: Lowering, self: AnyOperand, other: AnyOperand, alpha: AnyNumber = 1) -> Complex:
    """rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1): other - alpha * self"""
    return sub(b, other, self, alpha)


def _scaled(b: Lowering, x: AnyOperand, alpha: AnyNumber, part: DType) -> AnyOperand:
    if not isinstance(alpha, Sym) and alpha == 1:
        return x
    if isinstance(x, Value) and is_real(alpha):
        return b.emit(ops.Mul(), b.cast(x, part), b.number(alpha, part))  # type: ignore[arg-type]
    return multiplied(b, as_complex(b, x, part), alpha, part)


@complex_rules.imports("aten.div.Tensor", "aten.div.Scalar", "aten.div_.Tensor", "aten.div_.Scalar",
                       "aten.true_divide.Tensor")  # fmt: skip
def div(b: Lowering, self: AnyOperand, other: AnyOperand) -> Complex:
    """div.Tensor(Tensor self, Tensor other): both scaled by max(|c|, |d|) of the divisor c + di, as torch does"""
    part = real_dtype(b, self, other)
    if isinstance(other, bool | int | float) and other != 0 and math.isfinite(other):
        return as_complex(b, self, part).each(b, lambda x: b.emit(ops.Div(), x, b.number(other, part)))
    left, right = as_complex(b, self, part), as_complex(b, other, part)
    c, d = right.parts(b)
    scale = b.emit(ops.Max(), b.emit(ops.Abs(), c), b.emit(ops.Abs(), d))
    low = Complex(None, (b.emit(ops.Div(), c, scale), b.emit(ops.Div(), d, scale)))
    high = Complex(None, tuple(b.emit(ops.Div(), x, scale) for x in left.parts(b)))  # type: ignore[arg-type]
    c, d = low.parts(b)
    divisor = b.emit(ops.Add(), b.emit(ops.Mul(), c, c), b.emit(ops.Mul(), d, d))
    product = _product_of_parts(b, high, conjugated(b, low))
    return product.each(b, lambda x: b.emit(ops.Div(), x, divisor))


@complex_rules.imports("aten.reciprocal.default", "aten.reciprocal_.default")
def reciprocal(b: Lowering, self: Complex) -> Complex:
    """reciprocal(Tensor self): 1 / self"""
    return div(b, 1, self)


@complex_rules.imports("aten.neg.default", "aten.neg_.default")
def neg(b: Lowering, self: Complex) -> Complex:
    """neg(Tensor self)"""
    return self.each(b, lambda x: b.emit(ops.Neg(), x))


@complex_rules.imports("aten.square.default", "aten.square_.default")
def square(b: Lowering, self: Complex) -> Complex:
    """square(Tensor self): self * self"""
    return multiplied(b, self, self, PARTS[self.dtype])


def conjugated(b: Lowering, z: Complex) -> Complex:
    """a - bi"""
    if z.value is not None:
        return Complex(b.emit(ops.Mul(), z.value, constant(b, (1, -1), z.value.dtype)))
    real, imaginary = z.parts(b)
    return Complex(None, (real, b.emit(ops.Neg(), imaginary)))


@complex_rules.imports("aten._conj.default", "aten.conj.default", "aten.conj_physical.default",
                       "aten._conj_physical.default", "aten.conj_physical_.default")  # fmt: skip
def conj(b: Lowering, self: Complex) -> Complex:
    """conj(Tensor self)"""
    return conjugated(b, self)


@complex_rules.imports("aten.view_as_real.default")
def view_as_real(b: Lowering, self: Complex) -> Value:
    """view_as_real(Tensor self): the pairs"""
    return self.pair(b)


@complex_rules.imports("aten.view_as_complex.default")
def view_as_complex(b: Lowering, self: Value) -> Complex:
    """view_as_complex(Tensor self): of pairs"""
    return Complex(self)


@complex_rules.imports("aten.real.default")
def real(b: Lowering, self: Complex) -> Value:
    """real(Tensor self)"""
    return self.parts(b)[0]


@complex_rules.imports("aten.imag.default")
def imag(b: Lowering, self: Complex) -> Value:
    """imag(Tensor self)"""
    return self.parts(b)[1]


@complex_rules.imports("aten.isreal.default")
def isreal(b: Lowering, self: Complex) -> Value:
    """isreal(Tensor self): whether the imaginary part is 0"""
    imaginary = self.parts(b)[1]
    return b.emit(ops.Equal(), imaginary, b.number(0, imaginary.dtype))


@complex_rules.imports("aten.complex.default")
def complex_of_parts(b: Lowering, real: Value, imag: Value) -> Complex:
    """complex(Tensor real, Tensor imag)"""
    return Complex.of_parts(b, real, imag)


@complex_rules.imports("aten.polar.default")
def polar(b: Lowering, abs: Value, angle: Value) -> Complex:
    """polar(Tensor abs, Tensor angle): abs (cos(angle) + i sin(angle))"""
    turned = (b.emit(op, angle) for op in (ops.Cos(), ops.Sin()))
    return Complex.of_parts(b, *(b.emit(ops.Mul(), abs, each) for each in turned))


@complex_rules.imports("aten.abs.default")
def absolute(b: Lowering, self: Complex) -> Value:
    """abs(Tensor self): sqrt(a^2 + b^2), of float32 in float64, where the squares do not overflow"""
    part = PARTS[self.dtype]
    if self.value is not None:
        wide = b.cast(self.value, DType.FLOAT64)
        return b.cast(b.emit(ops.ReduceL2((self.rank,), keepdims=False), wide), part)
    doubles = [b.cast(each, DType.FLOAT64) for each in self.parts(b)]
    squares = (b.emit(ops.Mul(), each, each) for each in doubles)
    return b.cast(b.emit(ops.Sqrt(), b.emit(ops.Add(), *squares)), part)


@complex_rules.imports("aten.angle.default")
def angle(b: Lowering, self: Complex) -> Value:
    """angle(Tensor self): atan2(b, a), in [-pi, pi]; a zero's sign tells the side. NaN where both parts are infinite"""
    x, y = self.parts(b)
    pi = b.number(math.pi, x.dtype)
    slope = b.emit(ops.Atan(), b.emit(ops.Div(), y, x))
    flat = b.emit(ops.Where(), b.emit(ops.Equal(), y, b.number(0, y.dtype)), y, slope)
    turn = b.emit(ops.Where(), is_negative(b, y), b.number(-math.pi, x.dtype), pi)
    return b.emit(ops.Where(), is_negative(b, x), b.emit(ops.Add(), flat, turn), flat)


def is_negative(b: Lowering, x: Value) -> Value:
    """Whether the sign is set, of -0 as well."""
    zero = b.number(0, x.dtype)
    return b.emit(ops.Or(), b.emit(ops.Less(), x, zero), b.emit(ops.Less(), b.emit(ops.Reciprocal(), x), zero))


@complex_rules.imports("aten.exp.default", "aten.exp_.default")
def exp(b: Lowering, self: Complex) -> Complex:
    """exp(Tensor self): e^a (cos b + i sin b)"""
    real, imaginary = self.parts(b)
    return polar(b, b.emit(ops.Exp(), real), imaginary)


def _of_parts(b: Lowering, z: Complex, *functions: Op) -> Complex:
    """(f(a) g(b), h(a) k(b)) for four functions f, g, h, k."""
    a, c = z.parts(b)
    first, second, third, fourth = (b.emit(op, x) for op, x in zip(functions, (a, c, a, c), strict=True))
    return Complex(None, (b.emit(ops.Mul(), first, second), b.emit(ops.Mul(), third, fourth)))


@complex_rules.imports("aten.sin.default")
def sine(b: Lowering, self: Complex) -> Complex:
    """sin(Tensor self): sin a cosh b + i cos a sinh b"""
    return _of_parts(b, self, ops.Sin(), ops.Cosh(), ops.Cos(), ops.Sinh())


@complex_rules.imports("aten.cos.default")
def cosine(b: Lowering, self: Complex) -> Complex:
    """cos(Tensor self): cos a cosh b - i sin a sinh b"""
    return conjugated(b, _of_parts(b, self, ops.Cos(), ops.Cosh(), ops.Sin(), ops.Sinh()))


@complex_rules.imports("aten.sinh.default")
def hyperbolic_sine(b: Lowering, self: Complex) -> Complex:
    """sinh(Tensor self): sinh a cos b + i cosh a sin b"""
    return _of_parts(b, self, ops.Sinh(), ops.Cos(), ops.Cosh(), ops.Sin())


@complex_rules.imports("aten.cosh.default")
def hyperbolic_cosine(b: Lowering, self: Complex) -> Complex:
    """cosh(Tensor self): cosh a cos b + i sinh a sin b"""
    return _of_parts(b, self, ops.Cosh(), ops.Cos(), ops.Sinh(), ops.Sin())


@complex_rules.imports("aten.log.default", "aten.log_.default")
def log(b: Lowering, self: Complex) -> Complex:
    """log(Tensor self): log|z| + i angle(z)"""
    return Complex(None, (b.emit(ops.Log(), absolute(b, self)), angle(b, self)))


@complex_rules.imports("aten.sgn.default")
def sgn(b: Lowering, self: Complex) -> Complex:
    """sgn(Tensor self): z / |z|, and 0 where z is 0"""
    size = absolute(b, self)
    zero = b.emit(ops.Equal(), size, b.number(0, size.dtype))
    divisor = b.emit(ops.Where(), zero, b.number(1, size.dtype), size)
    if self.value is not None:
        return Complex(b.emit(ops.Div(), self.value, b.emit(ops.Unsqueeze((self.rank,)), divisor)))
    return self.each(b, lambda x: b.emit(ops.Div(), x, divisor))


@complex_rules.imports("aten.eq.Tensor", "aten.eq.Scalar")
def equal(b: Lowering, self: AnyOperand, other: AnyOperand) -> Value:
    """eq.Tensor(Tensor self, Tensor other): both parts are equal"""
    part = real_dtype(b, self, other)
    left, right = (as_complex(b, each, part).parts(b) for each in (self, other))
    return b.emit(ops.And(), *(b.emit(ops.Equal(), x, y) for x, y in zip(left, right, strict=True)))


@complex_rules.imports("aten.ne.Tensor", "aten.ne.Scalar")
def not_equal(b: Lowering, self: AnyOperand, other: AnyOperand) -> Value:
    """ne.Tensor(Tensor self, Tensor other)"""
    return b.emit(ops.Not(), equal(b, self, other))
