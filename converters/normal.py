"""The normal form of a model: what two formats spell differently becomes the same, as far as our passes know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from isomorph.converters.simplification import simplify
from isomorph.ir import Layout, Model, Node, Rewriter, Value, rewrite
from isomorph.ir.ops.conv import Conv, resolve_pads
from isomorph.ir.ops.pool import AveragePool, MaxPool
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.fold import fold
from isomorph.ir.passes.layout import assign_layout
from isomorph.ir.passes.legalize import without_dropout
from isomorph.ir.verify import verify

__all__ = ["normal_form"]

_PAIRING = "isomorph.pairing"


def normal_form(model: Model) -> Model:
    """The model as a conversion between formats sees it: canonical, folded, simplified, channels-first, no Dropout.

    Every step is exact: the computation, the interface and the weights that are not folded stay.
    """
    simple = without_dropout(fold(canonicalize(model)), lambda _: "it does nothing at inference")
    simple = simplify(fold(_explicit_pads(simple), roles=("constant", "buffer", "weight")))
    laid_out = assign_layout(simple, Layout.CHANNELS_FIRST, lambda _: None)
    metadata = {key: text for key, text in model.metadata.items() if key != _PAIRING}
    normal = canonicalize(laid_out.with_graph(laid_out.graph, metadata))
    verify(normal)
    return normal


def _explicit_pads(model: Model) -> Model:
    """Windows padded "same" as pairs of numbers, where their sizes are known: formats state either."""

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        op = node.op
        if not isinstance(op, Conv | MaxPool | AveragePool) or not isinstance(op.pads, str):
            return None
        x = node.inputs[0]
        assert x is not None
        spatial = op.layout.split(x.shape)[2]
        if isinstance(op, Conv):
            weight = node.inputs[1]
            assert weight is not None
            kernel = weight.shape[2:]
        else:
            kernel = op.kernel_shape
        pads = resolve_pads(op.pads, spatial, kernel, op.strides, op.dilations)
        return None if pads is None else b.emit_many(replace(op, pads=pads), *b.new_inputs(node), node_name=node.name)

    return rewrite(model, "explicit_pads", change, regions=True)
