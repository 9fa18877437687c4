"""Rotary position embedding that a source spells out, for heads on axis 1 or 2.

    a, b = the first and second elements of the pairs of x (N, H, L, R), or (N, L, H, R): see pairs.py
    x * cos + (-b, a) * sin                              ->  RotaryEmbedding(x, c, s)     cos, sin = (c, c), (s, s)
    (a * c - b * s, b * c + a * s)                       ->  RotaryEmbedding(x, c, s)

and, where only the first elements of a head are turned,

    Concat(RotaryEmbedding(x[..., :R]), x[..., R:])      ->  RotaryEmbedding(x, c, s)

That both elements of a pair turn by one angle is read from a constant, or from what repeats it. The same formula;
rounding may differ in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Add, Mul, Neg, Sub
from isomorph.ir.ops.rotary import RotaryEmbedding
from isomorph.ir.ops.shape import Concat, Expand, Reshape
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of, operand
from isomorph.ir.passes.raising.pairs import Part, part_of, put_together, single_angles, taken
from isomorph.ir.shapes import Shape, elements
from isomorph.records import record

__all__ = ["raise_rotary"]


def raise_rotary(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with RotaryEmbedding where its formula is spelled out."""
    if not any(isinstance(node.op, Neg | Sub) for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _whole(node) if isinstance(node.op, Add) else _apart(node) if isinstance(node.op, Concat) else None
        y = None if found is None else _raised(b, found)
        if y is None or refuses(refuse, y):
            return None
        turned = y if y.shape == found.shape else b.emit(Reshape(found.shape), y)  # type: ignore[union-attr]
        return (turned if turned.shape == node.output.shape else b.emit(Reshape(node.output.shape), turned),)

    def extend(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _partly(node)
        if found is None:
            return None
        op, x, cos, sin = found
        if op.heads is None:
            return (b.emit(op, b.new(x), b.new(cos), b.new(sin)),)
        packed = b.emit(Reshape((*x.shape[:2], x.shape[2] * x.shape[3])), b.new(x))
        return (b.emit(Reshape(x.shape), b.emit(op, packed, b.new(cos), b.new(sin))),)

    return prune(rewrite(prune(rewrite(model, "raise_rotary", change)), "raise_rotary", extend))


@record
class _Turned:
    """x (…, R), or x as (…, R / 2, 2), and cos and sin as they multiply all of it, or one element of each pair."""

    x: Value
    cos: Value
    sin: Value
    interleaved: bool

    @property
    def shape(self) -> Shape:
        """(N, H, L, R), or (N, L, H, R)."""
        shape = self.x.shape
        return shape if len(shape) == 4 else (*shape[:3], shape[3] * shape[4])


def _raised(b: Rewriter, found: _Turned) -> Value | None:
    """The op on x; heads on axis 2 are put side by side."""
    batch, one, two, width = found.shape
    axes = [_heads_axis(each, found.shape) for each in (found.cos, found.sin)]
    if axes[0] is None or axes[0] != axes[1] or not isinstance(width, int):
        return None
    heads, length = (one, two) if axes[0] == 1 else (two, one)
    angles = [_angles(b, each, found, (batch, length, width // 2)) for each in (found.cos, found.sin)]
    if None in angles or (axes[0] == 2 and not isinstance(heads, int)):
        return None
    shape: Shape = found.shape if axes[0] == 1 else (batch, length, heads * width)
    x = b.new(found.x)
    x = x if x.shape == shape else b.emit(Reshape(shape), x)
    op = RotaryEmbedding(int(heads) if axes[0] == 2 else None, found.interleaved)  # type: ignore[arg-type]
    return b.emit(op, x, *angles)


def _heads_axis(factor: Value, shape: Shape) -> int | None:
    """The axis of the heads of x, along which the angles are the same; None if they are not."""
    given = _four(factor, shape)
    if given is None or given[0] not in (1, shape[0]):
        return None
    if given[1] == 1 and given[2] == shape[2]:
        return 1
    return 2 if given[2] == 1 and given[1] == shape[1] else None


def _four(factor: Value, shape: Shape) -> Shape | None:
    """The four sizes of angles that multiply a value of this shape, or one element of each of its pairs."""
    width = shape[3]
    given = factor.shape[:-1] if factor.rank == 5 and factor.shape[4] == 1 else factor.shape
    if not 1 <= len(given) <= 4 or not isinstance(width, int) or given[-1] not in (width, width // 2):
        return None
    return (*(1,) * (4 - len(given)), *given)


def _angles(b: Rewriter, factor: Value, found: _Turned, wanted: Shape) -> Value | None:
    """cos or sin (N, L, R / 2) of what multiplies x or one element of each pair; None if both elements differ."""
    given = _four(factor, found.shape)
    assert given is not None
    whole = given[3] == found.shape[3]
    half = single_angles(b, factor, found.interleaved) if whole else b.new(factor)
    if half is None:
        return None
    if _is_small(half, wanted):
        assert half.parameter is not None
        sizes = [int(dim) for dim in wanted]  # type: ignore[arg-type]
        data = half.parameter.data.numpy().reshape(-1, *sizes[1:])
        return b.constant(np.broadcast_to(data, sizes), half.name)
    angles = b.emit(Reshape((given[0], *wanted[1:])), half)
    return angles if given[0] == wanted[0] else b.emit(Expand(wanted), angles)


_LARGEST = 1 << 16


def _is_small(value: Value, shape: Shape) -> bool:
    """Whether a value is a constant that may be stored in this shape."""
    size = elements(shape)
    constant = value.parameter is not None and value.parameter.role == "constant"
    return constant and isinstance(size, int) and (size <= _LARGEST or size == value.type.size)


def _whole(node: Node) -> _Turned | None:
    """x * cos + (-b, a) * sin."""
    for one, other in (node.inputs, node.inputs[::-1]):
        for x, cos in both_ways(one, Mul):
            for swapped, sin in both_ways(other, Mul):
                if x.rank != 4 or x.type != node.output.type:
                    continue
                interleaved = _is_swapped(swapped, x)
                if interleaved is not None:
                    return _Turned(x, cos, sin, interleaved)
    return None


def _is_swapped(value: Value, x: Value) -> bool | None:
    """Whether the pairs of x are interleaved of which a value is (-b, a); None if it is not."""
    negated, first, interleaved = put_together(value) or (None, None, False)
    parts = part_of(first), part_of(operand(negated, Neg))
    wanted = Part(x, 0, interleaved), Part(x, 1, interleaved)
    return interleaved if parts == wanted and value.shape == x.shape else None


def _apart(node: Node) -> _Turned | None:
    """(a * c - b * s, b * c + a * s)."""
    if node.output.rank not in (4, 5):
        return None
    real, imaginary, interleaved = put_together(node.output) or (None, None, False)
    minuend, subtrahend = made_of(real, Sub) or (None, None)
    for first, cos in both_ways(minuend, Mul):
        part = part_of(first)
        if part is None or part.place != 0 or part.interleaved != interleaved:
            continue
        for second, sin in both_ways(subtrahend, Mul):
            other = Part(part.source, 1, interleaved)
            if part_of(second) == other and _adds(imaginary, (other, cos), (part, sin)):
                found = _Turned(part.source, cos, sin, interleaved)
                fits = part.source.dtype is node.output.dtype and found.shape == _flat(node.output)
                return found if fits else None
    return None


def _flat(value: Value) -> Shape:
    shape = value.shape
    return shape if len(shape) == 4 else (*shape[:3], shape[3] * shape[4])


def _adds(value: Value | None, one: tuple[Part, Value], other: tuple[Part, Value]) -> bool:
    """Whether a value is the sum of these two products."""
    return any(
        any(map(_alike(one), both_ways(left, Mul))) and any(map(_alike(other), both_ways(right, Mul)))
        for left, right in both_ways(value, Add)
    )


def _alike(pair: tuple[Part, Value]) -> Callable[[tuple[Value, Value]], bool]:
    """Whether factors are these: the same part of the same value, and the same other."""
    part, factor = pair
    return lambda found: part_of(found[0]) == part and found[1] is factor


def _partly(node: Node) -> tuple[RotaryEmbedding, Value, Value, Value] | None:
    """(op, x, cos, sin) of Concat(RotaryEmbedding(x[..., :R], cos, sin), x[..., R:])."""
    if not isinstance(node.op, Concat) or len(node.inputs) != 2 or node.output.rank != 4 or node.op.axis % 4 != 3:
        return None
    turned, kept = node.inputs
    packed = operand(turned, Reshape)
    maker = next((each.producer for each in (turned, packed) if each is not None and _is_turned(each)), None)
    if maker is None or turned is None or not isinstance(maker.op, RotaryEmbedding):
        return None
    part, cos, sin = maker.inputs
    if maker.op.heads is not None and maker.output is packed:
        part = operand(part, Reshape)
    one, other = (taken(value) for value in (part, kept))
    if one is None or other is None or one[0] is not other[0] or cos is None or sin is None:
        return None
    x, width = one[0], one[0].shape[3]
    fits = one[1:] == (0, turned.shape[3]) and other[1:] == (turned.shape[3], width) and x.type == node.output.type
    return (maker.op, x, cos, sin) if fits and (maker.op.heads in (None, x.shape[2])) else None


def _is_turned(value: Value) -> bool:
    return value.producer is not None and isinstance(value.producer.op, RotaryEmbedding)
