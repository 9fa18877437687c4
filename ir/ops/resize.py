"""Resampling of spatial axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from isomorph.ir.layout import Layout, LayoutRule
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.elementwise import Identity
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.shape import Reshape
from isomorph.ir.shapes import Dim, Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Resize"]


@operation
class Resize(Op):
    """x resampled to `sizes` along its spatial axes.

    An output coordinate o maps to the input coordinate, with s = `scales` (default: out / in):
        half_pixel          (o + 0.5) / s - 0.5
        pytorch_half_pixel  the same, but 0 where the output size is 1 (ONNX's name: today's PyTorch is half_pixel)
        align_corners       o * (in - 1) / (out - 1)
        asymmetric          o / s
    "nearest" rounds it by `nearest_mode`; "linear" and "cubic" (with coefficient `cubic_coeff_a`) interpolate, with
    `antialias` widened by 1 / s when shrinking; cells beyond the border repeat it, or with `exclude_outside` weigh 0.

    Shapes: x (N, C, *D) in `layout`; y (N, C, *sizes).
    Differs from ONNX Resize-19: sizes always given, spatial axes only. `scales` is kept where the source stated it, as
    it changes the coordinates when sizes are rounded. See: torch.nn.functional.interpolate; keras.layers.UpSampling2D.
    """

    sizes: tuple[Dim, ...]
    scales: tuple[float, ...] | None = None
    mode: Literal["nearest", "linear", "cubic"] = "nearest"
    coordinates: Literal["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"] = "half_pixel"
    nearest_mode: Literal["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require(x.rank == len(self.sizes) + 2, f"{len(self.sizes)} sizes for {x}")
        self.require(self.scales is None or len(self.scales) == len(self.sizes), f"scales {self.scales} for {x}")
        positive = all(isinstance(size, Sym) or size > 0 for size in self.sizes)
        self.require(positive, f"sizes {self.sizes} are not positive")
        self.require(self.scales is None or min(self.scales) > 0, f"scales {self.scales} are not positive")
        batch, channels, _ = self.layout.split(x.shape)
        return (TensorType(x.dtype, self.layout.join(batch, channels, self.sizes)),)

    def coordinates_of(self, index: int, size: int) -> Array:
        """The input coordinate, float64, of each output cell along spatial axis `index` of input size `size`."""
        count = int(self.sizes[index])  # type: ignore[arg-type]
        cells = np.arange(count, dtype=np.float64)
        if self.coordinates == "align_corners":
            return cells * (size - 1) / max(count - 1, 1)
        if self.coordinates == "pytorch_half_pixel" and count == 1:
            return np.zeros(1)
        if self.scales is not None:
            scale = self.scales[index]
            return cells / scale if self.coordinates == "asymmetric" else (cells + 0.5) / scale - 0.5
        # exact integers, divided once: a coordinate that is whole comes out whole, and is not rounded to its neighbor
        if self.coordinates == "asymmetric":
            return cells * size / count
        return ((2 * cells + 1) * size - count) / (2 * count)

    def _scale(self, index: int, size: int) -> float:
        return int(self.sizes[index]) / size if self.scales is None else self.scales[index]  # type: ignore[arg-type]

    def nearest_cells(self, index: int, size: int) -> Array:
        """The input cell (int64) that mode "nearest" takes for each output cell."""
        x = self.coordinates_of(index, size)
        rounded = {
            "round_prefer_floor": np.ceil(x - 0.5),
            "round_prefer_ceil": np.floor(x + 0.5),
            "floor": np.floor(x),
            "ceil": np.ceil(x),
        }[self.nearest_mode]
        return np.clip(rounded, 0, size - 1).astype(np.int64)

    def weights(self, index: int, size: int) -> Array:
        """The matrix (out, in), float64, that modes "linear" and "cubic" apply along spatial axis `index`."""
        x = self.coordinates_of(index, size)
        stretch = min(self._scale(index, size), 1.0) if self.antialias else 1.0
        radius = 1 if self.mode == "linear" else 2
        reach = int(np.ceil(radius / stretch))
        base = np.floor(x)
        taps = base[:, None] + np.arange(1 - reach, reach + 1)
        distance = np.abs(taps - x[:, None]) * stretch
        factors = np.clip(1 - distance, 0, None) if self.mode == "linear" else _cubic(distance, self.cubic_coeff_a)
        if self.exclude_outside:
            factors = np.where((taps >= 0) & (taps < size), factors, 0)
        factors = factors / factors.sum(1, keepdims=True)
        matrix = np.zeros((len(x), size))
        np.add.at(matrix, (np.arange(len(x))[:, None], np.clip(taps, 0, size - 1).astype(np.int64)), factors)
        return matrix

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        for index, axis in enumerate(self.layout.spatial_axes(x.ndim)):
            if self.mode == "nearest":
                x = x.take(self.nearest_cells(index, x.shape[axis]), axis)
            else:
                weights = self.weights(index, x.shape[axis])
                x = in_single(lambda data: _applied(data, weights, axis), x)  # noqa: B023
        return x

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        y = x
        for index, axis in enumerate(self.layout.spatial_axes(x.rank)):
            size, count = y.shape[axis], self.sizes[index]
            self.require(isinstance(size, int) and isinstance(count, int), f"its cells depend on the sizes of {x.type}")
            if self.mode == "nearest":
                cells = self.nearest_cells(index, int(size))  # type: ignore[arg-type]
                if not np.array_equal(cells, np.arange(int(size))):  # type: ignore[arg-type]
                    y = b.emit(Gather(axis), y, b.constant(cells, "cells"))
                continue
            weights = self.weights(index, int(size))  # type: ignore[arg-type]
            if np.array_equal(weights, np.eye(*weights.shape)):
                continue
            before, after = y.shape[:axis], y.shape[axis + 1 :]
            flat = b.emit(Reshape((elements(before), size, elements(after))), y)
            product = b.emit(MatMul(), b.constant(weights.astype(x.dtype.numpy), "weights"), flat)
            y = b.emit(Reshape((*before, count, *after)), product)
        return b.emit(Identity(), x) if y is x else y


def _applied(x: Array, weights: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(x, weights.astype(x.dtype), (axis, 1)), -1, axis)


def _cubic(distance: Array, a: float) -> Array:
    """Keys' kernel at a distance of 0 to 2 cells, 0 beyond."""
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
