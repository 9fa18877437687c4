"""Removes operations that give one of their operands back.

    x + 0, x - 0, x | False, of integers and truth values   ->  x
    x * 1, x / 1, x ^ 1                                       ->  x
    x & True                                                  ->  x
    x[:], Expand(x) to its own shape, Tile(x) once, Pad(x) by nothing   ->  x
    Concat(x), Concat(x, nothing), Concat of all parts of x   ->  x
    Where(c, x, x)                                            ->  x
    Gather of the one element of an axis                      ->  Squeeze(x), which chains of moves can take away

Every rule is exact, bit by bit: floating-point x + 0 stays, which turns -0 into 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op, normalize_axis
from isomorph.ir.ops.elementwise import Add, And, Div, Mul, Or, Pow, Sub, Where
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.shape import Concat, Expand, Pad, Slice, Split, Squeeze, Tile
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.shapes import Dim

__all__ = ["drop_identities"]


def drop_identities(model: Model) -> Model:
    """The model without the operations above."""

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        rule = _RULES.get(type(node.op))
        same = rule(node) if rule is not None else None
        if same is not None and same.type == node.output.type:
            return (b.new(same),)
        if isinstance(node.op, Gather):
            return _only_element(b, node)
        return _without_empty(b, node) if isinstance(node.op, Concat) else None

    return prune(rewrite(model, "identities", change, regions=True))


def _neutral(number: int, *, sides: int, floats: bool) -> Callable[[Node], Value | None]:
    """The rule of an operator for which `number` is neutral: as its second operand, of two sides as any."""

    def rule(node: Node) -> Value | None:
        x, y = node.inputs
        if (node.output.dtype.is_float or node.output.dtype.is_complex) and not floats:
            return None
        for kept, other in ((x, y), (y, x))[:sides]:
            if _is_all(other, number):
                return kept
        return None

    return rule


def _is_all(value: Value | None, number: int) -> bool:
    """Whether a value is a small constant that is this number everywhere."""
    if value is None or value.parameter is None or value.parameter.role != "constant":
        return False
    size = value.type.size
    return isinstance(size, int) and 0 < size <= _LARGEST and bool(np.all(value.parameter.data.numpy() == number))


_LARGEST = 1 << 12
"""Constants of more elements are not looked at."""


def _whole(node: Node) -> Value | None:
    """The operand of a Slice that takes all of it. Of a symbolic size only `[:]` is known to."""
    op, x = node.op, node.inputs[0]
    assert isinstance(op, Slice) and x is not None
    if x.shape != node.output.shape or any(step != 1 for step in op.steps):
        return None
    bounds = zip(op.axes, op.starts, op.ends, strict=True)
    static = all(isinstance(x.shape[axis], int) for axis in op.axes)
    return x if static or all(start in (None, 0) and end is None for _, start, end in bounds) else None


def _same_shape(node: Node) -> Value | None:
    return node.inputs[0]


def _repeated_once(node: Node) -> Value | None:
    assert isinstance(node.op, Tile)
    return node.inputs[0] if all(count == 1 for count in node.op.repeats) else None


def _padded_by_nothing(node: Node) -> Value | None:
    assert isinstance(node.op, Pad)
    return node.inputs[0] if all(count == 0 for pair in node.op.pads for count in pair) else None


def _all_parts(node: Node) -> Value | None:
    """What a Concat puts together again: all slices of one value, in order."""
    assert isinstance(node.op, Concat)
    if len(node.inputs) == 1:
        return node.inputs[0]
    parts = [_part(value, node.op.axis % node.output.rank) for value in node.operands()]
    first = parts[0]
    end: Dim = 0
    for part in parts:
        if part is None or first is None or part[0] is not first[0] or part[1] != end:
            return None
        end = part[2]
    return first[0] if first is not None and end == first[0].shape[node.op.axis] else None


def _part(value: Value, axis: int) -> tuple[Value, Dim, Dim] | None:
    """(x, start, end) of the elements of x along an axis, of a known size, that a value is."""
    node = value.producer
    x = node.inputs[0] if node is not None and isinstance(node.op, Slice | Split) else None
    if node is None or x is None or not isinstance(size := x.shape[axis], int):
        return None
    if isinstance(node.op, Split):
        place = next(at for at, each in enumerate(node.outputs) if each is value)
        begin = sum(node.op.sizes[:place])
        return (x, begin, begin + node.op.sizes[place]) if node.op.axis % x.rank == axis else None
    assert isinstance(node.op, Slice)
    if [each % x.rank for each in node.op.axes] != [axis] or node.op.steps != (1,):
        return None
    start, end = node.op.starts[0], node.op.ends[0]
    if not isinstance(start, int | None) or not isinstance(end, int | None):
        return None
    found = range(*slice(start, end).indices(size))
    return x, found.start, found.stop


def _either(node: Node) -> Value | None:
    _, x, y = node.inputs
    return x if x is y else None


def _only_element(b: Rewriter, node: Node) -> Sequence[Value] | None:
    """A Gather of the one element that an axis has, without that axis."""
    x, index = node.inputs
    assert isinstance(node.op, Gather) and x is not None and index is not None
    if index.rank != 0 or x.shape[node.op.axis] != 1 or not (_is_all(index, 0) or _is_all(index, -1)):
        return None
    return (b.emit(Squeeze((normalize_axis(node.op.axis, x.rank),)), b.new(x)),)


def _without_empty(b: Rewriter, node: Node) -> Sequence[Value] | None:
    """A Concat without its operands of size 0."""
    assert isinstance(node.op, Concat)
    kept = [value for value in node.operands() if value.shape[node.op.axis] != 0]
    if not kept or len(kept) == len(node.inputs):
        return None
    if len(kept) == 1:
        return (b.new(kept[0]),)
    return (b.emit(node.op, *(b.new(value) for value in kept)),)


_RULES: dict[type[Op], Callable[[Node], Value | None]] = {
    Add: _neutral(0, sides=2, floats=False),
    Sub: _neutral(0, sides=1, floats=False),
    Mul: _neutral(1, sides=2, floats=True),
    Div: _neutral(1, sides=1, floats=True),
    Pow: _neutral(1, sides=1, floats=True),
    And: _neutral(1, sides=2, floats=False),
    Or: _neutral(0, sides=2, floats=False),
    Slice: _whole,
    Expand: _same_shape,
    Tile: _repeated_once,
    Pad: _padded_by_nothing,
    Concat: _all_parts,
    Where: _either,
}
