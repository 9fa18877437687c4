"""Layers and operations that move, cut, join and repeat elements."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from isomorph.converters.keras.conv import zero_padding
from isomorph.converters.keras.elementwise import as_list
from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Tensor
from isomorph.ir import Dim, DType, Layout, Node, Shape, Sym, TensorType, Value, ops
from isomorph.ir.evaluate import evaluate_op
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


@rules.imports("CenterCrop")
def _center_crop(layer: Layer, x: Value) -> Value:
    """The middle of the image; an image that is too small would be resized, which is refused."""
    axes = tuple(layer.layout.spatial_axes(x.rank))
    starts, ends = [], []
    for axis, key in zip(axes, ("height", "width"), strict=True):
        size, wanted = x.shape[axis], layer.integer(key)
        if not isinstance(size, int) or size < wanted:
            raise layer.unsupported(f"a crop of {wanted} from {size}")
        starts.append((size - wanted) // 2)
        ends.append(starts[-1] + wanted)
    return layer.emit(ops.Slice(axes, tuple(starts), tuple(ends), (1,) * len(axes)), x)


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


@rules.imports("ops.ZerosLike", "ops.OnesLike")
def _filled(layer: Layer, x: Value) -> Value:
    """0 or 1 in the form of x, whatever its elements are."""
    stated = layer.config.get("dtype")
    dtype = x.dtype if stated is None else DType.of(stated)
    return layer.emit(ops.ConstantOfShape(x.shape, 0 if layer.cls == "ops.ZerosLike" else 1, dtype))


@rules.imports("ops.Tile")
def _tile(layer: Layer, x: Value) -> Value:
    return layer.emit(ops.Tile(layer.ints("repeats", x.rank)), x)


@rules.imports("ops.Flip")
def _flip(layer: Layer, x: Value) -> Value:
    axes = tuple(range(x.rank)) if layer.config.get("axis") is None else layer.axes("axis", x.rank)
    none = (None,) * len(axes)
    return layer.emit(ops.Slice(axes, none, none, (-1,) * len(axes)), x)


def _unknown(shape: Shape) -> int:
    return sum(not isinstance(dim, int) for dim in shape)


def _keeps_batch(node: Node) -> bool:
    """Whether a reshaping leaves the first axis alone, as Keras' layers do."""
    (x,) = node.operands()
    shape = node.output.shape
    return x.rank >= 1 and len(shape) >= 1 and x.shape[0] == shape[0] and _unknown(shape[1:]) <= 1


@refuses(ops.Reshape, ops.Flatten)
def _reshape_refusal(node: Node) -> str | None:
    if _keeps_batch(node) or _unknown(node.output.shape) <= 1:
        return None
    return "several symbolic sizes, where Keras infers one"


@rules.exports(ops.Reshape, ops.Flatten)
def _reshape_layer(out: Emitter, node: Node) -> Tensor:
    """Flatten or Reshape where the batch stays, an operation where it does not; the one unknown size is -1."""
    x = out.tensor(node.inputs[0])
    sizes = [dim if isinstance(dim, int) else -1 for dim in node.output.shape]
    if not _keeps_batch(node):
        return out.operation(node, "Reshape", {"newshape": sizes}, x)
    if len(sizes) == 2 and x.type.rank > 2:
        return out.layer(node, "Flatten", {"data_format": "channels_last"}, x)
    return out.layer(node, "Reshape", {"target_shape": sizes[1:]}, x)


@rules.exports(ops.Transpose)
def _permute_layer(out: Emitter, node: Node) -> Tensor:
    """Permute counts axes from 1, without the batch."""
    assert isinstance(node.op, ops.Transpose)
    perm = node.op.perm
    x = out.tensor(node.inputs[0])
    if len(perm) >= 2 and perm[0] == 0:
        return out.layer(node, "Permute", {"dims": list(perm[1:])}, x)
    return out.operation(node, "Transpose", {"axes": list(perm)}, x)


