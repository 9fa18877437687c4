"""Writing elements at computed places, or combining them with what stands there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from isomorph.errors import GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, normalize_axis, operation
from isomorph.ir.ops.control import Loop
from isomorph.ir.ops.elementwise import Add, Cast, Identity, Max, Min, Mul
from isomorph.ir.ops.index import Gather, GatherND, element_places, require_indices
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.shape import Concat, Dims, Expand, Range, Reshape, Unsqueeze
from isomorph.ir.shapes import Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["ScatterElements", "ScatterND"]

_COMBINE: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter(x: Array, places: tuple[Array, ...], updates: Array, reduction: str) -> Array:
    y = x.copy()
    if reduction == "none":
        y[places] = updates
    else:
        _COMBINE[reduction].at(y, places, updates)
    return y


@operation
class ScatterElements(Op):
    """x with `updates` put (or, by `reduction`, combined) at `indices` along `axis`. See: ONNX ScatterElements-18."""

    axis: int = 0
    reduction: Literal["none", "add", "mul", "max", "min"] = "none"

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices", "updates")

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        require_indices(self, indices)
        self.require_same_dtype(x, updates)
        normalize_axis(self.axis, x.rank)
        static = indices.is_static and updates.is_static
        self.require(not static or indices.shape == updates.shape, f"indices {indices} and updates {updates} differ")
        self.require(
            x.rank == indices.rank == updates.rank, f"{x}, indices {indices} and updates {updates} differ in rank"
        )
        return (x,)

    def evaluate(self, x: Array, indices: Array, updates: Array) -> Array:  # type: ignore[override]
        return _scatter(x, element_places(indices, self.axis), updates, self.reduction)

    def decompose(self, b: Builder, x: Value, indices: Value, updates: Value) -> Value:  # type: ignore[override]
        """With a reduction, as ScatterND of single elements."""
        axis, rank = self.axis % x.rank, x.rank
        places = []
        for along in range(rank):
            place = b.emit(Cast(DType.INT64), indices) if along == axis else _counted(b, indices, along)
            places.append(b.emit(Reshape((elements(indices.shape), 1)), place))
        tuples = b.emit(Concat(1), *places) if rank > 1 else places[0]
        return _in_turn(self, b, x, tuples, b.emit(Reshape((elements(updates.shape),)), updates))


@operation
class ScatterND(Op):
    """x with slices replaced (or combined) at the index tuples of `indices`. See: ONNX ScatterND-18."""

    reduction: Literal["none", "add", "mul", "max", "min"] = "none"

    inputs: ClassVar[tuple[str, ...]] = ("x", "indices", "updates")

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        require_indices(self, indices)
        self.require_same_dtype(x, updates)
        depth = indices.shape[-1] if indices.rank else 0
        self.require(isinstance(depth, int) and 0 < depth <= x.rank, f"index tuples of {indices} for {x}")
        return (x,)

    def evaluate(self, x: Array, indices: Array, updates: Array) -> Array:  # type: ignore[override]
        return _scatter(x, tuple(np.moveaxis(indices, -1, 0)), updates, self.reduction)

    def decompose(self, b: Builder, x: Value, indices: Value, updates: Value) -> Value:  # type: ignore[override]
        """With a reduction, one index tuple after the other in a Loop: what falls together is combined in order."""
        depth = int(indices.shape[-1])  # type: ignore[arg-type]
        count = elements(indices.shape[:-1])
        tuples = b.emit(Reshape((count, depth)), b.emit(Cast(DType.INT64), indices))
        return _in_turn(self, b, x, tuples, b.emit(Reshape((count, *x.shape[depth:])), updates))


_REDUCTIONS: dict[str, type[Op]] = {"add": Add, "mul": Mul, "max": Max, "min": Min}


def _counted(b: Builder, indices: Value, axis: int) -> Value:
    """The coordinate along an axis of each element of `indices`."""
    counts = b.emit(Range(0, 1, indices.shape[axis], DType.INT64))
    behind = tuple(range(1, indices.rank - axis))
    return b.emit(Expand(indices.shape), b.emit(Unsqueeze(behind), counts) if behind else counts)


def _in_turn(op: ScatterElements | ScatterND, b: Builder, x: Value, tuples: Value, updates: Value) -> Value:
    """x with each of `updates` (P, *x.shape[K:]) combined with what stands at its index of `tuples` (P, K)."""
    if op.reduction == "none":
        raise GraphError(f"{op.name} is not put together from other operations")
    body = b.region("update")
    turn, going = body.input("turn", DType.INT64, ()), body.input("going", DType.BOOL, ())
    before = body.input("before", x.dtype, x.shape)
    places = body.input("places", tuples.dtype, tuples.shape)
    given = body.input("updates", updates.dtype, updates.shape)
    place = body.emit(Unsqueeze((0,)), body.emit(Gather(0), places, turn))
    update = body.emit(Unsqueeze((0,)), body.emit(Gather(0), given, turn))
    both = body.emit(_REDUCTIONS[op.reduction](), body.emit(GatherND(), before, place), update)
    body.output("goes_on", body.emit(Identity(), going))
    body.output("after", body.emit(ScatterND(), before, place, both))
    count = tuples.shape[0]
    trips = b.emit(Dims((count,), scalar=True)) if isinstance(count, Sym) else b.constant(np.int64(count), "trips")
    operands = (trips, b.constant(np.bool_(True), "always"), x, tuples, updates)
    return b.emit_many(Loop((x.type,), 1), *operands, regions=(body.graph,))[0]  # type: ignore[arg-type]
