"""Pooling that says where it found what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.conv import Ints, Pads, static_pads, window_output
from isomorph.ir.ops.numerics import Array, padded, windows
from isomorph.ir.ops.pool import MaxPool

__all__ = ["MaxPoolWithIndices"]


@operation
class MaxPoolWithIndices(Op):
    """`MaxPool` of channels-first data, and the places of the maxima: (values, indices), of equal elements the first.

    Shapes: x (N, C, *D); values, indices (N, C, *D'); indices, int64, count the elements of all of x in C order.
    See: ONNX MaxPool-22 with Indices; torch.nn.functional.max_pool2d_with_indices, which counts within a channel.
    """

    kernel_shape: Ints
    strides: Ints
    pads: Pads
    dilations: Ints
    ceil_mode: bool = False

    def plain(self) -> MaxPool:
        """The op without the indices."""
        return MaxPool(self.kernel_shape, self.strides, self.pads, self.dilations, self.ceil_mode)

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        (kind,) = self.plain().infer(x)
        return kind, TensorType(DType.INT64, kind.shape)

    def evaluate(self, x: Array) -> tuple[Array, Array]:  # type: ignore[override]
        spatial = x.shape[2:]
        pads = static_pads(self.pads, spatial, self.kernel_shape, self.strides, self.dilations)
        counts = window_output(spatial, self.kernel_shape, self.strides, pads, self.dilations, ceil_mode=self.ceil_mode)
        reach = [
            (int(count) - 1) * stride + (window - 1) * dilation + 1  # type: ignore[arg-type]
            for count, stride, window, dilation in zip(
                counts, self.strides, self.kernel_shape, self.dilations, strict=True
            )
        ]
        sizes = zip(pads, reach, spatial, strict=True)
        grown = [(0, 0), (0, 0), *((begin, need - size - begin) for (begin, _), need, size in sizes)]
        dtype = DType.of(x.dtype)
        lowest: Any = -np.inf if dtype.is_float else np.iinfo(x.dtype).min
        places = np.arange(x.size).reshape(x.shape)
        values, cells, inside = (
            windows(padded(each, grown, fill), self.kernel_shape, self.strides, self.dilations)
            for each, fill in ((x, lowest), (places, 0), (np.ones(x.shape, bool), False))
        )
        rank = len(self.kernel_shape)
        flat = (*values.shape[: values.ndim - rank], -1)
        values, cells, inside = values.reshape(flat), cells.reshape(flat), inside.reshape(flat)
        best = values.max(-1, keepdims=True)
        first = np.argmax(inside & ((values == best) | np.isnan(values) & np.isnan(best)), -1)[..., None]
        return best[..., 0], np.take_along_axis(cells, first, -1)[..., 0]
