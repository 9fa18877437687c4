"""The p-norm over windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.ir.layout import Layout, LayoutRule
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.cells import combined, window_cells
from isomorph.ir.ops.conv import Ints, Pads, from_channels_first, in_channels_first
from isomorph.ir.ops.elementwise import Abs, Add, Mul, Pow, scalar
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.pool import AveragePool, pooled_shape, pooled_windows

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["LpPool"]


@operation
class LpPool(Op):
    """y = (sum of |x|^p over the cells of a sliding window)^(1 / p); padding counts as 0.

    Shapes: x (N, C, *D) in `layout`; y (N, C, *D'), D' as in `window_output`.
    See: ONNX LpPool-22; torch.nn.functional.lp_pool2d.
    """

    kernel_shape: Ints
    strides: Ints
    pads: Pads
    dilations: Ints
    ceil_mode: bool = False
    p: int = 2
    layout: Layout = Layout.CHANNELS_FIRST

    layout_rule: ClassVar[LayoutRule] = LayoutRule.BOUND

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require(self.p > 0, f"p = {self.p}")
        return (TensorType(x.dtype, pooled_shape(self, x)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return from_channels_first(self.layout, in_single(self._norm, in_channels_first(self.layout, x)))

    def _norm(self, x: Array) -> Array:
        powers = np.abs(x) ** self.p
        total = pooled_windows(self, powers, 0).sum(tuple(range(-len(self.kernel_shape), 0)))
        return total ** x.dtype.type(1 / self.p)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        powers = b.emit(Pow(), b.emit(Abs(), x), scalar(b, self.p, x))
        if self.ceil_mode:  # a last window that is not whole has a mean of its own
            return b.emit(Pow(), combined(b, Add(), window_cells(self, b, powers, 0.0)), scalar(b, 1 / self.p, x))
        window = (self.kernel_shape, self.strides, self.pads, self.dilations)
        mean = b.emit(AveragePool(*window, count_include_pad=True, layout=self.layout), powers)
        total = b.emit(Mul(), mean, scalar(b, int(np.prod(self.kernel_shape)), x))
        return b.emit(Pow(), total, scalar(b, 1 / self.p, x))
