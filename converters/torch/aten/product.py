"""Products of tensors: inner, tensordot, cross, chains and powers of matrices, covariance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from string import ascii_letters

import numpy as np

from isomorph.converters.torch.aten.cumulative import cumprod
from isomorph.converters.torch.aten.elementwise import div, mul, sub
from isomorph.converters.torch.aten.elimination import inverse
from isomorph.converters.torch.aten.linear import einsum, matmul
from isomorph.converters.torch.aten.reduce import mean, total
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import broadcast
from isomorph.ir.shapes import Dim, Sym, elements


@rules.imports("aten.tensordot.default")
def tensordot(b: Lowering, self: Value, other: Value, dims_self: Sequence[int], dims_other: Sequence[int]) -> Value:
    """tensordot(Tensor self, Tensor other, int[] dims_self, int[] dims_other): contracted over the pairs of axes"""
    left = list(ascii_letters[: self.rank])
    right = list(ascii_letters[self.rank : self.rank + other.rank])
    for one, two in zip(dims_self, dims_other, strict=True):
        right[axis_of(two, other)] = left[axis_of(one, self)]
    kept = [c for c in left if c not in right] + [c for c in right if c not in left]
    return einsum(b, f"{''.join(left)},{''.join(right)}->{''.join(kept)}", (self, other))


@rules.imports("aten.inner.default")
def inner(b: Lowering, self: Value, other: Value) -> Value:
    """inner(Tensor self, Tensor other): contracted over the last axes; a scalar multiplies"""
    if not self.rank or not other.rank:
        return mul(b, self, other)
    return tensordot(b, self, other, (-1,), (-1,))


@rules.imports("aten.linalg_vecdot.default")
def vecdot(b: Lowering, x: Value, y: Value, dim: int = -1) -> Value:
    """linalg_vecdot(Tensor x, Tensor y, *, int dim=-1): sum of x y along `dim`"""
    made = mul(b, x, y)
    return b.emit(ops.ReduceSum((axis_of(dim, made),), keepdims=False), made)


def _cross(b: Lowering, x: Value, y: Value, dim: int) -> Value:
    """x[i + 1] y[i + 2] - x[i + 2] y[i + 1] along an axis of size 3."""
    shape = broadcast(x.shape, y.shape)
    axis = dim % len(shape)
    later, latest = (b.constant(np.asarray(order, np.int64), "order") for order in ((1, 2, 0), (2, 0, 1)))
    x, y = (each if each.shape[axis] == 3 else b.emit(ops.Expand(shape), each) for each in b.promoted(x, y))

    def at(each: Value, order: Value) -> Value:
        return b.emit(ops.Gather(axis), each, order)

    first = b.emit(ops.Mul(), at(x, later), at(y, latest))
    return b.emit(ops.Sub(), first, b.emit(ops.Mul(), at(x, latest), at(y, later)))


@rules.imports("aten.cross.default")
def cross(b: Lowering, self: Value, other: Value, dim: int | None = None) -> Value:
    """cross(Tensor self, Tensor other, int? dim=None); without dim along the first axis of size 3"""
    axis = next(axis for axis, size in enumerate(self.shape) if size == 3) if dim is None else dim
    return _cross(b, self, other, axis)


@rules.imports("aten.linalg_cross.default")
def linalg_cross(b: Lowering, self: Value, other: Value, dim: int = -1) -> Value:
    """linalg_cross(Tensor self, Tensor other, *, int dim=-1)"""
    return _cross(b, self, other, dim)


@rules.imports("aten.linalg_multi_dot.default", "aten.chain_matmul.default")
def multi_dot(b: Lowering, tensors: Sequence[Value] = (), matrices: Sequence[Value] = ()) -> Value:
    """linalg_multi_dot(Tensor[] tensors), chain_matmul(Tensor[] matrices): the product, from left to right"""
    return reduce(lambda left, right: matmul(b, left, right), tensors or matrices)


@rules.imports("aten.matrix_power.default", "aten.linalg_matrix_power.default")
def matrix_power(b: Lowering, self: Value, n: int) -> Value:
    """matrix_power(Tensor self, int n): by squaring, of the inverse for n < 0"""
    if n < 0:
        return matrix_power(b, inverse(b, self), -n)
    if n == 0:
        size = self.shape[-1]
        column = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(0, 1, size, DType.INT64)))
        one = b.emit(ops.Equal(), column, b.emit(ops.Range(0, 1, size, DType.INT64)))
        return b.emit(ops.Expand(self.shape), b.cast(one, self.dtype))
    made, base = None, self
    while True:
        if n & 1:
            made = base if made is None else b.emit(ops.MatMul(), made, base)
        n >>= 1
        if not n:
            break
        base = b.emit(ops.MatMul(), base, base)
    assert made is not None
    return made


@rules.imports("aten.linalg_vander.default")
def vander(b: Lowering, x: Value, N: Dim | None = None) -> Value:  # noqa: N803
    """linalg_vander(Tensor x, *, SymInt? N=None): the powers 0 … N - 1 of each element"""
    count = b.static(x.shape[-1] if N is None else N, "the number of powers")
    x = x if x.dtype.is_float else b.cast(x, DType.INT64)
    x = b.lined(x)
    column = b.emit(ops.Unsqueeze((x.rank,)), x)
    many = b.emit(ops.Expand((*x.shape, count - 1)), column)
    ones = b.emit(ops.Expand((*x.shape, 1)), b.number(1, x.dtype))
    return cumprod(b, b.emit(ops.Concat(x.rank), ones, many), x.rank)


@rules.imports("aten.cov.default")
def cov(
    b: Lowering, self: Value, correction: int = 1, fweights: Value | None = None, aweights: Value | None = None
) -> Value:
    """cov(Tensor self, *, int correction=1, Tensor? fweights=None, Tensor? aweights=None): rows are variables"""
    b.require(fweights is None and aweights is None, "covariance with weights")
    x = b.floating(self) if self.rank == 2 else b.reshape(b.floating(self), (1, elements(self.shape)))
    centered = sub(b, x, mean(b, x, 1, keepdim=True))
    products = b.emit(ops.MatMul(), centered, b.emit(ops.Transpose((1, 0)), centered))
    count = x.shape[1]
    b.require(isinstance(count, Sym) or count > correction, f"covariance of {count} observations")
    made = div(b, products, b.number(count - correction, x.dtype))
    return b.reshape(made, ()) if x.shape[0] == 1 else made


@rules.imports("aten.corrcoef.default")
def corrcoef(b: Lowering, self: Value) -> Value:
    """corrcoef(Tensor self): cov[i, j] / sqrt(cov[i, i] cov[j, j]), within [-1, 1]"""
    b.require(self.rank == 2 and self.shape[0] != 1, "correlation of one variable")
    made = cov(b, self)
    size = made.shape[0]
    column = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(0, 1, size, DType.INT64)))
    own = b.emit(ops.Equal(), column, b.emit(ops.Range(0, 1, size, DType.INT64)))
    spread = total(b, b.emit(ops.Where(), own, made, b.number(0, made.dtype)), 1, keepdim=True)
    spread = b.emit(ops.Sqrt(), spread)
    ratio = b.emit(ops.Div(), b.emit(ops.Div(), made, spread), b.emit(ops.Transpose((1, 0)), spread))
    return b.emit(ops.Clip(-1.0, 1.0), ratio)
