"""How many turns a loop makes whose condition compares counters: while_loop of TensorFlow over the steps of x (T, …).

    time, going = 0, 0 < T
    while going and turn < trips:  time, going = time + 1, turn < T and time + 1 < T

In turn k a number of the body is slope * k + offset if it is the turn, a carried number that grows by the same in each
turn, a size, a constant, or a sum, a difference or a cast of such. A loop makes T turns if its conditions hold in the
turns 0 to T - 2, and it ends behind turn T - 1. Numbers are compared as they are, which of float32 is true below 2^24.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.control import Loop
from isomorph.ir.ops.elementwise import Add, And, Cast, Greater, GreaterOrEqual, Identity, Less, LessOrEqual, Sub
from isomorph.ir.ops.shape import Dims
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of, operand
from isomorph.ir.shapes import Dim
from isomorph.records import record

__all__ = ["Count", "Counters"]

_COMPARED: Mapping[type[Op], tuple[int, int, int]] = {
    Less: (0, 1, 0),
    LessOrEqual: (0, 1, 1),
    Greater: (1, 0, 0),
    GreaterOrEqual: (1, 0, 1),
}
"""Which operand is the lower one, which the upper one, and what to add to their difference for it to be positive."""
_COUNTS = (DType.INT32, DType.INT64, DType.FLOAT32, DType.FLOAT64)
"""Element types that count as far as loops go."""
_UNBOUNDED = np.iinfo(np.int64).max


@record
class Count:
    """slope * k + offset in turn k."""

    slope: int
    offset: Dim

    def at(self, turn: Dim) -> Dim:
        return self.slope * turn + self.offset


class Counters:
    """The numbers of a Loop that follow from its turn."""

    def __init__(self, node: Node) -> None:
        assert isinstance(node.op, Loop)
        (body,) = node.regions
        self.op, self.body = node.op, body
        self.trips, self.going, *self.initial = node.operands()
        self._known: dict[Value, Count | None] = {body.inputs[0]: Count(1, 0)}

    def count(self, value: Value | None) -> Count | None:
        """What a number of the body, or one outside, is in turn k."""
        if value is None or value.rank != 0 or value.dtype not in _COUNTS:
            return None
        if value not in self._known:
            self._known[value] = None  # while it is looked for
            self._known[value] = self._found(value)
        return self._known[value]

    def _found(self, value: Value) -> Count | None:
        if value.parameter is not None:
            return _constant(value)
        if value in self.body.inputs[2:]:
            return self._carried(self.body.inputs.index(value) - 2)
        op = value.producer.op if value.producer is not None else None
        if isinstance(op, Dims):
            return Count(0, op.dims[0])
        if isinstance(op, Identity | Cast):
            return self.count(operand(value, Identity, Cast))
        if not isinstance(op, Add | Sub) or value.producer is None:
            return None
        one, other = (self.count(each) for each in value.producer.inputs)
        if one is None or other is None:
            return None
        sign = 1 if isinstance(op, Add) else -1
        return Count(one.slope + sign * other.slope, one.offset + sign * other.offset)

    def _carried(self, place: int) -> Count | None:
        """A number from outside, which stays or grows by the same in each turn."""
        first = self.count(self.initial[place])
        if first is None or place >= self.op.carried:
            return first
        before, after = self.body.inputs[place + 2], list(self.body.outputs.values())[place + 1]
        growth = _growth(after, before)
        return None if growth is None else Count(growth, first.offset)

    def last(self, place: int, turns: Dim) -> Dim | None:
        """What a carried number is after so many turns."""
        found = self.count(self.body.inputs[place + 2])
        return None if found is None else found.at(turns)

    def makes(self, turns: Dim) -> bool:
        """Whether the loop makes so many turns."""
        trips = self.count(self.trips)
        first, later = self._conditions(self.going), self._conditions(next(iter(self.body.outputs.values())))
        if trips is None or first is None or later is None:
            return False
        begins = all(_is_positive(each.offset) or _is_positive(each.offset - turns + 1) for each in first)
        goes_on = all(_is_positive(each.at(turns - 2 if each.slope < 0 else 0)) for each in later)
        if not begins or not goes_on or trips.offset == turns:
            return begins and goes_on
        ends = any(_is_at_most_zero(each.at(turns - 1)) for each in later)
        may_be_none = not isinstance(turns, int) and all(each.offset != turns for each in first)
        return trips.offset == _UNBOUNDED and ends and turns != 0 and not may_be_none

    def _conditions(self, condition: Value) -> list[Count] | None:
        """Numbers that all are positive where a condition holds; None of one that compares no counts."""
        node = condition.producer
        if condition is self.body.inputs[1]:
            return []
        if node is not None and isinstance(node.op, And | Identity):
            parts = [self._conditions(each) for each in node.operands()]
            return None if None in parts else [each for part in parts if part is not None for each in part]
        if node is None or type(node.op) not in _COMPARED:
            known = _constant(condition)
            return None if known is None else [known]
        low, high, more = _COMPARED[type(node.op)]
        lower, upper = (self.count(node.inputs[place]) for place in (low, high))
        if lower is None or upper is None:
            return None
        return [Count(upper.slope - lower.slope, upper.offset - lower.offset + more)]


def _growth(after: Value, before: Value) -> int | None:
    """after - before, of a sum of constants and the value before."""
    if after is before:
        return 0
    if (inner := operand(after, Identity)) is not None:
        return _growth(inner, before)
    ways = [(one, other, 1) for one, other in both_ways(after, Add)]
    ways += [(*pair, -1) for pair in [made_of(after, Sub)] if pair is not None]
    for one, other, sign in ways:
        number, growth = _constant(other), _growth(one, before)
        if number is not None and growth is not None:
            return growth + sign * int(number.offset)  # type: ignore[arg-type]
    return None


def _constant(value: Value) -> Count | None:
    parameter = value.parameter
    if parameter is None or parameter.role != "constant" or value.type.size != 1:
        return None
    number = parameter.data.numpy().item()
    return Count(0, int(number)) if not isinstance(number, complex | str) and number == int(number) else None


def _is_positive(size: Dim) -> bool:
    return isinstance(size, int) and size > 0


def _is_at_most_zero(size: Dim) -> bool:
    return isinstance(size, int) and size <= 0
