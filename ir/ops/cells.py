"""The cells of sliding windows as strided slices: what pools are put together from where a target lacks a window.

A window of K cells is K slices, one for each cell of the window, of the shape of the result each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any

from isomorph.errors import GraphError
from isomorph.ir.op import Op
from isomorph.ir.ops.conv import resolve_pads, window_output
from isomorph.ir.ops.elementwise import Add
from isomorph.ir.ops.shape import ConstantOfShape, Pad, Slice
from isomorph.ir.shapes import Dim, dim_max

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["cell_counts", "combined", "window_cells"]

_MOST = 256
"""Windows of more cells are not taken apart."""

Pairs = list[tuple[Dim, Dim]]


def window_cells(op: Any, b: Builder, x: Value, value: float) -> list[Value]:
    """The cells of an op's windows over x, in row-major order, with `value` in the padding and behind it.

    Raises: GraphError for a window of more than 256 cells, and for padding that depends on a symbolic size.
    """
    stated, beyond = _pads(op, x)
    whole = [(begin, end + more) for (begin, end), (_, more) in zip(stated, beyond, strict=True)]
    return _slices(op, b, _padded(op, b, x, whole, value), x)


def cell_counts(op: Any, b: Builder, x: Value) -> Value:
    """How many cells of each window an average counts: those inside the data, or its padding as well; others are 1."""
    spatial = op.layout.spatial_axes(x.rank)
    shape = tuple(size if axis in spatial else 1 for axis, size in enumerate(x.shape))
    stated, beyond = _pads(op, x)
    cells = b.emit(ConstantOfShape(shape, 1.0, x.dtype))
    cells = _padded(op, b, cells, stated, 1.0 if op.count_include_pad else 0.0)
    return combined(b, Add(), _slices(op, b, _padded(op, b, cells, beyond, 0.0), x))


def combined(b: Builder, op: Op, values: Sequence[Value]) -> Value:
    """All values under an operation, from left to right."""
    return reduce(lambda total, value: b.emit(op, total, value), values)


def _sizes(op: Any, x: Value) -> list[Dim]:
    return [x.shape[axis] for axis in op.layout.spatial_axes(x.rank)]


def _pads(op: Any, x: Value) -> tuple[Pairs, Pairs]:
    """(begin, end) of the padding along each spatial axis, and (0, what a last window reaches beyond it)."""
    sizes = _sizes(op, x)
    pads = resolve_pads(op.pads, sizes, op.kernel_shape, op.strides, op.dilations)
    if pads is None:
        raise GraphError(f"{op.name}: the padding {op.pads!r} depends on a symbolic size")
    counts = window_output(sizes, op.kernel_shape, op.strides, pads, op.dilations, ceil_mode=op.ceil_mode)
    beyond: Pairs = []
    for axis, (begin, end) in enumerate(pads):
        needed = (counts[axis] - 1) * op.strides[axis] + (op.kernel_shape[axis] - 1) * op.dilations[axis] + 1
        more = dim_max(needed - sizes[axis] - begin - end, 0) if op.ceil_mode else 0
        beyond.append((0, more))
    return list(pads), beyond


def _padded(op: Any, b: Builder, x: Value, pads: Pairs, value: float) -> Value:
    if all(pair == (0, 0) for pair in pads):
        return x
    whole: Pairs = [(0, 0)] * x.rank
    for axis, pair in zip(op.layout.spatial_axes(x.rank), pads, strict=True):
        whole[axis] = pair
    return b.emit(Pad(tuple(whole), "constant", value), x)


def _slices(op: Any, b: Builder, padded: Value, x: Value) -> list[Value]:
    """One slice of padded data for each cell of the window."""
    axes = tuple(op.layout.spatial_axes(x.rank))
    pads = resolve_pads(op.pads, _sizes(op, x), op.kernel_shape, op.strides, op.dilations)
    counts = window_output(_sizes(op, x), op.kernel_shape, op.strides, pads, op.dilations, ceil_mode=op.ceil_mode)  # type: ignore[arg-type]
    cells = list(product(*map(range, op.kernel_shape)))
    if len(cells) > _MOST:
        raise GraphError(f"{op.name}: a window of {len(cells)} cells is not taken apart")
    found = []
    for cell in cells:
        starts = tuple(at * dilation for at, dilation in zip(cell, op.dilations, strict=True))
        ends = tuple(
            start + (count - 1) * stride + 1 for start, count, stride in zip(starts, counts, op.strides, strict=True)
        )
        found.append(b.emit(Slice(axes, starts, ends, tuple(op.strides)), padded))
    return found
