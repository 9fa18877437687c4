"""Convolutions. Keras stores spatial-I-O kernels; the IR sees them O-I-spatial through lazy views."""

from __future__ import annotations

from isomorph.converters.keras.activation import activate
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.ir import TensorSource, Value, ops
from isomorph.ir.ops.conv import Pads


def window_pads(layer: Layer, kernel: tuple[int, ...], dilations: tuple[int, ...]) -> Pads:
    """`padding` of a layer as pads: "same" stays symbolic, as TensorFlow puts the odd cell at the end."""
    padding = str(layer.config.get("padding") or "valid").lower()
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "causal" and len(kernel) == 1:
        return (((kernel[0] - 1) * dilations[0], 0),)
    if padding != "same":
        raise layer.unsupported(f"padding {padding!r}")
    if layer.mirrored:  # Theano: k // 2 cells before, for any stride
        if max(dilations) > 1:
            raise layer.unsupported("dilated 'same' padding of the Theano backend")
        return tuple((size // 2, (size - 1) // 2) for size in kernel)
    return "same_upper"


def _as_stored(layer: Layer, name: str, spatial: int, source: TensorSource) -> TensorSource:
    """The kernel in the order (*spatial, I, O), however old the file is."""
    if layer.major < 2 and spatial == 1 and len(source.shape) == 4:
        source = source.reshaped((source.shape[0], *source.shape[2:]))
    if layer.major < 2 and spatial > 1 and layer.config.get("data_format") == "channels_first":
        source = source.permuted((*range(2, spatial + 2), 1, 0))
    if len(source.shape) != spatial + 2:
        raise layer.malformed(f"the {name} has rank {len(source.shape)}, not {spatial + 2}")
    return layer.spatial_kernel(source, spatial)


def _kernel_size(layer: Layer, value: Value, spatial: int) -> tuple[int, ...]:
    kernel = tuple(int(size) for size in value.shape[2:])  # type: ignore[arg-type]
    if layer.ints("kernel_size", spatial) != kernel:
        raise layer.malformed(f"kernel_size is {layer.config['kernel_size']}, the kernel is {kernel}")
    return kernel


@rules.imports("Conv1D", "Conv2D", "Conv3D")
def _conv(layer: Layer, x: Value) -> Value:
    spatial = int(layer.cls[4])
    to_oi = (spatial + 1, spatial, *range(spatial))
    w = layer.weight("kernel", lambda source: _as_stored(layer, "kernel", spatial, source).permuted(to_oi))
    dilations = layer.ints("dilation_rate", spatial, 1)
    pads = window_pads(layer, _kernel_size(layer, w, spatial), dilations)
    op = ops.Conv(layer.ints("strides", spatial, 1), pads, dilations, layer.integer("groups", 1), layer.layout)
    return activate(layer, layer.emit(op, x, w, layer.optional("bias")))


def _depthwise_view(layer: Layer, spatial: int, source: TensorSource) -> TensorSource:
    """(*spatial, C, M) -> (C * M, 1, *spatial), channel c * M + m."""
    source = _as_stored(layer, "depthwise kernel", spatial, source)
    *kernel, channels, multiplier = source.shape
    moved = source.permuted((spatial, spatial + 1, *range(spatial)))
    return moved.reshaped((channels * multiplier, 1, *kernel))


def _refuse_theano(layer: Layer) -> None:
    if layer.mirrored or (layer.major < 2 and layer.config.get("data_format") == "channels_first"):
        raise layer.unsupported("kernels of the Theano backend, whose order is not established for this layer")


@rules.imports("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise_conv(layer: Layer, x: Value) -> Value:
    _refuse_theano(layer)
    spatial = int(layer.cls[-2])
    w = layer.weight("depthwise_kernel", lambda source: _depthwise_view(layer, spatial, source))
    dilations = layer.ints("dilation_rate", spatial, 1)
    pads = window_pads(layer, _kernel_size(layer, w, spatial), dilations)
    channels = int(layer.instance.tensors["depthwise_kernel"].shape[spatial])
    op = ops.Conv(layer.ints("strides", spatial, 1), pads, dilations, channels, layer.layout)
    return activate(layer, layer.emit(op, x, w, layer.optional("bias")))


@rules.imports("SeparableConv1D", "SeparableConv2D")
def _separable_conv(layer: Layer, x: Value) -> Value:
    _refuse_theano(layer)
    spatial = int(layer.cls[-2])
    to_oi = (spatial + 1, spatial, *range(spatial))
    depthwise = layer.weight("depthwise_kernel", lambda source: _depthwise_view(layer, spatial, source))
    pointwise = layer.weight("pointwise_kernel", lambda source: source.permuted(to_oi))
    dilations = layer.ints("dilation_rate", spatial, 1)
    pads = window_pads(layer, _kernel_size(layer, depthwise, spatial), dilations)
    op = ops.SeparableConv(layer.ints("strides", spatial, 1), pads, dilations, layer.layout)
    return activate(layer, layer.emit(op, x, depthwise, pointwise, layer.optional("bias")))


@rules.imports("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _conv_transpose(layer: Layer, x: Value) -> Value:
    """Keras states the output size; the pads follow from it.

    With E = (K - 1) * dilation + 1 the whole transpose has (D - 1) * S + E cells; Keras keeps D * S ("same") or
    D * S + max(E - S, 0) ("valid"), or with `output_padding` P (D - 1) * S + E - 2 * (E // 2 if "same" else 0) + P.
    What is too much is cut off, the smaller half at the begin; what is missing is zero at the end.
    """
    if layer.mirrored or layer.major < 2:
        raise layer.unsupported("transposed convolutions of Keras 1 and of the Theano backend")
    spatial = int(layer.cls[4])
    w = layer.weight("kernel", lambda source: source.permuted((spatial + 1, spatial, *range(spatial))))
    kernel = _kernel_size(layer, w, spatial)
    strides, dilations = layer.ints("strides", spatial, 1), layer.ints("dilation_rate", spatial, 1)
    same = str(layer.config.get("padding") or "valid").lower() == "same"
    stated = layer.config.get("output_padding")
    extra = None if stated is None else layer.ints("output_padding", spatial)
    pads, missing = [], []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        extent = (size - 1) * dilation + 1
        if extra is None:
            surplus = extent - stride if same else min(extent - stride, 0)
        else:
            surplus = (2 * (extent // 2) if same else 0) - extra[axis]
        cut = max(surplus, 0)
        pads.append((cut // 2, cut - cut // 2))
        missing.append(max(-surplus, 0))
    op = ops.ConvTranspose(strides, tuple(pads), dilations, tuple(missing), layer.integer("groups", 1), layer.layout)
    return activate(layer, layer.emit(op, x, w, layer.optional("bias")))
