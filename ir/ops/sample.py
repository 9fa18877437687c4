"""Reading an image between its cells, at places that are data."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from isomorph.errors import ShapeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.elementwise import Add, Cast, Div, Mul, Sub, scalar
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.sampled import Sampling
from isomorph.ir.ops.shape import Concat, Expand, Range, Reshape, Transpose
from isomorph.ir.shapes import Dim, Shape, Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["AffineGrid", "GridSample"]


@operation
class GridSample(Op):
    """x read at the places of `grid`, whose last axis has normalized coordinates, the last spatial axis first.

    A coordinate g in [-1, 1] is the cell ((g + 1) * size - 1) / 2, with `align_corners` (g + 1) * (size - 1) / 2.
    "nearest" rounds it, halves to even; "linear" interpolates; "cubic" (of images) by Keys' kernel with a = -0.75.
    Beyond the border `padding_mode` gives 0, the border, or the image reflected at its border.

    Shapes: x (N, C, *D); grid (N, *D', len(D)); y (N, C, *D').
    See: ONNX GridSample-22; torch.nn.functional.grid_sample.
    """

    mode: Literal["linear", "nearest", "cubic"] = "linear"
    padding_mode: Literal["zeros", "border", "reflection"] = "zeros"
    align_corners: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("x", "grid")

    def infer(self, x: TensorType, grid: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(grid)
        self.require(x.rank >= 3 and grid.rank == x.rank, f"a grid {grid} for {x}")
        last = grid.shape[-1]
        self.require(isinstance(last, Sym) or last == x.rank - 2, f"coordinates {grid} for {x}")
        self.require(self.mode != "cubic" or x.rank == 4, f"mode cubic is for images, not {x}")
        return (TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),)

    def evaluate(self, x: Array, grid: Array) -> Array:  # type: ignore[override]
        return in_single(self._sampled, x, grid)

    def _sampled(self, x: Array, grid: Array) -> Array:
        sizes = x.shape[2:]
        cells = []
        for axis, size in enumerate(sizes):
            g = grid[..., len(sizes) - 1 - axis]
            cell = (g + 1) / 2 * (size - 1) if self.align_corners else ((g + 1) * size - 1) / 2
            cells.append(cell if self.mode == "cubic" else self._inside(cell, size))
        if self.mode == "nearest":
            return self._at(x, [np.rint(cell) for cell in cells])
        reach = (0, 1) if self.mode == "linear" else (-1, 0, 1, 2)
        total = np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
        for steps in product(reach, repeat=len(sizes)):
            weight = np.ones_like(cells[0])
            places = []
            for cell, step in zip(cells, steps, strict=True):
                base = np.floor(cell)
                distance = np.abs(cell - base - step)
                weight = weight * (1 - distance if self.mode == "linear" else _keys(distance))
                places.append(base + step)
            total = total + weight[:, None] * self._at(x, places)
        return total.astype(x.dtype)

    def _inside(self, cell: Array, size: int) -> Array:
        if self.padding_mode == "border":
            return np.clip(cell, 0, size - 1)
        if self.padding_mode == "reflection":
            low, high = (0.0, size - 1.0) if self.align_corners else (-0.5, size - 0.5)
            return np.clip(_reflected(cell, low, high), 0, size - 1)
        return cell

    def _at(self, x: Array, places: Sequence[Array]) -> Array:
        """The cells of x (N, C, *D) at whole coordinates, each (N, *D')."""
        sizes = x.shape[2:]
        if self.mode == "cubic":
            places = [self._inside(place, size) for place, size in zip(places, sizes, strict=True)]
        inside = np.ones(places[0].shape, bool)
        index = []
        for place, size in zip(places, sizes, strict=True):
            inside &= (place >= 0) & (place <= size - 1)
            index.append(np.where(np.isnan(place), 0, np.clip(place, 0, size - 1)).astype(np.int64))
        batch = np.arange(len(x)).reshape(-1, *(1,) * len(sizes))
        values = np.moveaxis(np.moveaxis(x, 1, -1)[(batch, *index)], -1, 1)
        return np.where(inside[:, None], values, 0)

    def decompose(self, b: Builder, x: Value, grid: Value) -> Value:  # type: ignore[override]
        """Half precision in float32, as `evaluate`."""
        wide = [each if each.dtype.bits >= 32 else b.emit(Cast(DType.FLOAT32), each) for each in (x, grid)]
        sampling = Sampling(b, wide[0], wide[1], self.padding_mode, self.align_corners)
        y = {"linear": sampling.linear, "nearest": sampling.nearest, "cubic": sampling.cubic}[self.mode]()
        return y if y.dtype is x.dtype else b.emit(Cast(x.dtype), y)


def _keys(distance: Array) -> Array:
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


def _reflected(cell: Array, low: float, high: float) -> Array:
    """Coordinates folded into [low, high]."""
    span = high - low
    if span == 0:
        return np.zeros_like(cell)
    away = np.abs(cell - low)
    flips, rest = np.floor(away / span), np.fmod(away, span)
    return np.where(flips % 2 == 0, rest + low, span - rest + low)


@operation
class AffineGrid(Op):
    """The grid of `GridSample` that an affine map makes: y[n, p] = theta[n] @ (p, 1), p the normalized coordinates.

    Shapes: theta (N, d, d + 1); y (N, *size, d), d = len(size) is 2 or 3; the last spatial axis comes first in p.
    Differs from ONNX AffineGrid-20: `size` has the spatial sizes alone. See: torch.nn.functional.affine_grid.
    """

    size: Shape
    align_corners: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("theta",)

    def infer(self, theta: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(theta)
        rank = len(self.size)
        fits = theta.rank == 3 and theta.shape[1:] == (rank, rank + 1) and rank in (2, 3)
        self.require(fits, f"theta {theta} for {rank} spatial axes")
        return (TensorType(theta.dtype, (theta.shape[0], *self.size, rank)),)

    def evaluate(self, theta: Array) -> Array:  # type: ignore[override]
        return in_single(self._grid, theta)

    def _grid(self, theta: Array) -> Array:
        if any(isinstance(size, Sym) for size in self.size):
            raise ShapeError(f"the size {self.size} is not known here")
        lines = [_line(int(size), self.align_corners) for size in self.size]  # type: ignore[arg-type]
        grids = np.meshgrid(*lines, indexing="ij")
        base = np.stack([*reversed(grids), np.ones(grids[0].shape)], -1).astype(theta.dtype)
        flat = base.reshape(1, -1, base.shape[-1]) @ theta.transpose(0, 2, 1)
        return flat.reshape(len(theta), *base.shape[:-1], len(lines))

    def decompose(self, b: Builder, theta: Value) -> Value:  # type: ignore[override]
        rank = len(self.size)
        columns = [self._column(b, axis, theta) for axis in reversed(range(rank))]
        one = b.emit(Expand((elements(self.size), 1)), scalar(b, 1, theta))
        base = b.emit(Concat(1), *columns, one)
        flat = b.emit(MatMul(), base, b.emit(Transpose((0, 2, 1)), theta))
        return b.emit(Reshape((theta.shape[0], *self.size, rank)), flat)

    def _column(self, b: Builder, axis: int, theta: Value) -> Value:
        """The normalized coordinate along one axis, of every cell: (cells, 1)."""
        size: Dim = self.size[axis]
        line = b.emit(Cast(theta.dtype), b.emit(Range(0, 1, size, DType.INT64)))
        if self.align_corners:
            self.require(isinstance(size, int), f"aligned corners of the size {size}")
        if size == 1:
            places = b.emit(Mul(), line, scalar(b, 0, line))
        elif self.align_corners:
            places = b.emit(Sub(), b.emit(Mul(), line, scalar(b, 2 / (int(size) - 1), line)), scalar(b, 1, line))  # type: ignore[arg-type]
        else:
            count = b.emit(Reshape(()), b.emit(Cast(theta.dtype), _number(b, size)))
            odd = b.emit(Add(), b.emit(Mul(), line, scalar(b, 2, line)), scalar(b, 1, line))
            places = b.emit(Sub(), b.emit(Div(), odd, count), scalar(b, 1, line))
        rank = len(self.size)
        shaped = b.emit(Reshape(tuple(size if other == axis else 1 for other in range(rank))), places)
        return b.emit(Reshape((elements(self.size), 1)), b.emit(Expand(self.size), shaped))


def _number(b: Builder, size: Dim) -> Value:
    return b.emit(Range(size, 1, 1, DType.INT64))


def _line(size: int, align_corners: bool) -> Array:
    """Normalized coordinates of the cells of an axis."""
    if align_corners:
        return np.linspace(-1, 1, size) if size > 1 else np.zeros(1)
    return (2 * np.arange(size) + 1) / size - 1
