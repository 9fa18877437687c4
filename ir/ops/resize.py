"""Resampling of spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from isomorph.ir.layout import Layout, LayoutRule
from isomorph.ir.op import Op, TensorType
from isomorph.ir.shapes import Dim

__all__ = ["Resize"]


@dataclass(frozen=True, slots=True)
class Resize(Op):
    """x resampled to `sizes` along its spatial axes.

    An output coordinate o maps to the input coordinate, with s = `scales` (default: out / in):
        half_pixel          (o + 0.5) / s - 0.5
        pytorch_half_pixel  the same, but 0 where the output size is 1
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
        batch, channels, _ = self.layout.split(x.shape)
        return (TensorType(x.dtype, self.layout.join(batch, channels, self.sizes)),)
