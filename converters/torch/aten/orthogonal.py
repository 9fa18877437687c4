"""QR decompositions by Householder's reflections, unrolled over the columns.

The arithmetic and the signs are those of LAPACK's geqr2: beta = -sign(alpha) |a|, tau = (beta - alpha) / beta. The
number of reflections is static and small.
"""

from __future__ import annotations

import numpy as np

from isomorph.converters.torch.aten.special import positive
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops

_MOST = 32


def _column(b: Lowering, a: Value, step: int) -> Value:
    """The column (..., M, 1) of matrices."""
    return b.emit(ops.Slice((a.rank - 1,), (step,), (step + 1,), (1,)), a)


def _at(b: Lowering, places: Value, step: int) -> Value:
    return b.emit(ops.Equal(), places, b.number(step, DType.INT64))


def _reflection(b: Lowering, a: Value, places: Value, step: int) -> tuple[Value, Value, Value]:
    """(v (..., M, 1), tau (..., 1, 1), beta) with (1 - tau v v^T) a = beta in row `step`, 0 below; v there is 1."""
    zero, one = b.number(0, a.dtype), b.number(1, a.dtype)
    column = _column(b, a, step)
    alpha = b.emit(ops.Slice((a.rank - 2,), (step,), (step + 1,), (1,)), column)
    below = b.emit(ops.Greater(), places, b.number(step, DType.INT64))
    rest = b.emit(ops.Where(), below, column, zero)
    size = b.emit(ops.ReduceL2((a.rank - 2,)), rest)
    length = b.emit(ops.ReduceL2((a.rank - 2,)), b.emit(ops.Concat(a.rank - 2), alpha, size))
    beta = b.emit(ops.Where(), b.emit(ops.Less(), alpha, zero), length, b.emit(ops.Neg(), length))
    nothing = b.emit(ops.Equal(), size, zero)
    beta = b.emit(ops.Where(), nothing, alpha, beta)
    gap = b.emit(ops.Where(), nothing, one, b.emit(ops.Sub(), alpha, beta))
    v = b.emit(ops.Where(), _at(b, places, step), one, b.emit(ops.Div(), rest, gap))
    ratio = b.emit(ops.Div(), b.emit(ops.Sub(), beta, alpha), b.emit(ops.Where(), nothing, one, beta))
    return v, b.emit(ops.Where(), nothing, zero, ratio), beta


def _reflected(b: Lowering, a: Value, v: Value, tau: Value) -> Value:
    """(1 - tau v v^T) a"""
    product = b.emit(ops.MatMul(), b.emit(ops.Transpose((*range(v.rank - 2), v.rank - 1, v.rank - 2)), v), a)
    return b.emit(ops.Sub(), a, b.emit(ops.Mul(), b.emit(ops.Mul(), tau, v), product))


def _sizes(b: Lowering, a: Value) -> tuple[int, int, int]:
    """(M, N, min(M, N)) of matrices."""
    b.require(a.rank >= 2 and a.dtype in (DType.FLOAT32, DType.FLOAT64), f"matrices of {a.type}")
    rows, columns = b.static(a.shape[-2], "the number of rows"), b.static(a.shape[-1], "the number of columns")
    b.require(min(rows, columns) <= _MOST, f"{min(rows, columns)} reflections, more than {_MOST}")
    return rows, columns, min(rows, columns)


def _rows_of(b: Lowering, rows: int) -> Value:
    return b.constant(np.arange(rows, dtype=np.int64)[:, None], "rows")


def _product(b: Lowering, a: Value, reflections: list[tuple[Value, Value]], columns: int) -> Value:
    """The first columns of the product of the reflections of matrices like `a`."""
    rows = b.static(a.shape[-2], "the number of rows")
    eye = b.constant(np.eye(rows, columns, dtype=a.dtype.numpy), "identity")
    q = b.emit(ops.Expand((*a.shape[:-2], rows, columns)), eye) if a.rank > 2 else eye
    for v, tau in reversed(reflections):
        q = _reflected(b, q, v, tau)
    return q


@rules.imports("aten.linalg_qr.default")
def qr(b: Lowering, A: Value, mode: str = "reduced") -> tuple[Value, ...]:  # noqa: N803
    """linalg_qr(Tensor A, str mode='reduced') -> (Q, R): reduced (M, K) (K, N); complete (M, M) (M, N); r: R only"""
    rows, columns, count = _sizes(b, A)
    reflections, r = [], A
    places = _rows_of(b, rows)
    for step in range(min(count, rows - 1) if count else 0):
        v, tau, _ = _reflection(b, r, places, step)
        reflections.append((v, tau))
        r = _reflected(b, r, v, tau)
    wide = rows if mode == "complete" else count
    r = b.emit(ops.Trilu(upper=True), r) if rows and columns else r
    r = r if wide == rows else b.emit(ops.Slice((A.rank - 2,), (0,), (wide,), (1,)), r)
    return (
        b.emit(ops.ConstantOfShape((0,), 0, A.dtype)) if mode == "r" else _product(b, A, reflections, wide)
    ), positive(b, r)


@rules.imports("aten.qr.default")
def old_qr(b: Lowering, self: Value, some: bool = True) -> tuple[Value, ...]:
    """qr(Tensor self, bool some=True) -> (Q, R)"""
    return qr(b, self, "reduced" if some else "complete")


@rules.imports("aten.linalg_householder_product.default", "aten.orgqr.default")
def householder_product(
    b: Lowering,
    input: Value | None = None,
    tau: Value | None = None,
    self: Value | None = None,
    input2: Value | None = None,
) -> Value:
    """linalg_householder_product(Tensor input, Tensor tau): the first N columns of the reflections' product"""
    a, factors = (input, tau) if input is not None else (self, input2)
    assert a is not None and factors is not None
    rows, columns, _ = _sizes(b, a)
    count = b.static(factors.shape[-1], "the number of reflections")
    places, reflections = _rows_of(b, rows), []
    one, zero = b.number(1, a.dtype), b.number(0, a.dtype)
    for step in range(count):
        below = b.emit(ops.Greater(), places, b.number(step, DType.INT64))
        v = b.emit(ops.Where(), below, _column(b, a, step), zero)
        v = b.emit(ops.Where(), _at(b, places, step), one, v)
        scale = _column(b, b.emit(ops.Unsqueeze((factors.rank - 1,)), factors), step)
        reflections.append((v, scale))
    return _product(b, a, reflections, columns)
