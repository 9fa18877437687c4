"""Reductions of keras.ops and tf.math."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.op import normalize_axes

_REDUCTIONS: dict[str, Any] = {
    "ops.Mean": ops.ReduceMean, "ops.Sum": ops.ReduceSum, "ops.Max": ops.ReduceMax, "ops.Min": ops.ReduceMin,
    "ops.Prod": ops.ReduceProd, "ops.Amax": ops.ReduceMax, "ops.Amin": ops.ReduceMin,
    "ops.Logsumexp": ops.ReduceLogSumExp, "tf.math.reduce_mean": ops.ReduceMean, "tf.math.reduce_sum": ops.ReduceSum,
    "tf.math.reduce_max": ops.ReduceMax, "tf.math.reduce_min": ops.ReduceMin, "tf.math.reduce_prod": ops.ReduceProd,
}  # fmt: skip


def _axes(layer: Layer, rank: int) -> tuple[int, ...]:
    stated = layer.config.get("axis") if layer.cls.startswith("ops.") else layer.kwargs.get("axis")
    if stated is None:
        return tuple(range(rank))
    listed = stated if isinstance(stated, (list, tuple)) else [stated]
    if not all(type(axis) is int for axis in listed):
        raise layer.malformed(f"axis is {stated!r}")
    return tuple(sorted(normalize_axes(listed, rank)))


def _keepdims(layer: Layer) -> bool:
    return bool(layer.config.get("keepdims") if layer.cls.startswith("ops.") else layer.kwargs.get("keepdims"))


def _reduction(kind: Any) -> Callable[..., Value]:
    def rule(layer: Layer, x: Value) -> Value:
        if layer.config.get("initial") is not None or layer.config.get("where") is not None:
            raise layer.unsupported("an initial value or a condition")
        if kind is ops.ReduceMean and not x.dtype.is_float:
            raise layer.unsupported(f"the mean of {x.dtype}")
        return layer.emit(kind(_axes(layer, x.rank), _keepdims(layer)), x)

    return rule


for _class, _kind in _REDUCTIONS.items():
    rules.imports(_class)(_reduction(_kind))


@rules.imports("ops.Argmax", "ops.Argmin")
def _arg_reduction(layer: Layer, x: Value) -> Value:
    """Keras returns int32."""
    axes = _axes(layer, x.rank)
    if layer.config.get("axis") is None:
        raise layer.unsupported("an index into the flattened tensor")
    kind = ops.ArgMax if layer.cls == "ops.Argmax" else ops.ArgMin
    return layer.emit(ops.Cast(DType.INT32), layer.emit(kind(axes[0], _keepdims(layer)), x))
