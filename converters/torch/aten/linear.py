"""Matrix products and table look-ups."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import result_type
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops


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
    return b.emit(ops.And() if left.dtype is DType.BOOL else ops.Mul(), left, right)


@rules.imports("aten.bilinear.default")
def bilinear(b: Lowering, input1: Value, input2: Value, weight: Value, bias: Value | None = None) -> Value:
    """bilinear(input1 (…, I), input2 (…, J), weight (O, I, J), bias?): sum of x1[i] weight[o, i, j] x2[j]"""
    made = b.emit(ops.Einsum("...i,oij,...j->...o"), input1, weight, input2)
    return made if bias is None else b.emit(ops.Add(), made, bias)


@rules.imports("aten.addmm.default", "aten.addmm_.default")
def addmm(b: Lowering, self: Value, mat1: Value, mat2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, alpha=1): beta * self + alpha * mat1 mat2"""
    if mat1.dtype.is_float and beta != 0:
        return b.emit(ops.Gemm(float(alpha), float(beta)), mat1, mat2, self)
    return _scaled_sum(b, self, b.emit(ops.MatMul(), mat1, mat2), beta, alpha)


@rules.imports("aten.baddbmm.default", "aten.baddbmm_.default")
def baddbmm(b: Lowering, self: Value, batch1: Value, batch2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """baddbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, Scalar alpha=1)"""
    return _scaled_sum(b, self, b.emit(ops.MatMul(), batch1, batch2), beta, alpha)


@rules.imports("aten.addbmm.default", "aten.addbmm_.default")
def addbmm(b: Lowering, self: Value, batch1: Value, batch2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """addbmm(Tensor self, Tensor batch1, Tensor batch2, *, Scalar beta=1, alpha=1): the products are added up"""
    product = b.emit(ops.ReduceSum((0,), keepdims=False), b.emit(ops.MatMul(), batch1, batch2))
    return _scaled_sum(b, self, product, beta, alpha)


@rules.imports("aten.addmv.default", "aten.addmv_.default")
def addmv(b: Lowering, self: Value, mat: Value, vec: Value, beta: float = 1, alpha: float = 1) -> Value:
    """addmv(Tensor self, Tensor mat, Tensor vec, *, Scalar beta=1, Scalar alpha=1): beta * self + alpha * mat vec"""
    return _scaled_sum(b, self, b.emit(ops.MatMul(), mat, vec), beta, alpha)


@rules.imports("aten.addr.default", "aten.addr_.default")
def addr(b: Lowering, self: Value, vec1: Value, vec2: Value, beta: float = 1, alpha: float = 1) -> Value:
    """addr(Tensor self, Tensor vec1, Tensor vec2, *, Scalar beta=1, Scalar alpha=1): with the outer product"""
    return _scaled_sum(b, self, outer(b, vec1, vec2), beta, alpha)


def _scaled_sum(b: Lowering, addend: Value, product: Value, beta: float, alpha: float) -> Value:
    """beta * addend + alpha * product, where an addend by 0 does not count, even if it is not finite."""
    dtype = result_type(product) if beta == 0 else result_type(product, addend)
    product, addend = b.cast(product, dtype), b.cast(addend, dtype)
    times, plus = (ops.And(), ops.Or()) if dtype is DType.BOOL else (ops.Mul(), ops.Add())
    if alpha != 1:
        product = b.emit(times, product, b.number(alpha, dtype))
    if beta == 0:
        return product
    scaled = addend if beta == 1 else b.emit(times, addend, b.number(beta, dtype))
    return b.emit(plus, scaled, product)


@rules.imports("aten.einsum.default")
def einsum(b: Lowering, equation: str, tensors: Sequence[Value], path: Sequence[int] | None = None) -> Value:
    """einsum(str equation, Tensor[] tensors, *, path); an implicit output lists the single letters in order

    Axes of "..." get letters, from the right; an axis of size 1 that broadcasts is squeezed from its operand.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    letters = left.replace("...", "").replace(",", "")
    if b.recorded and b.recorded[0] is not None:  # integers that are only added up become int64
        tensors = [b.cast(x, b.recorded[0].dtype) for x in tensors]
    if not arrow:
        right = ("..." if "..." in left else "") + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    free = [letter for letter in _LETTERS if letter not in letters + right]
    most = max((x.rank - len(term) + 3 for term, x in zip(terms, tensors, strict=True) if "..." in term), default=0)
    named = [_named(term, free[:most], x.rank) for term, x in zip(terms, tensors, strict=True)]
    wide = {
        c for term, x in zip(named, tensors, strict=True) for c, size in zip(term, x.shape, strict=True) if size != 1
    }
    operands = []
    for position, x in enumerate(tensors):
        single = tuple(a for a, (c, d) in enumerate(zip(named[position], x.shape, strict=True)) if d == 1 and c in wide)
        named[position] = "".join(c for a, c in enumerate(named[position]) if a not in single)
        operands.append(b.emit(ops.Squeeze(single), x) if single else x)
    return b.emit(ops.Einsum(f"{','.join(named)}->{right.replace('...', ''.join(free[:most]))}"), *operands)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _named(term: str, free: Sequence[str], rank: int) -> str:
    """The letters of an operand's axes, those of "..." the last ones of `free`."""
    count = rank - len(term) + 3
    return term.replace("...", "".join(free[len(free) - count :])) if "..." in term else term


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
