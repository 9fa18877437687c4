"""Convolutions in ONNX. Kernels are O-I-spatial on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.reading import OnnxNode
from isomorph.converters.onnx.rules import rules
from isomorph.errors import MalformedError
from isomorph.ir import Dim, Node, Shape, Sym, Value, ops
from isomorph.ir.ops.conv import Ints, Pads, resolve_pads

__all__ = ["explicit_pads", "flat_pads", "pad_attributes"]


def flat_pads(pads: Sequence[tuple[int, int]]) -> list[int]:
    """(begin, end) pairs as ONNX orders them: all begins, then all ends."""
    return [begin for begin, _ in pads] + [end for _, end in pads]


def pad_attributes(
    pads: Pads, spatial: Sequence[Dim], kernel: Sequence[Dim], strides: Ints, dilations: Ints
) -> dict[str, Any]:
    """`pads`, or `auto_pad` where the pads depend on a symbolic size."""
    resolved = resolve_pads(pads, spatial, kernel, strides, dilations)
    if resolved is None:
        return {"auto_pad": "SAME_UPPER" if pads == "same_upper" else "SAME_LOWER"}
    return {"pads": flat_pads(resolved)}


def explicit_pads(node: OnnxNode, rank: int) -> Pads:
    """`auto_pad` or `pads` of a window over `rank` axes."""
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return "same_upper" if auto == "SAME_UPPER" else "same_lower"
    if auto not in ("NOTSET", "VALID", ""):
        node.refuse(f"auto_pad {auto!r}")
    flat = [0] * 2 * rank if auto == "VALID" else node.attribute("pads", [0] * 2 * rank)
    if len(flat) != 2 * rank or min(flat, default=0) < 0:
        raise MalformedError(f"pads {flat} are no two nonnegative numbers for each of {rank} axes", at=node.where)
    return tuple((int(flat[axis]), int(flat[axis + rank])) for axis in range(rank))


def _ints(node: OnnxNode, name: str, rank: int) -> Ints:
    return tuple(int(item) for item in node.attribute(name, [1] * rank))


def _spatial_rank(node: OnnxNode, w: Value) -> int:
    """The number of spatial axes of a kernel, whose sizes `kernel_shape` may repeat."""
    stated = node.attribute("kernel_shape")
    if stated is not None and tuple(stated) != w.shape[2:]:
        node.refuse(f"kernel_shape {stated} does not fit the weight {w.type}")
    return w.rank - 2


@rules.imports("Conv")
def read_conv(node: OnnxNode) -> Value:
    x, w = node.value(0), node.value(1)
    rank = _spatial_rank(node, w)
    op = ops.Conv(
        _ints(node, "strides", rank),
        explicit_pads(node, rank),
        _ints(node, "dilations", rank),
        int(node.attribute("group", 1)),
    )
    return node.emit(op, x, w, node.optional(2))


@rules.imports("ConvTranspose")
def read_conv_transpose(node: OnnxNode) -> Value:
    x, w = node.value(0), node.value(1)
    rank = _spatial_rank(node, w)
    strides, dilations = _ints(node, "strides", rank), _ints(node, "dilations", rank)
    padding = tuple(int(item) for item in node.attribute("output_padding", [0] * rank))
    pads = explicit_pads(node, rank)
    if isinstance(pads, str) or node.attribute("output_shape") is not None:
        kernel = [int(size) for size in w.shape[2:]]  # type: ignore[arg-type]
        windows = zip(x.shape[2:], kernel, strides, dilations, padding, strict=True)
        whole = tuple((size - 1) * stride + (k - 1) * step + 1 + extra for size, k, stride, step, extra in windows)
        pads, padding = _transposed_pads(node, x, whole, strides, padding)
    op = ops.ConvTranspose(strides, pads, dilations, padding, int(node.attribute("group", 1)))
    return node.emit(op, x, w, node.optional(2))


def _transposed_pads(
    node: OnnxNode, x: Value, whole: Shape, strides: Ints, padding: Ints
) -> tuple[tuple[tuple[int, int], ...], Ints]:
    """Pads and output padding that give `output_shape`, or size * stride for SAME_*.

    What the whole output has too much is cut off, the larger half at the end for SAME_UPPER, else at the begin; what it
    lacks is added at the end.
    """
    wanted, upper = node.attribute("output_shape"), node.attribute("auto_pad") == "SAME_UPPER"
    pads, extra = [], []
    for axis, (size, full) in enumerate(zip(x.shape[2:], whole, strict=True)):
        total = full - (size * strides[axis] if wanted is None else int(wanted[axis]))
        if isinstance(total, Sym):
            node.refuse("output_shape with a symbolic input size")
        small, large = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
        pads.append((small, large) if upper else (large, small))
        extra.append(padding[axis] + max(-total, 0))
    return tuple(pads), tuple(extra)


def _kernel_attribute(w: Value) -> dict[str, Any]:
    """`kernel_shape`, which runtimes take from the weight where it is symbolic."""
    sizes = w.shape[2:]
    return {} if any(isinstance(size, Sym) for size in sizes) else {"kernel_shape": sizes}


@rules.exports(ops.Conv)
def write_conv(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Conv) and node.inputs[0] is not None and node.inputs[1] is not None
    data, kernel = node.inputs[0], node.inputs[1]
    known = _kernel_attribute(kernel)
    pads = pad_attributes(op.pads, data.shape[2:], kernel.shape[2:], op.strides, op.dilations)
    export.replace("Conv", node, **known, strides=op.strides, dilations=op.dilations, group=op.group, **pads)


@rules.exports(ops.ConvTranspose)
def write_conv_transpose(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.ConvTranspose) and node.inputs[1] is not None
    export.replace(
        "ConvTranspose",
        node,
        **_kernel_attribute(node.inputs[1]),
        strides=op.strides,
        pads=flat_pads(op.pads),
        dilations=op.dilations,
        output_padding=op.output_padding,
        group=op.group,
    )
