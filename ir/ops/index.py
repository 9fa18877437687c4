"""Reading and writing elements at computed places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, normalize_axis
from isomorph.ir.shapes import Dim

__all__ = ["Gather", "GatherElements", "GatherND", "OneHot", "ScatterElements", "ScatterND", "TopK", "Trilu"]


def _require_indices(op: Op, indices: TensorType) -> None:
    if not indices.dtype.is_integer:
        raise DTypeError(f"{op.name}: integer indices are needed, not {indices.dtype}")


@dataclass(frozen=True, slots=True)
class Gather(Op):
    """y[i, j, k] = x[i, indices[j], k] with j over the shape of `indices`, put in place of `axis`; negative ones wrap.

    See: ONNX Gather-13.
    """

    axis: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    def infer(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_indices(self, indices)
        axis = normalize_axis(self.axis, x.rank)
        return (TensorType(x.dtype, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])),)


@dataclass(frozen=True, slots=True)
class GatherElements(Op):
    """y[i..] = x[i.. with the index at `axis` replaced by indices[i..]]. See: ONNX GatherElements-13; torch.gather."""

    axis: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    def infer(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_indices(self, indices)
        normalize_axis(self.axis, x.rank)
        self.require(x.rank == indices.rank, f"{x} and indices {indices} differ in rank")
        return (TensorType(x.dtype, indices.shape),)


@dataclass(frozen=True, slots=True)
class GatherND(Op):
    """Slices of x at the index tuples in the last axis of `indices`; see ONNX GatherND-13 for the formula."""

    batch_dims: int = 0

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices")

    def infer(self, x: TensorType, indices: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_indices(self, indices)
        depth = indices.shape[-1] if indices.rank else 0
        self.require(isinstance(depth, int) and 0 < depth <= x.rank - self.batch_dims, f"index tuples of {indices} for {x}")
        return (TensorType(x.dtype, (*indices.shape[:-1], *x.shape[self.batch_dims + int(depth) :])),)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class ScatterElements(Op):
    """x with `updates` put (or, by `reduction`, combined) at `indices` along `axis`. See: ONNX ScatterElements-18."""

    axis: int = 0
    reduction: Literal["none", "add", "mul", "max", "min"] = "none"

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices", "updates")

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_indices(self, indices)
        self.require_same_dtype(x, updates)
        normalize_axis(self.axis, x.rank)
        return (x,)


@dataclass(frozen=True, slots=True)
class ScatterND(Op):
    """x with slices replaced (or combined) at the index tuples of `indices`. See: ONNX ScatterND-18."""

    reduction: Literal["none", "add", "mul", "max", "min"] = "none"

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices", "updates")

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        _require_indices(self, indices)
        self.require_same_dtype(x, updates)
        return (x,)


@dataclass(frozen=True, slots=True)
class OneHot(Op):
    """y = on where the index along the new axis `axis` equals indices, else off; y has the shape of indices with `depth` inserted.

    Differs from ONNX OneHot-11: depth is an attribute, `values` (2,) = (off, on) gives the element type.
    """

    depth: int
    axis: int = -1

    inputs: ClassVar[tuple[str, ...]] = ("indices", "values")

    def infer(self, indices: TensorType, values: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = normalize_axis(self.axis, indices.rank + 1)
        shape: tuple[Dim, ...] = (*indices.shape[:axis], self.depth, *indices.shape[axis:])
        return (TensorType(values.dtype, shape),)


@dataclass(frozen=True, slots=True)
class TopK(Op):
    """The k largest (or smallest) elements along `axis` and their indices (int64). Differs from ONNX TopK-24: k is an attribute."""

    k: int
    axis: int = -1
    largest: bool = True
    sorted: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        shape = (*x.shape[:axis], self.k, *x.shape[axis + 1 :])
        return TensorType(x.dtype, shape), TensorType(DType.INT64, shape)


@dataclass(frozen=True, slots=True)
class Trilu(Op):
    """The upper (or lower) triangle of the matrices in the last two axes, `k` diagonals off the main one; the rest is 0.

    Differs from ONNX Trilu-14: k is an attribute.
    """

    k: int = 0
    upper: bool = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank >= 2, f"matrices are needed, not {x}")
        return (x,)
