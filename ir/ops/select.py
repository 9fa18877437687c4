"""Ops whose output size the data decide: what is not zero, what a mask keeps, what differs.

That size is the attribute `size`: a symbol of its own, or a number where the source knows it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, normalize_axis, operation
from isomorph.ir.ops.numerics import Array
from isomorph.ir.shapes import Dim, Sym, elements

__all__ = ["Compress", "NonZero", "Unique"]


class Decides:
    """An op that defines the named dimension `size`."""

    __slots__ = ()
    size: Dim

    def defines(self) -> frozenset[str]:
        size = self.size
        return frozenset((size.name,)) if isinstance(size, Sym) and size.name is not None else frozenset()


@operation
class NonZero(Decides, Op):
    """The coordinates of the elements that are not 0 (or are True), in C order: y (x.rank, size), int64.

    Differs from ONNX NonZero-13: the number of elements is the attribute `size`; of a scalar y is (0, size).
    See: numpy.nonzero, stacked.
    """

    size: Dim

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(DType.INT64, (x.rank, self.size)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        if x.ndim == 0:
            return np.zeros((0, int(x != 0)), np.int64)
        return np.stack(np.nonzero(x)).astype(np.int64)


@operation
class Compress(Decides, Op):
    """The slices of x along `axis` (None: the elements in C order) where `condition` is True.

    Shapes: x (*A, M, *B), M at `axis`; condition (K,) of bools, K <= M; y (*A, size, *B), or (size,) without an axis.
    Differs from ONNX Compress-11: the number of True is the attribute `size`.
    """

    size: Dim
    axis: int | None = None

    inputs: ClassVar[tuple[str, ...]] = ("x", "condition")

    def infer(self, x: TensorType, condition: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if condition.dtype is not DType.BOOL:
            raise DTypeError(f"Compress: a condition of bools is needed, not {condition.dtype}")
        self.require(condition.rank == 1, f"a condition of rank 1 is needed, not {condition}")
        if self.axis is None:
            return (TensorType(x.dtype, (self.size,)),)
        axis = normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, (*x.shape[:axis], self.size, *x.shape[axis + 1 :])),)

    def evaluate(self, x: Array, condition: Array) -> Array:  # type: ignore[override]
        return np.compress(condition, x, self.axis)


@operation
class Unique(Decides, Op):
    """The different elements of x, or its different slices along `axis`: values, first, inverse and counts.

    values  sorted, or in the order of their first appearance; of the shape of x with `size` at `axis`, or (size,)
    first   (size,), int64: where each of them appears first;  counts  (size,), int64: how often
    inverse (M,), int64, M the length of the axis or the number of elements: x = values[inverse]
    Differs from ONNX Unique-11: the number of values is the attribute `size`; all four outputs are there.
    """

    size: Dim
    axis: int | None = None
    sorted: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        one = TensorType(DType.INT64, (self.size,))
        if self.axis is None:
            return TensorType(x.dtype, (self.size,)), one, TensorType(DType.INT64, (elements(x.shape),)), one
        axis = normalize_axis(self.axis, x.rank)
        values = TensorType(x.dtype, (*x.shape[:axis], self.size, *x.shape[axis + 1 :]))
        return values, one, TensorType(DType.INT64, (x.shape[axis],)), one

    def evaluate(self, x: Array) -> tuple[Array, ...]:  # type: ignore[override]
        values, first, inverse, counts = np.unique(
            x, return_index=True, return_inverse=True, return_counts=True, axis=self.axis
        )
        inverse = inverse.reshape(-1)
        if not self.sorted:
            order = np.argsort(first, kind="stable")
            values = np.take(values, order, self.axis or 0)
            inverse = np.argsort(order, kind="stable")[inverse]
            first, counts = first[order], counts[order]
        found: tuple[Any, ...] = (first, inverse, counts)
        return values, *(each.astype(np.int64) for each in found)
