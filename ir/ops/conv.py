"""Convolutions: cross-correlation, its transpose, and the separable pair. Kernels are O-I-spatial in every layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np

from isomorph.errors import ShapeError
from isomorph.ir.dtypes import DType
from isomorph.ir.layout import Layout, LayoutRule, to_channels_first, to_channels_last
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.numerics import Array, in_single, padded, windows
from isomorph.ir.shapes import Dim, Shape, Sym, ceil_div, dim_min

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "Conv", "ConvTranspose", "Pads", "SeparableConv", "check_window", "from_channels_first", "in_channels_first",
    "resolve_pads", "static_pads", "window_output",
]  # fmt: skip

Ints: TypeAlias = tuple[int, ...]
Pads: TypeAlias = tuple[tuple[int, int], ...] | Literal["same_upper", "same_lower"]
"""(begin, end) for each spatial axis, or "same_*": D' = ceil(D / stride).

An odd cell of padding goes to the end ("same_upper") or to the begin ("same_lower").
"""


def resolve_pads(
    pads: Pads, spatial: Sequence[Dim], kernel: Sequence[Dim], strides: Ints, dilations: Ints
) -> tuple[tuple[int, int], ...] | None:
    """Explicit (begin, end) pairs for "same_*", or None where they depend on a symbolic size."""
    if not isinstance(pads, str):
        return pads
    resolved = []
    for size, window, stride, dilation in zip(spatial, kernel, strides, dilations, strict=True):
        if isinstance(window, Sym):
            return None
        extent = (window - 1) * dilation + 1
        if isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + extent - size, 0)
        elif stride == 1:
            total = extent - 1
        else:
            return None
        small, large = total // 2, total - total // 2
        resolved.append((small, large) if pads == "same_upper" else (large, small))
    return tuple(resolved)


def window_output(
    spatial: Sequence[Dim],
    kernel: Sequence[Dim],
    strides: Ints,
    pads: Pads,
    dilations: Ints,
    *,
    ceil_mode: bool = False,
) -> Shape:
    """Output sizes of a sliding window.

    D' = floor((D + begin + end - (K - 1) * dilation - 1) / stride) + 1; with `ceil_mode` the quotient is rounded up,
    and a last window that would start in the end padding is dropped (as torch and ONNX since opset 22 say).
    """
    sizes: list[Dim] = []
    for axis, (size, window, stride, dilation) in enumerate(zip(spatial, kernel, strides, dilations, strict=True)):
        if isinstance(pads, str):
            sizes.append(ceil_div(size, stride))
            continue
        begin, end = pads[axis]
        room = size + (begin + end - (window - 1) * dilation - 1)
        if not ceil_mode or stride == 1:
            sizes.append(room // stride + 1)
            continue
        count = ceil_div(room, stride) + 1
        if isinstance(count, int) and isinstance(size, int):
            if (count - 1) * stride >= size + begin:
                count -= 1
        elif isinstance(window, Sym) or end + stride > (window - 1) * dilation + 1:
            # only then can a last window start beyond size + begin - 1
            count = dim_min(count, (size + (begin - 1)) // stride + 1)
        sizes.append(count)
    return tuple(sizes)


def static_pads(
    pads: Pads, spatial: Sequence[int], kernel: Ints, strides: Ints, dilations: Ints
) -> tuple[tuple[int, int], ...]:
    """`resolve_pads` where the sizes are known, as they are in an evaluation."""
    resolved = resolve_pads(pads, spatial, kernel, strides, dilations)
    if resolved is None:
        raise ShapeError(f"pads {pads!r} depend on a symbolic size")
    return resolved


def in_channels_first(layout: Layout, array: Array) -> Array:
    """Data in `layout` as a view (N, C, *D)."""
    return array if layout is Layout.CHANNELS_FIRST else array.transpose(to_channels_first(array.ndim))


def from_channels_first(layout: Layout, array: Array) -> Array:
    """Data (N, C, *D) as a view in `layout`."""
    return array if layout is Layout.CHANNELS_FIRST else array.transpose(to_channels_last(array.ndim))


def check_window(op: Op, rank: int, *lists: tuple[str, Sequence[Any] | str]) -> None:
    """Require an entry for each spatial axis in each list, and strides, dilations and windows of at least 1."""
    for name, values in lists:
        fits = isinstance(values, str) or len(values) == rank
        op.require(fits, f"{name} has {len(values)} entries for {rank} spatial axes")
        if name in ("kernel_shape", "strides", "dilations"):
            op.require(all(int(value) > 0 for value in values), f"{name} {values} are not positive")


def _require_channels(op: Op, group: int, divided: Dim, made: Dim, b: TensorType | None) -> None:
    """Require that `group` divides one number of channels, and a bias for each of those that are made."""
    fits = isinstance(divided, Sym) or divided % max(group, 1) == 0
    op.require(group > 0 and fits, f"{divided} channels of the kernel, group={group}")
    known = b is None or (b.rank == 1 and (isinstance(b.shape[0], Sym) or isinstance(made, Sym) or b.shape == (made,)))
    op.require(known, f"bias {b} for {made} output channels")


@operation
class Conv(Op):
    """N-d cross-correlation with optional bias.

    y[n, o, p] = b[o] + sum_{c, k} w[o, c, k] * x[n, g(o) * C/group + c, p * strides + k * dilations - pads.begin]

    Shapes: x (N, C, *D) in `layout`; w (O, C / group, *K), always O-I-spatial; b (O,); y (N, O, *D') in `layout`.
    D'[i] = floor((D[i] + begin[i] + end[i] - (K[i] - 1) * dilations[i] - 1) / strides[i]) + 1
    Sizes may be symbolic, those of the kernel as well.
    Raises: ShapeError if C != group * w.shape[1], or O % group != 0.
    Differs from ONNX: `layout` may be channels-last; `pads` are (begin, end) pairs or "same_upper" / "same_lower".
    See: ONNX Conv-22; torch.nn.functional.conv2d; keras.layers.Conv2D.
    """

    strides: Ints
    pads: Pads
    dilations: Ints
    group: int = 1
    layout: Layout = Layout.CHANNELS_FIRST

    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "b?")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        spatial_rank = w.rank - 2
        self.require(w.rank >= 3, "a kernel of rank 3 or more is needed")
        if x.rank != w.rank:
            raise ShapeError(f"{self.name}: data {x} and kernel {w} differ in rank")
        check_window(self, spatial_rank, ("strides", self.strides), ("pads", self.pads), ("dilations", self.dilations))
        batch, channels, spatial = self.layout.split(x.shape)
        out_channels, group_channels, *kernel = w.shape
        taken = group_channels * self.group
        if not (isinstance(channels, Sym) or isinstance(taken, Sym) or channels == taken):
            reason = f"{channels} input channels, the kernel {w} with group={self.group} takes {taken}"
            raise ShapeError(f"{self.name}: {reason}")
        _require_channels(self, self.group, out_channels, out_channels, b)
        dtype = self.require_same_dtype(x, w, b)
        sizes = window_output(spatial, tuple(kernel), self.strides, self.pads, self.dilations)
        if any(not isinstance(size, Sym) and size < 0 for size in sizes):
            raise ShapeError(f"{self.name}: the kernel {w} does not fit into the data {x}")
        return (TensorType(dtype, self.layout.join(batch, out_channels, sizes)),)

    def evaluate(self, x: Array, w: Array, b: Array | None = None) -> Array:  # type: ignore[override]
        return from_channels_first(self.layout, in_single(self._correlated, in_channels_first(self.layout, x), w, b))

    def _correlated(self, x: Array, w: Array, b: Array | None) -> Array:
        """One matrix product for each group over the unfolded windows: x (N, C, *D) to y (N, O, *D')."""
        kernel = w.shape[2:]
        pads = static_pads(self.pads, x.shape[2:], kernel, self.strides, self.dilations)
        view = windows(padded(x, ((0, 0), (0, 0), *pads), 0), kernel, self.strides, self.dilations)
        batch, _, *rest = view.shape
        sizes, rank, group = rest[: len(kernel)], len(kernel), self.group
        # (N, G, C / G, *D', *K) -> (G, N, *D', C / G, *K) -> (G, N * D', C / G * K)
        split = view.reshape(batch, group, w.shape[1], *rest)
        order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
        columns = split.transpose(order).reshape(group, -1, w[0].size)
        product = columns @ w.reshape(group, w.shape[0] // group, w[0].size).transpose(0, 2, 1)
        y = np.moveaxis(product.reshape(group, batch, *sizes, -1), 0, -2).reshape(batch, *sizes, w.shape[0])
        return np.moveaxis(y if b is None else y + b, -1, 1)


@operation
class ConvTranspose(Op):
    """The transpose (gradient with respect to the data) of `Conv`, also called deconvolution.

    y[n, o, q] = b[o] + sum over (c, p, k) with q = p * strides + k * dilations - pads.begin of x[n, c, p] * w[c, o, k]

    Shapes: x (N, C, *D) in `layout`; w (C, O / group, *K); b (O,); y (N, O, *D') in `layout`.
    D'[i] = (D[i] - 1) * strides[i] + (K[i] - 1) * dilations[i] + 1 + output_padding[i] - begin[i] - end[i]
    Differs from ONNX: no output_shape and no auto_pad (readers resolve them); `layout` may be channels-last.
    See: ONNX ConvTranspose-22; torch.nn.functional.conv_transpose2d; keras.layers.Conv2DTranspose.
    """

    strides: Ints
    pads: tuple[tuple[int, int], ...]
    dilations: Ints
    output_padding: Ints
    group: int = 1
    layout: Layout = Layout.CHANNELS_FIRST

    inputs: ClassVar[tuple[str, ...]] = ("x", "w", "b?")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType, w: TensorType, b: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(w.rank >= 3, f"a kernel of rank 3 or more is needed, not {w}")
        self.require(x.rank == w.rank, f"data {x} and kernel {w} differ in rank")
        lists = (
            ("strides", self.strides),
            ("pads", self.pads),
            ("dilations", self.dilations),
            ("output_padding", self.output_padding),
        )
        check_window(self, w.rank - 2, *lists)
        batch, channels, spatial = self.layout.split(x.shape)
        in_channels, group_channels, *kernel = w.shape
        self.require(
            isinstance(channels, Sym) or isinstance(in_channels, Sym) or channels == in_channels,
            f"{channels} input channels, the kernel {w} takes {in_channels}",
        )
        out_channels = group_channels * self.group
        _require_channels(self, self.group, in_channels, out_channels, b)
        sizes = [
            (size - 1) * stride + (window - 1) * dilation + 1 + extra - begin - end
            for size, window, stride, (begin, end), dilation, extra in zip(
                spatial, kernel, self.strides, self.pads, self.dilations, self.output_padding, strict=True
            )
        ]
        for size in sizes:
            self.require(isinstance(size, Sym) or size >= 0, f"pads {self.pads} cut more off than there is of {x}")
        return (TensorType(self.require_same_dtype(x, w, b), self.layout.join(batch, out_channels, sizes)),)

    def evaluate(self, x: Array, w: Array, b: Array | None = None) -> Array:  # type: ignore[override]
        return from_channels_first(self.layout, in_single(self._scattered, in_channels_first(self.layout, x), w, b))

    def _scattered(self, x: Array, w: Array, b: Array | None) -> Array:
        """Adds x times each cell of the kernel into the place that the cell reaches."""
        batch, channels, *spatial = x.shape
        group, kernel = self.group, w.shape[2:]
        extents = [
            (size - 1) * stride + (window - 1) * dilation + 1
            for size, window, stride, dilation in zip(spatial, kernel, self.strides, self.dilations, strict=True)
        ]
        full = np.zeros((batch, group, w.shape[1], *extents), x.dtype)
        data = x.reshape(batch, group, channels // group, *spatial)
        cells = w.reshape(group, channels // group, *w.shape[1:])
        for cell in np.ndindex(*kernel):
            starts = [index * dilation for index, dilation in zip(cell, self.dilations, strict=True)]
            places: tuple[Any, ...] = tuple(
                slice(start, start + (size - 1) * stride + 1, stride)
                for start, size, stride in zip(starts, spatial, self.strides, strict=True)
            )
            full[..., *places] += np.einsum("ngc...,gco->ngo...", data, cells[..., *cell])
        y = full.reshape(batch, group * w.shape[1], *extents)
        crops = [(-begin, extra - end) for (begin, end), extra in zip(self.pads, self.output_padding, strict=True)]
        y = padded(y, ((0, 0), (0, 0), *crops), 0)
        return y if b is None else y + b.reshape(-1, *(1,) * len(kernel))


@operation
class SeparableConv(Op):
    """A depthwise convolution followed by a pointwise one, kept as the one layer that the source stated.

    y = Conv(Conv(x, depthwise, group=C), pointwise, b), the strides, pads and dilations belonging to the first.

    Shapes: x (N, C, *D) in `layout`; depthwise (C * M, 1, *K) with channel c * M + m for multiplier index m;
    pointwise (O, C * M, 1, ...); b (O,); y (N, O, *D').
    See: keras.layers.SeparableConv2D.
    """

    strides: Ints
    pads: Pads
    dilations: Ints
    layout: Layout = Layout.CHANNELS_FIRST

    inputs: ClassVar[tuple[str, ...]] = ("x", "depthwise", "pointwise", "b?")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def _pair(self, x: TensorType, pointwise: TensorType) -> tuple[Conv, Conv]:
        _, channels, _ = self.layout.split(x.shape)
        self.require(isinstance(channels, int), f"a static number of channels is needed, not {x}")
        ones = (1,) * (pointwise.rank - 2)
        first = Conv(self.strides, self.pads, self.dilations, int(channels), self.layout)  # type: ignore[arg-type]
        return first, Conv(ones, ((0, 0),) * len(ones), ones, 1, self.layout)

    def infer(  # type: ignore[override]
        self, x: TensorType, depthwise: TensorType, pointwise: TensorType, b: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        first, second = self._pair(x, pointwise)
        (hidden,) = first.infer(x, depthwise)
        return second.infer(hidden, pointwise, b)

    def evaluate(self, x: Array, depthwise: Array, pointwise: Array, b: Array | None = None) -> Array:  # type: ignore[override]
        first, second = self._pair(*(TensorType(DType.of(array.dtype), array.shape) for array in (x, pointwise)))
        return second.evaluate(first.evaluate(x, depthwise), pointwise, b)

    def decompose(self, b: Builder, x: Value, depthwise: Value, pointwise: Value, bias: Value | None = None) -> Value:  # type: ignore[override]
        first, second = self._pair(x.type, pointwise.type)
        return b.emit(second, b.emit(first, x, depthwise), pointwise, bias)
