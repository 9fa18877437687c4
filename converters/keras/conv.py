"""Convolutions. Keras stores spatial-I-O kernels; the IR sees them O-I-spatial through lazy views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from isomorph.converters.keras.activation import activate
from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.errors import GraphError
from isomorph.ir import Dim, Layout, Node, TensorSource, TensorType, Value, ops
from isomorph.ir.ops.conv import Pads, resolve_pads

Pairs: TypeAlias = Sequence[tuple[int, int]]


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


@rules.imports("ops.Conv", "ops.DepthwiseConv")
def _conv_operation(layer: Layer, x: Value, kernel: Any) -> Value:
    """keras.ops.conv with a kernel (*K, I, O), or depthwise with (*K, C, M), as an array or a tensor."""
    spatial = x.rank - 2
    w = kernel if isinstance(kernel, Value) else layer.constant(kernel, x, "kernel")
    channels = layer.layout.split(x.shape)[1]
    if w.rank != x.rank or not isinstance(channels, int) or not w.type.is_static:
        raise layer.unsupported(f"a kernel {w.type} on {x.type}")
    *sizes, inner, outer = (int(size) for size in w.shape)  # type: ignore[arg-type]
    if layer.cls == "ops.Conv":
        w, groups = layer.emit(ops.Transpose((spatial + 1, spatial, *range(spatial))), w), 1
    else:
        moved = layer.emit(ops.Transpose((spatial, spatial + 1, *range(spatial))), w)
        w, groups = layer.emit(ops.Reshape((inner * outer, 1, *sizes)), moved), channels
    dilations = layer.ints("dilation_rate", spatial, 1)
    pads = window_pads(layer, tuple(sizes), dilations)
    return layer.emit(ops.Conv(layer.ints("strides", spatial, 1), pads, dilations, groups, layer.layout), x, w)


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


def spatial_type(x: TensorType, pads: Pairs) -> TensorType:
    """The type of channels-last data with its spatial axes grown by `pads`."""
    batch, *spatial, channels = x.shape
    grown = [size + begin + end for size, (begin, end) in zip(spatial, pads, strict=True)]
    return TensorType(x.dtype, (batch, *grown, channels))


def zero_padding(out: Emitter, node: Node, x: Tensor, pads: Pairs, suffix: str = "pad") -> Tensor:
    """A ZeroPadding layer, or Cropping where nothing is added."""
    cls = "ZeroPadding" if all(begin >= 0 and end >= 0 for begin, end in pads) else "Cropping"
    amounts = [[abs(begin), abs(end)] for begin, end in pads]
    key = "padding" if cls == "ZeroPadding" else "cropping"
    config: dict[str, Any] = {key: amounts[0] if len(pads) == 1 else amounts}
    if len(pads) > 1:
        config["data_format"] = "channels_last"
    return out.layer(node, f"{cls}{len(pads)}D", config, x, suffix=suffix, type=spatial_type(x.type, pads))


def keras_padding(
    pads: Pads, spatial: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[str, Pairs]:
    """Keras' own padding, and the pads that it leaves to a layer before: "same" where it is exactly that.

    Keras pads "same" as "same_upper": the odd cell at the end.
    """
    window = tuple(kernel), tuple(strides), tuple(dilations)
    none = ((0, 0),) * len(kernel)
    if pads == "same_upper":
        return "same", none
    stated, same = resolve_pads(pads, spatial, *window), resolve_pads("same_upper", spatial, *window)
    if stated is None:
        raise GraphError(f"pads {pads!r} depend on a symbolic size")
    if not any(begin or end for begin, end in stated):
        return "valid", none
    if stated == same:
        return "same", none
    return "valid", stated


def padded_window(
    out: Emitter, node: Node, op: ops.Conv | ops.SeparableConv, kernel: Sequence[int]
) -> tuple[Tensor, dict[str, Any]]:
    """The data, padded by a layer where Keras' own padding does not do it, and the configuration of the window."""
    x = out.tensor(node.inputs[0])
    padding, rest = keras_padding(op.pads, x.type.shape[1:-1], kernel, op.strides, op.dilations)
    if any(begin or end for begin, end in rest):
        x = zero_padding(out, node, x, rest)
    window = {
        "kernel_size": list(kernel),
        "strides": list(op.strides),
        "padding": padding,
        "data_format": "channels_last",
        "dilation_rate": list(op.dilations),
    }
    return x, window


