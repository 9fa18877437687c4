"""Functions that keep the digits which a plain formula loses: expm1, log1p, erfc."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.layout import LayoutRule
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.elementwise import (
    Abs,
    Add,
    Cast,
    Div,
    Equal,
    Exp,
    Greater,
    Less,
    Log,
    Mul,
    Neg,
    Sub,
    Where,
    scalar,
)  # fmt: skip
from isomorph.ir.ops.numerics import Array, in_single

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Erfc", "Expm1", "Log1p"]


@operation
class _Special(Op):
    """Base: x (any shape, floating point) -> y of the same type, element by element."""

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    layout_rule: ClassVar[LayoutRule] = LayoutRule.ELEMENTWISE
    function: ClassVar[Any]

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self.function, x)


@operation
class Expm1(_Special):
    """y = exp(x) - 1, with all digits near 0. See: numpy.expm1, tensorflow.math.expm1."""

    function: ClassVar[Any] = np.expm1

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """Near 0 (u - 1) x / log(u) with u = exp(x), in which the roundings of u cancel (Kahan)."""
        one = scalar(b, 1, x)
        u = b.emit(Exp(), x)
        plain = b.emit(Sub(), u, one)
        exact = b.emit(Div(), b.emit(Mul(), plain, x), b.emit(Log(), u))
        kept = b.emit(Where(), b.emit(Equal(), u, one), x, exact)
        return b.emit(Where(), _is_near_zero(b, x), kept, plain)


@operation
class Log1p(_Special):
    """y = log(1 + x), with all digits near 0. See: numpy.log1p, tensorflow.math.log1p."""

    function: ClassVar[Any] = np.log1p

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """Near 0 x log(u) / (u - 1) with u = 1 + x, in which the rounding of u cancels (Kahan)."""
        one = scalar(b, 1, x)
        u = b.emit(Add(), x, one)
        plain = b.emit(Log(), u)
        exact = b.emit(Div(), b.emit(Mul(), x, plain), b.emit(Sub(), u, one))
        kept = b.emit(Where(), b.emit(Equal(), u, one), x, exact)
        return b.emit(Where(), _is_near_zero(b, x), kept, plain)


def _is_near_zero(b: Builder, x: Value) -> Value:
    return b.emit(Less(), b.emit(Abs(), x), scalar(b, 0.5, x))


_erfc_each = np.frompyfunc(math.erfc, 1, 1)


def _erfc(x: Array) -> Array:
    return np.asarray(_erfc_each(x.astype(np.float64))).astype(x.dtype)


@operation
class Erfc(_Special):
    """y = 1 - erf(x), with all digits where x is large. See: math.erfc, tensorflow.math.erfc."""

    function: ClassVar[Any] = staticmethod(_erfc)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """In float64, for x >= 0: exp(-x^2) p((x - 4) / (x + 4)) / (1 + 2x), 2 - erfc(-x) below.

        p is a polynomial of degree 24 that interpolates (1 + 2x) exp(x^2) erfc(x), relative error 1.2 * 2^-52.
        Source: Shepherd and Laframboise, Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x), 1981.
        """
        wide = b.emit(Cast(DType.FLOAT64), x)
        size = b.emit(Abs(), wide)
        most = scalar(b, 60, wide)  # exp(-3600) is 0; infinity would be NaN
        size = b.emit(Where(), b.emit(Greater(), size, most), most, size)
        four = scalar(b, 4, wide)
        t = b.emit(Div(), b.emit(Sub(), size, four), b.emit(Add(), size, four))
        scaled = scalar(b, SCALED_ERFC[-1], wide)
        for coefficient in reversed(SCALED_ERFC[:-1]):
            scaled = b.emit(Add(), b.emit(Mul(), scaled, t), scalar(b, coefficient, wide))
        scaled = b.emit(Div(), scaled, b.emit(Add(), scalar(b, 1, wide), b.emit(Add(), size, size)))
        tail = b.emit(Mul(), _exp_of_minus_square(b, size), scaled)
        below = b.emit(Less(), wide, scalar(b, 0, wide))
        return b.emit(Cast(x.dtype), b.emit(Where(), below, b.emit(Sub(), scalar(b, 2, wide), tail), tail))


def _exp_of_minus_square(b: Builder, size: Value) -> Value:
    """exp(-s^2): of the square of s rounded to float32, which is exact, and of the rest."""
    high = b.emit(Cast(size.dtype), b.emit(Cast(DType.FLOAT32), size))
    rest = b.emit(Mul(), b.emit(Sub(), size, high), b.emit(Add(), size, high))
    main = b.emit(Exp(), b.emit(Neg(), b.emit(Mul(), high, high)))
    return b.emit(Mul(), main, b.emit(Exp(), b.emit(Neg(), rest)))


SCALED_ERFC = (
    1.2329951186255526, -0.13962111684056228, 0.015379652102619974, 0.06809705425466839,
    -0.10103906603631811, 0.09373283499911264, -0.06633036581186058, 0.037167515526338006,
    -0.01619773406293477, 0.005031970069102256, -0.0007577732435942576, -0.0001992571524726518,
    0.00015062142608651945, -2.4397731143023292e-05, -1.1221135665965907e-05, 5.70657829924074e-06,
    2.9173425573089733e-07, -8.210647933297337e-07, 7.771943241086912e-08, 1.0631817593818149e-07,
    -2.0725802488181963e-08, -1.2338731403798444e-08, 3.2323973445082033e-09, 9.297625263709659e-10,
    -2.764120233734578e-10,
)  # fmt: skip
"""The polynomial of Erfc's decomposition, lowest degree first, in t = (x - 4) / (x + 4)."""
