"""Convolutions in ONNX. Kernels are O-I-spatial on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.rules import rules
from isomorph.ir import Dim, Node, ops
from isomorph.ir.ops.conv import Ints, Pads, resolve_pads

__all__ = ["flat_pads", "pad_attributes"]


def flat_pads(pads: Sequence[tuple[int, int]]) -> list[int]:
    """(begin, end) pairs as ONNX orders them: all begins, then all ends."""
    return [begin for begin, _ in pads] + [end for _, end in pads]


def pad_attributes(pads: Pads, spatial: Sequence[Dim], kernel: Ints, strides: Ints, dilations: Ints) -> dict[str, Any]:
    """`pads`, or `auto_pad` where the pads depend on a symbolic size."""
    resolved = resolve_pads(pads, spatial, kernel, strides, dilations)
    if resolved is None:
        return {"auto_pad": "SAME_UPPER" if pads == "same_upper" else "SAME_LOWER"}
    return {"pads": flat_pads(resolved)}


@rules.exports(ops.Conv)
def write_conv(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.Conv) and node.inputs[0] is not None and node.inputs[1] is not None
    kernel = tuple(int(size) for size in node.inputs[1].shape[2:])  # type: ignore[arg-type]
    pads = pad_attributes(op.pads, node.inputs[0].shape[2:], kernel, op.strides, op.dilations)
    export.replace("Conv", node, kernel_shape=kernel, strides=op.strides, dilations=op.dilations, group=op.group, **pads)


@rules.exports(ops.ConvTranspose)
def write_conv_transpose(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, ops.ConvTranspose) and node.inputs[1] is not None
    export.replace(
        "ConvTranspose",
        node,
        kernel_shape=tuple(node.inputs[1].shape[2:]),
        strides=op.strides,
        pads=flat_pads(op.pads),
        dilations=op.dilations,
        output_padding=op.output_padding,
        group=op.group,
    )
