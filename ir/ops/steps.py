"""Sequences of different lengths: turned around, and written into a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.elementwise import Add, Cast, Less, Mod, Sub, Where, scalar
from isomorph.ir.ops.index import GatherElements
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.scatter import ScatterElements
from isomorph.ir.ops.shape import Dims, Expand, Range, Reshape
from isomorph.ir.shapes import Dim, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["ReverseSequence", "TensorScatter"]


@operation
class ReverseSequence(Op):
    """x with the first lengths[i] steps of sequence i in reverse order, the others where they are.

    Shapes: x (T, N, ...), or (N, T, ...) with `batch_first`; lengths (N,) of int64, from 0 to T; y as x.
    Differs from ONNX ReverseSequence-10: one attribute for the two axes. See: tensorflow.reverse_sequence.
    """

    batch_first: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("x", "lengths")

    def infer(self, x: TensorType, lengths: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        if lengths.dtype is not DType.INT64:
            raise DTypeError(f"ReverseSequence: int64 lengths are needed, not {lengths.dtype}")
        self.require(x.rank >= 2 and lengths.rank == 1, f"sequences {x} of lengths {lengths}")
        batch, given = x.shape[0 if self.batch_first else 1], lengths.shape[0]
        self.require(isinstance(batch, Sym) or isinstance(given, Sym) or batch == given, f"{lengths} for {x}")
        return (x,)

    def evaluate(self, x: Array, lengths: Array) -> Array:  # type: ignore[override]
        data = x if self.batch_first else np.swapaxes(x, 0, 1)
        y = data.copy()
        for place, length in enumerate(lengths):
            y[place, :length] = data[place, :length][::-1]
        return y if self.batch_first else np.ascontiguousarray(np.swapaxes(y, 0, 1))

    def decompose(self, b: Builder, x: Value, lengths: Value) -> Value:  # type: ignore[override]
        time = 1 if self.batch_first else 0
        rest = (1,) * (x.rank - 2)
        rows: tuple[Dim, ...] = (x.shape[0], 1) if self.batch_first else (1, x.shape[1])
        columns: tuple[Dim, ...] = (1, x.shape[1]) if self.batch_first else (x.shape[0], 1)
        steps = b.emit(Reshape((*columns, *rest)), b.emit(Range(0, 1, x.shape[time], DType.INT64)))
        ends = b.emit(Reshape((*rows, *rest)), lengths)
        last = b.emit(Sub(), ends, scalar(b, 1, ends))
        places = b.emit(Where(), b.emit(Less(), steps, ends), b.emit(Sub(), last, steps), steps)
        return b.emit(GatherElements(time), x, b.emit(Expand(x.shape), places))


@operation
class TensorScatter(Op):
    """A cache with the steps of `update` written from step start[n] on along `axis`, those beyond its end at its
    begin in the mode "circular".

    Shapes: cache (N, *A, S, *B), S at `axis`; update (N, *A, L, *B), L <= S; start (N,) of int64, absent: 0.
    See: ONNX TensorScatter-24.
    """

    axis: int
    mode: Literal["linear", "circular"] = "linear"

    inputs: ClassVar[tuple[str, ...]] = ("cache", "update", "start?")

    def infer(self, cache: TensorType, update: TensorType, start: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_same_dtype(cache, update)
        self.require(cache.rank == update.rank and 0 < self.axis < cache.rank, f"{update} into {cache}")
        self.require(start is None or start.rank == 1, f"starts {start}")
        return (cache,)

    def evaluate(self, cache: Array, update: Array, start: Array | None = None) -> Array:  # type: ignore[override]
        y = cache.copy()
        steps = np.arange(update.shape[self.axis])
        for place in range(len(y)):
            where = steps + (0 if start is None else int(start[place]))
            if self.mode == "circular":
                where = where % cache.shape[self.axis]
            np.moveaxis(y[place], self.axis - 1, 0)[where] = np.moveaxis(update[place], self.axis - 1, 0)
        return y

    def decompose(self, b: Builder, cache: Value, update: Value, start: Value | None = None) -> Value:  # type: ignore[override]
        behind = (1,) * (cache.rank - self.axis - 1)
        places = b.emit(
            Reshape((update.shape[self.axis], *behind)), b.emit(Range(0, 1, update.shape[self.axis], DType.INT64))
        )
        if start is not None:
            whole = start if start.dtype is DType.INT64 else b.emit(Cast(DType.INT64), start)
            first = b.emit(Reshape((cache.shape[0], *(1,) * self.axis, *behind)), whole)
            places = b.emit(Add(), places, first)
        if self.mode == "circular":
            places = b.emit(Mod(), places, b.emit(Dims((cache.shape[self.axis],), scalar=True)))
        return b.emit(ScatterElements(self.axis), cache, b.emit(Expand(update.shape), places), update)
