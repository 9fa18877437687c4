"""Reading and writing elements at computed places."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, normalize_axis, operation
from isomorph.ir.ops.elementwise import Add, Cast, Equal, GreaterOrEqual, Less, LessOrEqual, Where, scalar
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.reduce import ArgMax
from isomorph.ir.ops.shape import Range, Unsqueeze
from isomorph.ir.shapes import Dim, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Gather", "GatherElements", "GatherND", "Hardmax", "OneHot", "TopK", "Trilu"]


def require_indices(op: Op, indices: TensorType) -> None:
    """Raise DTypeError where indices are no integers."""
    if not indices.dtype.is_integer:
        raise DTypeError(f"{op.name}: integer indices are needed, not {indices.dtype}")


def element_places(indices: Array, axis: int) -> tuple[Array, ...]:
    """Index arrays of every element of `indices`, with its value in place of the coordinate at `axis`."""
    places: list[Array] = list(np.indices(indices.shape, sparse=True))
    places[axis] = indices
    return tuple(places)


@operation
class Gather(Op):
    """y[i, j, k] = x[i, indices[j], k] with j over the shape of `indices`, put in place of `axis`; negative ones wrap.

    See: ONNX Gather-13.
    """

    axis: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    def infer(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        require_indices(self, indices)
        axis = normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)

    def evaluate(self, x: Array, indices: Array) -> Array:  # type: ignore[override]
        return np.take(x, indices.astype(np.int64), self.axis)


@operation
class GatherElements(Op):
    """y[i..] = x[i.. with the index at `axis` replaced by indices[i..]]. See: ONNX GatherElements-13; torch.gather."""

    axis: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    def infer(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        require_indices(self, indices)
        normalize_axis(self.axis, x.rank)
        self.require(x.rank == indices.rank, f"{x} and indices {indices} differ in rank")
        return (TensorType(x.dtype, indices.shape),)

    def evaluate(self, x: Array, indices: Array) -> Array:  # type: ignore[override]
        return x[element_places(indices, self.axis)]


@operation
class GatherND(Op):
    """Slices of x at the index tuples in the last axis of `indices`; see ONNX GatherND-13 for the formula."""

    batch_dims: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    def infer(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        require_indices(self, indices)
        depth = indices.shape[-1] if indices.rank else 0
        self.require(
            isinstance(depth, int) and 0 < depth <= x.rank - self.batch_dims, f"index tuples of {indices} for {x}"
        )
        rest = x.shape[self.batch_dims + int(depth) :]  # type: ignore[arg-type]
        return (TensorType(x.dtype, (*indices.shape[:-1], *rest)),)

    def evaluate(self, x: Array, indices: Array) -> Array:  # type: ignore[override]
        inner = indices.ndim - 1 - self.batch_dims
        batch: tuple[Array, ...] = np.indices(indices.shape[: self.batch_dims], sparse=True)
        places = [axis.reshape(*axis.shape, *(1,) * inner) for axis in batch]
        return x[(*places, *np.moveaxis(indices, -1, 0))]  # type: ignore[no-any-return]


@operation
class OneHot(Op):
    """y = on where the index along the new axis `axis` equals indices, else off; the new axis has size `depth`.

    Negative indices count from the end; a row whose index is out of range is all off.
    Differs from ONNX OneHot-11: depth is an attribute, `values` (2,) = (off, on) gives the element type.
    """

    depth: int
    axis: int = -1

    inputs: ClassVar[tuple[str, ...]] = ("indices", "values")

    def infer(self, indices: TensorType, values: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        require_indices(self, indices)
        self.require(values.shape == (2,) and self.depth >= 0, f"values {values} and depth {self.depth}")
        axis = normalize_axis(self.axis, indices.rank + 1)
        shape: tuple[Dim, ...] = (*indices.shape[:axis], self.depth, *indices.shape[axis:])
        return (TensorType(values.dtype, shape),)

    def evaluate(self, indices: Array, values: Array) -> Array:  # type: ignore[override]
        axis = self.axis % (indices.ndim + 1)
        classes = np.arange(self.depth).reshape((-1,) + (1,) * (indices.ndim - axis))
        whole = indices.astype(np.int64)
        wrapped = np.expand_dims(np.where(whole < 0, whole + self.depth, whole), axis)
        return np.where(wrapped == classes, values[1], values[0])  # type: ignore[no-any-return]

    def decompose(self, b: Builder, indices: Value, values: Value) -> Value:  # type: ignore[override]
        axis = normalize_axis(self.axis, indices.rank + 1)
        classes = b.emit(Range(0, 1, self.depth, indices.dtype))
        if axis < indices.rank:
            classes = b.emit(Unsqueeze(tuple(range(1, indices.rank - axis + 1))), classes)
        negative = b.emit(Less(), indices, scalar(b, 0, indices))
        wrapped = b.emit(Where(), negative, b.emit(Add(), indices, scalar(b, self.depth, indices)), indices)
        hit = b.emit(Equal(), b.emit(Unsqueeze((axis,)), wrapped), classes)
        off, on = (b.emit(Gather(axis=0), values, b.constant(np.int64(place), "place")) for place in (0, 1))
        return b.emit(Where(), hit, on, off)


@operation
class Hardmax(Op):
    """y = 1 at the maximum of x along `axis`, the first of equal ones, else 0. See: ONNX Hardmax-13."""

    axis: int = -1

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        normalize_axis(self.axis, x.rank)
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        y = np.zeros_like(x)
        np.put_along_axis(y, np.argmax(x, self.axis, keepdims=True), x.dtype.type(1), self.axis)
        return y

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        cells = b.emit(Range(0, 1, x.shape[axis], DType.INT64))
        if axis < x.rank - 1:
            cells = b.emit(Unsqueeze(tuple(range(1, x.rank - axis))), cells)
        return b.emit(Cast(x.dtype), b.emit(Equal(), b.emit(ArgMax(axis), x), cells))


@operation
class TopK(Op):
    """The k largest (or smallest) elements along `axis` and their indices (int64), of equal elements the first.

    Without `sorted` the order is unspecified. Differs from ONNX TopK-24: k is an attribute.
    """

    k: Dim
    axis: int = -1
    largest: bool = True
    sorted: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        shape = (*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        size = x.shape[axis]
        fits = isinstance(size, Sym) or isinstance(self.k, Sym) or 0 <= self.k <= size
        self.require(fits, f"{self.k} elements of axis {axis} of {x}")
        return TensorType(x.dtype, shape), TensorType(DType.INT64, shape)

    def evaluate(self, x: Array) -> tuple[Array, Array]:  # type: ignore[override]
        if self.largest:
            order = np.flip(
                x.shape[self.axis] - 1 - np.argsort(np.flip(x, self.axis), self.axis, kind="stable"), self.axis
            )
        else:
            order = np.argsort(x, self.axis, kind="stable")
        first = np.take(order, np.arange(int(self.k)), self.axis).astype(np.int64)  # type: ignore[arg-type]
        return np.take_along_axis(x, first, self.axis), first


@operation
class Trilu(Op):
    """The upper (or lower) triangle of the matrices in the last two axes, `k` diagonals off the main one, else 0.

    Differs from ONNX Trilu-14: k is an attribute.
    """

    k: int = 0
    upper: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank >= 2, f"matrices are needed, not {x}")
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return np.triu(x, self.k) if self.upper else np.tril(x, self.k)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        rows = b.emit(Unsqueeze((1,)), b.emit(Range(self.k, 1, x.shape[-2], DType.INT64)))
        columns = b.emit(Range(0, 1, x.shape[-1], DType.INT64))
        kept = b.emit(GreaterOrEqual() if self.upper else LessOrEqual(), columns, rows)
        return b.emit(Where(), kept, x, scalar(b, 0, x))
