"""Instance and group normalization of which a source spells out the scale, the bias or the groups.

    y = InstanceNormalization(x as (N, G, …)) as x has it   ->  GroupNormalization(x)     G divides the channels
    y = LayerNormalization(x as (N, G, …), axis 2), likewise
    w * y + b, w and b along the channels                   ->  y with scale w and bias b
    x as (N, …, G, K) normalized over all axes but 0 and G,
    scaled and shifted by (G, K), as x has it               ->  GroupNormalization(x, axis=-1)      as Keras spells it

What normalizes the groups has no scale and bias, or ones and zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Add, Mul
from isomorph.ir.ops.norm import GroupNormalization, InstanceNormalization, LayerNormalization
from isomorph.ir.ops.shape import Reshape
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.moments import Normalized, read_affine, read_normalized, read_scaled
from isomorph.ir.passes.raising.scores import Readers
from isomorph.ir.shapes import Shape, elements

__all__ = ["in_shape", "raise_group_norms", "raise_groups_of_last"]

_LARGEST = 1 << 12
"""Constants of more elements are not looked at."""


def raise_group_norms(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with GroupNormalization where groups are spelled out, and scales and biases in the layers."""
    if not any(isinstance(node.op, InstanceNormalization | LayerNormalization) for node in model.graph.nodes):
        return model
    readers = Readers(model.graph)

    def join(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _grouped(node, readers)
        if found is None:
            return None
        x, op = b.new(found[0]), found[1]
        y = b.emit(op, x)
        if not refuses(refuse, y):
            return (y,)
        return (op.decompose(b, x),) if _is_over_last(node.inputs[0]) else None

    model = prune(rewrite(model, "raise_norms", join))
    for kind, place in ((Mul, 1), (Add, 2)):
        model = _absorb(model, kind, place)
    return model


def raise_groups_of_last(model: Model, refuse: Refuse) -> Model:
    """The model with GroupNormalization where groups of the last axis are spelled out."""
    if not any(_joins_last(node) for node in model.graph.nodes):
        return model
    readers = Readers(model.graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _groups_of_last(node, readers)
        if found is None:
            return None
        x, normalized = found
        groups, channels = normalized.x.shape[-2], (x.shape[-1],)
        op = GroupNormalization(int(groups), normalized.epsilon, x.rank - 1)  # type: ignore[arg-type]
        vectors = (normalized.scale, normalized.bias)
        y = b.emit(op, b.new(x), *(value and in_shape(b, value, channels, readers) for value in vectors))
        return None if refuses(refuse, y) else (y,)

    return prune(rewrite(model, "raise_norms", change))


def _joins_last(node: Node) -> bool:
    """Whether a node may put groups of the last axis together again."""
    inner = node.inputs[0] if _reshapes(node) else None
    maker = inner.producer.op if inner is not None and inner.producer is not None else None
    return inner is not None and inner.rank == node.output.rank + 1 and isinstance(maker, Add | Mul)


def _groups_of_last(node: Node, readers: Readers) -> tuple[Value, Normalized] | None:
    """(x, what is normalized) of a Reshape that gives normalized groups (N, ..., G, K) the shape of x back."""
    inner = readers.maker(node.inputs[0], Add, Mul) if _reshapes(node) else None
    found = None if inner is None else read_affine(inner) or read_scaled(inner) or read_normalized(inner)
    x = operand(found.x, Reshape) if found is not None else None
    if found is None or x is None or not found.centered or x.type != node.output.type or x.dtype is not DType.FLOAT32:
        return None
    rank, shape = found.x.rank, found.x.shape
    over = tuple(axis for axis in range(1, rank) if axis != rank - 2)
    if found.axes != over or rank != x.rank + 1 or shape[:-2] != x.shape[:-1]:
        return None
    fits = all(isinstance(dim, int) for dim in (*shape[-2:], x.shape[-1])) and shape[-2] != 0
    wide = (*(1,) * (rank - 2), *shape[-2:])
    vectors = (value.shape for value in (found.scale, found.bias) if value is not None)
    return (x, found) if fits and all(each in (wide, shape[-2:]) for each in vectors) else None


def _grouped(node: Node, readers: Readers) -> tuple[Value, GroupNormalization] | None:
    """(x, op) of a Reshape that gives normalized groups the shape of x back."""
    inner = readers.maker(node.inputs[0], InstanceNormalization, LayerNormalization) if _reshapes(node) else None
    first = inner.inputs[0].producer if inner is not None and inner.inputs[0] is not None else None
    x = first.inputs[0] if first is not None and _reshapes(first) else None
    if inner is None or x is None or x.type != node.output.type or x.rank < 2:
        return None
    apart = inner.output
    fits = isinstance(inner.op, LayerNormalization) and inner.op.axis % max(apart.rank, 1) == 2
    fits = fits or (isinstance(inner.op, InstanceNormalization) and inner.op.axis == 1)
    if not fits or apart.rank < 3 or not _is_plain(inner) or apart.shape[0] != x.shape[0]:
        return None
    groups, channels = apart.shape[1], x.shape[1]
    if not isinstance(groups, int) or not isinstance(channels, int) or groups == 0 or channels % groups:
        return None
    together = (channels // groups, *x.shape[2:])
    if elements(apart.shape[2:]) != elements(together):
        return None
    epsilon = inner.op.attributes()["epsilon"]
    return x, GroupNormalization(groups, epsilon)


def _is_over_last(value: Value | None) -> bool:
    """Whether a LayerNormalization makes the value, which without a scale is as wide as a group."""
    return value is not None and value.producer is not None and isinstance(value.producer.op, LayerNormalization)


def _reshapes(node: Node) -> bool:
    return isinstance(node.op, Reshape)


def _is_plain(node: Node) -> bool:
    """Whether a layer has no scale and bias, or ones and zeros."""
    scale, bias = (*node.inputs[1:], None, None)[:2]
    return _is_all(scale, 1) and _is_all(bias, 0)


def _is_all(value: Value | None, number: int) -> bool:
    """Whether a value is absent, or a constant that is this number everywhere."""
    if value is None or value.parameter is None or value.parameter.role != "constant":
        return value is None
    size = value.type.size
    return isinstance(size, int) and size <= _LARGEST and bool(np.all(value.parameter.data.numpy() == number))


def _absorb(model: Model, kind: type[Mul | Add], place: int) -> Model:
    """The model with what multiplies, or is added to, a channel alone as an operand of the layer."""
    if not any(isinstance(node.op, InstanceNormalization | GroupNormalization) for node in model.graph.nodes):
        return model
    readers = Readers(model.graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if not isinstance(node.op, kind):
            return None
        for y, vector in (node.inputs, node.inputs[::-1]):
            norm = readers.maker(y, InstanceNormalization, GroupNormalization)
            if norm is None or y is None or vector is None or y.type != node.output.type:
                continue
            if _is_all(vector, 2 - place):
                return (b.new(y),)
            operands = [*norm.inputs, None, None][:3]
            axis = norm.op.attributes()["axis"] % y.rank
            free = _is_all(operands[place], 2 - place) and (place == 2 or _is_all(operands[2], 0))
            if free and _is_along(vector, axis, y):
                operands[place] = None
                given = [value and b.new(value) for value in operands[:place]]
                return (b.emit(norm.op, *given, in_shape(b, vector, (vector.type.size,), readers)),)
        return None

    return prune(rewrite(model, "raise_norms", change))


def _is_along(value: Value, axis: int, y: Value) -> bool:
    """Whether a value has an element for each index of an axis of y."""
    offset = y.rank - value.rank
    return axis >= offset and value.type.size == y.shape[axis] == value.shape[axis - offset]


def in_shape(b: Rewriter, value: Value, shape: Shape, readers: Readers) -> Value:
    """The value in another shape; a parameter that nothing else reads is stored so."""
    new = b.new(value)
    if new.shape == shape:
        return new
    if value.parameter is not None and readers.times(value) == 1 and all(isinstance(dim, int) for dim in shape):
        sizes = [dim for dim in shape if isinstance(dim, int)]
        stored = replace(value.parameter, data=value.parameter.data.reshaped(sizes))
        return b.keep(b.parameter(stored), value.name)
    return b.emit(Reshape(shape), new)
