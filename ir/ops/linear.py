"""Matrix products and table look-ups."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.errors import DTypeError, ShapeError
from isomorph.ir.op import Op, TensorType, broadcast, operation
from isomorph.ir.ops.elementwise import Add, Mul, scalar
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.shape import Transpose
from isomorph.ir.shapes import Dim, Shape, Sym, format_shape

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Det", "Einsum", "Embedding", "Gemm", "Linear", "MatMul"]


def _same(left: Dim, right: Dim) -> bool:
    """False only where two sizes are known to differ."""
    return isinstance(left, Sym) or isinstance(right, Sym) or left == right


@operation
class Linear(Op):
    """A fully connected layer: y = x w^T + b.

    Shapes: x (..., I); w (O, I); b (O,); y (..., O).
    Not in ONNX. See: torch.nn.functional.linear; keras.layers.Dense (whose kernel is w^T).
    """

    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "b?")

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(w.rank == 2, f"a weight of rank 2 is needed, not {w}")
        self.require(x.rank >= 1 and _same(x.shape[-1], w.shape[1]), f"data {x} does not fit weight {w} (O, I)")
        self.require(b is None or b.shape == w.shape[:1], f"bias {b} does not fit weight {w} (O, I)")
        return (TensorType(self.require_same_dtype(x, w, b), (*x.shape[:-1], w.shape[0])),)

    def decompose(self, b: Builder, x: Value, w: Value, bias: Value | None = None) -> Value:  # type: ignore[override]
        if x.rank == 2:
            return b.emit(Gemm(trans_b=True), x, w, bias)
        product = b.emit(MatMul(), x, b.emit(Transpose((1, 0)), w))
        return product if bias is None else b.emit(Add(), product, bias)

    def evaluate(self, x: Array, w: Array, b: Array | None = None) -> Array:  # type: ignore[override]
        product = in_single(np.matmul, x, w.T)
        return product if b is None else product + b


@operation
class MatMul(Op):
    """y = a b, matrices in the last two axes, the others broadcast, as numpy.matmul. See: ONNX MatMul-13."""

    inputs: ClassVar[tuple[str, ...]] = ("a", "b")

    def infer(self, a: TensorType, b: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(a.rank >= 1 and b.rank >= 1, "scalars have no rows")
        dtype = self.require_same_dtype(a, b)
        left = a.shape if a.rank > 1 else (1, *a.shape)
        right = b.shape if b.rank > 1 else (*b.shape, 1)
        if not _same(left[-1], right[-2]):
            raise ShapeError(f"MatMul: {a} by {b}: inner sizes {left[-1]} and {right[-2]} differ")
        rows: Shape = left[-2:-1] if a.rank > 1 else ()
        columns: Shape = right[-1:] if b.rank > 1 else ()
        return (TensorType(dtype, (*broadcast(left[:-2], right[:-2]), *rows, *columns)),)

    def evaluate(self, a: Array, b: Array) -> Array:  # type: ignore[override]
        return in_single(np.matmul, a, b)


@operation
class Gemm(Op):
    """y = alpha * a' b' + beta * c, with a' and b' transposed if `trans_a`, `trans_b`.

    Shapes: a' (M, K); b' (K, N); c broadcasts to (M, N); y (M, N). See: ONNX Gemm-13.
    """

    alpha: float = 1.0
    beta: float = 1.0
    trans_a: bool = False
    trans_b: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("a", "b", "c?")

    def infer(self, a: TensorType, b: TensorType, c: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(a.rank == 2 and b.rank == 2, f"matrices are needed, not {a} and {b}")
        rows, inner = a.shape[::-1] if self.trans_a else a.shape
        other, columns = b.shape[::-1] if self.trans_b else b.shape
        self.require(_same(inner, other), f"{a} by {b}: inner sizes {inner} and {other} differ")
        shape: Shape = (rows, columns)
        self.require(
            c is None or broadcast(c.shape, shape) == shape, f"{c} does not broadcast to {format_shape(shape)}"
        )
        return (TensorType(self.require_same_dtype(a, b, c), shape),)

    def evaluate(self, a: Array, b: Array, c: Array | None = None) -> Array:  # type: ignore[override]
        return in_single(self._product, a, b, c)

    def _product(self, a: Array, b: Array, c: Array | None) -> Array:
        kind = a.dtype.type
        product = np.matmul(a.T if self.trans_a else a, b.T if self.trans_b else b)
        scaled = product if self.alpha == 1.0 else kind(self.alpha) * product
        if c is None:
            return scaled  # type: ignore[no-any-return]
        return scaled + (c if self.beta == 1.0 else kind(self.beta) * c)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, left: Value, right: Value, c: Value | None = None) -> Value:  # type: ignore[override]
        rows = b.emit(Transpose((1, 0)), left) if self.trans_a else left
        product = b.emit(MatMul(), rows, b.emit(Transpose((1, 0)), right) if self.trans_b else right)
        if self.alpha != 1.0:
            product = b.emit(Mul(), product, scalar(b, self.alpha, product))
        if c is None:
            return product
        return b.emit(Add(), product, c if self.beta == 1.0 else b.emit(Mul(), c, scalar(b, self.beta, c)))


@operation
class Det(Op):
    """y = the determinant of the matrices in the last two axes: x (..., M, M), y (...). See: ONNX Det-22."""

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require(x.rank >= 2 and _same(x.shape[-1], x.shape[-2]), f"square matrices are needed, not {x}")
        return (TensorType(x.dtype, x.shape[:-2]),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.asarray(in_single(np.linalg.det, x), x.dtype)


@operation
class Einsum(Op):
    """Einstein summation over named axes, `equation` as in numpy.einsum, in explicit form ("bij,bjk->bik").

    See: ONNX Einsum-12 (readers make an implicit equation explicit).
    """

    equation: str

    inputs: ClassVar[tuple[str, ...]] = ("operands*",)

    def infer(self, *operands: TensorType | None) -> tuple[TensorType, ...]:
        present = [operand for operand in operands if operand is not None]
        dtype = self.require_same_dtype(*present)
        left, arrow, right = self.equation.replace(" ", "").partition("->")
        terms = left.split(",")
        self.require(
            bool(arrow) and len(terms) == len(present), f"equation {self.equation!r} for {len(present)} operands"
        )
        sizes: dict[str, Dim] = {}
        ellipsis: Shape = ()
        for term, operand in zip(terms, present, strict=True):
            before, dots, after = term.partition("...")
            extra = operand.rank - len(before) - len(after)
            self.require(extra >= 0 and (bool(dots) or extra == 0), f"{term!r} does not fit {operand}")
            ellipsis = broadcast(ellipsis, operand.shape[len(before) : len(before) + extra])
            tail = operand.shape[len(before) + extra :]
            for letter, dim in (*zip(before, operand.shape, strict=False), *zip(after, tail, strict=True)):
                known = sizes.get(letter, 1)
                if known != 1 and dim != 1 and not _same(known, dim):
                    raise ShapeError(f"Einsum: axis {letter!r} of {self.equation!r} is {known} and {dim}")
                sizes[letter] = dim if known == 1 or isinstance(known, Sym) else known
        before, dots, after = right.partition("...")
        self.require(all(letter in sizes for letter in before + after), f"an axis of {right!r} is in no operand")
        middle = ellipsis if dots else ()
        return (TensorType(dtype, (*(sizes[c] for c in before), *middle, *(sizes[c] for c in after))),)

    def evaluate(self, *operands: Array) -> Array:  # type: ignore[override]
        return in_single(lambda *arrays: np.einsum(self.equation, *arrays), *operands)


@operation
class Embedding(Op):
    """y[..., :] = w[indices[...], :].

    Shapes: indices (...) integer; w (V, E); y (..., E). Negative indices are not wrapped; out of range is undefined.
    Not in ONNX. See: torch.nn.Embedding; keras.layers.Embedding.
    """

    inputs: ClassVar[tuple[str, ...]] = ("indices", "w")

    def infer(self, indices: TensorType, w: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if not indices.dtype.is_integer:
            raise DTypeError(f"Embedding: integer indices are needed, not {indices.dtype}")
        self.require(w.rank == 2, f"a table of rank 2 is needed, not {w}")
        return (TensorType(w.dtype, (*indices.shape, w.shape[1])),)

    def decompose(self, b: Builder, indices: Value, w: Value) -> Value:  # type: ignore[override]
        return b.emit(Gather(axis=0), w, indices)

    def evaluate(self, indices: Array, w: Array) -> Array:  # type: ignore[override]
        return w[indices.astype(np.int64)]
