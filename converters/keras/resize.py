"""Upsampling by whole factors and resampling to a size."""

from __future__ import annotations

from typing import Any, Literal

from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import Dim, Layout, Value, ops


@rules.imports("UpSampling1D", "UpSampling2D", "UpSampling3D")
def _up_sampling(layer: Layer, x: Value) -> Value:
    """Each cell repeated `size` times, or interpolated between the centres of cells."""
    spatial = int(layer.cls[-2])
    stated = "length" if layer.major < 2 and "length" in layer.config else "size"
    factors = layer.ints(stated, spatial, 2)
    mode = str(layer.config.get("interpolation") or "nearest")
    sizes = tuple(dim * factor for dim, factor in zip(layer.layout.split(x.shape)[2], factors, strict=True))
    scales = tuple(float(factor) for factor in factors)
    if mode == "nearest":
        op = ops.Resize(sizes, scales, "nearest", "asymmetric", "floor", layout=layer.layout)
        return layer.emit(op, x)
    if layer.major < 3:
        raise layer.unsupported(
            f"interpolation {mode!r} before Keras 3, whose sampling points depend on the TensorFlow of that time"
        )
    return layer.emit(_resize(layer, sizes, mode, layer.layout), x)


def _resize(layer: Layer, sizes: tuple[Dim, ...], mode: str, layout: Layout, antialias: bool = False) -> ops.Resize:
    """Keras 3 samples at half-pixel centres; its cubic has a = -0.5 and leaves cells beyond the border out."""
    if mode == "nearest":
        return ops.Resize(sizes, None, "nearest", "half_pixel", "round_prefer_ceil", layout=layout)
    if mode not in ("bilinear", "bicubic"):
        raise layer.unsupported(f"interpolation {mode!r}")
    kind: Literal["linear", "cubic"] = "linear" if mode == "bilinear" else "cubic"
    return ops.Resize(
        sizes,
        None,
        kind,
        "half_pixel",
        cubic_coeff_a=-0.5,
        exclude_outside=kind == "cubic",
        antialias=antialias,
        layout=layout,
    )


@rules.imports("Resizing")
def _resizing(layer: Layer, x: Value) -> Value:
    if layer.flag("crop_to_aspect_ratio", False) or layer.flag("pad_to_aspect_ratio", False):
        raise layer.unsupported("cropping or padding to the aspect ratio")
    if x.rank != 4:
        raise layer.unsupported(f"data of rank {x.rank}")
    sizes = (layer.integer("height"), layer.integer("width"))
    kind = layer.compute_dtype
    x = x if kind is None else layer.cast(x, kind)
    return layer.emit(_resize(layer, sizes, str(layer.config.get("interpolation", "bilinear")).lower(), layer.layout,
                              layer.flag("antialias", False)), x)  # fmt: skip


@rules.imports("ops.Resize")
def _resize_operation(layer: Layer, x: Value) -> Value:
    plain: dict[str, Any] = {"crop_to_aspect_ratio": False, "pad_to_aspect_ratio": False}
    if any(layer.flag(key, default) for key, default in plain.items()) or x.rank != 4:
        raise layer.unsupported("cropping or padding to the aspect ratio, or data that is not of rank 4")
    mode = str(layer.config.get("interpolation", "bilinear"))
    return layer.emit(_resize(layer, layer.ints("size", 2), mode, layer.layout, layer.flag("antialias", False)), x)
