"""Recurrent layers begin at 0 by themselves: zeros as initial states say nothing.

    LSTM(x, …, h=zeros, c=zeros)    ->  LSTM(x, …)

Zeros are constants of zeros, and what only moves, repeats or cuts them. Exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Identity
from isomorph.ir.ops.recurrent import GRU, LSTM, RNN
from isomorph.ir.ops.shape import (
    Concat,
    ConstantOfShape,
    Expand,
    Flatten,
    Reshape,
    Slice,
    Split,
    Squeeze,
    Tile,
    Transpose,
    Unsqueeze,
)
from isomorph.ir.passes.canonicalize import prune

__all__ = ["drop_zero_states"]

_LARGEST = 1 << 16
"""Constants of more elements are not looked at."""
_DEEPEST = 16
_MOVES = (Concat, Expand, Flatten, Identity, Reshape, Slice, Split, Squeeze, Tile, Transpose, Unsqueeze)


def drop_zero_states(model: Model) -> Model:
    """The model whose recurrent layers have no initial states of zeros."""

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        op = node.op
        if not isinstance(op, RNN | GRU | LSTM):
            return None
        states = [place for place, name in enumerate(op.inputs) if name.rstrip("?") in ("h", "c")]
        zeros = {place for place in states if place < len(node.inputs) and _is_zeros(node.inputs[place], _DEEPEST)}
        if not zeros:
            return None
        kept = [None if place in zeros else value for place, value in enumerate(node.inputs)]
        return b.emit_many(op, *(value and b.new(value) for value in kept), node_name=node.name)

    return prune(rewrite(model, "zero_states", change, regions=True))


def _is_zeros(value: Value | None, depth: int) -> bool:
    """Whether a value is 0 everywhere, as far as the graph says it."""
    if value is None or depth == 0:
        return False
    if value.parameter is not None:
        size = value.type.size
        small = value.parameter.role == "constant" and isinstance(size, int) and 0 < size <= _LARGEST
        return small and not np.any(value.parameter.data.numpy())
    node = value.producer
    if node is None:
        return False
    if isinstance(node.op, ConstantOfShape):
        return node.op.value == 0
    return isinstance(node.op, _MOVES) and all(_is_zeros(each, depth - 1) for each in node.operands())
