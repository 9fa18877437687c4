"""Matrix products and table look-ups."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Value, ops


@rules.imports("aten.linear.default")
def linear(b: Lowering, input: Value, weight: Value, bias: Value | None = None) -> Value:
    """linear(Tensor input, Tensor weight, Tensor? bias=None): input weight^T + bias"""
    if weight.rank == 2:
        return b.emit(ops.Linear(), input, weight, bias)
    product = b.emit(ops.MatMul(), input, weight)
    return product if bias is None else b.emit(ops.Add(), product, bias)


@rules.imports("aten.matmul.default", "aten.bmm.default", "aten.mm.default")
def matmul(b: Lowering, self: Value, other: Value | None = None, mat2: Value | None = None) -> Value:
    """matmul(Tensor self, Tensor other); bmm and mm(Tensor self, Tensor mat2)"""
    right = other if other is not None else mat2
    return b.emit(ops.MatMul(), self, right)


@rules.imports("aten.dot.default", "aten.mv.default", "aten.vdot.default")
def dot(
    b: Lowering, self: Value, tensor: Value | None = None, vec: Value | None = None, other: Value | None = None
) -> Value:
    """dot(Tensor self, Tensor tensor), vdot(Tensor self, Tensor other); mv(Tensor self, Tensor vec)"""
    b.require(not self.dtype.is_complex, "complex numbers")
    right = next((each for each in (tensor, vec, other) if each is not None), None)
    return b.emit(ops.MatMul(), self, right)


@rules.imports("aten.outer.default", "aten.ger.default")
def outer(b: Lowering, self: Value, vec2: Value) -> Value:
    """outer(Tensor self, Tensor vec2): each by each"""
    left, right = b.promoted(b.reshape(self, (*self.shape, 1)), vec2)
    return b.emit(ops.Mul(), left, right)


@rules.imports("aten.bilinear.default")
def bilinear(b: Lowering, input1: Value, input2: Value, weight: Value, bias: Value | None = None) -> Value:
    """bilinear(input1 (…, I), input2 (…, J), weight (O, I, J), bias?): sum of x1[i] weight[o, i, j] x2[j]"""
    made = b.emit(ops.Einsum("...i,oij,...j->...o"), input1, weight, input2)
    return made if bias is None else b.emit(ops.Add(), made, bias)


@rules.imports("aten.addmm.default")
def addmm(b: Lowering, self: Value, mat1: Value, mat2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, alpha=1): beta * self + alpha * mat1 mat2"""
    if mat1.dtype.is_float:
        return b.emit(ops.Gemm(float(alpha), float(beta)), mat1, mat2, self)
    return _scaled_sum(b, self, b.emit(ops.MatMul(), mat1, mat2), beta, alpha)


@rules.imports("aten.baddbmm.default")
def baddbmm(b: Lowering, self: Value, batch1: Value, batch2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1)"""
    return _scaled_sum(b, self, b.emit(ops.MatMul(), batch1, batch2), beta, alpha)


def _scaled_sum(b: Lowering, addend: Value, product: Value, beta: float, alpha: float) -> Value:
    if alpha != 1:
        product = b.emit(ops.Mul(), product, b.number(alpha, product.dtype))
    if beta == 0:
        return product
    scaled = addend if beta == 1 else b.emit(ops.Mul(), addend, b.number(beta, addend.dtype))
    return b.emit(ops.Add(), scaled, product)


@rules.imports("aten.einsum.default")
def einsum(b: Lowering, equation: str, tensors: Sequence[Value], path: Sequence[int] | None = None) -> Value:
    """einsum(str equation, Tensor[] tensors, *, path); an implicit output lists the single letters in order"""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return b.emit(ops.Einsum(f"{left}->{right}"), *tensors)


@rules.imports("aten.embedding.default")
def embedding(
    b: Lowering,
    weight: Value,
    indices: Value,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Value:
    """embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, …); the rest concerns gradients"""
    return b.emit(ops.Embedding(), indices, weight)
