"""Convolution whose taps are moved."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.conv import Ints, window_output
from isomorph.ir.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Floor,
    GreaterOrEqual,
    Less,
    Mul,
    Sub,
    Where,
    scalar,
)  # fmt: skip
from isomorph.ir.ops.index import Gather, GatherElements
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.shape import Dims, Expand, Range, Reshape
from isomorph.ir.shapes import Dim, Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["DeformConv"]


@operation
class DeformConv(Op):
    """A convolution of images whose taps are moved by `offset` and weighed by `mask`, read by linear interpolation.

    Shapes: x (N, C, H, W); w (O, C / group, *K); offset (N, offset_group * 2 * prod(K), *D'), pairs (down, across) for
    each tap; b (O,); mask (N, offset_group * prod(K), *D'); y (N, O, *D'), D' as in `Conv`.
    See: ONNX DeformConv-22; torchvision.ops.deform_conv2d.
    """

    strides: Ints
    pads: tuple[tuple[int, int], ...]
    dilations: Ints
    group: int = 1
    offset_group: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "offset", "b?", "mask?")

    def infer(  # type: ignore[override]
        self,
        x: TensorType,
        w: TensorType,
        offset: TensorType,
        b: TensorType | None = None,
        mask: TensorType | None = None,
    ) -> tuple[TensorType, ...]:
        self.require_float(x)
        self.require_same_dtype(x, w, offset, b, mask)
        self.require(x.rank == w.rank == offset.rank == 4 and w.is_static, f"kernels {w} and offsets {offset} for {x}")
        kernel = (int(w.shape[2]), int(w.shape[3]))  # type: ignore[arg-type]
        taps, moved = kernel[0] * kernel[1], offset.shape[1]
        fits = isinstance(moved, Sym) or moved == 2 * taps * self.offset_group
        self.require(fits, f"offsets {offset} for {taps} taps in {self.offset_group} groups")
        sizes = window_output(x.shape[2:], kernel, self.strides, self.pads, self.dilations)
        return (TensorType(x.dtype, (x.shape[0], w.shape[0], *sizes)),)

    def decompose(  # type: ignore[override]
        self, b: Builder, x: Value, w: Value, offset: Value, *others: Value | None
    ) -> Value:
        """The four cells around each tap gathered and weighed, and a product with the kernels."""
        bias, mask = (*others, None, None)[:2]
        taps = _Taps(self, b, x, w, offset)
        read = taps.read(x)
        batch, channels, outputs = x.shape[0], x.shape[1], int(w.shape[0])  # type: ignore[arg-type]
        count, area = taps.count, elements(offset.shape[2:])
        if mask is not None:
            read = b.emit(Mul(), read, b.emit(Reshape((batch, self.offset_group, 1, count * area)), mask))
        rows = channels // self.group * count
        columns = b.emit(Reshape((batch, self.group, rows, area)), read)
        kernels = b.emit(Reshape((self.group, outputs // self.group, rows)), w)
        y = b.emit(Reshape((batch, outputs, *offset.shape[2:])), b.emit(MatMul(), kernels, columns))
        return y if bias is None else b.emit(Add(), y, b.emit(Reshape((outputs, 1, 1)), bias))

    def evaluate(self, x: Array, w: Array, offset: Array, b: Array | None = None, mask: Array | None = None) -> Array:  # type: ignore[override]
        return in_single(self._convolved, x, w, offset, b, mask)

    def _convolved(self, x: Array, w: Array, offset: Array, b: Array | None, mask: Array | None) -> Array:
        batch, channels = x.shape[:2]
        height, width = offset.shape[2:]
        taps = w.shape[2] * w.shape[3]
        moves = offset.reshape(batch, self.offset_group, taps, 2, height, width)
        weights = None if mask is None else mask.reshape(batch, self.offset_group, taps, height, width)
        columns = np.zeros((batch, channels, taps, height, width), x.dtype)
        each = channels // self.offset_group
        for tap, (down, across) in enumerate(np.ndindex(*w.shape[2:])):
            rows = np.arange(height)[:, None] * self.strides[0] - self.pads[0][0] + down * self.dilations[0]
            lines = np.arange(width)[None, :] * self.strides[1] - self.pads[1][0] + across * self.dilations[1]
            for image, group in np.ndindex(batch, self.offset_group):
                part = slice(group * each, (group + 1) * each)
                move = moves[image, group, tap]
                value = _read_between(x[image, part], rows + move[0], lines + move[1])
                columns[image, part, tap] = value if weights is None else value * weights[image, group, tap]
        grouped = columns.reshape(batch, self.group, -1, height, width)
        kernels = w.reshape(self.group, w.shape[0] // self.group, -1)
        y: Array = np.einsum("ngkhw,gok->ngohw", grouped, kernels).reshape(batch, -1, height, width)
        return y if b is None else (y + b[:, None, None]).astype(y.dtype)


class _Taps:
    """Where the taps of a deformable convolution lie, all at once: (N, G, K, H', W'), G the groups of offsets."""

    def __init__(self, op: DeformConv, b: Builder, x: Value, w: Value, offset: Value) -> None:
        self.op, self.b, self.like = op, b, x
        self.kernel = (int(w.shape[2]), int(w.shape[3]))  # type: ignore[arg-type]
        self.count = self.kernel[0] * self.kernel[1]
        self.shape = (x.shape[0], op.offset_group, self.count, *offset.shape[2:])
        moves = b.emit(Reshape((*self.shape[:3], 2, *self.shape[3:])), offset)
        self.at = [self._places(moves, axis) for axis in range(2)]

    def _places(self, moves: Value, axis: int) -> Value:
        """The coordinates along an axis of the image."""
        b, op = self.b, self.op
        taps = np.arange(self.count) // self.kernel[1] if axis == 0 else np.arange(self.count) % self.kernel[1]
        begins = (taps * op.dilations[axis] - op.pads[axis][0]).reshape(-1, 1, 1)
        windows = b.emit(Cast(self.like.dtype), b.emit(Range(0, 1, self.shape[3 + axis], DType.INT64)))
        windows = b.emit(Mul(), windows, scalar(b, op.strides[axis], windows))
        windows = b.emit(Reshape((self.shape[3 + axis], 1) if axis == 0 else (1, self.shape[4])), windows)
        begin = b.constant(begins.astype(self.like.dtype.numpy), "begin")
        still = b.emit(Add(), windows, begin)
        move = b.emit(Gather(3), moves, b.constant(np.int64(axis), "axis"))
        return b.emit(Add(), move, still)

    def read(self, x: Value) -> Value:
        """x at the taps by linear interpolation (N, G, C / G, K * H' * W'); cells outside are 0."""
        b, size = self.b, elements(self.shape[2:])
        batch, groups = self.shape[:2]
        each = x.shape[1] // groups
        cells = b.emit(Reshape((batch, groups, each, elements(x.shape[2:]))), x)
        width = self._size(x.shape[3], DType.INT64)
        corners = [[self._corner(axis, step, x.shape[2 + axis]) for step in (0, 1)] for axis in range(2)]
        total: Value | None = None
        for (row, down), (column, across) in product(*corners):
            place = b.emit(Reshape((batch, groups, 1, size)), b.emit(Add(), b.emit(Mul(), row, width), column))
            found = b.emit(GatherElements(3), cells, b.emit(Expand((batch, groups, each, size)), place))
            weight = b.emit(Reshape((batch, groups, 1, size)), b.emit(Mul(), down, across))
            part = b.emit(Mul(), found, weight)
            total = part if total is None else b.emit(Add(), total, part)
        assert total is not None  # there are four corners
        return total

    def _corner(self, axis: int, step: int, size: Dim) -> tuple[Value, Value]:
        """(index, weight) of the cells at the floor of the coordinates, or next to it; both 0 outside."""
        b, at = self.b, self.at[axis]
        place = b.emit(Floor(), at)
        if step:
            place = b.emit(Add(), place, scalar(b, 1, place))
        one, zero = scalar(b, 1, at), scalar(b, 0, at)
        weight = b.emit(Sub(), one, b.emit(Abs(), b.emit(Sub(), at, place)))
        inside = b.emit(And(), b.emit(GreaterOrEqual(), place, zero), b.emit(Less(), place, self._size(size, at.dtype)))
        index = b.emit(Cast(DType.INT64), b.emit(Where(), inside, place, zero))
        return index, b.emit(Where(), inside, weight, zero)

    def _size(self, size: Dim, dtype: DType) -> Value:
        if isinstance(size, int):
            return self.b.constant(np.asarray(size).astype(dtype.numpy), "size")
        known = self.b.emit(Dims((size,), scalar=True))
        return known if dtype is DType.INT64 else self.b.emit(Cast(dtype), known)


def _read_between(image: Array, rows: Array, columns: Array) -> Array:
    """image (C, H, W) at real coordinates by linear interpolation; cells outside are 0."""
    top, left = np.floor(rows), np.floor(columns)
    total = np.zeros((image.shape[0], *rows.shape), image.dtype)
    for down in (0, 1):
        for across in (0, 1):
            y, x = top + down, left + across
            weight = (1 - np.abs(rows - y)) * (1 - np.abs(columns - x))
            inside = (y >= 0) & (y < image.shape[1]) & (x >= 0) & (x < image.shape[2])
            cell = image[:, np.where(inside, y, 0).astype(int), np.where(inside, x, 0).astype(int)]
            total = total + np.where(inside, weight, 0) * cell
    return total
