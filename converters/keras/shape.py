"""Layers and operations that move, cut, join and repeat elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from isomorph.converters.keras.elementwise import as_list
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import Dim, Layout, Shape, Value, ops
from isomorph.ir.layout import to_channels_last
from isomorph.ir.op import normalize_axes
from isomorph.ir.shapes import elements

_POINTWISE = ("Dense", "Activation", "Dropout", "ReLU", "LeakyReLU", "ELU", "Rescaling", "Identity")


@rules.imports("Flatten")
def _flatten(layer: Layer, x: Value) -> Value:
    """(N, the rest), elements in channels-last order, also where the layer says channels_first."""
    if layer.layout is Layout.CHANNELS_FIRST and x.rank > 2:
        x = layer.emit(ops.Transpose(to_channels_last(x.rank)), x)
    return layer.emit(ops.Flatten(1), x)


def explicit(layer: Layer, x: Value, target: Any, kept: Shape = ()) -> Shape:
    """`kept` and then `target`, its -1 (or None) worked out from the size of x."""
    if not isinstance(target, (list, tuple)) or not all(item is None or type(item) is int for item in target):
        raise layer.unsupported(f"the shape {target!r}")
    sizes: list[Dim] = [*kept, *(-1 if item is None else item for item in target)]
    unknown = [place for place, size in enumerate(sizes) if size == -1]
    if len(unknown) > 1:
        raise layer.unsupported(f"more than one unknown size in {target!r}")
    if unknown:
        rest = elements(size for place, size in enumerate(sizes) if place != unknown[0])
        total = elements(x.shape)
        if rest == 0:
            raise layer.malformed(f"an unknown size beside a size of 0 in {target!r}")
        sizes[unknown[0]] = total // rest
    return tuple(sizes)


@rules.imports("Reshape")
def _reshape(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Reshape(explicit(layer, x, layer.config.get("target_shape"), x.shape[:1])), x)


@rules.imports("ops.Reshape", "tf.reshape")
def _reshape_operation(layer: Layer, x: Value, target: Any = None) -> Value:
    stated = layer.config.get("newshape") if layer.cls == "ops.Reshape" else layer.kwargs.get("shape", target)
    wanted = list(stated) if isinstance(stated, (list, tuple)) else [stated]
    if wanted and wanted[0] in (None, -1) and wanted.count(None) + wanted.count(-1) >= 1:
        rest = explicit(layer, x, wanted[1:], x.shape[:1]) if elements(x.shape[1:]) == _known(wanted[1:]) else None
        if rest is not None:
            return layer.emit(ops.Reshape(rest), x)
    return layer.emit(ops.Reshape(explicit(layer, x, wanted)), x)


def _known(sizes: Sequence[Any]) -> Dim | None:
    return elements(sizes) if all(type(size) is int and size >= 0 for size in sizes) else None


@rules.imports("Permute")
def _permute(layer: Layer, x: Value) -> Value:
    dims = layer.ints("dims", x.rank - 1)
    if sorted(dims) != list(range(1, x.rank)):
        raise layer.malformed(f"dims {dims} for data of rank {x.rank}")
    return layer.emit(ops.Transpose((0, *dims)), x)


@rules.imports("ops.Transpose", "tf.transpose")
def _transpose(layer: Layer, x: Value, perm: Any = None) -> Value:
    axes = layer.config.get("axes") if layer.cls == "ops.Transpose" else layer.kwargs.get("perm", perm)
    if axes is None:
        return layer.emit(ops.Transpose(tuple(reversed(range(x.rank)))), x)
    return layer.emit(ops.Transpose(normalize_axes(axes, x.rank)), x)


@rules.imports("RepeatVector")
def _repeat_vector(layer: Layer, x: Value) -> Value:
    """(N, C) -> (N, n, C)"""
    return layer.emit(ops.Tile((1, layer.integer("n"), 1)), layer.emit(ops.Unsqueeze((1,)), x))


def _border(layer: Layer, key: str, spatial: int) -> list[tuple[int, int]]:
    """(begin, end) for each spatial axis from one number, one for each axis, pairs, or Keras 1's flat list."""
    stated = layer.config.get(key, 1)
    values = list(stated) if isinstance(stated, (list, tuple)) else [stated] * spatial
    if layer.major < 2 and len(values) == 2 * spatial and all(type(item) is int for item in values):
        values = [values[2 * axis : 2 * axis + 2] for axis in range(spatial)]
    elif spatial == 1 and len(values) == 2:
        values = [values]
    pairs = [tuple(item) if isinstance(item, (list, tuple)) else (item, item) for item in values]
    if len(pairs) != spatial or not all(
        len(pair) == 2 and all(type(item) is int and item >= 0 for item in pair) for pair in pairs
    ):
        raise layer.malformed(f"{key} is {stated!r}")
    return pairs


