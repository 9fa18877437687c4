"""Upsampling by whole factors and resampling to a size."""

from __future__ import annotations

from typing import Any, Literal

from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import Dim, Layout, Node, Value, ops


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
    if layer.version < (2, 4):
        raise layer.unsupported(
            f"interpolation {mode!r} before Keras 2.4, whose sampling points depend on the TensorFlow of that time"
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


_MOST_CELLS = 64  # the largest factor that is looked for between two symbolic sizes


def _factors(node: Node) -> list[int] | None:
    """Whole factors by which the spatial axes grow, None if they do not."""
    op = node.op
    assert isinstance(op, ops.Resize)
    (x,) = node.operands()
    factors = []
    for index, (size, wanted) in enumerate(zip(x.shape[1:-1], op.sizes, strict=True)):
        scale = op.scales[index] if op.scales is not None else None
        factor = wanted // size if isinstance(size, int) and isinstance(wanted, int) else scale
        if factor is None:
            factor = next((whole for whole in range(1, _MOST_CELLS + 1) if size * whole == wanted), None)
        whole = factor is not None and factor == int(factor) and factor >= 1 and size * int(factor) == wanted
        if factor is None or not whole or (scale is not None and scale != factor):
            return None
        factors.append(int(factor))
    return factors


def _repeats_cells(node: Node) -> bool:
    """Whether nearest resampling by whole factors takes each cell as often as the factor says, in order."""
    op = node.op
    assert isinstance(op, ops.Resize)
    if op.coordinates in ("half_pixel", "pytorch_half_pixel"):
        return True
    return op.coordinates == "asymmetric" and op.nearest_mode == "floor"


@refuses(ops.Resize)
def _resize_refusal(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, ops.Resize)
    (x,) = node.operands()
    if op.layout is not Layout.CHANNELS_LAST:
        return "channels first, where Keras works on channels last"
    if op.mode == "nearest":
        whole = _factors(node) is not None and len(op.sizes) <= 3 and _repeats_cells(node)
        return None if whole else "nearest cells that are not those of a whole factor"
    halves = op.coordinates == "half_pixel" or (op.coordinates == "pytorch_half_pixel" and 1 not in op.sizes)
    stated = op.scales is None or _factors(node) is not None
    known = all(isinstance(size, int) for size in op.sizes) or _factors(node) is not None
    plain = x.rank == 4 and not op.antialias and not op.exclude_outside
    if op.mode == "linear" and halves and stated and known and plain:
        return None
    return "a way of resampling that Keras lacks"


@rules.exports(ops.Resize)
def _resize_layer(out: Emitter, node: Node) -> Tensor:
    """UpSampling by whole factors, else bilinear resizing between the centres of cells."""
    op = node.op
    assert isinstance(op, ops.Resize)
    x = out.tensor(node.inputs[0])
    factors = _factors(node)
    if op.mode == "nearest" and factors is not None:
        rank = len(factors)
        config: dict[str, Any] = {"size": factors[0] if rank == 1 else factors}
        if rank > 1:
            config["data_format"] = "channels_last"
        if rank == 2:
            config["interpolation"] = "nearest"
        return out.layer(node, f"UpSampling{rank}D", config, x)
    if factors is not None:
        config = {"size": factors, "data_format": "channels_last", "interpolation": "bilinear"}
        return out.layer(node, "UpSampling2D", config, x)
    config = {"size": list(op.sizes), "interpolation": "bilinear", "data_format": "channels_last"}
    return out.operation(node, "Resize", config, x)