def kernel_of(node: Node, position: int = 1) -> TensorType:
    """The type of a kernel operand."""
    value = node.inputs[position]
    if value is None:
        raise GraphError(f"{node.op.name} without a kernel")
    return value.type


def window_refusal(node: Node, most: int = 3) -> str | None:
    """What no convolution layer of Keras does."""
    op = node.op
    assert isinstance(op, (ops.Conv, ops.SeparableConv, ops.ConvTranspose))
    rank = len(op.strides)
    if op.layout is not Layout.CHANNELS_LAST:
        return "channels first, where Keras works on channels last"
    if rank > most:
        return f"{rank} spatial axes"
    if not isinstance(op.pads, str) and any(size < 0 for pair in op.pads for size in pair):
        return "negative pads"
    if any(value is not None and not value.is_parameter for value in node.inputs[1:]):
        return "a kernel or bias that is computed"
    if any(stride > 1 for stride in op.strides) and any(dilation > 1 for dilation in op.dilations):
        return "strides and dilations at once, which Keras refuses"
    return None


def symbolic_refusal(
    node: Node, pads: Pads, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> str | None:
    """ "same_lower" padding of a symbolic size cannot be made explicit."""
    (x, *_) = node.operands()
    resolved = resolve_pads(pads, x.shape[1:-1], tuple(kernel), tuple(strides), tuple(dilations))
    return "same_lower padding of a symbolic size" if resolved is None and pads == "same_lower" else None


@refuses(ops.Conv)
def _conv_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.Conv)
    if (refused := window_refusal(node)) is not None:  # (a kernel of symbolic sizes is a computed one)
        return refused
    _, _, *kernel = _sizes(kernel_of(node))
    return symbolic_refusal(node, node.op.pads, kernel, node.op.strides, node.op.dilations)


def _sizes(kind: TensorType) -> tuple[int, ...]:
    return tuple(int(size) for size in kind.shape)  # type: ignore[arg-type]


