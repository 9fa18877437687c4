"""Rotary position embedding that a source spells out, for heads on axis 1.

    a, b = the halves of x (N, H, L, R);   cos, sin = Concat(c, c), Concat(s, s)
    x * cos + Concat(-b, a) * sin                        ->  RotaryEmbedding(x, c, s)
    Concat(a * c - b * s, b * c + a * s)                 ->  RotaryEmbedding(x, c, s)

and, where only the first elements of a head are turned,

    Concat(RotaryEmbedding(x[..., :R]), x[..., R:])      ->  RotaryEmbedding(x, c, s)

That the halves of cos are the same is read from a constant, or from the concatenation that it is computed from. The
same formula; rounding may differ in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.elementwise import Add, Cast, Cos, Identity, Mul, Neg, Sin, Sub
from isomorph.ir.ops.rotary import RotaryEmbedding
from isomorph.ir.ops.shape import Concat, Expand, Reshape, Slice, Split, Unsqueeze
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.shapes import Dim, Shape

__all__ = ["raise_rotary"]


def raise_rotary(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with RotaryEmbedding where its formula is spelled out."""
    if not any(isinstance(node.op, Neg | Sub) for node in model.graph.nodes):
        return model

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _whole(node) if isinstance(node.op, Add) else _halves(node) if isinstance(node.op, Concat) else None
        if found is None:
            return None
        x, cos, sin = found
        angles = [_angles(b, each, x) for each in (cos, sin)]
        if None in angles:
            return None
        y = b.emit(RotaryEmbedding(), b.new(x), *angles)
        return None if refuses(refuse, y) else (y,)

    def extend(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _partly(node)
        if found is None:
            return None
        x, cos, sin = found
        return (b.emit(RotaryEmbedding(), b.new(x), b.new(cos), b.new(sin)),)

    return prune(rewrite(prune(rewrite(model, "raise_rotary", change)), "raise_rotary", extend))


Turned = tuple[Value, Value, Value]
"""x, and cos and sin as they multiply it: all of it, or one of its halves."""


def _whole(node: Node) -> Turned | None:
    """x * cos + Concat(-b, a) * sin."""
    for one, other in (node.inputs, node.inputs[::-1]):
        for x, cos in _factors(one):
            for swapped, sin in _factors(other):
                if x.rank == 4 and x.type == node.output.type and _is_swapped(swapped, x):
                    return x, cos, sin
    return None


def _is_swapped(value: Value, x: Value) -> bool:
    """Whether a value is Concat(-b, a) of the halves of x."""
    node = value.producer
    if node is None or not isinstance(node.op, Concat) or node.op.axis % 4 != 3 or len(node.inputs) != 2:
        return False
    negated, first = node.inputs
    inner = negated.producer if negated is not None else None
    second = inner.inputs[0] if inner is not None and isinstance(inner.op, Neg) else None
    return _half(first) == (x, 0) and _half(second) == (x, 1)


def _halves(node: Node) -> Turned | None:
    """Concat(a * c - b * s, b * c + a * s)."""
    if node.output.rank != 4 or node.op.attributes()["axis"] % 4 != 3 or len(node.inputs) != 2:
        return None
    real, imaginary = (value.producer if value is not None else None for value in node.inputs)
    if real is None or imaginary is None or not isinstance(real.op, Sub) or not isinstance(imaginary.op, Add):
        return None
    for first, cos in _factors(real.inputs[0]):
        x, place = _half(first) or (None, None)
        if x is None or place != 0 or x.type != node.output.type:
            continue
        for second, sin in _factors(real.inputs[1]):
            if _half(second) == (x, 1) and _adds(imaginary, (second, cos), (first, sin)):
                return x, cos, sin
    return None


def _adds(node: Node, one: tuple[Value, Value], other: tuple[Value, Value]) -> bool:
    """Whether a node is the sum of these two products."""
    for left, right in (node.inputs, node.inputs[::-1]):
        if any(map(_alike(one), _factors(left))) and any(map(_alike(other), _factors(right))):
            return True
    return False


def _alike(pair: tuple[Value, Value]) -> Callable[[tuple[Value, Value]], bool]:
    """Whether factors are these: the same half of the same value, and the same other."""
    x, factor = pair
    return lambda found: _half(found[0]) == _half(x) and found[1] is factor


def _factors(value: Value | None) -> list[tuple[Value, Value]]:
    """Both ways to read a value as a product."""
    node = value.producer if value is not None else None
    if node is None or not isinstance(node.op, Mul):
        return []
    x, y = node.inputs
    return [] if x is None or y is None else [(x, y), (y, x)]


def _half(value: Value | None) -> tuple[Value, int] | None:
    """(x, 0) or (x, 1) of the first or second half of x along the last axis."""
    taken = _taken(value)
    if taken is None:
        return None
    x, start, end = taken
    size = x.shape[-1]
    places = {(0, size // 2): 0, (size // 2, size): 1} if size % 2 == 0 and size != 0 else {}
    return (x, places[start, end]) if (start, end) in places else None


def _taken(value: Value | None) -> tuple[Value, Dim, Dim] | None:
    """(x, start, end) of the elements of the last axis of x that a value is."""
    node = value.producer if value is not None else None
    x = node.inputs[0] if node is not None and isinstance(node.op, Slice | Split) else None
    if node is None or x is None or x.rank == 0 or not isinstance(x.shape[-1], int):
        return None
    axes = node.op.axes if isinstance(node.op, Slice) else (node.op.attributes()["axis"],)
    if [axis % x.rank for axis in axes] != [x.rank - 1]:
        return None
    if isinstance(node.op, Split):
        place = next(at for at, each in enumerate(node.outputs) if each is value)
        begin = sum(node.op.sizes[:place])
        return x, begin, begin + node.op.sizes[place]
    assert isinstance(node.op, Slice)
    start, end = node.op.starts[0], node.op.ends[0]
    if not isinstance(start, int | None) or not isinstance(end, int | None) or node.op.steps != (1,):
        return None
    taken = range(*slice(start, end).indices(x.shape[-1]))
    return x, taken.start, taken.stop


def _angles(b: Rewriter, factor: Value, x: Value) -> Value | None:
    """cos or sin (N, L, R / 2) of what multiplies x (N, H, L, R) or a half of it; None if its halves differ."""
    batch, _, length, width = x.shape
    if not isinstance(width, int) or factor.rank != 4 or factor.shape[1] != 1 or factor.shape[2] != length:
        return None
    if factor.shape[0] not in (1, batch) or factor.shape[3] not in (width, width // 2):
        return None
    whole = factor.shape[3] == width
    half = _first_half(b, factor) if whole else b.new(factor)
    if half is None:
        return None
    angles = _reshaped(b, half, (factor.shape[0], length, width // 2))
    return angles if factor.shape[0] == batch else b.emit(Expand((batch, length, width // 2)), angles)


def _reshaped(b: Rewriter, value: Value, shape: Shape) -> Value:
    if value.parameter is None or not all(isinstance(dim, int) for dim in shape):
        return b.emit(Reshape(shape), value)
    return b.constant(value.parameter.data.numpy().reshape(shape), value.name)


_SEEN_THROUGH = (Cos, Sin, Cast, Identity, Mul, Unsqueeze)


def _first_half(b: Rewriter, value: Value) -> Value | None:
    """The first half along the last axis, computed as such, of a value whose halves are known to be the same."""
    if value.parameter is not None:
        if value.parameter.role != "constant" or not isinstance(value.type.size, int):
            return None
        data = value.parameter.data.numpy()
        first, second = np.split(data, 2, axis=-1)
        return b.constant(np.ascontiguousarray(first), f"{value.name}.half") if np.array_equal(first, second) else None
    node = value.producer
    if node is None:
        return None
    if isinstance(node.op, Concat):
        both = node.op.axis % value.rank == value.rank - 1 and len(node.inputs) == 2
        half, same = node.inputs[0], node.inputs[-1]
        return b.new(half) if both and half is same and half is not None else None
    return _rebuilt(b, node) if isinstance(node.op, _SEEN_THROUGH) else None


def _rebuilt(b: Rewriter, node: Node) -> Value | None:
    """The node's op on the first half of its operand; of a product, the other factor is a number."""
    op: Op = node.op
    if isinstance(op, Unsqueeze) and any(axis % node.output.rank == node.output.rank - 1 for axis in op.axes):
        return None
    if not isinstance(op, Mul):
        (operand,) = node.inputs
        half = None if operand is None else _first_half(b, operand)
        return None if half is None else b.emit(op, half)
    for operand, number in (node.inputs, node.inputs[::-1]):
        if operand is None or number is None or number.type.size != 1 or number.rank > operand.rank:
            continue
        half = _first_half(b, operand)
        return None if half is None else b.emit(op, half, b.new(number))
    return None


def _partly(node: Node) -> Turned | None:
    """(x, cos, sin) of Concat(RotaryEmbedding(x[..., :R], cos, sin), x[..., R:])."""
    if not isinstance(node.op, Concat) or len(node.inputs) != 2 or node.output.rank != 4 or node.op.axis % 4 != 3:
        return None
    turned, kept = node.inputs
    maker = turned.producer if turned is not None else None
    if maker is None or maker.op != RotaryEmbedding() or kept is None or turned is None:
        return None
    part, cos, sin = maker.inputs
    one, other = (_taken(value) for value in (part, kept))
    if one is None or other is None or one[0] is not other[0] or cos is None or sin is None:
        return None
    x, width = one[0], one[0].shape[3]
    fits = one[1:] == (0, turned.shape[3]) and other[1:] == (turned.shape[3], width) and x.type == node.output.type
    return (x, cos, sin) if fits else None
