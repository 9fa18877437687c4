"""Pooling over windows, over everything, and to a given output size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.layout import Layout, LayoutRule
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.cells import cell_counts, combined, window_cells
from isomorph.ir.ops.conv import (
    Ints,
    Pads,
    check_window,
    from_channels_first,
    in_channels_first,
    static_pads,
    window_output,
)
from isomorph.ir.ops.elementwise import Add, Div, Identity, Max, scalar
from isomorph.ir.ops.numerics import Array, in_single, padded, windows
from isomorph.ir.ops.reduce import ReduceMax, ReduceMean
from isomorph.ir.ops.shape import Concat, Slice
from isomorph.ir.shapes import Shape, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool",
    "pooled_shape", "pooled_windows",
]  # fmt: skip


@operation
class MaxPool(Op):
    """Maximum over sliding windows; padding counts as minus infinity.

    Shapes: x (N, C, *D) in `layout`; y (N, C, *D'), D' as in `window_output`.
    See: ONNX MaxPool-22 (without Indices); torch.nn.functional.max_pool2d; keras.layers.MaxPooling2D.
    """

    kernel_shape: Ints
    strides: Ints
    pads: Pads
    dilations: Ints
    ceil_mode: bool = False
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(x.dtype, pooled_shape(self, x)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        dtype = DType.of(x.dtype)
        lowest: Any = -np.inf if dtype.is_float else False if dtype is DType.BOOL else np.iinfo(x.dtype).min
        data = in_channels_first(self.layout, x)
        view = _windows(self, data, _window_pads(self, data), lowest)
        return from_channels_first(self.layout, view.max(_kernel_axes(self)))

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """The largest of the cells of a window, each of which is a slice."""
        self.require(x.dtype.is_float, "only windows over floating-point numbers are taken apart")
        return combined(b, Max(), window_cells(self, b, x, -math.inf))


@operation
class AveragePool(Op):
    """Mean over sliding windows.

    The divisor of a window is the number of its cells inside the data, or with `count_include_pad` inside the data and
    its padding. Cells beyond the padding (a last window under `ceil_mode`) never count.

    Shapes: x (N, C, *D) in `layout`; y (N, C, *D'), D' as in `window_output`.
    See: ONNX AveragePool-22; torch.nn.functional.avg_pool2d; keras.layers.AveragePooling2D.
    """

    kernel_shape: Ints
    strides: Ints
    pads: Pads
    dilations: Ints
    ceil_mode: bool = False
    count_include_pad: bool = False
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (TensorType(x.dtype, pooled_shape(self, x)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return from_channels_first(self.layout, in_single(self._mean, in_channels_first(self.layout, x)))

    def _mean(self, x: Array) -> Array:
        pads = _window_pads(self, x)
        total = _windows(self, x, pads, 0).sum(_kernel_axes(self))
        cells = np.ones((1, 1, *x.shape[2:]), x.dtype)
        if self.count_include_pad:
            given = static_pads(self.pads, x.shape[2:], self.kernel_shape, self.strides, self.dilations)
            cells = padded(cells, ((0, 0), (0, 0), *given), 1)
            pads = tuple((0, end - counted) for (_, end), (_, counted) in zip(pads, given, strict=True))
        return total / _windows(self, cells, pads, 0).sum(_kernel_axes(self))  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """The sum of the cells of a window, each of which is a slice, over their number."""
        total = combined(b, Add(), window_cells(self, b, x, 0.0))
        padded = isinstance(self.pads, str) or any(any(pair) for pair in self.pads)
        if self.ceil_mode or (padded and not self.count_include_pad):
            return b.emit(Div(), total, cell_counts(self, b, x))
        return b.emit(Div(), total, scalar(b, int(np.prod(self.kernel_shape)), x))


@operation
class GlobalAveragePool(Op):
    """Mean over all spatial axes.

    Shapes: x (N, C, *D) in `layout`; y (N, C, 1, ...) in `layout`, or (N, C) without `keepdims`.
    Differs from ONNX: `keepdims` may be False. See: keras.layers.GlobalAveragePooling2D.
    """

    keepdims: bool = True
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (TensorType(x.dtype, _global_shape(self, x, self.keepdims)),)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(ReduceMean(tuple(self.layout.spatial_axes(x.rank)), self.keepdims), x)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return ReduceMean(tuple(self.layout.spatial_axes(x.ndim)), self.keepdims).evaluate(x)


@operation
class GlobalMaxPool(Op):
    """Maximum over all spatial axes. Shapes as in `GlobalAveragePool`."""

    keepdims: bool = True
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(x.dtype, _global_shape(self, x, self.keepdims)),)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(ReduceMax(tuple(self.layout.spatial_axes(x.rank)), self.keepdims), x)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return ReduceMax(tuple(self.layout.spatial_axes(x.ndim)), self.keepdims).evaluate(x)


@operation
class AdaptiveAveragePool(Op):
    """Mean over windows that divide each spatial axis into `output_size` parts (None keeps the axis).

    Window i of an axis of size D covers cells floor(i * D / out) up to ceil((i + 1) * D / out), exclusive.

    Shapes: x (N, C, *D) in `layout`; y (N, C, *output_size).
    See: torch.nn.functional.adaptive_avg_pool2d.
    """

    output_size: tuple[int | None, ...]
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        return (TensorType(x.dtype, _adaptive_shape(self, x, self.output_size)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self._reduced, x)

    def _reduced(self, x: Array) -> Array:
        for axis, wanted in zip(self.layout.spatial_axes(x.ndim), self.output_size, strict=True):
            cells = _cells(x.shape[axis], wanted)
            x = np.concatenate([np.mean(x.take(range(*cell), axis), axis, keepdims=True) for cell in cells], axis)
        return x

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return _emit_adaptive(self, b, x)


@operation
class AdaptiveMaxPool(Op):
    """Maximum over the windows of `AdaptiveAveragePool`. See: torch.nn.functional.adaptive_max_pool2d."""

    output_size: tuple[int | None, ...]
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(x.dtype, _adaptive_shape(self, x, self.output_size)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self._reduced, x)

    def _reduced(self, x: Array) -> Array:
        for axis, wanted in zip(self.layout.spatial_axes(x.ndim), self.output_size, strict=True):
            cells = _cells(x.shape[axis], wanted)
            x = np.concatenate([np.max(x.take(range(*cell), axis), axis, keepdims=True) for cell in cells], axis)
        return x

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return _emit_adaptive(self, b, x)


def pooled_shape(op: Any, x: TensorType) -> Shape:
    """The shape that an op with the attributes of a pool gives."""
    kernel = op.kernel_shape
    op.require(x.rank == len(kernel) + 2, f"a window of {len(kernel)} axes does not fit data {x}")
    lists = (("kernel_shape", kernel), ("strides", op.strides), ("pads", op.pads), ("dilations", op.dilations))
    check_window(op, len(kernel), *lists)
    batch, channels, spatial = op.layout.split(x.shape)
    sizes = window_output(spatial, kernel, op.strides, op.pads, op.dilations, ceil_mode=op.ceil_mode)
    for size in sizes:
        op.require(isinstance(size, Sym) or size >= 0, f"the window {kernel} does not fit into the data {x}")
    return tuple(op.layout.join(batch, channels, sizes))


def _kernel_axes(op: MaxPool | AveragePool) -> tuple[int, ...]:
    """Axes of the window's cells in what `windows` gives."""
    return tuple(range(-len(op.kernel_shape), 0))


def _window_pads(op: Any, x: Array) -> tuple[tuple[int, int], ...]:
    """The pads of x (N, C, *D), with the end that the last window reaches: further out, or less far, than stated."""
    spatial = x.shape[2:]
    pads = static_pads(op.pads, spatial, op.kernel_shape, op.strides, op.dilations)
    counts = window_output(spatial, op.kernel_shape, op.strides, pads, op.dilations, ceil_mode=op.ceil_mode)
    reach = (
        (int(count) - 1) * stride + (window - 1) * dilation + 1  # type: ignore[arg-type]
        for count, stride, window, dilation in zip(counts, op.strides, op.kernel_shape, op.dilations, strict=True)
    )
    return tuple((begin, need - size - begin) for (begin, _), need, size in zip(pads, reach, spatial, strict=True))


def _windows(op: Any, x: Array, pads: tuple[tuple[int, int], ...], value: Any) -> Array:
    return windows(padded(x, ((0, 0), (0, 0), *pads), value), op.kernel_shape, op.strides, op.dilations)


def pooled_windows(op: Any, x: Array, value: Any) -> Array:
    """The windows of a pooling op over x (N, C, *D) as (N, C, *D', *K), with `value` in the padding."""
    return _windows(op, x, _window_pads(op, x), value)


def _global_shape(op: GlobalAveragePool | GlobalMaxPool, x: TensorType, keepdims: bool) -> Shape:
    op.require(x.rank >= 3, f"data of rank 3 or more is needed, not {x}")
    batch, channels, spatial = op.layout.split(x.shape)
    return op.layout.join(batch, channels, (1,) * len(spatial)) if keepdims else (batch, channels)


def _adaptive_shape(
    op: AdaptiveAveragePool | AdaptiveMaxPool, x: TensorType, output_size: tuple[int | None, ...]
) -> Shape:
    batch, channels, spatial = op.layout.split(x.shape)
    op.require(len(spatial) == len(output_size), f"output_size {output_size} does not fit data {x}")
    op.require(all(size is None or size > 0 for size in output_size), f"output_size {output_size} is not positive")
    sizes = [size if wanted is None else wanted for size, wanted in zip(spatial, output_size, strict=True)]
    return op.layout.join(batch, channels, sizes)


def _cells(size: int, wanted: int | None) -> list[tuple[int, int]]:
    """The (begin, end) of every output cell of an adaptive window."""
    count = size if wanted is None else wanted
    return [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]


_MOST_CELLS = 64


def _emit_adaptive(op: AdaptiveAveragePool | AdaptiveMaxPool, b: Builder, x: Value) -> Value:
    """One axis after another: whole axes by a reduction, even parts by one pool, uneven ones cell by cell."""
    average = isinstance(op, AdaptiveAveragePool)
    kernel = [1] * len(op.output_size)
    whole, uneven = [], []
    for index, (axis, wanted) in enumerate(zip(op.layout.spatial_axes(x.rank), op.output_size, strict=True)):
        size = x.shape[axis]
        if wanted is None or wanted == size:
            continue
        if wanted == 1:
            whole.append(axis)
            continue
        op.require(isinstance(size, int), f"the windows of {x.type} for output_size {op.output_size} depend on {size}")
        count = int(size)  # type: ignore[arg-type]
        op.require(count % wanted == 0 or wanted <= _MOST_CELLS, f"{wanted} uneven windows are more than {_MOST_CELLS}")
        if count % wanted == 0:
            kernel[index] = count // wanted
        else:
            uneven.append((axis, _cells(count, wanted)))
    if len(whole) == len(kernel):
        return b.emit((GlobalAveragePool if average else GlobalMaxPool)(layout=op.layout), x)
    reduce = ReduceMean if average else ReduceMax
    y = b.emit(reduce(tuple(whole)), x) if whole else x
    if any(size > 1 for size in kernel):
        ones, pads = (1,) * len(kernel), ((0, 0),) * len(kernel)
        y = b.emit((AveragePool if average else MaxPool)(tuple(kernel), tuple(kernel), pads, ones, layout=op.layout), y)
    for axis, cells in uneven:
        parts = [b.emit(reduce((axis,)), b.emit(Slice((axis,), (begin,), (end,), (1,)), y)) for begin, end in cells]
        y = b.emit(Concat(axis), *parts)
    return b.emit(Identity(), x) if y is x else y
