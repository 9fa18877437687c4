"""Pooling layers. Padding of "same" never counts in an average."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np

from isomorph.converters.keras.conv import Pairs, keras_padding, spatial_type, window_pads, zero_padding
from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.errors import GraphError
from isomorph.ir import Layout, Node, Op, TensorType, Value, ops
from isomorph.ir.ops.conv import resolve_pads, window_output


@rules.imports(
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
    "ops.MaxPool", "ops.AveragePool",
)  # fmt: skip
def _pooling(layer: Layer, x: Value) -> Value:
    spatial = x.rank - 2 if layer.cls.startswith("ops.") else int(layer.cls[-2])
    window = layer.ints("pool_size", spatial, 2)
    strides = window if layer.config.get("strides") is None else layer.ints("strides", spatial)
    ones = (1,) * spatial
    if layer.mirrored and str(layer.config.get("padding")).lower() == "same":
        raise layer.unsupported("'same' pooling of the Theano backend")
    pads = window_pads(layer, window, ones)
    if "Max" in layer.cls:
        return layer.emit(ops.MaxPool(window, strides, pads, ones, layout=layer.layout), x)
    return layer.emit(ops.AveragePool(window, strides, pads, ones, layout=layer.layout), x)


@rules.imports(
    "AdaptiveAveragePooling1D", "AdaptiveAveragePooling2D", "AdaptiveAveragePooling3D",
    "AdaptiveMaxPooling1D", "AdaptiveMaxPooling2D", "AdaptiveMaxPooling3D",
)  # fmt: skip
def _adaptive_pooling(layer: Layer, x: Value) -> Value:
    size = layer.ints("output_size", x.rank - 2)
    op: Op = (ops.AdaptiveMaxPool if "Max" in layer.cls else ops.AdaptiveAveragePool)(size, layer.layout)
    return layer.emit(op, x)


@rules.imports(
    "GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D",
    "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D",
)  # fmt: skip
def _global_pooling(layer: Layer, x: Value) -> Value:
    if layer.kwargs.get("mask") is not None:
        raise layer.unsupported("a mask")
    keepdims = layer.flag("keepdims", False)
    op: Op = (ops.GlobalMaxPool if "Max" in layer.cls else ops.GlobalAveragePool)(keepdims, layer.layout)
    return layer.emit(op, x)


@refuses(ops.MaxPool, ops.AveragePool)
def _pool_refusal(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, (ops.MaxPool, ops.AveragePool))
    (x,) = node.operands()
    if op.layout is not Layout.CHANNELS_LAST:
        return "channels first, where Keras works on channels last"
    if len(op.kernel_shape) > 3 or max(op.dilations) > 1:
        return "a dilated window" if max(op.dilations) > 1 else f"{len(op.kernel_shape)} spatial axes"
    if not x.dtype.is_float:
        return f"pooling of {x.dtype} data"
    if not isinstance(op.pads, str) and any(size < 0 for pair in op.pads for size in pair):
        return "negative pads"
    if op.pads == "same_upper" and not (isinstance(op, ops.AveragePool) and op.count_include_pad):
        return None
    pads = _reached(op, x.type)
    if pads is None:
        return "padding that depends on a symbolic size"
    known = all(isinstance(size, int) for size in x.shape[1:-1])
    if isinstance(op, ops.AveragePool) and not known and not _counts_all(op, x.type, pads):
        return "an average over windows whose number of cells depends on a symbolic size"
    return None


def _reached(op: ops.MaxPool | ops.AveragePool, x: TensorType) -> tuple[tuple[int, int], ...] | None:
    """The pads that the windows reach with `ceil_mode`; None where that depends on a symbolic size.

    With ceil_mode a window that starts inside of the data (or its begin padding) counts, however far it reaches out.
    """
    spatial = x.shape[1:-1]
    pads = resolve_pads(op.pads, spatial, op.kernel_shape, op.strides, op.dilations)
    if pads is None or not op.ceil_mode or isinstance(op.pads, str):
        return pads
    counts = window_output(spatial, op.kernel_shape, op.strides, pads, op.dilations, ceil_mode=True)
    reached = []
    for size, count, kernel, stride, (begin, end) in zip(
        spatial, counts, op.kernel_shape, op.strides, pads, strict=True
    ):
        if isinstance(size, int) and isinstance(count, int):
            reached.append((begin, max(0, (count - 1) * stride + kernel - size - begin)))
        elif stride == 1:
            reached.append((begin, end))
        elif end + stride <= kernel:  # no window starts beyond the data, so rounding up is stride - 1 more cells
            reached.append((begin, end + stride - 1))
        else:
            return None
    return tuple(reached)


def _counts_all(op: ops.AveragePool, x: TensorType, reached: Pairs) -> bool:
    """Whether every window has the full number of cells."""
    spatial = x.shape[1:-1]
    if all(isinstance(size, int) for size in spatial):
        return bool(np.all(_cells(op, tuple(int(size) for size in spatial)) == math.prod(op.kernel_shape)))  # type: ignore[arg-type]
    if not any(begin or end for begin, end in reached):
        return True
    stated = resolve_pads(op.pads, x.shape[1:-1], op.kernel_shape, op.strides, op.dilations)
    return op.count_include_pad and stated == tuple(reached)


def _window(op: ops.MaxPool | ops.AveragePool, padding: str) -> dict[str, Any]:
    return {
        "pool_size": list(op.kernel_shape),
        "strides": list(op.strides),
        "padding": padding,
        "data_format": "channels_last",
    }


def _unpadded(op: ops.MaxPool | ops.AveragePool, x: TensorType) -> tuple[str, Pairs]:
    """Keras' padding, and the pads that it leaves; a `same` padding fits only where no cell of it counts."""
    reached = op.pads if op.pads == "same_upper" else _reached(op, x)
    if reached is None:
        raise GraphError(f"{op.name}: padding that depends on a symbolic size")
    padding, rest = keras_padding(reached, x.shape[1:-1], op.kernel_shape, op.strides, op.dilations)
    if padding == "same" and isinstance(op, ops.AveragePool) and op.count_include_pad:
        explicit = _reached(op, x)
        if explicit is None:
            raise GraphError(f"{op.name}: padding that depends on a symbolic size")
        return "valid", explicit
    return padding, rest