@rules.exports(ops.Squeeze)
def _squeeze_operation(out: Emitter, node: Node) -> Tensor:
    """Keras does not know that a slice of one element is left of an axis of unknown size: there it is indexed."""
    assert isinstance(node.op, ops.Squeeze)
    (x,) = node.operands()
    cut = x.producer
    if cut is not None and isinstance(cut.op, ops.Slice) and cut.inputs[0] is not None:
        before = cut.inputs[0].shape
        if any(isinstance(before[axis], Sym) for axis in node.op.axes):
            places = tuple(0 if axis in node.op.axes else slice(None) for axis in range(x.rank))
            return out.operation(node, "GetItem", {}, out.tensor(x), places)
    return out.operation(node, "Squeeze", {"axis": list(node.op.axes)}, out.tensor(node.inputs[0]))


@rules.exports(ops.Unsqueeze)
def _expand_dims_operation(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Unsqueeze)
    axes = sorted(node.op.axes)
    return out.operation(node, "ExpandDims", {"axis": axes[0] if len(axes) == 1 else axes}, out.tensor(node.inputs[0]))


@refuses(ops.Slice)
def _slice_refusal(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, ops.Slice)
    if any(isinstance(bound, Sym) for bound in (*op.starts, *op.ends)):
        return "a bound that is symbolic"
    backward = [(start, end, step) for start, end, step in zip(op.starts, op.ends, op.steps, strict=True) if step < 0]
    return None if all(cut == (None, None, -1) for cut in backward) else "a step backward"


@rules.exports(ops.Slice)
def _slice_operation(out: Emitter, node: Node) -> Tensor:
    """x[..., begin:end:step, ...]; a whole axis backward is a flip."""
    op = node.op
    assert isinstance(op, ops.Slice)
    x = out.tensor(node.inputs[0])
    cuts = [slice(None)] * x.type.rank
    flipped = []
    for axis, start, end, step in zip(op.axes, op.starts, op.ends, op.steps, strict=True):
        if step < 0:
            flipped.append(axis)
            continue
        size = x.type.shape[axis]
        assert not isinstance(start, Sym) and not isinstance(end, Sym)
        cuts[axis] = slice(*slice(start, end, step).indices(size)) if isinstance(size, int) else slice(start, end, step)
    whole = all(cut == slice(None) for cut in cuts)
    if flipped:
        x = out.operation(node, "Flip", {"axis": flipped}, x, suffix="" if whole else "flip", types=[x.type])
    return x if flipped and whole else out.operation(node, "GetItem", {}, x, tuple(cuts))


@refuses(ops.Split)
def _split_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.Split)
    return "sizes that are symbolic" if _unknown(node.op.sizes) else None


@rules.exports(ops.Split)
def _split_operation(out: Emitter, node: Node) -> Sequence[Tensor]:
    """A number of equal parts, or the places to cut at."""
    op = node.op
    assert isinstance(op, ops.Split)
    sizes = [int(size) for size in op.sizes]  # type: ignore[arg-type]
    parts: Any = len(sizes) if len(set(sizes)) == 1 else list(accumulate(sizes))[:-1]
    return out.operations(node, "Split", {"indices_or_sections": parts, "axis": op.axis}, out.tensor(node.inputs[0]))


@rules.exports(ops.Concat)
def _concatenate_layer(out: Emitter, node: Node) -> Tensor:
    """A layer between tensors, an operation along the batch or with an array."""
    op = node.op
    assert isinstance(op, ops.Concat)
    shapes = {tuple(dim for axis, dim in enumerate(value.shape) if axis != op.axis) for value in node.operands()}
    if len(node.inputs) == 1:
        return out.tensor(node.inputs[0])
    tensors = all(value.dtype.is_float and out.literal(value) is None for value in node.operands())
    if op.axis > 0 and len(shapes) == 1 and tensors:
        axis = -1 if op.axis == node.output.rank - 1 else op.axis
        return out.layer(node, "Concatenate", {"axis": axis}, [out.tensor(value) for value in node.operands()])
    return out.operation(node, "Concatenate", {"axis": op.axis}, out.arguments(node))


@refuses(ops.Pad)
def _pad_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.Pad)
    if any(_unknown(pair) for pair in node.op.pads):
        return "pads that are symbolic"
    return "a mode that not every backend of Keras has" if node.op.mode in ("edge", "wrap") else None


