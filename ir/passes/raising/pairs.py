"""The pairs of elements that rotary position embedding turns, as sources take them apart and put them together again.

halves       x[..., :R / 2], x[..., R / 2:]                       Concat(a, b)
interleaved  x[..., 0::2], x[..., 1::2], or element 0 and 1       Concat(a as (…, R / 2, 1), b likewise), as (…, R)
             of x as (…, R / 2, 2)
"""

from __future__ import annotations

import numpy as np

from isomorph.ir.builder import Rewriter
from isomorph.ir.graph import Value
from isomorph.ir.op import Op
from isomorph.ir.ops.elementwise import Cast, Cos, Identity, Mul, Sin
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.shape import Concat, Expand, Reshape, Slice, Split, Squeeze, Tile, Unsqueeze
from isomorph.ir.passes.raising.arithmetic import operand
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.ir.shapes import Dim, Shape
from isomorph.records import record

__all__ = ["Part", "part_of", "put_together", "single_angles", "taken"]


@record
class Part:
    """The first or second elements (`place`) of all pairs of `source`: x (…, R), or x as (…, R / 2, 2)."""

    source: Value
    place: int
    interleaved: bool


def part_of(value: Value | None) -> Part | None:
    """Which elements of the pairs of what a value is; it may have an axis of size 1 behind."""
    if value is None:
        return None
    found = _of_pairs(value)
    if found is not None:
        return found
    x, start, end, step = _slice(value) or (None, 0, 0, 1)
    if x is None or not isinstance(size := x.shape[-1], int) or size == 0 or size % 2:
        return None
    if step == 2:
        return Part(x, start, True) if start in (0, 1) and end == size - 1 + start else None
    halves = {(0, size // 2): 0, (size // 2, size): 1}
    return Part(x, halves[start, end], False) if (start, end) in halves else None


def _of_pairs(value: Value) -> Part | None:
    """Element 0 or 1 of the last axis, of size 2, of a value of rank 5."""
    node = value.producer
    pairs = operand(value, Gather)
    if node is not None and pairs is not None and isinstance(node.op, Gather) and node.op.axis % pairs.rank == 4:
        place = constant_number(node.inputs[1]) if node.inputs[1] is not None and node.inputs[1].rank == 0 else None
        kept = None if place is None or place not in (-2, -1, 0, 1) else int(place) % 2
    else:
        inner = operand(value, Squeeze, Reshape) if value.rank == 4 else value
        pairs, start, end, _ = (_slice(inner) if inner is not None else None) or (None, 0, 0, 1)
        kept = start if end == start + 1 and inner is not None and inner.shape[:4] == value.shape[:4] else None
    if pairs is None or pairs.rank != 5 or pairs.shape[4] != 2 or kept is None:
        return None
    whole = operand(pairs, Reshape)
    joined: Shape = (*pairs.shape[:3], pairs.shape[3] * 2)
    return Part(whole if whole is not None and whole.shape == joined else pairs, kept, True)


def taken(value: Value | None) -> tuple[Value, Dim, Dim] | None:
    """(x, start, end) of the elements of the last axis of x that a value is, without gaps."""
    found = _slice(value) if value is not None else None
    return found[:3] if found is not None and found[3] == 1 else None


def _slice(value: Value) -> tuple[Value, int, int, int] | None:
    """(x, start, end, step) of the elements of the last axis of x that a value is; the end is behind the last one."""
    node = value.producer
    x = node.inputs[0] if node is not None and isinstance(node.op, Slice | Split) else None
    if node is None or x is None or x.rank == 0 or not isinstance(x.shape[-1], int):
        return None
    axes = node.op.axes if isinstance(node.op, Slice) else (node.op.attributes()["axis"],)
    if [axis % x.rank for axis in axes] != [x.rank - 1]:
        return None
    if isinstance(node.op, Split):
        place = next(at for at, each in enumerate(node.outputs) if each is value)
        begin = sum(node.op.sizes[:place])
        end = begin + node.op.sizes[place]
        return (x, begin, end, 1) if isinstance(begin, int) and isinstance(end, int) else None
    assert isinstance(node.op, Slice)
    start, stop, step = node.op.starts[0], node.op.ends[0], node.op.steps[0]
    if not isinstance(start, int | None) or not isinstance(stop, int | None) or step not in (1, 2):
        return None
    found = range(*slice(start, stop, step).indices(x.shape[-1]))
    return (x, found[0], found[-1] + 1, int(step)) if found else None


def put_together(value: Value | None) -> tuple[Value, Value, bool] | None:
    """(first, second, interleaved) of a value whose last axis has both elements of all pairs.

    A value (…, R / 2, 2) is interleaved pairs as well. The parts may have an axis of size 1 behind.
    """
    node = value.producer if value is not None else None
    inner = operand(value, Reshape)
    if inner is not None and value is not None and inner.rank == 5 and value.shape == _flat(inner):
        return put_together(inner)
    if node is None or value is None or not isinstance(node.op, Concat) or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if first is None or second is None or node.op.axis % value.rank != value.rank - 1:
        return None
    if value.rank == 4:
        return first, second, False
    if value.rank != 5 or first.shape[4] != 1 or second.shape[4] != 1:
        return None
    return _without_last(first), _without_last(second), True


def _flat(pairs: Value) -> Shape:
    return (*pairs.shape[:3], pairs.shape[3] * pairs.shape[4])


def _without_last(value: Value) -> Value:
    """What was given a last axis of size 1, or the value."""
    inner = operand(value, Unsqueeze, Reshape)
    return inner if inner is not None and inner.shape == value.shape[:4] else value


_SEEN_THROUGH = (Cos, Sin, Cast, Identity, Mul, Unsqueeze)


def single_angles(b: Rewriter, value: Value, interleaved: bool) -> Value | None:
    """One of both equal elements of each pair along the last axis, computed as such; None if they may differ."""
    if value.parameter is not None:
        if value.parameter.role != "constant" or not isinstance(value.type.size, int):
            return None
        data = value.parameter.data.numpy()
        first, second = (data[..., 0::2], data[..., 1::2]) if interleaved else np.split(data, 2, axis=-1)
        same = np.array_equal(first, second)
        return b.constant(np.ascontiguousarray(first), f"{value.name}.half") if same else None
    node = value.producer
    if node is None:
        return None
    copied = _repeated(value) if interleaved else _doubled(value)
    if copied is not None:
        new = b.new(copied)
        shape = (*value.shape[:-1], value.shape[-1] // 2)
        return new if new.shape == shape else b.emit(Reshape(shape), new)
    return _rebuilt(b, value, interleaved) if isinstance(node.op, _SEEN_THROUGH) else None


def _doubled(value: Value) -> Value | None:
    """c of Concat(c, c) along the last axis."""
    node = value.producer
    if node is None or not isinstance(node.op, Concat) or node.op.axis % value.rank != value.rank - 1:
        return None
    return node.inputs[0] if len(node.inputs) == 2 and node.inputs[0] is node.inputs[1] else None


def _repeated(value: Value) -> Value | None:
    """c (…, R / 2, 1) that is repeated along its last axis and flattened to (…, R)."""
    pairs = operand(value, Reshape)
    if pairs is None or pairs.rank == 0 or pairs.shape[-1] != 2 or value.rank == 0:
        return None
    if pairs.shape[-2:-1] != (value.shape[-1] // 2,):
        return None
    return operand(pairs, Expand, Tile) if _is_repeat(pairs) else _doubled(pairs)


def _is_repeat(pairs: Value) -> bool:
    """Whether a value is an operand with its last axis, of size 1, repeated, and no other one."""
    inner = operand(pairs, Expand, Tile)
    return inner is not None and inner.shape == (*pairs.shape[:-1], 1)


def _rebuilt(b: Rewriter, value: Value, interleaved: bool) -> Value | None:
    """The op of the value on one element of each pair of its operand; of a product, the other factor is a number."""
    node = value.producer
    assert node is not None
    op: Op = node.op
    if isinstance(op, Unsqueeze) and any(axis % node.output.rank == node.output.rank - 1 for axis in op.axes):
        return None
    if not isinstance(op, Mul):
        (inner,) = node.inputs
        half = None if inner is None else single_angles(b, inner, interleaved)
        return None if half is None else b.emit(op, half)
    for inner, number in (node.inputs, node.inputs[::-1]):
        if inner is None or number is None or number.type.size != 1 or number.rank > inner.rank:
            continue
        half = single_angles(b, inner, interleaved)
        return None if half is None else b.emit(op, half, b.new(number))
    return None
