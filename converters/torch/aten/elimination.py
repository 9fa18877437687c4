"""Inverses, determinants and solutions of linear systems: elimination with partial pivoting, unrolled over the rows.

The number of rows is static and small; the arithmetic is that of LAPACK's getrf up to the order of operations.
"""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import elements

_MOST_ROWS = 32


@dataclass(frozen=True, slots=True)
class _Eliminated:
    """What is left of [a | right] when a has become the identity; `pivots` and `signs` (..., 1, 1) of the steps."""

    right: Value
    pivots: list[Value]
    signs: list[Value]


def _part(b: Lowering, x: Value, axis: int, start: Dim, stop: Dim) -> Value:
    return b.emit(ops.Slice((x.rank + axis,), (start,), (stop,), (1,)), x)


def _rows(b: Lowering, a: Value) -> int:
    b.require(a.rank >= 2 and a.dtype.is_float, f"matrices of {a.type}")
    count = b.static(a.shape[-1], "the number of rows")
    b.require(count <= _MOST_ROWS, f"a matrix of {count} rows, more than {_MOST_ROWS}")
    return count


def _eliminate(b: Lowering, a: Value, right: Value | None, *, singular: bool = False) -> _Eliminated:
    """Gauss-Jordan elimination; with `singular` a pivot of 0 leaves the rows as they are."""
    count = _rows(b, a)
    joined = a if right is None else b.emit(ops.Concat(a.rank - 1), a, right)
    places = b.constant(np.arange(count, dtype=np.int64)[:, None], "rows")
    pivots, signs = [], []
    zero, one = b.number(0, a.dtype), b.number(1, a.dtype)
    for step in range(count):
        here = b.emit(ops.Equal(), places, b.number(step, DType.INT64))
        size = b.emit(ops.Abs(), _part(b, joined, -1, step, step + 1))
        if step:
            above = b.emit(ops.Less(), places, b.number(step, DType.INT64))
            size = b.emit(ops.Where(), above, b.number(-1, a.dtype), size)
        best = b.emit(ops.ArgMax(a.rank - 2, keepdims=True), size)
        chosen = b.emit(ops.Equal(), places, best)
        only = b.emit(ops.Where(), chosen, joined, zero)
        row = b.emit(ops.ReduceSum((a.rank - 2,)), only)
        pivot = _part(b, row, -1, step, step + 1)
        pivots.append(pivot)
        kept = b.emit(ops.Equal(), best, b.number(step, DType.INT64))
        signs.append(b.emit(ops.Where(), kept, one, b.number(-1, a.dtype)))
        swapped = b.emit(ops.Where(), chosen, _part(b, joined, -2, step, step + 1), joined)
        divisor = b.emit(ops.Where(), b.emit(ops.Equal(), pivot, zero), one, pivot) if singular else pivot
        scaled = b.emit(ops.Div(), row, divisor)
        rest = b.emit(ops.Sub(), swapped, b.emit(ops.Mul(), _part(b, swapped, -1, step, step + 1), scaled))
        joined = b.emit(ops.Where(), here, scaled, rest)
    return _Eliminated(_part(b, joined, -1, count, joined.shape[-1]), pivots, signs)


def _identity(b: Lowering, like: Value) -> Value:
    """The identity in the shape of matrices."""
    eye = b.constant(np.eye(_rows(b, like), dtype=like.dtype.numpy), "identity")
    return b.emit(ops.Expand(like.shape), eye) if like.rank > 2 else eye


def inverse(b: Lowering, a: Value) -> Value:
    """The inverse of matrices (..., N, N)."""
    return a if _rows(b, a) == 0 else _eliminate(b, a, _identity(b, a)).right


@rules.imports("aten.linalg_inv.default", "aten.inverse.default")
def linalg_inv(b: Lowering, A: Value | None = None, self: Value | None = None) -> Value:  # noqa: N803
    """linalg_inv(Tensor A), inverse(Tensor self)"""
    given = A if A is not None else self
    assert given is not None
    return inverse(b, given)


def _success(b: Lowering, a: Value) -> Value:
    return b.emit(ops.ConstantOfShape(a.shape[:-2], 0, DType.INT32))


@rules.imports("aten.linalg_inv_ex.default")
def linalg_inv_ex(b: Lowering, A: Value, check_errors: bool = False) -> tuple[Value, ...]:  # noqa: N803
    """linalg_inv_ex(Tensor A, *, bool check_errors=False) -> (inverse, info); a singular matrix is not reported"""
    return inverse(b, A), _success(b, A)


