"""Polynomials on an interval, in float64: what functions without an operator of their own are composed of.

The coefficients of the families (error.py, gamma.py, bessel.py) interpolate a function in Chebyshev's points, computed
with 50 digits (mpmath); each family states its errors. Functions of float32 and smaller types are computed in float64
and rounded once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isomorph.converters.torch.lowering import Lowering
from isomorph.ir import DType, Value, ops

__all__ = ["Polynomial", "horner", "in_double"]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """sum_k coefficients[k] t^k, t the argument mapped from [low, high] to [-1, 1]."""

    low: float
    high: float
    coefficients: tuple[float, ...]

    def at(self, b: Lowering, x: Value) -> Value:
        """The polynomial at x, of float64."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        t = x if middle == 0 else b.emit(ops.Sub(), x, b.number(middle, x.dtype))
        return horner(b, t if half == 1 else b.emit(ops.Div(), t, b.number(half, x.dtype)), self.coefficients)


def horner(b: Lowering, t: Value, coefficients: Sequence[float]) -> Value:
    """sum_k coefficients[k] t^k"""
    result = b.number(coefficients[-1], t.dtype)
    for coefficient in reversed(coefficients[:-1]):
        result = b.emit(ops.Add(), b.emit(ops.Mul(), result, t), b.number(coefficient, t.dtype))
    return result


def in_double(b: Lowering, x: Value, compute: Callable[[Lowering, Value], Value]) -> Value:
    """compute(b, x) in float64, rounded to the type of x; integers and bools are taken as float32."""
    given = b.floating(x)
    return b.cast(compute(b, b.cast(given, DType.FLOAT64)), given.dtype)
