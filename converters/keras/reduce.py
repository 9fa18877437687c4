"""Reductions of keras.ops and tf.math."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import DType, Node, Op, TensorType, Value, ops
from isomorph.ir.op import normalize_axes

_IMPORTED: dict[str, Any] = {
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


def _import_rule(kind: Any) -> Callable[..., Value]:
    def rule(layer: Layer, x: Value) -> Value:
        if layer.config.get("initial") is not None or layer.config.get("where") is not None:
            raise layer.unsupported("an initial value or a condition")
        if kind is ops.ReduceMean and not x.dtype.is_float:
            raise layer.unsupported(f"the mean of {x.dtype}")
        return layer.emit(kind(_axes(layer, x.rank), _keepdims(layer)), x)

    return rule


for _class, _kind in _IMPORTED.items():
    rules.imports(_class)(_import_rule(_kind))


@rules.imports("ops.Var", "ops.Std")
def _variance(layer: Layer, x: Value) -> Value:
    """mean((x - mean(x))^2), in float32 for smaller types, and its root."""
    if not x.dtype.is_float:
        raise layer.unsupported(f"the variance of {x.dtype}")
    axes, wide = _axes(layer, x.rank), layer.cast(x, x.dtype if x.dtype is DType.FLOAT64 else DType.FLOAT32)
    centred = layer.emit(ops.Sub(), wide, layer.emit(ops.ReduceMean(axes), wide))
    made = layer.emit(ops.ReduceMean(axes, _keepdims(layer)), layer.emit(ops.Mul(), centred, centred))
    return layer.cast(made if layer.cls == "ops.Var" else layer.emit(ops.Sqrt(), made), x.dtype)


@rules.imports("ops.Any", "ops.All")
def _truth(layer: Layer, x: Value) -> Value:
    kind: Any = ops.ReduceMax if layer.cls == "ops.Any" else ops.ReduceMin
    counted = layer.emit(ops.Cast(DType.INT32), layer.cast(x, DType.BOOL))
    return layer.emit(ops.Cast(DType.BOOL), layer.emit(kind(_axes(layer, x.rank), _keepdims(layer)), counted))


@rules.imports("ops.Norm")
def _norm(layer: Layer, x: Value) -> Value:
    """The norm of vectors along one axis, or the root of the sum of all squares over several."""
    order, axes = layer.config.get("ord"), _axes(layer, x.rank)
    if not x.dtype.is_float:
        raise layer.unsupported(f"the norm of {x.dtype}")
    kind: Any = None
    if layer.config.get("axis") is None:
        kind = ops.ReduceL2 if order is None or (order == 2 and x.rank == 1) else None
    elif len(axes) == 1:
        kind = {None: ops.ReduceL2, 2: ops.ReduceL2, 1: ops.ReduceL1}.get(order)
    elif len(axes) == 2:
        kind = ops.ReduceL2 if order in (None, "fro") else None
    if kind is None:
        raise layer.unsupported(f"ord {order!r} over axes {list(axes)}")
    return layer.emit(kind(axes, _keepdims(layer)), x)


@rules.imports("ops.Argmax", "ops.Argmin")
def _arg_reduction(layer: Layer, x: Value) -> Value:
    """Keras returns int32."""
    axes = _axes(layer, x.rank)
    if layer.config.get("axis") is None:
        raise layer.unsupported("an index into the flattened tensor")
    kind = ops.ArgMax if layer.cls == "ops.Argmax" else ops.ArgMin
    return layer.emit(ops.Cast(DType.INT32), layer.emit(kind(axes[0], _keepdims(layer)), x))


@rules.imports("ops.Cumsum")
def _running_sum(layer: Layer, x: Value) -> Value:
    if layer.config.get("axis") is None:
        raise layer.unsupported("a running sum over the flattened tensor")
    stated = layer.config.get("dtype")
    return layer.emit(ops.CumSum(layer.axis("axis", x.rank)), x if stated is None else layer.cast(x, DType.of(stated)))


_REDUCTIONS: dict[type[Op], str] = {
    ops.ReduceMean: "Mean", ops.ReduceSum: "Sum", ops.ReduceMax: "Max", ops.ReduceMin: "Min", ops.ReduceProd: "Prod",
    ops.ReduceLogSumExp: "Logsumexp",
}  # fmt: skip


@refuses(*_REDUCTIONS)
def _reduction_refusal(node: Node) -> str | None:
    floating = isinstance(node.op, (ops.ReduceMean, ops.ReduceLogSumExp))
    if node.output.dtype is DType.BOOL or (floating and not node.output.dtype.is_float):
        return f"{node.op.name} of {node.output.dtype}"
    return None


@rules.exports(*_REDUCTIONS)
def _reduction(out: Emitter, node: Node) -> Tensor:
    axes, keepdims = node.op.axes, node.op.keepdims  # type: ignore[attr-defined]
    x = out.tensor(node.inputs[0])
    if not axes:
        return out.layer(node, "Identity", {}, x)
    made = out.operation(node, _REDUCTIONS[type(node.op)], {"axis": list(axes), "keepdims": keepdims}, x)
    kind = node.output.dtype
    return (
        made
        if kind.is_float or kind.itemsize >= 4
        else out.operation(node, "Cast", {"dtype": kind.value}, made, suffix="cast")
    )


@refuses(ops.ArgMax, ops.ArgMin)
def _arg_refusal(node: Node) -> str | None:
    assert isinstance(node.op, (ops.ArgMax, ops.ArgMin))
    return "the last of equal elements, where Keras gives the first" if node.op.select_last_index else None


@rules.exports(ops.ArgMax, ops.ArgMin)
def _arg(out: Emitter, node: Node) -> Tensor:
    """Keras counts in int32."""
    op = node.op
    assert isinstance(op, (ops.ArgMax, ops.ArgMin))
    config = {"axis": op.axis, "keepdims": op.keepdims}
    counted = TensorType(DType.INT32, node.output.shape)
    cls = "Argmax" if isinstance(op, ops.ArgMax) else "Argmin"
    found = out.operation(node, cls, config, out.tensor(node.inputs[0]), suffix="index", types=[counted])
    return out.operation(node, "Cast", {"dtype": "int64"}, found)


@refuses(ops.CumSum)
def _cumsum_refusal(node: Node) -> str | None:
    return (
        None
        if node.output.dtype.is_float or node.output.dtype.itemsize >= 4
        else f"running sums of {node.output.dtype}"
    )


@rules.exports(ops.CumSum)
def _cumsum(out: Emitter, node: Node) -> Tensor:
    """Backward is forward between two flips; an exclusive sum is that of the elements moved by one cell."""
    op = node.op
    assert isinstance(op, ops.CumSum)
    x = out.tensor(node.inputs[0])
    kind, flip = x.type, {"axis": op.axis}
    if op.reverse:
        x = out.operation(node, "Flip", flip, x, suffix="flip")
    if op.exclusive:
        widths = [[1, 0] if axis == op.axis else [0, 0] for axis in range(kind.rank)]
        grown = TensorType(
            kind.dtype, tuple(dim + 1 if axis == op.axis else dim for axis, dim in enumerate(kind.shape))
        )
        x = out.operation(
            node, "Pad", {"pad_width": widths, "mode": "constant"}, x, suffix="pad", types=[grown], constant_values=0
        )
        cut = tuple(slice(None, -1) if axis == op.axis else slice(None) for axis in range(kind.rank))
        x = out.operation(node, "GetItem", {}, x, cut, suffix="moved")
    made = out.operation(node, "Cumsum", {"axis": op.axis}, x, suffix="forward" if op.reverse else "")
    return out.operation(node, "Flip", flip, made) if op.reverse else made