def _scalars(b: Lowering, a: Value, values: list[Value]) -> Value:
    """The product of the values, (..., 1, 1) -> (...)."""
    return b.reshape(reduce(lambda one, two: b.emit(ops.Mul(), one, two), values), a.shape[:-2])


@rules.imports("aten.linalg_det.default", "aten.det.default")
def det(b: Lowering, A: Value | None = None, self: Value | None = None) -> Value:  # noqa: N803
    """linalg_det(Tensor A), det(Tensor self): the product of the pivots"""
    a = A if A is not None else self
    assert a is not None
    if _rows(b, a) == 0:
        return b.emit(ops.ConstantOfShape(a.shape[:-2], 1, a.dtype))
    made = _eliminate(b, a, None, singular=True)
    return _scalars(b, a, [*made.pivots, *made.signs])


@rules.imports("aten.linalg_slogdet.default", "aten.slogdet.default")
def slogdet(b: Lowering, A: Value | None = None, self: Value | None = None) -> tuple[Value, ...]:  # noqa: N803
    """linalg_slogdet(Tensor A) -> (sign, logabsdet)"""
    a = A if A is not None else self
    assert a is not None
    if _rows(b, a) == 0:
        return tuple(b.emit(ops.ConstantOfShape(a.shape[:-2], value, a.dtype)) for value in (1, 0))
    made = _eliminate(b, a, None, singular=True)
    sign = _scalars(b, a, [*(b.emit(ops.Sign(), pivot) for pivot in made.pivots), *made.signs])
    logs = [b.emit(ops.Log(), b.emit(ops.Abs(), pivot)) for pivot in made.pivots]
    total = reduce(lambda one, two: b.emit(ops.Add(), one, two), logs)
    return sign, b.reshape(total, a.shape[:-2])


@rules.imports("aten.logdet.default")
def logdet(b: Lowering, self: Value) -> Value:
    """logdet(Tensor self): NaN where the determinant is negative"""
    sign, size = slogdet(b, self)
    below = b.emit(ops.Less(), sign, b.number(0, sign.dtype))
    return b.emit(ops.Where(), below, b.number(float("nan"), size.dtype), size)


def _swapped(b: Lowering, x: Value) -> Value:
    return b.emit(ops.Transpose((*range(x.rank - 2), x.rank - 1, x.rank - 2)), x)


def solve(b: Lowering, a: Value, right: Value, *, left: bool = True) -> Value:
    """X with a X = right, or X a = right; batches broadcast."""
    if not left:
        return _swapped(b, solve(b, _swapped(b, a), _swapped(b, right)))
    if 0 in (*a.shape, *right.shape):
        return b.emit(ops.ConstantOfShape((*broadcast(a.shape[:-2], right.shape[:-2]), *right.shape[-2:]), 0, a.dtype))
    if a.shape[:-2] != right.shape[:-2]:
        shape = broadcast(a.shape[:-2], right.shape[:-2])
        a, right = (b.emit(ops.Expand((*shape, *each.shape[-2:])), each) for each in (a, right))
    return _eliminate(b, a, right).right


@rules.imports("aten.linalg_solve.default")
def linalg_solve(b: Lowering, A: Value, B: Value, left: bool = True) -> Value:  # noqa: N803
    """linalg_solve(Tensor A, Tensor B, *, bool left=True); B holds vectors if it has an axis less than A"""
    if B.rank == 1 or (B.rank == A.rank - 1 and B.shape == A.shape[:-1]):
        made = solve(b, A, b.emit(ops.Unsqueeze((B.rank,)), B))
        return b.emit(ops.Squeeze((made.rank - 1,)), made)
    return solve(b, A, B, left=left)


@rules.imports("aten.linalg_solve_ex.default")
def linalg_solve_ex(
    b: Lowering,
    A: Value,  # noqa: N803
    B: Value,  # noqa: N803
    left: bool = True,
    check_errors: bool = False,
) -> tuple[Value, ...]:
    """linalg_solve_ex(Tensor A, Tensor B, *, left, check_errors) -> (result, info)"""
    return linalg_solve(b, A, B, left), _success(b, A)


def _triangle(b: Lowering, a: Value, *, upper: bool, unit: bool) -> Value:
    kept = b.emit(ops.Trilu(upper=upper), a)
    if not unit:
        return kept
    eye = b.constant(np.eye(_rows(b, a), dtype=np.bool_), "diagonal")
    return b.emit(ops.Where(), eye, b.number(1, a.dtype), kept)


@rules.imports("aten.linalg_solve_triangular.default")
def solve_triangular(
    b: Lowering, self: Value, B: Value, upper: bool, left: bool = True, unitriangular: bool = False  # noqa: N803
) -> Value:  # fmt: skip
    """linalg_solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True, bool unitriangular=False)"""
    return solve(b, _triangle(b, self, upper=upper, unit=unitriangular), B, left=left)


