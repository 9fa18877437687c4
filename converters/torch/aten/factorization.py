"""LU decompositions with partial pivoting, as LAPACK's getrf makes them, and systems solved by them.

Unrolled over the columns, whose number is static and small. A singular matrix is not reported.
"""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import numpy as np

from isomorph.converters.torch.aten.elimination import solve
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.op import broadcast

_MOST = 32


def _sizes(b: Lowering, a: Value) -> tuple[int, int, int]:
    """(M, N, min(M, N)) of matrices."""
    b.require(a.rank >= 2 and a.dtype.is_float, f"matrices of {a.type}")
    rows, columns = (b.static(size, "the size of the matrices") for size in a.shape[-2:])
    b.require(min(rows, columns) <= _MOST, f"{min(rows, columns)} pivots, more than {_MOST}")
    return rows, columns, min(rows, columns)


def _part(b: Lowering, x: Value, axis: int, start: Dim, stop: Dim) -> Value:
    return b.emit(ops.Slice((x.rank + axis,), (start,), (stop,), (1,)), x)


def _exchanged(b: Lowering, x: Value, places: Value, step: int, other: Value) -> Value:
    """x (..., M, N) with the rows `step` and `other` (..., 1, 1) exchanged; `places` (M, 1) counts the rows."""
    chosen = b.emit(ops.Equal(), places, other)
    row = b.emit(ops.ReduceSum((x.rank - 2,)), b.emit(ops.Where(), chosen, x, b.number(0, x.dtype)))
    moved = b.emit(ops.Where(), chosen, _part(b, x, -2, step, step + 1), x)
    return b.emit(ops.Where(), b.emit(ops.Equal(), places, b.number(step, DType.INT64)), row, moved)


def _counted(b: Lowering, count: int, *, down: bool) -> Value:
    places = np.arange(count, dtype=np.int64)
    return b.constant(places[:, None] if down else places, "rows" if down else "columns")


def _factored(b: Lowering, a: Value) -> tuple[Value, Value]:
    """(LU (..., M, N), pivots (..., min(M, N)) counted from 1)."""
    rows, columns, count = _sizes(b, a)
    down, across = _counted(b, rows, down=True), _counted(b, columns, down=False)
    zero, one = b.number(0, a.dtype), b.number(1, a.dtype)
    pivots = []
    for step in range(count):
        here = b.number(step, DType.INT64)
        size = b.emit(ops.Abs(), _part(b, a, -1, step, step + 1))
        size = b.emit(ops.Where(), b.emit(ops.Less(), down, here), b.number(-1, a.dtype), size)
        best = b.emit(ops.ArgMax(a.rank - 2, keepdims=True), size)
        pivots.append(b.emit(ops.Add(), best, b.number(1, DType.INT64)))
        a = _exchanged(b, a, down, step, best)
        row, column = _part(b, a, -2, step, step + 1), _part(b, a, -1, step, step + 1)
        pivot = _part(b, row, -1, step, step + 1)
        divisor = b.emit(ops.Where(), b.emit(ops.Equal(), pivot, zero), one, pivot)
        below = b.emit(ops.Greater(), down, here)
        factors = b.emit(ops.Where(), below, b.emit(ops.Div(), column, divisor), zero)
        beyond = b.emit(ops.Where(), b.emit(ops.Greater(), across, here), row, zero)
        a = b.emit(ops.Sub(), a, b.emit(ops.Mul(), factors, beyond))
        eliminated = b.emit(ops.And(), below, b.emit(ops.Equal(), across, here))
        a = b.emit(ops.Where(), eliminated, factors, a)
    if not pivots:
        return a, b.emit(ops.ConstantOfShape((*a.shape[:-2], 0), 0, DType.INT32))
    joined = b.emit(ops.Concat(a.rank - 2), *pivots) if len(pivots) > 1 else pivots[0]
    return a, b.cast(b.reshape(joined, (*a.shape[:-2], count)), DType.INT32)


def _triangles(b: Lowering, factors: Value) -> tuple[Value, Value]:
    """(L (..., M, K) with a diagonal of ones, U (..., K, N))."""
    rows, _, count = _sizes(b, factors)
    low = b.emit(ops.Trilu(-1, upper=False), _part(b, factors, -1, 0, count))
    eye = b.constant(np.eye(rows, count, dtype=factors.dtype.numpy), "diagonal")
    return b.emit(ops.Add(), low, eye), b.emit(ops.Trilu(0, upper=True), _part(b, factors, -2, 0, count))


