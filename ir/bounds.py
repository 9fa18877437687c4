"""How small the elements of a value can be, as far as the graph says it: whether a mask can hide every key.

    Where(c, 0, -3.4e38)              at least -3.4e38
    (1 - Cast(b)) * -3.4e38           at least -3.4e38, b being bool
    Cast(i) * -3.4e38                 -inf, i being any integer
    an input of the model             -inf

What a model computes from weights and data by products, norms and activations is taken to be an ordinary number, below
1e19 in size: beyond that its own products overflow, and no formula for it holds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from isomorph.ir.graph import Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Clip, Gelu, LeakyRelu, Relu, Sigmoid, Softmax, Tanh
from isomorph.ir.ops.conv import Conv
from isomorph.ir.ops.elementwise import Add, Cast, Identity, Max, Min, Mul, Neg, Sub, Where
from isomorph.ir.ops.index import Gather, GatherElements, GatherND
from isomorph.ir.ops.linear import Embedding, Gemm, Linear, MatMul
from isomorph.ir.ops.norm import BatchNormalization, LayerNormalization, RMSNormalization
from isomorph.ir.ops.shape import Concat, Expand, Flatten, Reshape, Slice, Split, Squeeze, Tile, Transpose, Unsqueeze

__all__ = ["Interval", "bounds"]

Interval = tuple[float, float]
"""(lowest, highest) that an element can be; not finite where nothing is known."""
UNKNOWN: Interval = (-np.inf, np.inf)
ORDINARY: Interval = (-1e19, 1e19)
_LARGEST_READ = 1 << 16
"""Parameters of more elements than this are not looked at: they are weights, ordinary numbers."""
_DEEPEST = 64

_MOVES = (Reshape, Transpose, Squeeze, Unsqueeze, Flatten, Slice, Split, Expand, Tile, Identity)
_PICKS = (Gather, GatherElements, GatherND)
_COMPUTES = (
    *(MatMul, Linear, Gemm, Conv, LayerNormalization, RMSNormalization, BatchNormalization),
    *(Gelu, LeakyRelu, Relu, Sigmoid, Softmax, Tanh),
)


def bounds(value: Value) -> Interval:
    """(lowest, highest) of the elements of a value, in the arithmetic of its type. NaN does not count."""
    return _bounds(value, {}, _DEEPEST)


def _bounds(value: Value, known: dict[Value, Interval], depth: int) -> Interval:
    if value.parameter is not None:
        return _parameter(value)
    if not value.dtype.is_float:
        return _whole(value)
    node = value.producer
    if node is None or depth == 0:
        return UNKNOWN
    if isinstance(node.op, _COMPUTES):
        return ORDINARY
    if value not in known:

        def read(position: int) -> Interval:
            operand = node.inputs[position]
            return UNKNOWN if operand is None else _bounds(operand, known, depth - 1)

        rule = _RULES.get(type(node.op))
        known[value] = UNKNOWN if rule is None else rule(node, read)
    return known[value]


def _parameter(value: Value) -> Interval:
    assert value.parameter is not None
    if value.type.size == 0 or not isinstance(value.type.size, int):
        return UNKNOWN
    if value.type.size > _LARGEST_READ:
        return ORDINARY
    data = value.parameter.data.numpy()
    if data.dtype == object or np.iscomplexobj(data):
        return UNKNOWN
    wide = data.astype(np.float64)
    return UNKNOWN if np.isnan(wide).any() else (float(wide.min()), float(wide.max()))


def _whole(value: Value) -> Interval:
    """Of integers and truth values: all that the type can hold."""
    if not value.dtype.is_integer:
        return 0.0, 1.0
    limits = np.iinfo(value.dtype.numpy) if value.dtype.numpy.kind in "iu" else np.iinfo(np.int64)
    return float(limits.min), float(limits.max)


Read = Callable[[int], Interval]
"""The bounds of an operand."""


def _same(node: Node, read: Read) -> Interval:
    return read(0)


def _looked_up(node: Node, read: Read) -> Interval:
    return read(1)


def _all(node: Node, read: Read) -> Interval:
    return _union(*(read(position) for position in range(len(node.inputs))))


def _chosen(node: Node, read: Read) -> Interval:
    return _union(read(1), read(2))


def _union(*parts: Interval) -> Interval:
    return min(low for low, _ in parts), max(high for _, high in parts)


def _arithmetic(combine: Callable[[Interval, Interval], tuple[float, ...]]) -> Callable[[Node, Read], Interval]:
    """The rule of an operator whose extremes are among what it makes of the extremes of its operands."""

    def rule(node: Node, read: Read) -> Interval:
        if len(node.inputs) != 2:
            return UNKNOWN
        with np.errstate(all="ignore"):
            found = np.asarray(combine(read(0), read(1)), np.float64).astype(node.output.dtype.numpy).astype(np.float64)
        return UNKNOWN if np.isnan(found).any() else (float(found.min()), float(found.max()))

    return rule


def _products(a: Interval, b: Interval) -> tuple[float, ...]:
    return tuple(float(np.float64(x) * np.float64(y)) for x in a for y in b)


def _cast(node: Node, read: Read) -> Interval:
    with np.errstate(all="ignore"):
        low, high = (float(np.float64(limit).astype(node.output.dtype.numpy)) for limit in read(0))
    return low, high


def _clip(node: Node, read: Read) -> Interval:
    assert isinstance(node.op, Clip)
    low, high = read(0)
    least = -np.inf if node.op.min is None else float(node.op.min)
    most = np.inf if node.op.max is None else float(node.op.max)
    return min(max(low, least), most), min(max(high, least), most)


_RULES: dict[type[Op], Callable[[Node, Read], Interval]] = {
    **dict.fromkeys(_MOVES, _same),
    **dict.fromkeys(_PICKS, _same),
    Concat: _all,
    Max: _all,
    Min: _all,
    Embedding: _looked_up,
    Where: _chosen,
    Cast: _cast,
    Clip: _clip,
    Neg: lambda node, read: (-read(0)[1], -read(0)[0]),
    Add: _arithmetic(lambda a, b: (a[0] + b[0], a[1] + b[1])),
    Sub: _arithmetic(lambda a, b: (a[0] - b[1], a[1] - b[0])),
    Mul: _arithmetic(_products),
}
