"""Complex products of many factors and systems of complex equations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from isomorph.converters.torch.aten import elimination
from isomorph.converters.torch.aten.complex import PARTS, Complex, as_complex, real_dtype
from isomorph.converters.torch.aten.complex_elementwise import conjugated, multiplied
from isomorph.converters.torch.aten.complex_linear import matmul, total
from isomorph.converters.torch.aten.complex_shape import expanded
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import complex_rules
from isomorph.ir import Dim, DType, Shape, Value, ops
from isomorph.ir.shapes import elements


def _slice(b: Lowering, z: Complex, axis: int, start: Dim, stop: Dim) -> Complex:
    return z.each(b, lambda x: b.emit(ops.Slice((axis,), (start,), (stop,), (1,)), x))


def _joined(b: Lowering, first: Complex, second: Complex, axis: int) -> Complex:
    pairs = zip(first.parts(b), second.parts(b), strict=True)
    return Complex(None, tuple(b.emit(ops.Concat(axis), *pair) for pair in pairs))  # type: ignore[arg-type]


def _reshaped(b: Lowering, z: Complex, shape: Shape) -> Complex:
    return Complex(None, tuple(b.reshape(part, shape) for part in z.parts(b)))  # type: ignore[arg-type]


@complex_rules.imports("aten.prod.default", "aten.prod.dim_int")
def product(
    b: Lowering, self: Complex, dim: int | None = None, keepdim: bool = False, dtype: DType | None = None
) -> Complex:
    """prod.dim_int(Tensor self, int dim, bool keepdim=False, *, dtype): halves multiplied, log2(n) times"""
    part = real_dtype(b, self)
    z = as_complex(b, self, part)
    if dim is None or not z.rank:
        z = _reshaped(b, z, (elements(z.shape),))
    axis = 0 if dim is None or not self.rank else axis_of(dim, self.type)  # type: ignore[arg-type]
    count = b.static(z.shape[axis], "the number of factors")
    if count == 0:
        shape = tuple(1 if each == axis else size for each, size in enumerate(z.shape))
        z = expanded(b, as_complex(b, 1.0, part), shape)
        count = 1
    while count > 1:
        half = count // 2
        made = multiplied(b, _slice(b, z, axis, 0, half), _slice(b, z, axis, half, 2 * half), part)
        z = _joined(b, made, _slice(b, z, axis, 2 * half, count), axis) if count % 2 else made
        count = half + count % 2
    kept = list(self.shape) if dim is not None else []
    if dim is not None and self.rank:
        kept[axis : axis + 1] = [1] if keepdim else []
    return _reshaped(b, z, tuple(kept))


@complex_rules.imports("aten.cumprod.default")
def cumprod(b: Lowering, self: Complex, dim: int, dtype: DType | None = None) -> Complex:
    """cumprod(Tensor self, int dim, *, dtype): running products, their reach doubled with each of log2(n) steps"""
    part = real_dtype(b, self)
    z = as_complex(b, self, part)
    if not z.rank:
        return z
    axis = axis_of(dim, self.type)  # type: ignore[arg-type]
    length = b.static(z.shape[axis], "the length of the running axis")
    reach = 1
    while reach < length:
        earlier, later = _slice(b, z, axis, 0, length - reach), _slice(b, z, axis, reach, length)
        z = _joined(b, _slice(b, z, axis, 0, reach), multiplied(b, earlier, later, part), axis)
        reach *= 2
    return z


@complex_rules.imports("aten.linalg_vecdot.default")
def vecdot(b: Lowering, x: Complex, y: Complex, dim: int = -1) -> Complex:
    """linalg_vecdot(Tensor x, Tensor y, *, int dim=-1): sum of x conjugated times y"""
    return total(b, multiplied(b, conjugated(b, x), y, PARTS[x.dtype]), dim)


@complex_rules.imports("aten.linalg_multi_dot.default", "aten.chain_matmul.default")
def multi_dot(b: Lowering, tensors: Sequence[Complex] = (), matrices: Sequence[Complex] = ()) -> Complex:
    """linalg_multi_dot(Tensor[] tensors): the product of matrices, the first and last of which may be vectors"""
    return reduce(lambda left, right: matmul(b, left, right), tensors or matrices)


def _as_real(b: Lowering, z: Complex) -> Value:
    """(..., N, M) as the real matrices [[A, -B], [B, A]] (..., 2N, 2M), whose products are those of z."""
    real, imaginary = z.parts(b)
    top = b.emit(ops.Concat(z.rank - 1), real, b.emit(ops.Neg(), imaginary))
    return b.emit(ops.Concat(z.rank - 2), top, b.emit(ops.Concat(z.rank - 1), imaginary, real))


def _solved(b: Lowering, a: Complex, right: Complex) -> Complex:
    """X with a X = right."""
    rows = a.shape[-1]
    upright = b.emit(ops.Concat(right.rank - 2), *right.parts(b))
    found = elimination.solve(b, _as_real(b, a), upright)
    axis = found.rank - 2
    parts = (
        b.emit(ops.Slice((axis,), (start,), (stop,), (1,)), found) for start, stop in ((0, rows), (rows, 2 * rows))
    )
    return Complex(None, tuple(parts))  # type: ignore[arg-type]


def _identity(b: Lowering, like: Complex) -> Complex:
    count = b.static(like.shape[-1], "the number of rows")
    part = PARTS[like.dtype]
    eye = b.constant(np.eye(count, dtype=part.numpy), "identity")
    return expanded(b, as_complex(b, eye, part), like.shape)


@complex_rules.imports("aten.linalg_inv.default", "aten.inverse.default")
def inverse(b: Lowering, A: Complex | None = None, self: Complex | None = None) -> Complex:  # noqa: N803
    """linalg_inv(Tensor A), inverse(Tensor self)"""
    given = A if A is not None else self
    assert given is not None
    return given if elements(given.shape) == 0 else _solved(b, given, _identity(b, given))


def _swapped(b: Lowering, z: Complex) -> Complex:
    order = (*range(z.rank - 2), z.rank - 1, z.rank - 2)
    return Complex(None, tuple(b.emit(ops.Transpose(order), part) for part in z.parts(b)))  # type: ignore[arg-type]


@complex_rules.imports("aten.linalg_solve.default")
def linalg_solve(b: Lowering, A: Complex, B: Complex, left: bool = True) -> Complex:  # noqa: N803
    """linalg_solve(Tensor A, Tensor B, *, bool left=True); B holds vectors if it has an axis less than A"""
    if B.rank == 1 or (B.rank == A.rank - 1 and B.shape == A.shape[:-1]):
        found = _solved(b, A, _reshaped(b, B, (*B.shape, 1)))
        return _reshaped(b, found, found.shape[:-1])
    return _solved(b, A, B) if left else _swapped(b, _solved(b, _swapped(b, A), _swapped(b, B)))


@complex_rules.imports("aten.matrix_power.default", "aten.linalg_matrix_power.default")
def matrix_power(b: Lowering, self: Complex, n: int) -> Complex:
    """linalg_matrix_power(Tensor self, int n): squared as often as n has binary digits"""
    if n == 0:
        return _identity(b, self)
    square = inverse(b, self) if n < 0 else self
    made, rest = None, abs(n)
    while rest:
        if rest % 2:
            made = square if made is None else matmul(b, made, square)
        rest //= 2
        square = matmul(b, square, square) if rest else square
    assert made is not None
    return made