@rules.imports("aten.triangular_solve.default")
def triangular_solve(
    b: Lowering,
    self: Value,
    A: Value,  # noqa: N803
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> tuple[Value, ...]:
    """triangular_solve(Tensor self, Tensor A, upper=True, transpose=False, unitriangular=False) -> (solution, A)"""
    kept = _triangle(b, A, upper=upper, unit=unitriangular)
    return solve(b, _swapped(b, kept) if transpose else kept, self), A


def _cholesky(b: Lowering, a: Value, *, upper: bool) -> Value:
    """L with a = L L^T, column by column; of `a` only one triangle is read."""
    count = _rows(b, a)
    if count == 0:
        return a
    rest = _swapped(b, a) if upper else a
    places = b.constant(np.arange(count, dtype=np.int64)[:, None], "rows")
    columns = []
    for step in range(count):
        column = _part(b, rest, -1, step, step + 1)
        root = b.emit(ops.Sqrt(), _part(b, column, -2, step, step + 1))
        above = b.emit(ops.Less(), places, b.number(step, DType.INT64))
        column = b.emit(ops.Where(), above, b.number(0, a.dtype), b.emit(ops.Div(), column, root))
        columns.append(column)
        if step < count - 1:
            rest = b.emit(ops.Sub(), rest, b.emit(ops.Mul(), column, _swapped(b, column)))
    lower = b.emit(ops.Concat(a.rank - 1), *columns) if count > 1 else columns[0]
    return _swapped(b, lower) if upper else lower


@rules.imports("aten.linalg_cholesky.default", "aten.cholesky.default")
def cholesky(b: Lowering, self: Value, upper: bool = False) -> Value:
    """linalg_cholesky(Tensor self, *, bool upper=False)"""
    return _cholesky(b, self, upper=upper)


@rules.imports("aten.linalg_cholesky_ex.default")
def cholesky_ex(b: Lowering, self: Value, upper: bool = False, check_errors: bool = False) -> tuple[Value, ...]:
    """linalg_cholesky_ex(Tensor self, *, upper=False, check_errors=False) -> (L, info)"""
    return _cholesky(b, self, upper=upper), _success(b, self)


def _squared(b: Lowering, factor: Value, *, upper: bool) -> Value:
    """L L^T of the triangle that holds a Cholesky factor."""
    kept = b.emit(ops.Trilu(upper=upper), factor)
    other = _swapped(b, kept)
    return b.emit(ops.MatMul(), other, kept) if upper else b.emit(ops.MatMul(), kept, other)


@rules.imports("aten.cholesky_solve.default")
def cholesky_solve(b: Lowering, self: Value, input2: Value, upper: bool = False) -> Value:
    """cholesky_solve(Tensor self, Tensor input2, bool upper=False): X with (L L^T) X = self, in two substitutions"""
    factor = b.emit(ops.Trilu(upper=upper), input2)
    lower = _swapped(b, factor) if upper else factor
    return solve(b, _swapped(b, lower), solve(b, lower, self))


@rules.imports("aten.cholesky_inverse.default")
def cholesky_inverse(b: Lowering, self: Value, upper: bool = False) -> Value:
    """cholesky_inverse(Tensor self, bool upper=False): the inverse of L L^T"""
    return inverse(b, _squared(b, self, upper=upper))


@rules.imports("aten.linalg_tensorinv.default")
def tensorinv(b: Lowering, self: Value, ind: int = 2) -> Value:
    """linalg_tensorinv(Tensor self, int ind=2): as a matrix of the first `ind` axes by the others"""
    rows, columns = self.shape[:ind], self.shape[ind:]
    matrix = b.reshape(self, (elements(rows), elements(columns)))
    return b.reshape(inverse(b, matrix), (*columns, *rows))


@rules.imports("aten.linalg_tensorsolve.default")
def tensorsolve(b: Lowering, self: Value, other: Value, dims: Sequence[int] | None = None) -> Value:
    """linalg_tensorsolve(Tensor self, Tensor other, int[]? dims=None): X with tensordot(self, X) = other"""
    moved = tuple(axis_of(dim, self) for dim in dims or ())
    order = (*(axis for axis in range(self.rank) if axis not in moved), *moved)
    x = b.emit(ops.Transpose(order), self) if moved else self
    shape = x.shape[other.rank :]
    matrix = b.reshape(x, (elements(other.shape), elements(shape)))
    return b.reshape(solve(b, matrix, b.reshape(other, (elements(other.shape), 1))), shape)
