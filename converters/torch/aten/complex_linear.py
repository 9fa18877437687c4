"""Sums and products of complex tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isomorph.converters.torch.aten import linear, reduce  # noqa: F401 (their rules come first)
from isomorph.converters.torch.aten.complex import Complex, as_complex, real_dtype, recorded_parts
from isomorph.converters.torch.aten.complex_elementwise import add, conjugated
from isomorph.converters.torch.aten.linear import einsum as real_einsum
from isomorph.converters.torch.lowering import Lowering, axes_of
from isomorph.converters.torch.rules import complex_rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import Op

__all__ = ["bilinear", "matmul"]

Dims = Sequence[int] | int | None
Tensor = Complex | Value
Product = Callable[[Value, Value], Value]


def _reduced(b: Lowering, kind: type[Op], z: Complex, dim: Dims, keepdim: bool) -> Complex:
    shape = z.type
    axes = axes_of(dim, shape)  # type: ignore[arg-type]
    return z.each(b, lambda x: b.emit(kind(axes, keepdim), x))  # type: ignore[call-arg]


@complex_rules.imports("aten.sum.default", "aten.sum.dim_IntList")
def total(b: Lowering, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Complex:
    """sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None)"""
    return _reduced(b, ops.ReduceSum, as_complex(b, self, real_dtype(b, self)), dim, keepdim)


@complex_rules.imports("aten.mean.default", "aten.mean.dim")
def mean(b: Lowering, self: Tensor, dim: Dims = None, keepdim: bool = False, dtype: DType | None = None) -> Complex:
    """mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None): NaN of no elements"""
    if any(self.shape[axis] == 0 for axis in axes_of(dim, self.type)):  # type: ignore[arg-type]
        parts = as_complex(b, self, real_dtype(b, self)).parts(b)
        real, imaginary = (reduce.mean(b, part, dim, keepdim) for part in parts)
        return Complex(None, (real, imaginary))
    return _reduced(b, ops.ReduceMean, as_complex(b, self, real_dtype(b, self)), dim, keepdim)


@complex_rules.imports("aten.cumsum.default")
def cumsum(b: Lowering, self: Complex, dim: int, dtype: DType | None = None) -> Complex:
    """cumsum(Tensor self, int dim, *, ScalarType? dtype=None)"""
    return self.each(b, lambda x: b.emit(ops.CumSum(dim % self.rank), x)) if self.rank else self


def bilinear(b: Lowering, product: Product, x: Tensor, y: Tensor) -> Complex:
    """A product that is linear in both operands: (a + ci)(d + ei) = (ad - ce) + (ae + cd)i."""
    part = real_dtype(b, x, y)
    if isinstance(x, Value):
        left, (d, e) = b.cast(x, part), as_complex(b, y, part).parts(b)
        return Complex(None, (product(left, d), product(left, e)))
    if isinstance(y, Value):
        right, (a, c) = b.cast(y, part), as_complex(b, x, part).parts(b)
        return Complex(None, (product(a, right), product(c, right)))
    (a, c), (d, e) = as_complex(b, x, part).parts(b), as_complex(b, y, part).parts(b)
    real = b.emit(ops.Sub(), product(a, d), product(c, e))
    return Complex(None, (real, b.emit(ops.Add(), product(a, e), product(c, d))))


@complex_rules.imports("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
def matmul(b: Lowering, self: Tensor, other: Tensor | None = None, mat2: Tensor | None = None) -> Complex:
    """matmul(Tensor self, Tensor other); bmm and mm(Tensor self, Tensor mat2)"""
    right = other if other is not None else mat2
    if right is None:
        raise b.refusal("it has no second operand")
    return bilinear(b, lambda x, y: b.emit(ops.MatMul(), x, y), self, right)


@complex_rules.imports("aten.dot.default", "aten.mv.default")
def dot(b: Lowering, self: Complex, tensor: Complex | None = None, vec: Complex | None = None) -> Complex:
    """dot(Tensor self, Tensor tensor), mv(Tensor self, Tensor vec)"""
    return matmul(b, self, tensor if tensor is not None else vec)


@complex_rules.imports("aten.vdot.default")
def vdot(b: Lowering, self: Complex, other: Complex) -> Complex:
    """vdot(Tensor self, Tensor other): self conjugated"""
    return matmul(b, conjugated(b, self), other)


@complex_rules.imports("aten.linear.default")
def complex_linear(b: Lowering, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Complex:
    """linear(Tensor input, Tensor weight, Tensor? bias=None): input weight^T + bias"""

    def product(x: Value, w: Value) -> Value:
        return b.emit(ops.Linear(), x, w) if w.rank == 2 else b.emit(ops.MatMul(), x, w)

    made = bilinear(b, product, input, weight)
    return made if bias is None else add(b, made, bias)


@complex_rules.imports("aten.einsum.default")
def einsum(b: Lowering, equation: str, tensors: Sequence[Tensor], path: Sequence[int] | None = None) -> Complex:
    """einsum(str equation, Tensor[] tensors, *, path), of one or two operands"""
    b.require(len(tensors) <= 2, f"einsum of {len(tensors)} complex operands")
    part = real_dtype(b, *tensors)

    def product(*parts: Value) -> Value:
        with recorded_parts(b):
            return real_einsum(b, equation, parts)

    if len(tensors) == 2:
        return bilinear(b, product, *tensors)
    real, imaginary = as_complex(b, tensors[0], part).parts(b)
    return Complex(None, (product(real), product(imaginary)))
