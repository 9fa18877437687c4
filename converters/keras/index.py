"""Indexing and slicing."""

from __future__ import annotations

from types import EllipsisType
from typing import Any

import numpy as np

from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import normalize_axis


@rules.imports("ops.GetItem", "tf.__operators__.getitem")
def _get_item(layer: Layer, x: Value, key: Any = None) -> Value:
    """x[key] with integers, slices of integers, None and an ellipsis."""
    key = layer.kwargs.get("slice_spec", key) if layer.cls.startswith("tf.") else key
    entries = [_entry(layer, item) for item in (key if isinstance(key, (list, tuple)) else [key])]
    used = sum(1 for item in entries if item is not None and item is not Ellipsis)
    if entries.count(Ellipsis) > 1 or used > x.rank:
        raise layer.malformed(f"the index {key!r} for data of rank {x.rank}")
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    place = entries.index(Ellipsis)
    entries[place : place + 1] = [slice(None)] * (x.rank - used)
    axes, starts, ends, steps, gone, fresh = [], [], [], [], [], []
    axis = kept = 0
    for item in entries:
        if item is None:
            fresh.append(kept)
            kept += 1
            continue
        window: Any = item
        if isinstance(item, int):
            gone.append(axis)
            window = slice(item, None if item == -1 else item + 1, 1)
        else:
            kept += 1
        if window != slice(None):
            axes.append(axis)
            starts.append(window.start)
            ends.append(window.stop)
            steps.append(1 if window.step is None else window.step)
        axis += 1
    made = layer.emit(ops.Slice(tuple(axes), tuple(starts), tuple(ends), tuple(steps)), x) if axes else x
    made = layer.emit(ops.Squeeze(tuple(gone)), made) if gone else made
    made = layer.emit(ops.Unsqueeze(tuple(fresh)), made) if fresh else made
    return layer.emit(ops.Identity(), x) if made is x else made


def _entry(layer: Layer, item: Any) -> int | slice | EllipsisType | None:
    if item is None or item is Ellipsis or type(item) is int:
        return item
    if isinstance(item, dict) and set(item) == {"start", "stop", "step"}:  # tf.keras
        item = slice(item["start"], item["stop"], item["step"])
    if isinstance(item, slice) and all(
        bound is None or type(bound) is int for bound in (item.start, item.stop, item.step)
    ):
        if item.step == 0:
            raise layer.malformed("a slice with a step of 0")
        return item
    raise layer.unsupported(f"the index {item!r}")


@rules.imports("ops.Take")
def _take(layer: Layer, x: Value, indices: Any = None) -> Value:
    """Elements along an axis; without an axis the tensor is flattened, which is refused."""
    axis = layer.config.get("axis")
    if type(axis) is not int:
        raise layer.unsupported("indices into the flattened tensor")
    stated = layer.config.get("indices", indices)
    if not isinstance(stated, Value):
        array = np.asarray(stated)
        if array.dtype.kind not in "iu":
            raise layer.malformed(f"the indices {stated!r}")
        stated = layer.builder.constant(array.astype(np.int64), f"{layer.name}/indices")
    if not stated.dtype.is_integer:
        stated = layer.cast(stated, DType.INT64)
    return layer.emit(ops.Gather(normalize_axis(axis, x.rank)), x, stated)