@rules.exports(ops.Pad)
def _pad_layer(out: Emitter, node: Node) -> Tensor:
    """ZeroPadding for zeros around spatial axes, an operation for the rest; negative pads are cut off first."""
    op = node.op
    assert isinstance(op, ops.Pad)
    x = out.tensor(node.inputs[0])
    pads = [(int(begin), int(end)) for begin, end in op.pads]  # type: ignore[arg-type]
    if any(begin < 0 or end < 0 for begin, end in pads):
        cuts = tuple(slice(max(-begin, 0), min(end, 0) or None) for begin, end in pads)
        pads = [(max(begin, 0), max(end, 0)) for begin, end in pads]
        left = tuple(dim - begin - end for dim, (begin, end) in zip(node.output.shape, pads, strict=True))
        whole = any(begin or end for begin, end in pads)
        x = out.operation(
            node, "GetItem", {}, x, cuts, suffix="cut" if whole else "", types=[TensorType(x.type.dtype, left)]
        )
        if not whole:
            return x
    outer = any(pads[0]) or any(pads[-1])
    if op.mode == "constant" and op.value == 0 and x.type.dtype.is_float and 3 <= len(pads) <= 5 and not outer:
        return zero_padding(out, node, x, pads[1:-1], suffix="")
    config = {"pad_width": [list(pair) for pair in pads], "mode": op.mode}
    given: dict[str, Any] = {"constant_values": op.value} if op.mode == "constant" else {}
    return out.operation(node, "Pad", config, x, **given)


@refuses(ops.Expand)
def _expand_refusal(node: Node) -> str | None:
    (x,) = node.operands()
    shape = node.output.shape
    if not _unknown(shape) or (x.rank == len(shape) and x.shape[0] == shape[0] and not _unknown(shape[1:])):
        return None
    named = isinstance(shape[0], Sym) and shape[0].name is not None
    return (
        None
        if named and not _unknown(shape[1:]) and not _unknown(x.shape)
        else "sizes other than the batch that are symbolic"
    )


@rules.exports(ops.Expand)
def _expand_operation(out: Emitter, node: Node) -> Tensor:
    """Broadcast to a known shape; else tiled where the batch is there already, or taken once for each sample."""
    x, shape = out.tensor(node.inputs[0]), node.output.shape
    if not _unknown(shape):
        return out.operation(node, "BroadcastTo", {"shape": list(shape)}, x)
    if _unknown(x.type.shape):
        repeats = [1 if size == whole else whole for size, whole in zip(x.type.shape, shape, strict=True)]
        return out.operation(node, "Tile", {"repeats": repeats}, x)
    one = TensorType(x.type.dtype, (1, *shape[1:]))
    if x.type != one:
        x = out.operation(node, "BroadcastTo", {"shape": list(one.shape)}, x, suffix="one", types=[one])
    return out.operation(node, "Take", {"axis": 0}, x, out.batch_zeros(node, shape[0]))


@refuses(ops.Tile)
def _tile_refusal(node: Node) -> str | None:
    assert isinstance(node.op, ops.Tile)
    return "repeats that are symbolic" if _unknown(node.op.repeats) else None


@rules.exports(ops.Tile)
def _tile_operation(out: Emitter, node: Node) -> Tensor:
    assert isinstance(node.op, ops.Tile)
    return out.operation(node, "Tile", {"repeats": list(node.op.repeats)}, out.tensor(node.inputs[0]))


@refuses(ops.Dims, ops.ConstantOfShape, ops.Range)
def _generated_refusal(node: Node) -> str | None:
    """What is known is folded before it is written."""
    op = node.op
    sizes: Shape = op.dims if isinstance(op, ops.Dims) else node.output.shape
    start = op.start if isinstance(op, ops.Range) else 0
    return "sizes that are symbolic, as data" if _unknown(sizes) or isinstance(start, Sym) else None


@rules.exports(ops.Dims, ops.ConstantOfShape, ops.Range)
def _generated(out: Emitter, node: Node) -> Tensor:
    (array,) = evaluate_op(node.op)
    return out.generated(node, array)
