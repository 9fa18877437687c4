"""Upsampling and interpolation, as torch.nn.functional.interpolate leaves it."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, Sym, Value, ops

Scales = Sequence[float] | None


def _resized(b: Lowering, x: Value, sizes: Sequence[Dim] | None, scales: Scales, **how: Any) -> Value:
    """x resized to `sizes`, or to floor(size * scale); the scales decide the coordinates where they are given."""
    spatial = x.shape[2:]
    exact = how["mode"] == "nearest" or x.dtype.is_float
    b.require(exact, f"{x.dtype}, which torch resamples in fixed-point arithmetic; let the model cast it to float32")
    if sizes is None:
        b.require(scales is not None, "it has neither a size nor a scale")
        sizes = [_grown(b, size, scale) for size, scale in zip(spatial, scales or (), strict=True)]
    stated = None if scales is None else tuple(float(scale) for scale in scales)
    if how.get("antialias") and how["coordinates"] == "align_corners":
        # the corners say how far the cells lie apart, and nothing else: torch takes (o + 1/2) * step - 1/2 as ever
        how["coordinates"] = "half_pixel"
        stated = tuple(_stretch(b, size, after) for size, after in zip(spatial, sizes, strict=True))
    return b.emit(ops.Resize(tuple(sizes), stated, **how), x)


def _stretch(b: Lowering, size: Dim, after: Dim) -> float:
    """The scale of aligned corners, (after - 1) / (size - 1)."""
    before, behind = (
        b.static(each, "a size that is resampled with aligned corners and antialias") for each in (size, after)
    )
    return (behind - 1) / (before - 1) if before > 1 and behind > 1 else float("inf")


def _grown(b: Lowering, size: Dim, scale: float) -> Dim:
    if not isinstance(size, Sym):
        return int(size * scale)
    ratio = Fraction(scale)
    b.require(ratio.denominator <= 1 << 10, f"the symbolic size {size} times {scale}")
    return size * ratio.numerator // ratio.denominator


def _scales(*given: float | None) -> Scales:
    known = [scale for scale in given if scale is not None]
    return known if len(known) == len(given) else None


_LINEAR = {1: "upsample_linear1d", 2: "upsample_bilinear2d", 3: "upsample_trilinear3d"}


def _register_nearest(rank: int, name: str, **how: Any) -> None:
    @rules.imports(f"aten.{name}{rank}d.vec")
    def vector(b: Lowering, input: Value, output_size: Sequence[Dim] | None, scale_factors: Scales) -> Value:
        return _resized(b, input, output_size, scale_factors, **how)

    @rules.imports(f"aten.{name}{rank}d.default")
    def plain(
        b: Lowering,
        self: Value,
        output_size: Sequence[Dim],
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        given = {1: (scales,), 2: (scales_h, scales_w), 3: (scales_d, scales_h, scales_w)}[rank]
        return _resized(b, self, output_size, _scales(*given), **how)

    vector.__doc__ = f"{name}{rank}d.vec(Tensor input, SymInt[]? output_size, float[]? scale_factors)"
    plain.__doc__ = f"{name}{rank}d(Tensor self, SymInt[] output_size, float? scales…=None)"


for _rank in (1, 2, 3):
    _register_nearest(_rank, "upsample_nearest", mode="nearest", coordinates="asymmetric", nearest_mode="floor")
    # floor((o + 1/2) / s) is the nearest cell to the half-pixel coordinate, halves up
    _register_nearest(
        _rank, "_upsample_nearest_exact", mode="nearest", coordinates="half_pixel", nearest_mode="round_prefer_ceil"
    )


def _register_smooth(rank: int, name: str, **how: Any) -> None:
    def coordinates(align_corners: bool) -> str:
        return "align_corners" if align_corners else "half_pixel"

    @rules.imports(f"aten.{name}.vec")
    def vector(
        b: Lowering, input: Value, output_size: Sequence[Dim] | None, align_corners: bool, scale_factors: Scales
    ) -> Value:
        return _resized(b, input, output_size, scale_factors, coordinates=coordinates(align_corners), **how)

    @rules.imports(f"aten.{name}.default")
    def plain(
        b: Lowering,
        self: Value,
        output_size: Sequence[Dim],
        align_corners: bool,
        scales: float | None = None,
        scales_d: float | None = None,
        scales_h: float | None = None,
        scales_w: float | None = None,
    ) -> Value:
        given = {1: (scales,), 2: (scales_h, scales_w), 3: (scales_d, scales_h, scales_w)}[rank]
        return _resized(b, self, output_size, _scales(*given), coordinates=coordinates(align_corners), **how)

    vector.__doc__ = f"{name}.vec(Tensor input, SymInt[]? output_size, bool align_corners, float[]? scale_factors)"
    plain.__doc__ = f"{name}(Tensor self, SymInt[] output_size, bool align_corners, float? scales…=None)"


for _rank, _name in _LINEAR.items():
    _register_smooth(_rank, _name, mode="linear")
_register_smooth(2, "upsample_bicubic2d", mode="cubic", cubic_coeff_a=-0.75)
_register_smooth(2, "_upsample_bilinear2d_aa", mode="linear", antialias=True, exclude_outside=True)
_register_smooth(2, "_upsample_bicubic2d_aa", mode="cubic", cubic_coeff_a=-0.5, antialias=True, exclude_outside=True)
