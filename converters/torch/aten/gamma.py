"""The logarithm of the gamma function and its derivatives: lgamma, digamma, polygamma, mvlgamma.

Source: interpolation on [1, 3], Stirling's series (interpolated) beyond, reflection below 0; for the derivatives the
Euler-Maclaurin formula (DLMF 5.5, 5.11, 5.15, 25.11.5). Relative errors of the polynomials below 2^-52. Measured
against mpmath: at most 1 ulp in float32; in float64 5 ulp of the largest term, which is the value itself unless x is
negative or close to the zero of digamma.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np

from isomorph.converters.torch.aten.elementwise import both
from isomorph.converters.torch.aten.polynomial import Polynomial, horner, in_double
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops

_BETWEEN_ZEROS = Polynomial(
    1.0,
    3.0,
    (
        0.42278433509846713, -0.10031730167435392, 0.03296500062115691, -0.012384192193371805,
        0.004998641164627129, -0.0021081308339216706, 0.0009153769240386907, -0.0004057073983775151,
        0.0001825526153982638, -8.309511477709561e-05, 3.816907658276081e-05, -1.7661767658452517e-05,
        8.221234475942905e-06, -3.846858091533014e-06, 1.8113906873056685e-06, -8.54560908975883e-07,
        3.958940459367468e-07, -1.878442644643758e-07, 1.042041826608264e-07, -4.9827532071170234e-08,
        5.910565853507869e-09, -2.7296358592514825e-09, 1.6194359237484174e-08, -7.842557720538356e-09,
        -4.312495770350818e-09, 2.0986002157033107e-09, 1.5746606982777302e-09, -7.639292345836201e-10,
    ),
)  # fmt: skip
"""lgamma(x) / ((x - 1) (x - 2)) on [1, 3]."""

_STIRLING = Polynomial(
    0.0,
    1 / 3,
    (
        0.08325677293842448, -0.00015194427326149136, -7.366478344639056e-05, 2.2191764309606918e-06,
        4.5060222224211223e-07, -5.469961867222617e-08, -3.4523628503607524e-09, 1.702485069546784e-09,
        -1.2413810686575918e-10, -4.4756696222444914e-11, 1.4175345322324302e-11, -6.261054398206684e-13,
        -7.134884621020449e-13, 1.7777804696160954e-13, 2.9359305642314924e-15,
    ),
)  # fmt: skip
"""x (lgamma(x) - (x - 1/2) (log(x) - 1) + 1/2 - log(2 pi) / 2) in 1 / x, x >= 3."""

_SHIFT = 10
"""From x + 10 on the asymptotic series of the derivatives have all digits."""
_TERMS = 10


def _lgamma_of_positive(b: Lowering, x: Value) -> Value:
    one, two = b.number(1, x.dtype), b.number(2, x.dtype)
    small = b.emit(ops.Less(), x, one)
    lifted = b.emit(ops.Where(), small, b.emit(ops.Add(), x, one), x)
    first = b.emit(ops.Where(), small, x, b.emit(ops.Sub(), x, one))  # the zeros are kept exact
    second = b.emit(ops.Where(), small, b.emit(ops.Sub(), x, one), b.emit(ops.Sub(), x, two))
    log = b.emit(ops.Log(), x)
    near = b.emit(ops.Mul(), b.emit(ops.Mul(), first, second), _BETWEEN_ZEROS.at(b, lifted))
    near = b.emit(ops.Sub(), near, b.emit(ops.Where(), small, log, b.number(0, x.dtype)))
    rest = b.emit(ops.Div(), _STIRLING.at(b, b.emit(ops.Reciprocal(), x)), x)
    main = b.emit(ops.Mul(), b.emit(ops.Sub(), x, b.number(0.5, x.dtype)), b.emit(ops.Sub(), log, one))
    far = b.emit(ops.Add(), main, b.emit(ops.Add(), b.number(math.log(2 * math.pi) / 2 - 0.5, x.dtype), rest))
    return b.emit(ops.Where(), b.emit(ops.Less(), x, b.number(3, x.dtype)), near, far)


def _from_integer(b: Lowering, x: Value) -> Value:
    """pi (x - n), n the closest integer."""
    return b.emit(ops.Mul(), b.emit(ops.Sub(), x, b.emit(ops.Round(), x)), b.number(math.pi, x.dtype))


def _lgamma(b: Lowering, x: Value) -> Value:
    size = b.emit(ops.Abs(), x)
    known = _lgamma_of_positive(b, size)
    sine = b.emit(ops.Abs(), b.emit(ops.Sin(), _from_integer(b, x)))
    logs = b.emit(ops.Add(), b.emit(ops.Log(), sine), b.emit(ops.Log(), size))
    turned = b.emit(ops.Sub(), b.emit(ops.Sub(), b.number(math.log(math.pi), x.dtype), logs), known)
    result = b.emit(ops.Where(), b.emit(ops.Less(), x, b.number(0, x.dtype)), turned, known)
    return b.emit(ops.Where(), b.emit(ops.IsInf(), x), size, result)


@cache
def _bernoulli(count: int) -> tuple[Fraction, ...]:
    """B_0, B_1 = -1/2, B_2, …: `count` of them."""
    known: list[Fraction] = []
    for n in range(count):
        total = sum((math.comb(n + 1, k) * each for k, each in enumerate(known)), Fraction(0))
        known.append((Fraction(int(n == 0)) - total) / (n + 1) if n else Fraction(1))
    return tuple(known)


def _steps(b: Lowering, x: Value, count: int) -> Value:
    """(…) -> (…, count): x, x + 1, …"""
    return b.emit(
        ops.Add(), b.emit(ops.Unsqueeze((x.rank,)), x), b.constant(np.arange(count, dtype=np.float64), "steps")
    )


def _digamma_of_positive(b: Lowering, x: Value) -> Value:
    """log(a) - 1/(2a) - sum_k B_2k / (2k a^2k) - sum_k 1 / (x + k), a = x + 10"""
    a = b.emit(ops.Add(), x, b.number(_SHIFT, x.dtype))
    inverse = b.emit(ops.Reciprocal(), a)
    square = b.emit(ops.Mul(), inverse, inverse)
    numbers = _bernoulli(2 * _TERMS + 1)
    series = horner(b, square, [0.0, *(float(numbers[2 * k] / (2 * k)) for k in range(1, _TERMS))])
    series = b.emit(ops.Add(), series, b.emit(ops.Mul(), inverse, b.number(0.5, x.dtype)))
    terms = b.emit(ops.Reciprocal(), _steps(b, x, _SHIFT))
    before = b.emit(ops.ReduceSum((x.rank,), keepdims=False), terms)
    return b.emit(ops.Sub(), b.emit(ops.Sub(), b.emit(ops.Log(), a), series), before)


def _mirrored(b: Lowering, x: Value) -> tuple[Value, Value]:
    """(x < 0, 1 - x there and x elsewhere)"""
    below = b.emit(ops.Less(), x, b.number(0, x.dtype))
    return below, b.emit(ops.Where(), below, b.emit(ops.Sub(), b.number(1, x.dtype), x), x)


def _cotangent(b: Lowering, x: Value) -> Value:
    """cot(pi x)"""
    angle = _from_integer(b, x)
    return b.emit(ops.Div(), b.emit(ops.Cos(), angle), b.emit(ops.Sin(), angle))


def _digamma(b: Lowering, x: Value) -> Value:
    below, size = _mirrored(b, x)
    known = _digamma_of_positive(b, size)
    turn = b.emit(ops.Mul(), b.number(math.pi, x.dtype), _cotangent(b, x))
    result = b.emit(ops.Where(), below, b.emit(ops.Sub(), known, turn), known)
    whole = b.emit(ops.Equal(), x, b.emit(ops.Round(), x))
    pole = b.emit(ops.And(), below, whole)
    result = b.emit(ops.Where(), pole, b.number(math.nan, x.dtype), result)
    zero = b.emit(ops.Equal(), x, b.number(0, x.dtype))
    return b.emit(ops.Where(), zero, b.emit(ops.Neg(), b.emit(ops.Reciprocal(), x)), result)


def _hurwitz(b: Lowering, q: Value, s: int) -> Value:
    """zeta(s, q) = sum_{k >= 0} (q + k)^-s for q > 0, s >= 2: N terms, then Euler-Maclaurin's formula."""
    count = _SHIFT + s
    terms = b.emit(ops.Pow(), _steps(b, q, count), b.number(-s, q.dtype))
    before = b.emit(ops.ReduceSum((q.rank,), keepdims=False), terms)
    a = b.emit(ops.Add(), q, b.number(count, q.dtype))
    inverse = b.emit(ops.Reciprocal(), a)
    numbers = _bernoulli(2 * _TERMS + 1)
    factors = [
        float(numbers[2 * j] * math.prod(range(s, s + 2 * j - 1)) / math.factorial(2 * j)) for j in range(1, _TERMS + 1)
    ]
    series = b.emit(ops.Mul(), inverse, horner(b, b.emit(ops.Mul(), inverse, inverse), factors))
    series = b.emit(ops.Add(), series, b.number(0.5, q.dtype))
    tail = b.emit(ops.Mul(), b.emit(ops.Pow(), a, b.number(-s, q.dtype)), series)
    rest = b.emit(ops.Pow(), a, b.number(1 - s, q.dtype))
    rest = b.emit(ops.Div(), rest, b.number(s - 1, q.dtype))
    return b.emit(ops.Add(), before, b.emit(ops.Add(), rest, tail))