@rules.imports("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def _zero_padding(layer: Layer, x: Value) -> Value:
    spatial = int(layer.cls[-2])
    pads = layer.layout.join((0, 0), (0, 0), _border(layer, "padding", spatial))
    return layer.emit(ops.Pad(pads), x)


@rules.imports("Cropping1D", "Cropping2D", "Cropping3D")
def _cropping(layer: Layer, x: Value) -> Value:
    pairs = _border(layer, "cropping", int(layer.cls[-2]))
    axes = tuple(layer.layout.spatial_axes(x.rank))
    starts, ends = tuple(begin for begin, _ in pairs), tuple(-end if end else None for _, end in pairs)
    return layer.emit(ops.Slice(axes, starts, ends, (1,) * len(axes)), x)


@rules.imports("Concatenate", "ops.Concatenate", "tf.concat")
def _concatenate(layer: Layer, xs: Any, *rest: Any) -> Value:
    if layer.cls == "tf.concat" and rest and type(rest[-1]) is int:
        axis, rest = rest[-1], rest[:-1]
    else:
        axis = layer.kwargs.get("axis", -1) if layer.cls.startswith("tf.") else layer.config.get("axis", -1)
    values = as_list(layer, xs, *rest)
    if type(axis) is not int:
        raise layer.malformed(f"axis is {axis!r}")
    return layer.emit(ops.Concat(normalize_axes([axis], values[0].rank)[0]), *values)


@rules.imports("ops.Stack")
def _stack(layer: Layer, xs: Any, *rest: Any) -> Value:
    values = as_list(layer, xs, *rest)
    axis = normalize_axes([layer.integer("axis", 0)], values[0].rank + 1)[0]
    return layer.emit(ops.Concat(axis), *(layer.emit(ops.Unsqueeze((axis,)), value) for value in values))


@rules.imports("ops.ExpandDims", "tf.expand_dims")
def _expand_dims(layer: Layer, x: Value) -> Value:
    stated = layer.config.get("axis") if layer.cls.startswith("ops.") else layer.kwargs.get("axis")
    listed: list[Any] = list(stated) if isinstance(stated, (list, tuple)) else [stated]
    if not all(type(axis) is int for axis in listed):
        raise layer.malformed(f"axis is {stated!r}")
    return layer.emit(ops.Unsqueeze(tuple(sorted(normalize_axes(listed, x.rank + len(listed))))), x)


@rules.imports("ops.Squeeze", "tf.squeeze")
def _squeeze(layer: Layer, x: Value) -> Value:
    stated = layer.config.get("axis") if layer.cls.startswith("ops.") else layer.kwargs.get("axis")
    if stated is None:
        axes = tuple(axis for axis, size in enumerate(x.shape) if size == 1)
    else:
        listed: list[Any] = list(stated) if isinstance(stated, (list, tuple)) else [stated]
        if not all(type(axis) is int for axis in listed):
            raise layer.malformed(f"axis is {stated!r}")
        axes = tuple(sorted(normalize_axes(listed, x.rank)))
    return layer.emit(ops.Squeeze(axes), x)


@rules.imports("ops.Split")
def _split(layer: Layer, x: Value) -> Sequence[Value]:
    """`indices_or_sections`: a number of equal parts, or the places to cut at."""
    axis = layer.axis("axis", x.rank, 0)
    stated, size = layer.config.get("indices_or_sections"), x.shape[axis]
    if not isinstance(size, int):
        raise layer.unsupported("a split of an axis of unknown size")
    if type(stated) is int and stated > 0 and size % stated == 0:
        sizes = (size // stated,) * stated
    elif isinstance(stated, (list, tuple)) and all(type(item) is int and 0 <= item <= size for item in stated):
        edges = [0, *stated, size]
        sizes = tuple(after - before for before, after in pairwise(edges))
    else:
        raise layer.unsupported(f"indices_or_sections {stated!r} for {size} elements")
    return layer.emit_many(ops.Split(axis, sizes), x)


@rules.imports("ops.Pad")
def _pad(layer: Layer, x: Value, *constant: Any) -> Value:
    value = layer.kwargs.get("constant_values", constant[0] if constant else None)
    value = layer.config.get("constant_values", value)
    mode = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}.get(
        str(layer.config.get("mode", "constant"))
    )
    widths = layer.config.get("pad_width")
    pairs: list[Any] = list(widths) if isinstance(widths, (list, tuple)) else [widths, widths]
    if len(pairs) == 2 and all(type(item) is int for item in pairs):
        pairs = [pairs] * x.rank
    if len(pairs) == 1:
        pairs = pairs * x.rank
    fits = len(pairs) == x.rank and all(isinstance(item, (list, tuple)) and len(item) == 2 for item in pairs)
    if mode is None or not fits or not (value is None or isinstance(value, (int, float))):
        raise layer.unsupported(f"pad_width {widths!r}, mode {layer.config.get('mode')!r}")
    pads = tuple((int(begin), int(end)) for begin, end in pairs)
    return layer.emit(ops.Pad(pads, mode, 0.0 if value is None else value), x)  # type: ignore[arg-type]


@rules.imports("ops.BroadcastTo")
def _broadcast_to(layer: Layer, x: Value) -> Value:
    shape = layer.config.get("shape")
    if not isinstance(shape, (list, tuple)) or not all(type(size) is int and size > 0 for size in shape):
        raise layer.unsupported(f"the shape {shape!r}")
    return layer.emit(ops.Expand(tuple(shape)), x)


@rules.imports("TimeDistributed")
def _time_distributed(layer: Layer, x: Value) -> Value:
    """A layer applied at each step: (N, T, ...) is seen as (N * T, ...) unless it works on the last axis anyway."""
    if layer.kwargs.get("mask") is not None:
        raise layer.unsupported("a mask")
    inner = layer.wrapped()
    rule = rules.importer(inner.cls)
    if inner.source.graph is not None or rule is None:
        raise layer.unsupported(f"a {inner.cls} at each step")
    if inner.cls in _POINTWISE and not (
        inner.cls == "Activation" and inner.config.get("activation") not in ("relu", "tanh", "linear")
    ):
        made = rule(inner, x)
        return made if isinstance(made, Value) else made[0]
    folded = layer.emit(ops.Reshape((x.shape[0] * x.shape[1], *x.shape[2:])), x)
    made = rule(inner, folded)
    if not isinstance(made, Value):
        raise layer.unsupported(f"a {inner.cls} at each step")
    return layer.emit(ops.Reshape((*x.shape[:2], *made.shape[1:])), made)
