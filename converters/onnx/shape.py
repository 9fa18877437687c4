"""Ops that move, cut, join and repeat elements in ONNX. Symbolic sizes become operands."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.errors import MalformedError
from isomorph.ir import Dim, DType, Node, Shape, Sym, TensorSource, Value, ops
from isomorph.ir.op import normalize_axes
from isomorph.ir.shapes import ceil_div, elements

_LAST = 2**63 - 1


def reshape_sizes(export: Export, before: Shape, after: Shape) -> tuple[str, bool]:
    """The operand of Reshape, and whether a 0 in it means 0: else it copies a size.

    -1 stands for one unknown where nothing else may be 0, which would leave it open; what is left is computed.
    """
    if not any(isinstance(dim, Sym) for dim in after):
        return export.sizes(after, "shape"), 0 in after
    plain: list[int] = []
    for axis, dim in enumerate(after):
        copied = axis < len(before) and before[axis] == dim and dim != 0
        plain.append(dim if isinstance(dim, int) else 0 if copied else -1)
    others_empty = any(export.may_be_zero(dim) for dim, entry in zip(after, plain, strict=True) if entry != -1)
    if 0 not in after and (plain.count(-1) == 0 or (plain.count(-1) == 1 and not others_empty)):
        return export.ints(plain, "shape"), False
    return export.sizes(after, "shape"), any(map(export.may_be_zero, after))


@rules.imports("Reshape")
def read_reshape(node: OnnxNode) -> Value:
    x, wanted = node.value(0), node.sizes(1)
    if wanted is None:
        node.refuse("no shape")
    shape: list[Dim] = []
    for axis, dim in enumerate(wanted):
        copied = dim == 0 and not node.attribute("allowzero", 0)
        shape.append(x.shape[axis] if copied else dim)
    if -1 in shape:
        rest = elements(dim for dim in shape if dim != -1)
        shape[shape.index(-1)] = 0 if rest == 0 else elements(x.shape) // rest
    return node.emit(ops.Reshape(tuple(shape)), x)


@rules.imports("Flatten")
def read_flatten(node: OnnxNode) -> Value:
    x, axis = node.value(0), int(node.attribute("axis", 1))
    return node.emit(ops.Flatten(axis + x.rank if axis < 0 else axis), x)


@rules.imports("Transpose")
def read_transpose(node: OnnxNode) -> Value:
    x = node.value(0)
    return node.emit(ops.Transpose(tuple(node.attribute("perm", range(x.rank)[::-1]))), x)


@rules.imports("Squeeze")
def read_squeeze(node: OnnxNode) -> Value:
    x = node.value(0)
    given = node.ints(1, "axes")
    if given is None:
        if any(isinstance(dim, Sym) for dim in x.shape):
            node.refuse("which axes have the size 1 depends on the input")
        given = tuple(axis for axis, dim in enumerate(x.shape) if dim == 1)
    return node.emit(ops.Squeeze(tuple(sorted(normalize_axes(given, x.rank)))), x)


@rules.imports("Unsqueeze")
def read_unsqueeze(node: OnnxNode) -> Value:
    x, given = node.value(0), node.ints(1, "axes")
    if given is None:
        node.refuse("no axes")
    return node.emit(ops.Unsqueeze(tuple(sorted(normalize_axes(given, x.rank + len(given))))), x)


@rules.imports("Slice")
def read_slice(node: OnnxNode) -> Value:
    x = node.value(0)
    starts: list[Dim] | None
    ends: list[Dim] | None
    if node.opset < 10:
        starts, ends = list(node.attribute("starts")), list(node.attribute("ends"))
        axes, steps = node.attribute("axes"), None
    else:
        starts, ends = node.sizes(1), node.sizes(2)
        axes, steps = node.ints(3, "axes"), node.ints(4, "steps")
    if starts is None or ends is None:
        node.refuse("no bounds")
    where = normalize_axes(axes if axes is not None else range(len(starts)), x.rank)
    strides = tuple(steps) if steps is not None else (1,) * len(starts)
    begins = tuple(_bound(dim, step, first=True) for dim, step in zip(starts, strides, strict=True))
    stops = tuple(_bound(dim, step, first=False) for dim, step in zip(ends, strides, strict=True))
    return node.emit(ops.Slice(where, begins, stops, strides), x)


_BEYOND = 10**9
"""Exporters write INT_MAX or a round large number for "to the end"; no axis of a tensor has so many elements."""


def _bound(dim: Dim, step: int, *, first: bool) -> Dim | None:
    """A bound of a slice; None for one beyond the end (or the begin, for a negative step) of any axis."""
    if isinstance(dim, Sym) or abs(dim) < _BEYOND:
        return dim
    at_the_end = dim > 0
    open_here = at_the_end == (step < 0) if first else at_the_end == (step > 0)
    return None if open_here else dim


@rules.imports("Split")
def read_split(node: OnnxNode) -> Sequence[Value]:
    x = node.value(0)
    axis = node.axis(x.rank, 0)
    sizes: Sequence[Dim] | None = node.attribute("split") if node.opset < 13 else node.sizes(1)
    if sizes is None:
        count = int(node.attribute("num_outputs", len(node.outputs)))
        if count != len(node.outputs):
            raise MalformedError(f"Split into {count} pieces has {len(node.outputs)} results", at=node.where)
        each = ceil_div(x.shape[axis], count)
        sizes = [each] * (count - 1)
        sizes = [*sizes, x.shape[axis] - each * (count - 1)]
    return node.graph.builder.emit_many(ops.Split(axis, tuple(sizes)), x)


@rules.imports("Concat")
def read_concat(node: OnnxNode) -> Value:
    operands = [node.value(position) for position in range(len(node.inputs))]
    axis = node.axis(operands[0].rank, 1)
    return node.emit(ops.Identity() if len(operands) == 1 else ops.Concat(axis), *operands)


@rules.imports("Pad")
def read_pad(node: OnnxNode) -> Value:
    x, mode = node.value(0), node.attribute("mode", "constant")
    flat: Sequence[Dim] | None = node.attribute("pads") if node.opset < 11 else node.sizes(1)
    value = node.attribute("value", 0.0) if node.opset < 11 else node.constant(2)
    axes = node.ints(3, "axes") if node.opset >= 18 else None
    if flat is None or mode not in ("constant", "reflect", "edge", "wrap"):
        node.refuse(f"pads {flat}, mode {mode!r}")
    where = normalize_axes(axes if axes is not None else range(x.rank), x.rank)
    pads: list[tuple[Dim, Dim]] = [(0, 0)] * x.rank
    for position, axis in enumerate(where):
        pads[axis] = flat[position], flat[position + len(where)]
    fill = 0 if value is None else value if isinstance(value, float) else value.ravel()[0].item()
    stated = mode == "constant" and _says_more_than_zero(fill)
    return node.emit(ops.Pad(tuple(pads), mode, fill if stated else 0), x)


def _says_more_than_zero(fill: float) -> bool:
    """Whether a fill value is another than the default: -0.0 is."""
    return fill != 0 or any(math.copysign(1, part) < 0 for part in (fill.real, fill.imag))


@rules.imports("Expand")
def read_expand(node: OnnxNode) -> Value:
    x, wanted = node.value(0), node.sizes(1)
    if wanted is None:
        node.refuse("no shape")
    return node.emit(ops.Expand(tuple(wanted)), x)


@rules.imports("Tile")
def read_tile(node: OnnxNode) -> Value:
    x, repeats = node.value(0), node.sizes(1)
    if repeats is None:
        node.refuse("no repeats")
    return node.emit(ops.Tile(tuple(repeats)), x)


@rules.imports("DepthToSpace")
def read_depth_to_space(node: OnnxNode) -> Value:
    return node.emit(ops.DepthToSpace(int(node.attribute("blocksize")), node.attribute("mode", "DCR")), node.value(0))


@rules.imports("SpaceToDepth")
def read_space_to_depth(node: OnnxNode) -> Value:
    if node.attribute("mode", "DCR") != "DCR":
        node.refuse("mode CRD")
    return node.emit(ops.SpaceToDepth(int(node.attribute("blocksize"))), node.value(0))


@rules.imports("ConstantOfShape")
def read_constant_of_shape(node: OnnxNode) -> Value:
    shape, value = node.sizes(0), node.attribute("value")
    if shape is None:
        node.refuse("no shape")
    fill = value.numpy().ravel()[0] if isinstance(value, TensorSource) else np.float32(0)
    return node.emit(ops.ConstantOfShape(tuple(shape), fill.item(), DType.of(fill.dtype)))


@rules.imports("Range")
def read_range(node: OnnxNode) -> Value:
    known = [node.graph.known(name) for name in node.inputs]
    if all(bound is not None for bound in known):
        start, limit, delta = (bound.item() for bound in known if bound is not None)
        if not isinstance(delta, int):
            node.refuse("a symbolic step")
        if delta == 0:
            raise MalformedError("Range with a step of 0", at=node.where)
        length = ceil_div(limit - start, delta) if delta > 0 else ceil_div(start - limit, -delta)
        return node.emit(ops.Range(start, delta, length, node.graph.size_dtype(node.inputs[0])))
    bounds = [node.constant(position) for position in range(3)]
    start, limit, delta = (float(bound) for bound in bounds if bound is not None)
    if not all(map(math.isfinite, (start, limit, delta))) or delta == 0:
        raise MalformedError(f"Range from {start} to {limit} in steps of {delta}", at=node.where)
    kind = DType.of(bounds[0].dtype) if bounds[0] is not None else DType.FLOAT32
    return node.emit(ops.Range(start, delta, max(0, math.ceil((limit - start) / delta)), kind))


@rules.exports(ops.Reshape)
def write_reshape(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Reshape) and node.inputs[0] is not None
    sizes, allows_zero = reshape_sizes(export, node.inputs[0].shape, node.op.shape)
    allow = 1 if allows_zero and export.opset >= 14 else None
    export.replace("Reshape", node, inputs=[node.inputs[0], sizes], allowzero=allow)


@rules.exports(ops.Flatten)
def write_flatten(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Flatten)
    export.replace("Flatten", node, axis=node.op.axis)


@rules.exports(ops.Transpose)
def write_transpose(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Transpose) and node.inputs[0] is not None
    if node.inputs[0] in export.stored_perms:
        export.names[node.output] = export.name(node.inputs[0])
        return
    export.replace("Transpose", node, perm=node.op.perm)


@rules.exports(ops.Squeeze, ops.Unsqueeze)
def write_squeeze(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Squeeze | ops.Unsqueeze)
    export.replace(node.op.name, node, inputs=[node.inputs[0], export.ints(node.op.axes, "axes")])


@rules.exports(ops.Slice)
def write_slice(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Slice)
    starts: list[Dim] = [
        (_LAST if step < 0 else 0) if start is None else start for start, step in zip(op.starts, op.steps, strict=True)
    ]
    ends: list[Dim] = [
        (-_LAST if step < 0 else _LAST) if end is None else end for end, step in zip(op.ends, op.steps, strict=True)
    ]
    bounds = [export.sizes(starts, "starts"), export.sizes(ends, "ends"), export.ints(op.axes, "axes")]
    if any(step != 1 for step in op.steps):
        bounds.append(export.ints(op.steps, "steps"))
    export.replace("Slice", node, inputs=[node.inputs[0], *bounds])


@rules.exports(ops.Split)
def write_split(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Split)
    export.replace("Split", node, inputs=[node.inputs[0], export.sizes(node.op.sizes, "split")], axis=node.op.axis)


@rules.exports(ops.Concat)
def write_concat(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Concat)
    export.replace("Concat", node, axis=node.op.axis)


@rules.exports(ops.Pad)
def write_pad(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Pad) and node.inputs[0] is not None
    flat = [begin for begin, _ in op.pads] + [end for _, end in op.pads]
    operands: list[Value | str | None] = [node.inputs[0], export.sizes(flat, "pads")]
    if op.mode == "constant" and _says_more_than_zero(op.value):
        operands.append(export.constant(np.asarray(op.value, node.inputs[0].dtype.numpy), "pad_value"))
    export.replace("Pad", node, inputs=operands, mode=op.mode)


@rules.exports(ops.Expand)
def write_expand(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Expand) and node.inputs[0] is not None
    before = (1,) * (len(node.op.shape) - node.inputs[0].rank) + node.inputs[0].shape
    after = before[: len(before) - len(node.op.shape)] + node.op.shape
    wanted: Sequence[Dim] = [1 if dim == known else dim for dim, known in zip(after, before, strict=True)]
    export.replace("Expand", node, inputs=[node.inputs[0], export.sizes(wanted, "shape")])


@rules.exports(ops.Tile)
def write_tile(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Tile)
    export.replace("Tile", node, inputs=[node.inputs[0], export.sizes(node.op.repeats, "repeats")])


@rules.exports(ops.DepthToSpace)
def write_depth_to_space(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.DepthToSpace)
    export.replace("DepthToSpace", node, blocksize=node.op.blocksize, mode=node.op.mode)


@rules.exports(ops.SpaceToDepth)
def write_space_to_depth(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.SpaceToDepth)
    export.replace("SpaceToDepth", node, blocksize=node.op.blocksize)


@rules.exports(ops.BindDim)
def write_bind_dim(out: Export, node: Node) -> None:
    assert isinstance(node.op, ops.BindDim)
    out.replace("Unsqueeze", node, inputs=[*node.inputs, out.ints([0], "axes")])
    out.bind(node.op.dim, node.output)


@rules.exports(ops.Dims)
def write_dims(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Dims)
    sizes = export.sizes(node.op.dims)
    if node.op.scalar:
        export.replace("Squeeze", node, inputs=[sizes, export.ints([0], "axes")])
    else:
        export.replace("Identity", node, inputs=[sizes])


@rules.exports(ops.ConstantOfShape)
def write_constant_of_shape(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.ConstantOfShape)
    from isomorph.converters.onnx.tensors import tensor_proto
    from isomorph.ir import ArrayTensor

    value = tensor_proto("value", ArrayTensor(np.asarray([op.value], op.dtype.numpy)))
    export.replace("ConstantOfShape", node, inputs=[export.sizes(op.shape, "shape")], value=value)


@rules.exports(ops.Range)
def write_range(export: Export, node: Node) -> None:
    """start + step * (0 .. length - 1), in int64, or in float64 where the start or the step is no integer."""
    op = node.op
    assert isinstance(op, ops.Range)
    zero = export.ints([0], "axes")

    def scalar(dim: Dim | float) -> str:
        if isinstance(dim, Sym):
            return export.emit("Squeeze", [export.size(dim), zero])
        return export.constant(np.asarray(dim, np.int64), "bound")

    if isinstance(op.step, int) and not isinstance(op.start, float):
        end = op.start + op.step * op.length
        indices = [scalar(op.start), scalar(end), scalar(op.step)]
        if op.dtype is DType.INT64:
            export.replace("Range", node, inputs=indices)
        else:
            export.replace("Cast", node, inputs=[export.emit("Range", indices)], to=element_type(op.dtype))
        return
    counted = export.cast(export.emit("Range", [scalar(0), scalar(op.length), scalar(1)]), DType.FLOAT64)
    steps = export.emit("Mul", [counted, export.constant(np.asarray(op.step, np.float64), "step")])
    start: Value | str = export.constant(np.asarray(0 if isinstance(op.start, Sym) else op.start, np.float64), "start")
    if isinstance(op.start, Sym):
        start = export.cast(scalar(op.start), DType.FLOAT64)
    export.replace("Cast", node, inputs=[export.emit("Add", [steps, start])], to=element_type(op.dtype))
