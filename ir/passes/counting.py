"""Reading all elements in order is no reading: indices that count along an axis move the data at most.

    i = Range(0, N) as (N, 1, 1, 1), j = Range(0, S) as (1, 1, 1, S)
    GatherND(x (N, S), the pairs (i, j) as (N, 1, 1, S, 2))            ->  Unsqueeze(x, (1, 2))
    Gather(x, Range(0, N)), N the size of the axis                     ->  x

Every rule is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.ops.elementwise import Cast, Identity
from isomorph.ir.ops.index import Gather, GatherND
from isomorph.ir.ops.shape import Concat, Expand, Range, Reshape, Squeeze, Transpose, Unsqueeze
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.shapes import Dim, Shape
from isomorph.records import record

__all__ = ["drop_counting"]

_LARGEST = 1 << 22
"""Constant indices of more elements are not looked at."""


def drop_counting(model: Model) -> Model:
    """The model without look-ups that read a whole tensor in order."""

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if isinstance(node.op, Gather):
            return _whole_axis(b, node)
        return _whole_tensor(b, node) if isinstance(node.op, GatherND) else None

    return prune(rewrite(model, "counting", change, regions=True))


@record
class _Count:
    """Integers of a shape that count 0, 1, … along one axis and are the same along the others."""

    shape: Shape
    axis: int

    @property
    def size(self) -> Dim:
        return self.shape[self.axis]


def _whole_axis(b: Rewriter, node: Node) -> Sequence[Value] | None:
    x, indices = node.inputs
    assert isinstance(node.op, Gather) and x is not None and indices is not None
    count = _count(indices) if indices.rank == 1 else None
    return (b.new(x),) if count is not None and count.size == x.shape[node.op.axis] else None


def _whole_tensor(b: Rewriter, node: Node) -> Sequence[Value] | None:
    x, indices = node.inputs
    assert isinstance(node.op, GatherND) and x is not None and indices is not None
    counts = _counts(indices) if node.op.batch_dims == 0 else None
    if counts is None:
        return None
    axes = [count.axis for count in counts]
    if len(set(axes)) != len(axes) or any(count.size != size for count, size in zip(counts, x.shape, strict=False)):
        return None
    broadcast, rest = indices.shape[:-1], x.shape[len(axes) :]
    data = b.new(x)
    order = (*sorted(range(len(axes)), key=axes.__getitem__), *range(len(axes), x.rank))
    if order != tuple(range(x.rank)):
        data = b.emit(Transpose(order), data)
    new = tuple(axis for axis in range(len(broadcast)) if axis not in axes)
    if new:
        data = b.emit(Unsqueeze(new), data)
    return (data if data.shape == node.output.shape else b.emit(Expand((*broadcast, *rest)), data),)


def _counts(indices: Value) -> list[_Count] | None:
    """What each component of tuples of indices (…, k) counts, if all do; its shape is that without the last axis."""
    if indices.parameter is not None:
        data = _data(indices)
        if data is None or data.shape[-1] == 0:
            return None
        found = [_counted(data[..., place]) for place in range(data.shape[-1])]
    else:
        node = indices.producer
        if node is None or not isinstance(node.op, Concat) or node.op.axis % indices.rank != indices.rank - 1:
            return None
        if any(part.shape[-1] != 1 for part in node.operands()):
            return None
        found = [_dropped(_count(part)) for part in node.operands()]
    return None if None in found else found  # type: ignore[return-value]


def _dropped(count: _Count | None) -> _Count | None:
    """Without the last axis, of size 1."""
    if count is None or (count.axis == len(count.shape) - 1 and len(count.shape) < 2):
        return None
    return _moved(count, count.shape[:-1])


def _count(value: Value) -> _Count | None:
    """What a tensor of integers counts, seen through everything that only gives it other axes."""
    if value.parameter is not None:
        data = _data(value)
        return None if data is None else _counted(data)
    node = value.producer
    if node is None:
        return None
    if isinstance(node.op, Range):
        fits = node.op.start == 0 and node.op.step == 1 and value.dtype.is_integer
        return _Count(value.shape, 0) if fits else None
    if not isinstance(node.op, Reshape | Squeeze | Unsqueeze | Expand | Identity | Cast) or not value.dtype.is_integer:
        return None
    operand = node.inputs[0]
    inner = _count(operand) if operand is not None and operand.dtype.is_integer else None
    if inner is None:
        return None
    if isinstance(node.op, Expand):
        axis = inner.axis + value.rank - len(inner.shape)
        return _Count(value.shape, axis) if value.shape[axis] == inner.size else None
    return inner if isinstance(node.op, Identity | Cast) else _moved(inner, value.shape)


def _moved(count: _Count, shape: Shape) -> _Count | None:
    """The same numbers in another shape, where only axes of size 1 come and go."""
    before = [(axis, size) for axis, size in enumerate(count.shape) if size != 1]
    after = [(axis, size) for axis, size in enumerate(shape) if size != 1]
    if [size for _, size in before] != [size for _, size in after]:
        return None
    if count.size == 1:
        units = [axis for axis, size in enumerate(shape) if size == 1]
        return _Count(shape, min(units, key=lambda axis: abs(axis - count.axis))) if units else None
    place = [axis for axis, _ in before].index(count.axis)
    return _Count(shape, after[place][0])


def _data(value: Value) -> npt.NDArray[np.generic] | None:
    small = isinstance(value.type.size, int) and 0 < value.type.size <= _LARGEST
    if not small or not value.dtype.is_integer or value.parameter is None or value.parameter.role != "constant":
        return None
    return value.parameter.data.numpy()


def _counted(data: npt.NDArray[np.generic]) -> _Count | None:
    """What an array counts. Zeros count along an axis of size 1, if there is one."""
    for axis, size in enumerate(data.shape):
        line = np.arange(size).reshape([size if each == axis else 1 for each in range(data.ndim)])
        if (size > 1 or not data.any()) and bool(np.all(data == line)):
            return _Count(data.shape, axis)
    return None
