"""What chains of Reshape, Transpose, Slice … do as one mapping: each axis of the result as parts of axes of the source.

An axis of the source is read as a mixed-radix number. `Part(axis, size, stride)` is one digit of it: it counts `size`
steps of `stride` elements along `axis`. A reshape splits and groups digits, a transpose permutes groups, a slice moves
the origin, a selected index fixes a digit:

    qkv    (N, L, 2304)                     parts of one axis each
    view   (N, L, 3, 12, 64)                2304 is 3 digits: 3 steps of 768, 12 of 64, 64 of 1
    permute and select 1                    (N, 12, L, 64), the origin at 768

so that axes 1 and 3 of the result are elements 768 to 1535 of axis 2 of qkv, as they stand there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field

from isomorph.ir.builder import Builder
from isomorph.ir.graph import Graph, Node, Value
from isomorph.ir.op import Op, normalize_axis
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.shape import Flatten, Reshape, Slice, Split, Squeeze, Transpose, Unsqueeze
from isomorph.ir.shapes import Dim, Shape, Sym, elements
from isomorph.records import record

__all__ = ["MOVES", "Group", "Part", "View", "cost", "materialize", "merged", "trace"]

MOVES = (Reshape, Transpose, Squeeze, Unsqueeze, Flatten)
"""Ops that move elements and keep all of them."""


@record
class Part:
    """A digit of the position along an axis of the source."""

    axis: int
    size: Dim
    stride: Dim


Group = tuple[Part, ...]


@record
class View:
    """How the axes of a value (`groups`, digits most significant first; () for size 1) read an earlier value.

    origin  the first element along each axis of the source, 0 where it is not named
    """

    source: Value
    groups: tuple[Group, ...]
    origin: Mapping[int, Dim] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        return tuple(elements(part.size for part in group) for group in self.groups)

    @property
    def moves_all(self) -> bool:
        """Whether every element of the source is in the view."""
        sizes = [part.size for group in self.groups for part in group]
        return not any(self.origin.values()) and elements(sizes) == self.source.type.size


def _whole(value: Value) -> View:
    """A value as itself."""
    groups = tuple(() if size == 1 else (Part(axis, size, 1),) for axis, size in enumerate(value.shape))
    return View(value, groups)


def trace(graph: Graph, *, cuts: bool) -> dict[Value, View]:
    """The view that each value is, of the nearest value that is no view.

    cuts    follow Slice, Split and Gather of one element as well
    """
    views: dict[Value, View] = {}
    for value in (*graph.inputs, *graph.parameters):
        views[value] = _whole(value)
    for node in graph.nodes:
        followed = isinstance(node.op, MOVES) or cuts
        seen = _apply(node, views) if followed else [None] * len(node.outputs)
        for value, view in zip(node.outputs, seen, strict=True):
            fits = view is not None and view.shape == value.shape
            views[value] = view if view is not None and fits else _whole(value)
    return views


def _apply(node: Node, views: Mapping[Value, View]) -> Sequence[View | None]:
    nothing = [None] * len(node.outputs)
    operand = node.inputs[0] if node.inputs else None
    if operand is None or operand not in views or operand.parameter is not None or 0 in operand.shape:
        return nothing
    view, op = views[operand], node.op
    if isinstance(op, Transpose):
        return [View(view.source, tuple(view.groups[axis] for axis in op.perm), view.origin)]
    if isinstance(op, MOVES):
        return [_reshaped(view, node.output.shape)]
    if isinstance(op, Slice) and len(op.axes) == 1 and op.steps == (1,):
        start, size = op.starts[0] or 0, node.output.shape[op.axes[0]]
        known = isinstance(start, int) and start >= 0
        return [_sliced(view, op.axes[0], start, size) if known else None]
    if isinstance(op, Split):
        starts = [sum(op.sizes[:position]) for position in range(len(op.sizes))]
        return [_sliced(view, op.axis, start, size) for start, size in zip(starts, op.sizes, strict=True)]
    if isinstance(op, Gather):
        return [_selected(view, normalize_axis(op.axis, operand.rank), node.inputs[1])]
    return nothing


def _reshaped(view: View, shape: Shape) -> View | None:
    """The same digits under other groups; None where a digit would have to be merged or cannot be split."""
    left = [part for group in view.groups for part in group]
    groups: list[Group] = []
    for dim in shape:
        group: list[Part] = []
        size: Dim = 1
        while size != dim:
            if not left:
                return None
            part = left.pop(0)
            grown = size * part.size
            if grown == dim or dim % grown == 0:
                group.append(part)
                size = grown
                continue
            pieces = _split(part, dim // size) if dim % size == 0 else None
            if pieces is None:
                return None
            group.append(pieces[0])
            left.insert(0, pieces[1])
            size = dim
        groups.append(tuple(group))
    return None if left else View(view.source, tuple(groups), view.origin)


def _split(part: Part, count: Dim) -> tuple[Part, Part] | None:
    """A digit as two: `count` steps of the larger one, and what a step of it holds."""
    if part.size % count != 0 or count == 1:
        return None
    inner = part.size // count
    return Part(part.axis, count, part.stride * inner), Part(part.axis, inner, part.stride)


def _sliced(view: View, axis: int, start: Dim, size: Dim) -> View | None:
    """Elements [start, start + size) of an axis; of several digits, whole steps of the first one."""
    axis %= len(view.groups)
    group = view.groups[axis]
    if not group:
        return view if start == 0 and size == 1 else None
    step = elements(part.size for part in group[1:])
    if start % step != 0 or size % step != 0:
        return None
    first = group[0]
    origin = {**view.origin, first.axis: view.origin.get(first.axis, 0) + (start // step) * first.stride}
    count = size // step
    kept = group[1:] if count == 1 else (Part(first.axis, count, first.stride), *group[1:])
    return View(view.source, (*view.groups[:axis], kept, *view.groups[axis + 1 :]), origin)


def _selected(view: View, axis: int, index: Value | None) -> View | None:
    """One element of an axis, which is gone."""
    if index is None or index.rank != 0 or index.parameter is None or index.parameter.role != "constant":
        return None
    group, at = view.groups[axis], int(index.parameter.data.numpy())
    sizes = [part.size for part in group]
    if any(isinstance(size, Sym) for size in sizes):
        return None
    count = math.prod(int(size) for size in sizes if not isinstance(size, Sym))
    if not -count <= at < count:
        return None
    at %= count
    origin = dict(view.origin)
    for part in reversed(group):
        at, digit = divmod(at, int(part.size) if not isinstance(part.size, Sym) else 1)
        origin[part.axis] = origin.get(part.axis, 0) + digit * part.stride
    return View(view.source, view.groups[:axis] + view.groups[axis + 1 :], origin)


def materialize(b: Builder, view: View, source: Value) -> Value | None:
    """Emit what makes the view of `source` (which stands for `view.source`) in as few nodes as we know: slices, then at
    most a reshape, a transpose and a reshape. None where the view takes elements that are no block of an axis.
    """
    block = _block(b, view, source)
    if block is None:
        return None
    shape = view.shape
    parts = merged([part for group in view.groups for part in group])
    order = sorted(range(len(parts)), key=lambda place: _place(parts[place]))
    if order == list(range(len(parts))):
        return block if block.shape == shape else b.emit(Reshape(shape), block)
    spread = tuple(parts[place].size for place in order)
    perm: tuple[int, ...] = tuple(order.index(place) for place in range(len(parts)))
    if tuple(size for size in block.shape if size != 1) == spread:
        perm = _with_units(block.shape, perm, shape)
    else:
        block = b.emit(Reshape(spread), block)
    moved = b.emit(Transpose(perm), block)
    return moved if moved.shape == shape else b.emit(Reshape(shape), moved)


def cost(view: View) -> int:
    """Number of nodes that `materialize` emits, a large number where it cannot."""
    counter = _Counter(view.source)
    made = materialize(counter, view, counter.source)
    return 1 << 20 if made is None else counter.count


class _Counter(Builder):
    """A builder that only counts."""

    def __init__(self, source: Value) -> None:
        super().__init__("count")
        self.source = Value(source.name, source.type)
        self.count = 0

    def emit(self, op: Op, *operands: Value | None, name: str | None = None) -> Value:
        self.count += 1
        (kind,) = op.infer(*(None if value is None else value.type for value in operands))
        return Value("value", kind)


def _with_units(before: Shape, perm: Sequence[int], after: Shape) -> tuple[int, ...]:
    """A permutation of the axes that are not 1, as one of all axes: with those of size 1 where `after` has them."""
    real = [axis for axis, size in enumerate(before) if size != 1]
    units = [axis for axis, size in enumerate(before) if size == 1]
    moved = [real[place] for place in perm]
    if len(after) != len(before) or sum(size == 1 for size in after) != len(units):
        return (*units, *moved)
    return tuple(units.pop(0) if size == 1 else moved.pop(0) for size in after)


def _place(part: Part) -> tuple[int, int]:
    """Where a digit stands in the source: by axis, the larger steps first."""
    stride = part.stride
    return part.axis, -(stride if isinstance(stride, int) else _LARGE * len(stride.terms))


_LARGE = 1 << 40


def merged(parts: Sequence[Part]) -> list[Part]:
    """Digits that follow each other, here as in the source, as one."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last is not None and last.axis == part.axis and last.stride == part.stride * part.size:
            merged[-1] = Part(part.axis, last.size * part.size, part.stride)
        else:
            merged.append(part)
    return merged


def _block(b: Builder, view: View, source: Value) -> Value | None:
    """The part of the source that the view covers, where that is a block of each axis."""
    for axis, size in enumerate(source.shape):
        digits = sorted((p for group in view.groups for p in group if p.axis == axis), key=_place)
        covered: Dim = 1
        for part in reversed(digits):
            if part.stride != covered:
                return None
            covered = covered * part.size
        start = view.origin.get(axis, 0)
        if covered == size and start == 0:
            continue
        source = b.emit(Slice((axis,), (start,), (start + covered,), (1,)), source)
    return source
