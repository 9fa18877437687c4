"""Pooling layers. Padding of "same" never counts in an average."""

from __future__ import annotations

from isomorph.converters.keras.conv import window_pads
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import Op, Value, ops


@rules.imports(
    "MaxPooling1D", "MaxPooling2D", "MaxPooling3D", "AveragePooling1D", "AveragePooling2D", "AveragePooling3D",
)  # fmt: skip
def _pooling(layer: Layer, x: Value) -> Value:
    spatial = int(layer.cls[-2])
    window = layer.ints("pool_size", spatial, 2)
    strides = window if layer.config.get("strides") is None else layer.ints("strides", spatial)
    ones = (1,) * spatial
    if layer.mirrored and str(layer.config.get("padding")).lower() == "same":
        raise layer.unsupported("'same' pooling of the Theano backend")
    pads = window_pads(layer, window, ones)
    if layer.cls.startswith("Max"):
        return layer.emit(ops.MaxPool(window, strides, pads, ones, layout=layer.layout), x)
    return layer.emit(ops.AveragePool(window, strides, pads, ones, layout=layer.layout), x)


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
