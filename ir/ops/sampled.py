"""GridSample as arithmetic and gathers: the cells around each place, times their weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from isomorph.errors import GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Div,
    Equal,
    Floor,
    GreaterOrEqual,
    LessOrEqual,
    Max,
    Min,
    Mod,
    Mul,
    Round,
    Sub,
    Where,
    scalar,
)
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.shape import Dims, Range, Reshape, Transpose, Unsqueeze
from isomorph.ir.shapes import Dim, Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Sampling"]

_A = -0.75
"""Of Keys' kernel."""


class Sampling:
    """x (N, C, *D) read at the places of grid (N, *D', len(D)), as `GridSample` of these attributes says.

    Cells are places in units of cells, one tensor (N, *D') for each spatial axis.
    """

    def __init__(self, b: Builder, x: Value, grid: Value, padding: str, align_corners: bool) -> None:
        if not x.dtype.is_float or x.dtype.bits < 32 or grid.dtype is not x.dtype:
            raise GraphError(f"{x.dtype} at places of {grid.dtype} is not put together from other operations")
        self.b, self.x, self.padding, self.aligned = b, x, padding, align_corners
        spatial = x.shape[2:]
        rank = len(spatial)
        self.sizes = [self._size(size, grid) for size in spatial]
        self.cells = []
        for axis, size in enumerate(self.sizes):
            place = b.constant(np.int64(rank - 1 - axis), "axis")
            self.cells.append(self._cell(b.emit(Gather(rank + 1), grid, place), size))
        channels_last = b.emit(Transpose((0, *range(2, rank + 2), 1)), x)
        self.rows = b.emit(Reshape((x.shape[0] * elements(spatial), x.shape[1])), channels_last)
        batch = b.emit(Range(0, 1, x.shape[0], DType.INT64))
        self.batch = b.emit(Unsqueeze(tuple(range(1, rank + 1))), batch)

    def _size(self, size: Dim, like: Value) -> Value:
        if not isinstance(size, Sym):
            return scalar(self.b, size, like)
        return self.b.emit(Cast(like.dtype), self.b.emit(Dims((size,), scalar=True)))

    def _number(self, number: float) -> Value:
        return scalar(self.b, number, self.x)

    def _cell(self, place: Value, size: Value) -> Value:
        b = self.b
        moved = b.emit(Add(), place, self._number(1))
        if self.aligned:
            return b.emit(Mul(), b.emit(Div(), moved, self._number(2)), b.emit(Sub(), size, self._number(1)))
        return b.emit(Div(), b.emit(Sub(), b.emit(Mul(), moved, size), self._number(1)), self._number(2))

    def nearest(self) -> Value:
        return self._channels_first(self.at([self.b.emit(Round(), cell) for cell in self._inside(self.cells)]))

    def linear(self) -> Value:
        return self._weighted(self._inside(self.cells), (0, 1), "linear")

    def cubic(self) -> Value:
        return self._weighted(self.cells, (-1, 0, 1, 2), "cubic")

    def _weighted(self, cells: Sequence[Value], reach: Sequence[int], mode: Literal["linear", "cubic"]) -> Value:
        """The sum over the cells around each place; the distance to a cell decides its weight."""
        b = self.b
        bases = [b.emit(Floor(), cell) for cell in cells]
        offsets = [b.emit(Sub(), cell, base) for cell, base in zip(cells, bases, strict=True)]
        taps = [
            {step: (self._step(base, step), self._weight(offset, step, mode)) for step in reach}
            for base, offset in zip(bases, offsets, strict=True)
        ]
        total: Value | None = None
        for steps in product(reach, repeat=len(cells)):
            chosen = [tap[step] for tap, step in zip(taps, steps, strict=True)]
            places = [place for place, _ in chosen]
            weight = chosen[0][1]
            for _, factor in chosen[1:]:
                weight = b.emit(Mul(), weight, factor)
            values = self.at(self._inside(places) if mode == "cubic" else places)
            part = b.emit(Mul(), b.emit(Unsqueeze((weight.rank,)), weight), values)
            total = part if total is None else b.emit(Add(), total, part)
        assert total is not None
        return self._channels_first(total)

    def _step(self, base: Value, step: int) -> Value:
        return base if step == 0 else self.b.emit(Add(), base, self._number(step))

    def _weight(self, offset: Value, step: int, mode: Literal["linear", "cubic"]) -> Value:
        b = self.b
        distance = b.emit(Abs(), b.emit(Sub(), offset, self._number(step)))
        if mode == "linear":
            return b.emit(Sub(), self._number(1), distance)
        if step in (0, 1):
            return self._polynomial(distance, (_A + 2, -(_A + 3), 0, 1))
        return self._polynomial(distance, (_A, -5 * _A, 8 * _A, -4 * _A))

    def _polynomial(self, x: Value, factors: Sequence[float]) -> Value:
        total = self._number(factors[0])
        for factor in factors[1:]:
            total = self.b.emit(Add(), self.b.emit(Mul(), total, x), self._number(factor))
        return total

    def _inside(self, cells: Sequence[Value]) -> list[Value]:
        """Cells beyond the border as those that the padding mode takes for them."""
        if self.padding == "zeros":
            return list(cells)
        return [self._folded(cell, size) for cell, size in zip(cells, self.sizes, strict=True)]

    def _folded(self, cell: Value, size: Value) -> Value:
        b, zero = self.b, self._number(0)
        last = b.emit(Sub(), size, self._number(1))
        if self.padding == "reflection":
            low = self._number(0 if self.aligned else -0.5)
            span = b.emit(Max(), last, self._number(1)) if self.aligned else size
            away = b.emit(Abs(), b.emit(Sub(), cell, low))
            flips = b.emit(Floor(), b.emit(Div(), away, span))
            rest = b.emit(Mod(fmod=True), away, span)
            even = b.emit(Equal(), b.emit(Mod(fmod=True), flips, self._number(2)), zero)
            back = b.emit(Add(), b.emit(Sub(), span, rest), low)
            cell = b.emit(Where(), even, b.emit(Add(), rest, low), back)
        return b.emit(Max(), b.emit(Min(), cell, last), zero)

    def at(self, places: Sequence[Value]) -> Value:
        """The cells at whole coordinates, 0 outside: (N, *D', C)."""
        b, zero = self.b, self._number(0)
        index, inside = self.batch, None
        for place, size, dim in zip(places, self.sizes, self.x.shape[2:], strict=True):
            last = b.emit(Sub(), size, self._number(1))
            within = b.emit(And(), b.emit(GreaterOrEqual(), place, zero), b.emit(LessOrEqual(), place, last))
            whole = b.emit(Cast(DType.INT64), b.emit(Where(), within, place, zero))
            width = b.emit(Dims((dim,), scalar=True)) if isinstance(dim, Sym) else scalar(b, dim, index)
            index = b.emit(Add(), b.emit(Mul(), index, width), whole)
            inside = within if inside is None else b.emit(And(), inside, within)
        assert inside is not None
        values = b.emit(Gather(axis=0), self.rows, index)
        return b.emit(Where(), b.emit(Unsqueeze((inside.rank,)), inside), values, zero)

    def _channels_first(self, values: Value) -> Value:
        rank = values.rank
        return self.b.emit(Transpose((0, rank - 1, *range(1, rank - 1))), values)
