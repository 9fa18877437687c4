"""Indexing and slicing."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from isomorph.converters.keras.elementwise import as_tensor
from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import DType, Node, TensorType, Value, ops
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
def _take(layer: Layer, x: Any, indices: Any = None) -> Value:
    """Elements along an axis; without an axis the tensor is flattened, which is refused."""
    x = as_tensor(layer, x)
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
    zeros = stated.producer
    if axis == 0 and x.shape[:1] == (1,) and zeros is not None and isinstance(zeros.op, ops.ConstantOfShape):
        return layer.emit(ops.Expand((*stated.shape, *x.shape[1:])), x)  # row 0 of one row, for each sample
    return layer.emit(ops.Gather(normalize_axis(axis, x.rank)), x, stated)


@rules.imports("ops.TakeAlongAxis")
def _take_along(layer: Layer, x: Any, indices: Any = None) -> Value:
    """Sizes other than that along the axis must be equal: Keras would broadcast."""
    x = as_tensor(layer, x)
    axis = layer.axis("axis", x.rank) if layer.config.get("axis") is not None else -1
    stated = layer.builder.constant(indices, f"{layer.name}/indices") if isinstance(indices, np.ndarray) else indices
    if axis < 0 or not isinstance(stated, Value) or not stated.dtype.is_integer or stated.rank != x.rank:
        raise layer.unsupported("indices that are not of the tensor's rank")
    sizes = enumerate(zip(x.shape, stated.shape, strict=True))
    if any(known != other for place, (known, other) in sizes if place != axis):
        raise layer.unsupported(f"indices {stated.type} that broadcast against {x.type}")
    return layer.emit(ops.GatherElements(axis), x, stated)


@rules.imports("ops.TopK")
def _largest(layer: Layer, x: Value) -> Sequence[Value]:
    """Keras counts in int32."""
    if layer.config.get("sorted") is False:
        raise layer.unsupported("elements in no order")
    values, places = layer.emit_many(ops.TopK(layer.integer("k"), x.rank - 1), x)
    return values, layer.cast(places, DType.INT32)


@rules.imports("ops.OneHot")
def _one_hot(layer: Layer, x: Value) -> Value:
    """1 where the class is the index; a negative index is of no class."""
    if layer.flag("sparse", False) or not x.dtype.is_integer:
        raise layer.unsupported(f"sparse classes, or classes from {x.dtype}")
    axis = layer.axis("axis", x.rank + 1)
    classes = np.arange(layer.integer("num_classes"), dtype=x.dtype.numpy).reshape(-1, *(1,) * (x.rank - axis))
    known = layer.builder.constant(classes, f"{layer.name}/classes")
    stated = layer.config.get("dtype")
    found = layer.emit(ops.Equal(), layer.emit(ops.Unsqueeze((axis,)), x), known)
    return layer.emit(ops.Cast(DType.FLOAT32 if stated is None else DType.of(stated)), found)


@rules.imports("ops.Triu", "ops.Tril")
def _triangular(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Trilu(layer.integer("k", 0), upper=layer.cls == "ops.Triu"), x)


@rules.exports(ops.Gather)
def _take_operation(out: Emitter, node: Node) -> Tensor:
    """x[:, 3] for one known index, else an operation, which wraps negative indices as well."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, ops.Gather) and x is not None
    axis, place = op.axis % x.rank, out.literal(node.inputs[1])
    if place is not None and place.ndim == 0:
        return out.operation(node, "GetItem", {}, out.tensor(x), (*(slice(None),) * axis, int(place)))
    return out.operation(node, "Take", {"axis": axis}, *out.arguments(node))


@rules.exports(ops.GatherElements)
def _take_along_axis(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.GatherElements)
    return out.operation(node, "TakeAlongAxis", {"axis": node.op.axis}, *out.arguments(node))


@refuses(ops.TopK)
def _top_k_refusal(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, ops.TopK)
    (x,) = node.operands()
    if not op.largest or op.axis != x.rank - 1:
        return "Keras takes the largest, along the last axis"
    return None if isinstance(op.k, int) else f"k is the symbolic size {op.k}"


@rules.exports(ops.TopK)
def _top_k(out: Emitter, node: Node) -> Sequence[Tensor]:
    """Keras counts in int32."""
    op = node.op
    assert isinstance(op, ops.TopK)
    values, places = node.outputs
    types = [values.type, TensorType(DType.INT32, places.shape)]
    top, found = out.operations(node, "TopK", {"k": op.k, "sorted": True}, out.tensor(node.inputs[0]), types=types)
    return top, out.operation(node, "Cast", {"dtype": "int64"}, found, suffix="index", types=[places.type])


@rules.exports(ops.Trilu)
def _triangle(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Trilu)
    return out.operation(node, "Triu" if node.op.upper else "Tril", {"k": node.op.k}, out.tensor(node.inputs[0]))
