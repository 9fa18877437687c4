"""Ops that move, cut, join and repeat elements in ONNX. Symbolic sizes become operands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.onnx.codec import element_type
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, DType, Node, Shape, Sym, ops

_LAST = 2**63 - 1


def reshape_sizes(export: Export, before: Shape, after: Shape) -> str:
    """The operand of Reshape: 0 copies a size, -1 stands for one unknown; only what is left is computed."""
    if not any(isinstance(dim, Sym) for dim in after):
        return export.sizes(after, "shape")
    plain: list[int] = []
    for axis, dim in enumerate(after):
        copied = axis < len(before) and before[axis] == dim and dim != 0
        plain.append(dim if isinstance(dim, int) else 0 if copied else -1)
    if plain.count(-1) <= 1 and 0 not in after:
        return export.ints(plain, "shape")
    return export.sizes(after, "shape")


@rules.exports(ops.Reshape)
def write_reshape(export: Export, node: Node) -> None:
    assert isinstance(node.op, ops.Reshape) and node.inputs[0] is not None
    sizes = reshape_sizes(export, node.inputs[0].shape, node.op.shape)
    allow = 1 if 0 in node.op.shape and export.opset >= 14 else None
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
    starts: list[Dim] = [(_LAST if step < 0 else 0) if start is None else start for start, step in zip(op.starts, op.steps, strict=True)]
    ends: list[Dim] = [(-_LAST if step < 0 else _LAST) if end is None else end for end, step in zip(op.ends, op.steps, strict=True)]
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
    operands = [node.inputs[0], export.sizes(flat, "pads")]
    if op.mode == "constant" and op.value != 0:
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
    from isomorph.converters.onnx.codec import tensor_proto
    from isomorph.ir import ArrayTensor

    value = tensor_proto("value", ArrayTensor(np.asarray([op.value], op.dtype.numpy)))
    export.replace("ConstantOfShape", node, inputs=[export.sizes(op.shape, "shape")], value=value)


@rules.exports(ops.Range)
def write_range(export: Export, node: Node) -> None:
    """start + step * (0 .. length - 1), in int64 where a bound is symbolic."""
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
    kind = op.dtype.numpy
    counted = export.emit("Cast", [export.emit("Range", [scalar(0), scalar(op.length), scalar(1)])], to=element_type(op.dtype))
    steps = export.emit("Mul", [counted, export.constant(np.asarray(op.step, kind), "step")])
    export.replace("Add", node, inputs=[steps, export.constant(np.asarray(op.start, kind), "start")])