@rules.exports(ops.Conv)
def _conv_layer(out: Emitter, node: Node) -> Tensor:
    """A kernel (O, I, *K) is stored as (*K, I, O); one filter for each channel is a DepthwiseConv layer."""
    op = node.op
    assert isinstance(op, ops.Conv)
    filters, group_channels, *kernel = _sizes(kernel_of(node))
    rank = len(kernel)
    x, window = padded_window(out, node, op, kernel)
    _, w, bias = (*node.inputs, None)[:3]
    assert w is not None and w.parameter is not None
    source = w.parameter.data
    config = {**window, "use_bias": bias is not None}
    if op.group > 1 and group_channels == 1 and rank <= 2 and len(set(op.strides)) == 1:
        view = depthwise_kernel(source, op.group)
        config = {"depth_multiplier": filters // op.group, **config}
        return out.layer(node, f"DepthwiseConv{rank}D", config, x, weights=[out.held(w, view), out.held(bias)])
    view = source.permuted((*range(2, rank + 2), 1, 0))
    config = {"filters": filters, **config, "groups": op.group}
    return out.layer(node, f"Conv{rank}D", config, x, weights=[out.held(w, view), out.held(bias)])


def depthwise_kernel(source: TensorSource, channels: int) -> TensorSource:
    """(C * M, 1, *K) as (*K, C, M), the order of Keras."""
    filters, _, *kernel = source.shape
    rank = len(kernel)
    return source.reshaped((channels, filters // channels, *kernel)).permuted((*range(2, rank + 2), 0, 1))


@refuses(ops.SeparableConv)
def _separable_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.SeparableConv)
    if len(set(node.op.strides)) > 1:
        return "strides that differ between the axes"
    if (refused := window_refusal(node, most=2)) is not None:
        return refused
    _, _, *kernel = _sizes(kernel_of(node))
    return symbolic_refusal(node, node.op.pads, kernel, node.op.strides, node.op.dilations)


@rules.exports(ops.SeparableConv)
def _separable_layer(out: Emitter, node: Node) -> Tensor:
    op = node.op
    assert isinstance(op, ops.SeparableConv)
    hidden, _, *kernel = _sizes(kernel_of(node))
    rank = len(kernel)
    x, window = padded_window(out, node, op, kernel)
    _, depthwise, pointwise, bias = (*node.inputs, None)[:4]
    assert depthwise is not None and depthwise.parameter is not None
    assert pointwise is not None and pointwise.parameter is not None
    channels = x.type.shape[-1]
    assert isinstance(channels, int)
    first = depthwise_kernel(depthwise.parameter.data, channels)
    second = pointwise.parameter.data.permuted((*range(2, rank + 2), 1, 0))
    config = {
        "filters": pointwise.shape[0],
        "depth_multiplier": hidden // channels,
        **window,
        "use_bias": bias is not None,
    }
    weights = [out.held(depthwise, first), out.held(pointwise, second), out.held(bias)]
    return out.layer(node, f"SeparableConv{rank}D", config, x, weights=weights)


@refuses(ops.ConvTranspose)
def _conv_transpose_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.ConvTranspose)
    if node.op.group > 1:
        return "groups, which Keras' transposed convolutions lack"
    if (refused := window_refusal(node)) is not None:  # (a kernel of symbolic sizes is a computed one)
        return refused
    if any(crop < 0 for pair in _crops(node.op, kernel_of(node)) for crop in pair):
        return "an output that is padded beyond the last cell that the kernel reaches"
    return None


def _crops(op: ops.ConvTranspose, kernel: TensorType) -> list[tuple[int, int]]:
    """What to cut off of Keras' "valid" result, which has (D - 1) * stride + max(extent, stride) cells."""
    crops = []
    for size, stride, (begin, end), dilation, extra in zip(
        _sizes(kernel)[2:], op.strides, op.pads, op.dilations, op.output_padding, strict=True
    ):
        extent = (size - 1) * dilation + 1
        crops.append((begin, end - extra + max(stride - extent, 0)))
    return crops


@rules.exports(ops.ConvTranspose)
def _conv_transpose_layer(out: Emitter, node: Node) -> Tensor:
    """Padding "same" where Keras cuts off just as much, else "valid" and a Cropping layer.

    A kernel (I, O, *K) is stored as (*K, O, I).
    """
    op = node.op
    assert isinstance(op, ops.ConvTranspose)
    _, filters, *kernel = _sizes(kernel_of(node))
    rank = len(kernel)
    x, w, bias = (*node.inputs, None)[:3]
    assert x is not None and w is not None and w.parameter is not None
    crops = _crops(op, w.type)
    same = all(
        size == (size - 1) * dilation + 1
        and size >= stride
        and crop == ((size - stride) // 2, size - stride - (size - stride) // 2)
        for size, stride, dilation, crop in zip(kernel, op.strides, op.dilations, crops, strict=True)
    )
    config = {
        "filters": filters,
        "kernel_size": kernel,
        "strides": list(op.strides),
        "padding": "same" if same else "valid",
        "data_format": "channels_last",
        "dilation_rate": list(op.dilations),
        "use_bias": bias is not None,
    }
    whole = [(0, 0)] * rank if same else crops
    full = spatial_type(node.output.type, whole)
    view = w.parameter.data.permuted((*range(2, rank + 2), 1, 0))
    weights = [out.held(w, view), out.held(bias)]
    made = out.layer(node, f"Conv{rank}DTranspose", config, out.tensor(x), weights=weights, type=full)
    if not any(begin or end for begin, end in whole):
        return made
    return zero_padding(out, node, made, tuple((-begin, -end) for begin, end in whole), "crop")