def _derivative_of_cotangent(order: int) -> list[float]:
    """The coefficients, in c = cot(pi x), of its derivative of this order: dc/dx = -pi (1 + c^2)."""
    known = [0, 1]
    for _ in range(order):
        slopes = [k * each for k, each in enumerate(known)][1:]
        known = [
            (slopes[k] if k < len(slopes) else 0) + (slopes[k - 2] if 2 <= k < len(slopes) + 2 else 0)
            for k in range(len(slopes) + 2)
        ]
    return [(-math.pi) ** order * each for each in known]


def _polygamma(b: Lowering, x: Value, n: int) -> Value:
    """(-1)^(n + 1) n! zeta(n + 1, x); below 0 (-1)^n polygamma(n, 1 - x) - pi (d/dx)^n cot(pi x)"""
    below, size = _mirrored(b, x)
    sign = 1 if n % 2 else -1
    known = b.emit(ops.Mul(), b.number(sign * float(math.factorial(n)), x.dtype), _hurwitz(b, size, n + 1))
    turn = horner(b, _cotangent(b, x), [math.pi * each for each in _derivative_of_cotangent(n)])
    same = b.emit(ops.Neg(), known) if n % 2 else known
    result = b.emit(ops.Where(), below, b.emit(ops.Sub(), same, turn), known)
    whole = b.emit(ops.Equal(), x, b.emit(ops.Round(), x))
    pole = b.emit(ops.And(), b.emit(ops.LessOrEqual(), x, b.number(0, x.dtype)), whole)
    return b.emit(ops.Where(), pole, b.number(sign * math.inf, x.dtype), result)