def _turned(b: Lowering, x: Value) -> Value:
    return b.emit(ops.Transpose((*range(x.rank - 2), x.rank - 1, x.rank - 2)), x)


def _permuted(b: Lowering, x: Value, pivots: Value, *, back: bool = False) -> Value:
    """The rows of x (..., M, N) exchanged in the order of the pivots (..., K): P^T x; backwards: P x."""
    count = b.static(pivots.shape[-1], "the number of pivots")
    down = _counted(b, b.static(x.shape[-2], "the number of rows"), down=True)
    for step in reversed(range(count)) if back else range(count):
        other = b.emit(ops.Sub(), b.cast(_part(b, pivots, -1, step, step + 1), DType.INT64), b.number(1, DType.INT64))
        x = _exchanged(b, x, down, step, b.emit(ops.Unsqueeze((other.rank,)), other))
    return x


def _permutation(b: Lowering, factors: Value, pivots: Value) -> Value:
    """P (..., M, M) of a = P L U."""
    rows = b.static(factors.shape[-2], "the number of rows")
    eye = b.constant(np.eye(rows, dtype=factors.dtype.numpy), "identity")
    shape = (*factors.shape[:-2], rows, rows)
    return _permuted(b, b.emit(ops.Expand(shape), eye) if len(shape) > 2 else eye, pivots, back=True)


@rules.imports("aten.linalg_lu_factor.default", "aten.linalg_lu_factor_ex.default", "aten._lu_with_info.default")
def lu_factor(
    b: Lowering,
    A: Value | None = None,  # noqa: N803
    self: Value | None = None,
    pivot: bool = True,
    check_errors: bool = False,
) -> tuple[Value, ...]:
    """linalg_lu_factor_ex(Tensor A, *, bool pivot=True, bool check_errors=False) -> (LU, pivots, info)"""
    given = A if A is not None else self
    assert given is not None
    b.require(pivot, "a decomposition without pivoting")
    info = b.emit(ops.ConstantOfShape(given.shape[:-2], 0, DType.INT32))
    return (*_factored(b, given), info)[: max(len(b.recorded), 2)]


@rules.imports("aten.linalg_lu.default")
def linalg_lu(b: Lowering, A: Value, pivot: bool = True) -> tuple[Value, ...]:  # noqa: N803
    """linalg_lu(Tensor A, *, bool pivot=True) -> (P, L, U)"""
    b.require(pivot, "a decomposition without pivoting")
    factors, pivots = _factored(b, A)
    return _permutation(b, factors, pivots), *_triangles(b, factors)


@rules.imports("aten.lu_unpack.default")
def lu_unpack(
    b: Lowering,
    LU_data: Value,  # noqa: N803
    LU_pivots: Value,  # noqa: N803
    unpack_data: bool = True,
    unpack_pivots: bool = True,
) -> tuple[Value, ...]:
    """lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True) -> (P, L, U)"""
    none = b.emit(ops.ConstantOfShape((0,), 0, LU_data.dtype))
    permutation = _permutation(b, LU_data, LU_pivots) if unpack_pivots else none
    return permutation, *(_triangles(b, LU_data) if unpack_data else (none, none))


def _solved(b: Lowering, factors: Value, pivots: Value, right: Value, *, adjoint: bool = False) -> Value:
    """X with P L U X = right, or (P L U)^T X = right."""
    shape = broadcast(factors.shape[:-2], right.shape[:-2])
    if right.shape[:-2] != shape:
        right = b.emit(ops.Expand((*shape, *right.shape[-2:])), right)
    lower, upper = _triangles(b, factors)
    if not adjoint:
        return solve(b, upper, solve(b, lower, _permuted(b, right, pivots)))
    return _permuted(b, solve(b, _turned(b, lower), solve(b, _turned(b, upper), right)), pivots, back=True)


@rules.imports("aten.lu_solve.default")
def lu_solve(b: Lowering, self: Value, LU_data: Value, LU_pivots: Value) -> Value:  # noqa: N803
    """lu_solve(Tensor self, Tensor LU_data, Tensor LU_pivots): X with P L U X = self"""
    return _solved(b, LU_data, LU_pivots, self)


@rules.imports("aten.linalg_lu_solve.default")
def linalg_lu_solve(
    b: Lowering,
    LU: Value,  # noqa: N803
    pivots: Value,
    B: Value,  # noqa: N803
    left: bool = True,
    adjoint: bool = False,
) -> Value:
    """linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False)"""
    if not left:
        return _turned(b, _solved(b, LU, pivots, _turned(b, B), adjoint=not adjoint))
    return _solved(b, LU, pivots, B, adjoint=adjoint)
