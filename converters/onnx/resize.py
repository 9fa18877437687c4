"""Resampling in ONNX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, Node, Shape, Sym, Value, ops
from isomorph.ir.op import normalize_axes

_FINEST_FACTOR = 64


@rules.imports("Resize", "Upsample")
def read_resize(node: OnnxNode) -> Value:
    x = node.value(0)
    mode = node.attribute("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        node.refuse(f"mode {mode!r}")
    coordinates: Any
    rounding: Any
    if node.kind == "Upsample" or node.opset < 11:  # as asymmetric, nearest by floor
        position, coordinates, rounding = 1, "asymmetric", "floor"
    else:
        position, coordinates = 2, node.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = node.attribute("nearest_mode", "round_prefer_floor")
    if coordinates not in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        node.refuse(f"coordinate_transformation_mode {coordinates!r}")
    sizes, scales = _target(node, x, position)
    if position == 1 and mode == "nearest" and scales is not None and min(scales) < 1:
        rounding = _rounding_when_shrinking(node, scales)
    if x.rank < 3 or sizes[0] != x.shape[0] or sizes[1] != x.shape[1]:
        node.refuse("resizing the batch or the channel axis")
    op = ops.Resize(
        tuple(sizes[2:]),
        None if scales is None else tuple(scales[2:]),
        mode,
        coordinates,
        rounding,
        float(node.attribute("cubic_coeff_a", -0.75)),
        bool(node.attribute("exclude_outside", 0)),
        bool(node.attribute("antialias", 0)),
    )
    return node.emit(op, x)


def _rounding_when_shrinking(node: OnnxNode, scales: Sequence[float]) -> str:
    """Before opset 11 the specification leaves the rounding open; onnxruntime rounds up along axes that shrink."""
    if any(scale > 1 for scale in scales):
        node.refuse("nearest cells of axes that shrink and axes that grow, before opset 11")
    return "ceil"


def _target(node: OnnxNode, x: Value, position: int) -> tuple[list[Dim], list[float] | None]:
    """Sizes of all axes, and scales where the file states those."""
    axes = normalize_axes(node.attribute("axes", range(x.rank)), x.rank)
    scales = node.attribute("scales") if node.opset < 9 else node.constant(position)
    sizes: list[Dim] = list(x.shape)
    if scales is not None and len(scales):
        factors = [1.0] * x.rank
        for axis, factor in zip(axes, scales, strict=True):
            factors[axis] = float(factor)
            sizes[axis] = _scaled(node, x.shape[axis], float(factor))
        return sizes, factors
    given = node.sizes(position + 1)
    if given is None:
        node.refuse("neither scales nor sizes")
    policy = node.attribute("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        for axis, size in zip(axes, given, strict=True):
            sizes[axis] = size
        return sizes, None
    return _keep_aspect_ratio(node, x, axes, given, policy)


def _keep_aspect_ratio(
    node: OnnxNode, x: Value, axes: Sequence[int], given: Sequence[Dim], policy: str
) -> tuple[list[Dim], list[float]]:
    """One scale for all `axes`: the least (or greatest) that the sizes ask for; sizes are rounded, halves up."""
    from fractions import Fraction

    asked = [(x.shape[axis], size) for axis, size in zip(axes, given, strict=True)]
    if policy not in ("not_larger", "not_smaller") or any(isinstance(dim, Sym) for pair in asked for dim in pair):
        node.refuse(f"keep_aspect_ratio_policy {policy!r} of symbolic sizes")
    ratios = [Fraction(int(size), int(before)) for before, size in asked]  # type: ignore[arg-type]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    sizes, factors = list(x.shape), [1.0] * x.rank
    for axis in axes:
        sizes[axis] = math.floor(scale * int(x.shape[axis]) + Fraction(1, 2))  # type: ignore[arg-type]
        factors[axis] = float(np.float32(scale))
    return sizes, factors


def _scaled(node: OnnxNode, size: Dim, factor: float) -> Dim:
    """floor(size * factor), the product in float32; of a symbolic size only where it is exact: 2, 0.5, 1.25 …"""
    if isinstance(size, int):
        return math.floor(np.float32(size) * np.float32(factor))
    numerator, denominator = factor.as_integer_ratio()
    if denominator > _FINEST_FACTOR:
        node.refuse(f"a symbolic size times {factor:g}")
    return size * numerator // denominator


def scales_give_sizes(op: ops.Resize, spatial: Shape) -> bool:
    """Whether ONNX comes to the op's sizes from its scales, as far as they are static; ONNX cannot state both."""
    return op.scales is None or all(
        wanted == math.floor(np.float32(size) * np.float32(scale))
        for size, scale, wanted in zip(spatial, op.scales, op.sizes, strict=True)
        if isinstance(size, int) and isinstance(wanted, int)
    )


@rules.exports(ops.Resize)
def write_resize(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Resize) and node.inputs[0] is not None
    x = node.inputs[0]
    operands: list[object] = [x, None]
    if op.scales is not None:
        operands.append(export.constant(np.asarray([1.0, 1.0, *op.scales], np.float32), "scales"))
    else:
        operands += [None, export.sizes([x.shape[0], x.shape[1], *op.sizes], "sizes")]
    attributes = {
        "mode": op.mode,
        "coordinate_transformation_mode": op.coordinates,
        "nearest_mode": op.nearest_mode if op.mode == "nearest" else None,
        "cubic_coeff_a": op.cubic_coeff_a if op.mode == "cubic" else None,
        "exclude_outside": 1 if op.exclude_outside else None,
        "antialias": 1 if op.antialias else None,
    }
    export.replace("Resize", node, inputs=operands, **attributes)  # type: ignore[arg-type]
