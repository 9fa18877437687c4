"""Loops over the steps of data, read: Scan, and Loop whose turns are as many as there are steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Node, Value
from isomorph.ir.ops.control import Loop, Scan
from isomorph.ir.ops.elementwise import Cast, Identity, Less, Where
from isomorph.ir.ops.index import Gather
from isomorph.ir.ops.shape import Range, Reshape, Slice, Unsqueeze
from isomorph.ir.passes.raising.arithmetic import made_of, operand
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.ir.passes.raising.turns import Count, Counters
from isomorph.ir.shapes import Dim
from isomorph.records import record

__all__ = ["Frame", "is_kept", "read_frame"]

_LENGTHS = (DType.INT32, DType.INT64)


@record
class Frame:
    """A loop over the steps of data `x`: the states before and after a step, what it takes of x, and what it gives.

    Values but x and `initial` are of the body; x is taken apart along `axis`. `places` are those of the states among
    the results of the loop, `fixed` has what its other results but the stacks are: values from outside, or numbers.
    `turned` says that what it gives is stacked with the last step first. Of sequences of several `lengths`, `live` says
    in the body which go on; what becomes of the others is left out of `after` and `given`.
    """

    before: Sequence[Value]
    after: Sequence[Value]
    initial: Sequence[Value]
    taken: Value
    given: Sequence[Value]
    x: Value
    places: Sequence[int]
    axis: int = 0
    backwards: bool = False
    turned: bool = False
    fixed: Mapping[int, Value | Dim] = field(default_factory=dict)
    lengths: Value | None = None
    live: Value | None = None


def read_frame(node: Node) -> Frame | None:
    """The frame of a node that is a loop over all steps of something."""
    if isinstance(node.op, Scan):
        return _scan(node)
    return _loop(node) if isinstance(node.op, Loop) else None


def _scan(node: Node) -> Frame | None:
    """A Scan over x, and over a mask of the sequences that go on, if there is one."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, Scan)
    if op.scanned > 2 or set(op.axes) != {0} or any(op.output_axes) or op.decides:
        return None
    if any(back != op.reverse[0] for back in (*op.reverse, *op.output_reverse)):
        return None
    results, operands, before = list(body.outputs.values()), list(node.operands()), body.inputs[: op.carried]
    taken, *masks = body.inputs[op.carried : op.carried + op.scanned]
    x, *sequences = operands[op.carried : op.carried + op.scanned]
    after, given = results[: op.carried], results[op.carried :]
    lengths = _lengths(sequences[0], x) if sequences else None
    if masks:
        kept = [_chosen(value, masks[0], old) for value, old in zip(after, before, strict=True)]
        shown = [_chosen(value, masks[0], None) for value in given]
        if lengths is None or None in kept or None in shown:
            return None
        after, given = ([value for value in each if value is not None] for each in (kept, shown))
    return Frame(
        before,
        after,
        operands[: op.carried],
        taken,
        given,
        x,
        range(op.carried),
        backwards=op.reverse[0],
        lengths=lengths,
        live=masks[0] if masks else None,
    )


def _lengths(mask: Value, x: Value) -> Value | None:
    """The lengths (N,) of sequences x (T, N, I) of a mask (T, N, 1) that says whether a step is below them."""
    steps, limits = made_of(mask, Less) or (None, None)
    if steps is None or limits is None or x.rank != 3:
        return None
    times, lengths = _flat(steps), _flat(limits)
    counted = times.producer.op if times.producer is not None else None
    if not isinstance(counted, Range) or (counted.start, counted.step, counted.length) != (0, 1, x.shape[0]):
        return None
    fits = steps.shape == (x.shape[0], 1, 1) and limits.shape == (1, *lengths.shape, 1) and lengths.rank == 1
    return lengths if fits and lengths.shape[0] == x.shape[1] and lengths.dtype in _LENGTHS else None


def _flat(value: Value) -> Value:
    """A vector before it is given axes of size 1, or cast."""
    inner = operand(value, Unsqueeze, Reshape, Cast)
    return value if inner is None or not inner.dtype.is_integer else _flat(inner)


def _chosen(value: Value, live: Value, old: Value | None) -> Value | None:
    """What a value is where a sequence goes on, if it is old, or 0, elsewhere."""
    node = value.producer
    if node is None or not isinstance(node.op, Where) or node.inputs[0] is not live:
        return None
    new, other = node.inputs[1:]
    return new if (other is old if old is not None else constant_number(other) == 0) else None


def _loop(node: Node) -> Frame | None:
    """A Loop that takes one step of x after another, all of them."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, Loop)
    operands, inputs, results = list(node.operands()), body.inputs, list(body.outputs.values())
    counters = Counters(node)
    found = _taken(node, counters)
    if found is None:
        return None
    gather, x, axis, backwards = found
    initial, before, after = operands[2:], inputs[2:], results[1:]
    fixed: dict[int, Value | Dim] = {}
    for place in range(op.carried):
        counted = counters.last(place, x.shape[axis])
        if _source(after[place]) is before[place]:
            fixed[place] = initial[place]
        elif counted is not None:
            fixed[place] = counted
    states = [place for place in range(op.carried) if place not in fixed]
    return Frame(
        [before[place] for place in states],
        [after[place] for place in states],
        [initial[place] for place in states],
        gather.output,
        [_source(value) for value in after[op.carried :]],
        x,
        states,
        axis,
        backwards,
        turned=backwards,
        fixed=fixed,
    )


def _taken(node: Node, counters: Counters) -> tuple[Node, Value, int, bool] | None:
    """(the Gather of a step, x, along which axis, whether it begins at the end) of a Loop that takes all steps of x."""
    (body,), inputs = node.regions, node.regions[0].inputs
    gathers = [each for each in body.nodes if isinstance(each.op, Gather) and each.output.rank == 2]
    if len(gathers) != 1:
        return None
    source, index = (_source(value) for value in gathers[0].operands())
    x = node.inputs[inputs.index(source)] if source in inputs[2:] else None
    axis = gathers[0].op.attributes()["axis"] % 3
    if x is None or x.rank != 3 or axis == 2 or not is_kept(node, source):
        return None
    steps, step = x.shape[axis], counters.count(index)
    if step not in (Count(1, 0), Count(-1, steps - 1)) or not counters.makes(steps):
        return None
    return gathers[0], x, axis, step != Count(1, 0)


def is_kept(node: Node, value: Value | None) -> bool:
    """Whether an input of the body of a Loop is the same in every turn."""
    op, (body,) = node.op, node.regions
    assert isinstance(op, Loop) and value is not None
    place = body.inputs.index(value) - 2
    return place >= op.carried or _source(list(body.outputs.values())[place + 1]) is value


def _source(value: Value) -> Value:
    """What a value is, before an Identity, or a Slice that takes all of it."""
    inner = operand(value, Identity, Slice)
    return _source(inner) if inner is not None and inner.type == value.type and _takes_all(value) else value


def _takes_all(value: Value) -> bool:
    op = value.producer.op if value.producer is not None else None
    plain = isinstance(op, Slice) and all(start in (None, 0) for start in op.starts) and not any(op.ends)
    return isinstance(op, Identity) or (plain and isinstance(op, Slice) and all(step == 1 for step in op.steps))
