"""Columns of windows, put back into an image."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from isomorph.errors import GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.cells import combined
from isomorph.ir.ops.conv import Ints
from isomorph.ir.ops.elementwise import Add
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.shape import Pad, Reshape
from isomorph.ir.shapes import Shape, Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Col2Im"]

_MOST = 256
"""Windows of more cells are not taken apart."""


@operation
class Col2Im(Op):
    """Windows added up where they lie in an image: the transpose of taking them out of it.

    Shapes: x (N, C * prod(block_shape), L), L the number of windows; y (N, C, *image_shape).
    Differs from ONNX Col2Im-18: the shapes are attributes. See: torch.nn.functional.fold.
    """

    image_shape: Shape
    block_shape: Ints
    strides: Ints
    pads: tuple[tuple[int, int], ...]
    dilations: Ints

    inputs: ClassVar[tuple[str, ...]] = ("x",)

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        rank = len(self.image_shape)
        lists = (self.block_shape, self.strides, self.pads, self.dilations)
        self.require(all(len(each) == rank for each in lists), f"{rank} axes are needed in {lists}")
        self.require(x.rank == 3, f"columns of rank 3 are needed, not {x}")
        area, channels = elements(self.block_shape), x.shape[1]
        self.require(isinstance(channels, Sym) or channels % area == 0, f"{channels} rows, no multiple of {area}")
        windows = elements(self._counts())
        known = isinstance(windows, int) and isinstance(x.shape[2], int)
        self.require(not known or windows == x.shape[2], f"{windows} windows, not {x.shape[2]}")
        return (TensorType(x.dtype, (x.shape[0], channels // area, *self.image_shape)),)

    def _counts(self) -> Shape:
        """How many windows there are along each axis."""
        return tuple(
            (size + sum(pads) - (block - 1) * dilation - 1) // stride + 1
            for size, block, stride, pads, dilation in zip(
                self.image_shape, self.block_shape, self.strides, self.pads, self.dilations, strict=True
            )
        )

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self._folded, x)

    def _folded(self, x: Array) -> Array:
        (kind,) = self.infer(TensorType(DType.of(x.dtype), x.shape))
        batch, channels, *image = (int(dim) for dim in kind.shape)  # type: ignore[arg-type]
        counts = [int(count) for count in self._counts()]  # type: ignore[arg-type]
        columns = x.reshape(batch, channels, *self.block_shape, *counts)
        padded = [size + sum(pads) for size, pads in zip(image, self.pads, strict=True)]
        y = np.zeros((batch, channels, *padded), x.dtype)
        for cell in product(*(range(size) for size in self.block_shape)):
            where: tuple[Any, ...] = tuple(
                slice(at * dilation, at * dilation + (count - 1) * stride + 1, stride)
                for at, dilation, count, stride in zip(cell, self.dilations, counts, self.strides, strict=True)
            )
            y[(..., *where)] += columns[(slice(None), slice(None), *cell)]  # type: ignore[arg-type]
        kept: tuple[Any, ...] = tuple(
            slice(begin, begin + size) for (begin, _), size in zip(self.pads, image, strict=True)
        )
        return y[(..., *kept)]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """The sum over the cells of a window of its elements in all windows, put where they lie in the image.

        Raises: GraphError for a window of more than 256 cells.
        """
        cells = list(product(*map(range, self.block_shape)))
        if len(cells) > _MOST:
            raise GraphError(f"Col2Im: a window of {len(cells)} cells is not taken apart")
        channels = x.shape[1] // len(cells)
        columns = b.emit(Reshape((x.shape[0], channels, len(cells), *self._counts())), x)
        parts = []
        for place, cell in enumerate(cells):
            part = b.emit(Gather(2), columns, b.constant(np.int64(place), "cell"))
            parts.append(self._placed(b, part, cell))
        return combined(b, Add(), parts)

    def _placed(self, b: Builder, part: Value, cell: tuple[int, ...]) -> Value:
        """Elements of one cell in all windows (N, C, *counts), `strides` apart in an image of zeros."""
        kept, counts = part.shape[:2], part.shape[2:]
        sizes = tuple(count * stride for count, stride in zip(counts, self.strides, strict=True))
        if any(stride > 1 for stride in self.strides):
            gaps = [pair for stride in self.strides for pair in ((0, 0), (0, stride - 1))]
            part = b.emit(Reshape((*kept, *(dim for count in counts for dim in (count, 1)))), part)
            part = b.emit(Pad(((0, 0), (0, 0), *gaps), "constant", 0), part)
            part = b.emit(Reshape((*kept, *sizes)), part)
        around = []
        for axis, (at, size) in enumerate(zip(cell, sizes, strict=True)):
            begin = at * self.dilations[axis] - self.pads[axis][0]
            around.append((begin, self.image_shape[axis] - begin - size))
        return b.emit(Pad(((0, 0), (0, 0), *around), "constant", 0), part)