@rules.imports(*both("lgamma", "default"), "aten.special_gammaln.default")
def lgamma(b: Lowering, self: Value) -> Value:
    """lgamma(Tensor self): log|gamma(x)|, infinite at 0, -1, -2, …"""
    return in_double(b, self, _lgamma)


@rules.imports(*both("digamma", "default"), "aten.special_digamma.default", "aten.special_psi.default")
def digamma(b: Lowering, self: Value) -> Value:
    """digamma(Tensor self): the derivative of lgamma; NaN at -1, -2, …, infinite at 0"""
    return in_double(b, self, _digamma)


_HIGHEST = 100


@rules.imports("aten.polygamma.default", "aten.polygamma_.default", "aten.special_polygamma.default")
def polygamma(b: Lowering, self: Value, n: int) -> Value:
    """polygamma(int n, Tensor self): the derivative of order n of digamma"""
    b.require(n <= _HIGHEST, f"the derivative of order {n}, more than {_HIGHEST}")
    return digamma(b, self) if n == 0 else in_double(b, self, lambda b, x: _polygamma(b, x, n))


@rules.imports(*both("mvlgamma", "default"), "aten.special_multigammaln.default")
def mvlgamma(b: Lowering, self: Value, p: int) -> Value:
    """mvlgamma(Tensor self, int p): p (p - 1) / 4 log(pi) + sum_j lgamma(x - j / 2), j < p"""

    def compute(b: Lowering, x: Value) -> Value:
        shifts = b.constant(np.arange(p) * -0.5, "shifts")
        terms = _lgamma(b, b.emit(ops.Add(), b.emit(ops.Unsqueeze((x.rank,)), x), shifts))
        total = b.emit(ops.ReduceSum((x.rank,), keepdims=False), terms)
        return b.emit(ops.Add(), total, b.number(p * (p - 1) / 4 * math.log(math.pi), DType.FLOAT64))

    return in_double(b, self, compute)
