"""Operations of keras.ops that reorder and repeat elements, and pad or crop images."""

from __future__ import annotations

from typing import Any

import numpy as np

from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import Value, ops
from isomorph.ir.op import normalize_axes


def _listed(layer: Layer, key: str) -> list[int]:
    """One integer or several."""
    stated = layer.config.get(key)
    values: list[Any] = list(stated) if isinstance(stated, (list, tuple)) else [stated]
    if not all(type(item) is int for item in values):
        raise layer.unsupported(f"{key} {stated!r}")
    return values


@rules.imports("ops.Swapaxes")
def _swap_axes(layer: Layer, x: Value) -> Value:
    perm = list(range(x.rank))
    first, second = normalize_axes([layer.integer("axis1"), layer.integer("axis2")], x.rank)
    perm[first], perm[second] = second, first
    return layer.emit(ops.Transpose(tuple(perm)), x)


@rules.imports("ops.Moveaxis")
def _move_axes(layer: Layer, x: Value) -> Value:
    source = normalize_axes(_listed(layer, "source"), x.rank)
    destination = normalize_axes(_listed(layer, "destination"), x.rank)
    if len(source) != len(destination):
        raise layer.malformed(f"{len(source)} axes to move to {len(destination)} places")
    perm = [axis for axis in range(x.rank) if axis not in source]
    for place, axis in sorted(zip(destination, source, strict=True)):
        perm.insert(place, axis)
    return layer.emit(ops.Transpose(tuple(perm)), x)


@rules.imports("ops.Repeat")
def _repeat(layer: Layer, x: Value) -> Value:
    """Each element along the axis `repeats` times, or each its own number of times."""
    if layer.config.get("axis") is None:
        raise layer.unsupported("repeating the flattened tensor")
    axis, repeats = layer.axis("axis", x.rank), _listed(layer, "repeats")
    size = x.shape[axis]
    if len(repeats) == 1:
        tiled = layer.emit(ops.Tile((*(1,) * (axis + 1), repeats[0], *(1,) * (x.rank - 1 - axis))),
                           layer.emit(ops.Unsqueeze((axis + 1,)), x))  # fmt: skip
        return layer.emit(ops.Reshape((*x.shape[:axis], size * repeats[0], *x.shape[axis + 1 :])), tiled)
    if size != len(repeats) or min(repeats) < 0:
        raise layer.malformed(f"repeats {repeats} for {size} elements")
    places = layer.builder.constant(np.repeat(np.arange(len(repeats)), repeats), f"{layer.name}/places")
    return layer.emit(ops.Gather(axis), x, places)


@rules.imports("ops.Roll")
def _roll(layer: Layer, x: Value) -> Value:
    """The last elements of an axis put before the others."""
    if layer.config.get("axis") is None:
        raise layer.unsupported("rolling the flattened tensor")
    axes, shifts = normalize_axes(_listed(layer, "axis"), x.rank), _listed(layer, "shift")
    made = x
    for axis, shift in zip(axes, shifts * len(axes) if len(shifts) == 1 else shifts, strict=True):
        size = x.shape[axis]
        if not isinstance(size, int):
            raise layer.unsupported("rolling an axis of unknown size")
        cut = -shift % size if size else 0
        if cut:
            made = layer.emit(ops.Concat(axis), *layer.emit_many(ops.Split(axis, (cut, size - cut)), made)[::-1])
    return layer.emit(ops.Identity(), x) if made is x else made


def _edges(layer: Layer, x: Value, suffix: str, sign: int) -> list[tuple[int, int]]:
    """What is added (sign 1) or cut off (-1) at the begin and the end of the rows and of the columns."""
    if x.rank != 4:
        raise layer.unsupported(f"images of rank {x.rank}")
    pairs = []
    for axis, before, after, target in zip(
        layer.layout.spatial_axes(4), ("top", "left"), ("bottom", "right"), ("height", "width"), strict=True
    ):
        begin, end = (layer.config.get(f"{key}_{suffix}") for key in (before, after))
        size, wanted = x.shape[axis], layer.config.get(f"target_{target}")
        if begin is None or end is None:
            if not isinstance(size, int) or type(wanted) is not int:
                raise layer.unsupported(f"a border that depends on the {target} {size}")
            total = sign * (wanted - size)
            known: Any = begin if begin is not None else end if end is not None else None
            if type(known) is not int:
                raise layer.malformed(f"neither {before}_{suffix} nor {after}_{suffix}")
            begin, end = (begin, total - begin) if begin is not None else (total - known, known)
        if type(begin) is not int or type(end) is not int or min(begin, end) < 0:
            raise layer.malformed(f"{before}_{suffix} {begin!r} and {after}_{suffix} {end!r}")
        pairs.append((begin, end))
    return pairs


@rules.imports("ops.PadImages")
def _pad_images(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Pad(layer.layout.join((0, 0), (0, 0), _edges(layer, x, "padding", 1))), x)


@rules.imports("ops.CropImages")
def _crop_images(layer: Layer, x: Value) -> Value:
    pairs = _edges(layer, x, "cropping", -1)
    starts, ends = tuple(begin for begin, _ in pairs), tuple(-end if end else None for _, end in pairs)
    return layer.emit(ops.Slice(tuple(layer.layout.spatial_axes(4)), starts, ends, (1, 1)), x)
