"""Pooling over windows, over everything, and to a given output size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isomorph.ir.layout import Layout, LayoutRule
from isomorph.ir.op import Op, TensorType
from isomorph.ir.ops.conv import Ints, Pads, window_output
from isomorph.ir.ops.reduce import ReduceMax, ReduceMean
from isomorph.ir.shapes import Shape, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"]


@dataclass(frozen=True, slots=True)
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
        return (TensorType(x.dtype, _pooled(self, x, self.kernel_shape, self.strides, self.pads, self.dilations, self.ceil_mode)),)


@dataclass(frozen=True, slots=True)
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
        return (TensorType(x.dtype, _pooled(self, x, self.kernel_shape, self.strides, self.pads, self.dilations, self.ceil_mode)),)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class GlobalMaxPool(Op):
    """Maximum over all spatial axes. Shapes as in `GlobalAveragePool`."""

    keepdims: bool = True
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(x.dtype, _global_shape(self, x, self.keepdims)),)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        return b.emit(ReduceMax(tuple(self.layout.spatial_axes(x.rank)), self.keepdims), x)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class AdaptiveMaxPool(Op):
    """Maximum over the windows of `AdaptiveAveragePool`. See: torch.nn.functional.adaptive_max_pool2d."""

    output_size: tuple[int | None, ...]
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (TensorType(x.dtype, _adaptive_shape(self, x, self.output_size)),)


def _pooled(
    op: MaxPool | AveragePool, x: TensorType, kernel: Ints, strides: Ints, pads: Pads, dilations: Ints, ceil_mode: bool
) -> Shape:
    op.require(x.rank == len(kernel) + 2, f"a window of {len(kernel)} axes does not fit data {x}")
    for name, values in (("strides", strides), ("pads", pads), ("dilations", dilations)):
        op.require(isinstance(values, str) or len(values) == len(kernel), f"{name} has {len(values)} entries for {len(kernel)} axes")
    batch, channels, spatial = op.layout.split(x.shape)
    sizes = window_output(spatial, kernel, strides, pads, dilations, ceil_mode=ceil_mode)
    for size in sizes:
        op.require(isinstance(size, Sym) or size >= 0, f"the window {kernel} does not fit into the data {x}")
    return op.layout.join(batch, channels, sizes)


def _global_shape(op: GlobalAveragePool | GlobalMaxPool, x: TensorType, keepdims: bool) -> Shape:
    op.require(x.rank >= 3, f"data of rank 3 or more is needed, not {x}")
    batch, channels, spatial = op.layout.split(x.shape)
    return op.layout.join(batch, channels, (1,) * len(spatial)) if keepdims else (batch, channels)


def _adaptive_shape(op: AdaptiveAveragePool | AdaptiveMaxPool, x: TensorType, output_size: tuple[int | None, ...]) -> Shape:
    batch, channels, spatial = op.layout.split(x.shape)
    op.require(len(spatial) == len(output_size), f"output_size {output_size} does not fit data {x}")
    sizes = [size if wanted is None else wanted for size, wanted in zip(spatial, output_size, strict=True)]
    return op.layout.join(batch, channels, sizes)
