"""Softmax and its logarithm that a source spells out, along one axis.

    e = exp(x - max(x));  e / sum(e)                    ->  Softmax(x)
    c = x - max(x);  c - log(sum(exp(c)))               ->  LogSoftmax(x)
    x - (m + log(sum(exp(x - m)))), m = max(x)          ->  LogSoftmax(x)
    x - ReduceLogSumExp(x)                              ->  LogSoftmax(x)
    exp(LogSoftmax(x))                                  ->  Softmax(x)

and what moves the axis there and back, as ONNX needs it before opset 13,

    Transpose(Softmax(Transpose(x)))                    ->  Softmax(x)
    Reshape(Softmax(Reshape(x, (A, B)), 1))             ->  Softmax(x)     of the axes in B, all but one have size 1

The same formula; rounding may differ in the last places. Left alone are log(Softmax(x)), which is -inf where LogSoftmax
is an ordinary number, and what overflows because max(x) is not taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.graph import Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import LogSoftmax, Softmax
from isomorph.ir.ops.elementwise import Add, Div, Exp, Log, Mul, Reciprocal, Sub
from isomorph.ir.ops.reduce import ReduceLogSumExp, ReduceMax, ReduceSum
from isomorph.ir.ops.shape import Flatten, Reshape, Transpose, Unsqueeze
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.passes.raising import Refuse, refuses, take_all
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of, operand
from isomorph.ir.passes.raising.scores import Readers
from isomorph.ir.shapes import elements

__all__ = ["raise_softmax"]

Found = tuple[Value, Op]
"""x, and the softmax of it that a value is."""


def raise_softmax(model: Model, refuse: Refuse = take_all) -> Model:
    """The model with Softmax and LogSoftmax where their formulas are spelled out."""
    if not any(isinstance(node.op, Softmax | Exp | ReduceLogSumExp) for node in model.graph.nodes):
        return model

    def raise_formula(b: Rewriter, node: Node) -> Sequence[Value] | None:
        rule = _FORMULAS.get(type(node.op))
        return _replaced(b, rule(node.output), refuse) if rule is not None and node.output.dtype.is_float else None

    model = prune(rewrite(model, "raise_softmax", raise_formula, regions=True))
    readers = Readers(model.graph)

    def drop_moves(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if isinstance(node.op, Transpose):
            return _replaced(b, _transposed(node, readers), refuse)
        return _replaced(b, _divided(node, readers), refuse) if isinstance(node.op, Reshape) else None

    return prune(rewrite(model, "raise_softmax", drop_moves))


def _replaced(b: Rewriter, found: Found | None, refuse: Refuse) -> Sequence[Value] | None:
    if found is None:
        return None
    y = b.emit(found[1], b.new(found[0]))
    return None if refuses(refuse, y) else (y,)


def _quotient(y: Value) -> Found | None:
    """e / sum(e), e = exp(x - max(x))."""
    pair = made_of(y, Div)
    grown, total = pair or (None, None)
    for one, other in both_ways(y, Mul):
        if (inverted := operand(other, Reciprocal)) is not None:
            grown, total = one, inverted
    axis = _axis_reduced(total, grown, ReduceSum)
    x = None if axis is None else _centered(operand(grown, Exp), axis)
    return (x, Softmax(axis)) if x is not None and axis is not None else None


def _difference(y: Value) -> Found | None:
    """x less the logarithm of the sum of its exponentials."""
    x, other = made_of(y, Sub) or (None, None)
    if x is None:
        return None
    axis = _axis_reduced(other, x, ReduceLogSumExp)
    if axis is not None:
        return x, LogSoftmax(axis)
    axis = _axis_reduced_log(other, x)
    source = None if axis is None else _centered(x, axis)
    if source is not None and axis is not None:
        return source, LogSoftmax(axis)
    for greatest, log in both_ways(other, Add):
        axis = _axis_reduced(greatest, x, ReduceMax)
        centered = operand(operand(_kept(operand(log, Log)), ReduceSum), Exp)
        if axis is not None and _axis_reduced_log(log, centered) == axis and _centered(centered, axis) is x:
            return x, LogSoftmax(axis)
    return None


def _axis_reduced_log(value: Value | None, x: Value | None) -> int | None:
    """The axis of a value that is log(sum(exp(x)))."""
    total = operand(value, Log)
    grown = operand(_kept(total), ReduceSum)
    return _axis_reduced(total, grown, ReduceSum) if x is not None and operand(grown, Exp) is x else None


def _centered(value: Value | None, axis: int) -> Value | None:
    """x of a value that is x - max(x) along an axis."""
    x, greatest = made_of(value, Sub) or (None, None)
    return x if x is not None and _axis_reduced(greatest, x, ReduceMax) == axis else None


def _axis_reduced(value: Value | None, x: Value | None, kind: type[Op]) -> int | None:
    """The axis of a value that is x reduced along it, the axis kept or given back."""
    inner = _kept(value)
    node = inner.producer if inner is not None else None
    if node is None or not isinstance(node.op, kind) or node.inputs[0] is not x or x is None or value is None:
        return None
    axes = node.op.attributes()["axes"]
    if len(axes) != 1:
        return None
    kept = tuple(1 if axis == axes[0] else dim for axis, dim in enumerate(x.shape))
    return int(axes[0]) if value.shape == kept else None


def _kept(value: Value | None) -> Value | None:
    """What was reduced, before the axis that was dropped is given back."""
    return operand(value, Unsqueeze, Reshape) or value


def _exponential(y: Value) -> Found | None:
    logarithms = operand(y, Exp)
    node = logarithms.producer if logarithms is not None else None
    if node is None or not isinstance(node.op, LogSoftmax) or node.inputs[0] is None:
        return None
    return node.inputs[0], Softmax(axis=node.op.axis)


_FORMULAS: Mapping[type[Op], Callable[[Value], Found | None]] = {
    Div: _quotient,
    Mul: _quotient,
    Sub: _difference,
    Exp: _exponential,
}


def _transposed(node: Node, readers: Readers) -> Found | None:
    """Softmax between a Transpose and the one that undoes it."""
    inner = readers.maker(node.inputs[0], Softmax)
    first = readers.maker(inner.inputs[0], Transpose) if inner is not None else None
    if inner is None or not isinstance(inner.op, Softmax) or first is None or first.inputs[0] is None:
        return None
    there, back = first.op.attributes()["perm"], node.op.attributes()["perm"]
    if any(there[axis] != place for place, axis in enumerate(back)):
        return None
    return first.inputs[0], replace(inner.op, axis=there[inner.op.axis])


def _divided(node: Node, readers: Readers) -> Found | None:
    """Softmax over the second of two axes into which all axes were joined."""
    inner = readers.maker(node.inputs[0], Softmax)
    first = readers.maker(inner.inputs[0], Reshape, Flatten) if inner is not None else None
    x = first.inputs[0] if first is not None else None
    if inner is None or not isinstance(inner.op, Softmax) or x is None or x.type != node.output.type:
        return None
    flat = inner.output
    if flat.rank != 2 or inner.op.axis % 2 != 1:
        return None
    for place in range(x.rank):
        wide = [axis for axis in range(place, x.rank) if x.shape[axis] != 1]
        if len(wide) == 1 and (elements(x.shape[:place]), x.shape[wide[0]]) == flat.shape:
            return x, replace(inner.op, axis=wide[0])
    return None
