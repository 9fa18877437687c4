"""Zeros around the data of a convolution are the convolution's own padding.

    Conv(Pad(x, p, value 0), w, b; q)   ->   Conv(x, w, b; p + q)

of pads p on spatial axes alone, none of them negative, that nothing else reads. A Pad that is a layer of its own
(`torch.nn.ZeroPad2d`, Keras' `ZeroPadding2D`) stays a layer. Exact for finite weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.layout import Layout
from isomorph.ir.ops.conv import Conv
from isomorph.ir.ops.shape import Pad
from isomorph.ir.passes.canonicalize import prune

__all__ = ["merge_padding"]

Pads = tuple[tuple[int, int], ...]


def merge_padding(model: Model) -> Model:
    """The model with the zeros before its convolutions in their `pads`."""
    if not any(isinstance(node.op, Pad) for node in model.graph.nodes):
        return model
    users, shown = model.graph.users(), set(model.graph.outputs.values())

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if not isinstance(node.op, Conv) or isinstance(node.op.pads, str):
            return None
        padded, *weights = node.operands()
        pad = padded.producer
        if pad is None or len(users[padded]) != 1 or padded in shown:
            return None
        added = _spatial_zeros(pad, node.op.layout)
        if added is None:
            return None
        pads = tuple((p + q, r + s) for (p, r), (q, s) in zip(added, node.op.pads, strict=True))
        source = pad.inputs[0]
        assert source is not None
        return (b.emit(replace(node.op, pads=pads), b.new(source), *(b.new(each) for each in weights)),)

    return prune(rewrite(model, "merge_padding", change))


def _spatial_zeros(node: Node, layout: Layout) -> Pads | None:
    """The pads of a Pad on spatial axes, if it adds zeros there and nothing elsewhere, and is no layer of its own."""
    op = node.op
    if not isinstance(op, Pad) or op.mode != "constant" or op.value != 0 or "Pad" in node.scope.cls.rpartition(".")[2]:
        return None
    spatial = range(2, len(op.pads)) if layout is Layout.CHANNELS_FIRST else range(1, len(op.pads) - 1)
    found: list[tuple[int, int]] = []
    for axis, (begin, end) in enumerate(op.pads):
        if not isinstance(begin, int) or not isinstance(end, int) or begin < 0 or end < 0:
            return None
        if axis in spatial:
            found.append((begin, end))
        elif begin or end:
            return None
    return tuple(found)