@rules.exports(ops.MaxPool)
def _max_pool_layer(out: Emitter, node: Node) -> Tensor:
    """Padding is minus infinity, as an operation before the layer; the padding "same" of Keras never wins either."""
    op = node.op
    assert isinstance(op, ops.MaxPool)
    x = out.tensor(node.inputs[0])
    padding, rest = _unpadded(op, x.type)
    if any(begin or end for begin, end in rest):
        widths = [[0, 0], *(list(pair) for pair in rest), [0, 0]]
        types = [spatial_type(x.type, rest)]
        config = {"pad_width": widths, "mode": "constant"}
        x = out.operation(node, "Pad", config, x, suffix="pad", types=types, constant_values=-math.inf)
    return out.layer(node, f"MaxPooling{len(op.strides)}D", _window(op, padding), x)


@rules.exports(ops.AveragePool)
def _average_pool_layer(out: Emitter, node: Node) -> Tensor:
    """Zeros that count are a ZeroPadding layer. Cells that do not count are made good for by a constant factor:
    mean over K cells with zeros * (K / number of cells that count), exact up to the rounding of the factor.
    """
    op = node.op
    assert isinstance(op, ops.AveragePool)
    x = out.tensor(node.inputs[0])
    padding, rest = _unpadded(op, x.type)
    cls, window = f"AveragePooling{len(op.strides)}D", _window(op, padding)
    if not any(begin or end for begin, end in rest):
        return out.layer(node, cls, window, x)
    padded = zero_padding(out, node, x, rest)
    if _counts_all(op, x.type, rest):
        return out.layer(node, cls, window, padded)
    mean = out.layer(node, cls, window, padded, suffix="mean")
    return out.operation(node, "Multiply", {}, mean, _factor(op, x.type))


def _factor(op: ops.AveragePool, x: TensorType) -> Any:
    """K / number of cells that count, for each window, of shape (1, *D', 1)."""
    sizes = tuple(int(size) for size in x.shape[1:-1])  # type: ignore[arg-type]
    counted = _cells(op, sizes)
    return (math.prod(op.kernel_shape) / counted).astype(x.dtype.numpy).reshape(1, *counted.shape, 1)


def _cells(op: ops.AveragePool, sizes: tuple[int, ...]) -> Any:
    """The number of cells that count in each window, the product of those along each axis."""
    pads = resolve_pads(op.pads, sizes, op.kernel_shape, op.strides, op.dilations)
    if pads is None:
        raise GraphError(f"{op.name}: padding that depends on a symbolic size")
    counts = window_output(sizes, op.kernel_shape, op.strides, pads, op.dilations, ceil_mode=op.ceil_mode)
    axes = []
    for size, count, kernel, stride, (begin, end) in zip(sizes, counts, op.kernel_shape, op.strides, pads, strict=True):
        first = np.arange(int(count)) * stride - begin  # type: ignore[arg-type]
        low, high = (-begin, size + end) if op.count_include_pad else (0, size)
        axes.append(np.minimum(first + kernel, high) - np.maximum(first, low))
    return reduce(np.multiply.outer, axes).astype(np.float64)


@refuses(ops.GlobalAveragePool, ops.GlobalMaxPool)
def _global_refusal(node: Node) -> str | None:
    assert isinstance(node.op, (ops.GlobalAveragePool, ops.GlobalMaxPool))
    (x,) = node.operands()
    if node.op.layout is not Layout.CHANNELS_LAST:
        return "channels first, where Keras works on channels last"
    return None if x.rank <= 5 and x.dtype.is_float else f"pooling of {x.type}"


@rules.exports(ops.GlobalAveragePool, ops.GlobalMaxPool)
def _global_layer(out: Emitter, node: Node) -> Tensor:
    op = node.op
    assert isinstance(op, (ops.GlobalAveragePool, ops.GlobalMaxPool))
    x = out.tensor(node.inputs[0])
    kind = "Max" if isinstance(op, ops.GlobalMaxPool) else "Average"
    config = {"data_format": "channels_last", "keepdims": op.keepdims}
    return out.layer(node, f"Global{kind}Pooling{x.type.rank - 2}D", config, x)
