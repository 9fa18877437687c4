"""Scores of attention as sources spell them, read backwards from what is made of them.

    softmax(s), Where(max(s) == -inf, 0, softmax(s)) or Where(IsNaN(softmax(s)), 0, softmax(s))
    s = s + mask, or Where(allowed, s, lowest)
    s = s as (N, H, L, S), of (N * H, L, S)
    s = q @ k^T, q, k^T or the product times or over a number

Each step back must be the only reader of what it reads: what something else needs stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isomorph.ir.graph import Graph, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Softmax
from isomorph.ir.ops.elementwise import Add, Div, Equal, IsNaN, Mul, Where
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.reduce import ReduceMax
from isomorph.ir.ops.shape import Reshape
from isomorph.ir.shapes import Shape
from isomorph.records import record

__all__ = ["Choice", "Mask", "Readers", "Scores", "constant_number", "read_weights"]

_HIDES = -1e30
"""What such a number and a score add up to is that number, to the last place."""


@record
class Choice:
    """A mask that chooses: scores where `condition` is `allowed`, `lowest` elsewhere."""

    condition: Value
    lowest: Value
    allowed: bool


Mask = Value | Choice


@dataclass(slots=True)
class Scores:
    """Scores as they are spelled: scale * q @ keys under all `masks`, the first one first."""

    q: Value
    keys: Value
    scale: float = 1.0
    masks: list[Mask] = field(default_factory=list)
    guarded: bool = False
    shape: Shape = ()


def read_weights(weights: Value | None, readers: Readers) -> Scores | None:
    """The scores that a softmax over the keys, guarded or not, makes weights of."""
    node = readers.maker(weights, Softmax, Where)
    guard: Node | None = None
    if node is not None and isinstance(node.op, Where):
        guard, node = node, _guarded(node, readers)
    if (
        node is None
        or not isinstance(node.op, Softmax)
        or node.op.attributes()["axis"] % node.output.rank != node.output.rank - 1
    ):
        return None
    (scores,) = node.inputs
    if scores is None:
        return None
    tops = 0 if guard is None else _is_top_guard(guard, scores)
    found = _spelled(scores, readers, times=1 + tops)
    if found is not None:
        found.guarded, found.shape = guard is not None, scores.shape
    return found


def _guarded(node: Node, readers: Readers) -> Node | None:
    """The softmax of a node Where(…, 0, softmax) whose condition says where all keys are hidden.

    A softmax is NaN there and nowhere else: its scores are ordinary numbers, and -inf.
    """
    condition, nothing, weights = node.inputs
    maker = condition.producer if condition is not None else None
    if maker is None or weights is None or weights.producer is None or constant_number(nothing) != 0:
        return None
    inner = weights.producer
    if isinstance(maker.op, IsNaN):
        return inner if maker.inputs[0] is weights and readers.times(weights) == 2 else None
    return inner if inner.inputs and _is_top_guard(node, inner.inputs[0]) and readers.times(weights) == 1 else None


def _is_top_guard(node: Node, scores: Value | None) -> bool:
    """Whether a node is Where(max(scores) == -inf, …) over the keys."""
    equal = node.inputs[0].producer if node.inputs[0] is not None else None
    if equal is None or not isinstance(equal.op, Equal) or scores is None:
        return False
    for top, lowest in (equal.inputs, equal.inputs[::-1]):
        maker = top.producer if top is not None else None
        if maker is None or not isinstance(maker.op, ReduceMax) or maker.inputs[0] is not scores:
            continue
        if maker.op.axes == (scores.rank - 1,) and maker.op.keepdims and constant_number(lowest) == -np.inf:
            return True
    return False


def _spelled(scores: Value, readers: Readers, *, times: int = 1) -> Scores | None:
    """Scores read backwards: masks first, then the scale, then the product."""
    node = scores.producer
    if node is None or readers.times(scores) != times:
        return None
    if isinstance(node.op, MatMul):
        q, keys = node.inputs
        return None if q is None or keys is None else _unscaled(Scores(q, keys), readers)
    if isinstance(node.op, Mul | Div):
        return _scaled(node, readers)
    if isinstance(node.op, Reshape):
        return _divided(node, readers)
    for inner, mask in _masked(node):
        found = _spelled(inner, readers) if inner.shape == scores.shape else None
        if found is not None:
            found.masks.append(mask)
            return found
    return None


def _divided(node: Node, readers: Readers) -> Scores | None:
    """Scores (N, H, L, S) made of such as are (N * H, L, S)."""
    (inner,) = node.inputs
    assert inner is not None
    if inner.rank != 3 or node.output.rank != 4 or inner.shape[1:] != node.output.shape[2:]:
        return None
    found = _spelled(inner, readers)
    chooses = found is not None and any(isinstance(mask, Choice) for mask in found.masks)
    return None if chooses else found


def _unscaled(found: Scores, readers: Readers) -> Scores:
    """The same scores with the numbers that multiply queries and keys in the scale."""
    found.q, of_queries = _without_factor(found.q, readers)
    found.keys, of_keys = _without_factor(found.keys, readers)
    found.scale *= of_queries * of_keys
    return found


def _without_factor(value: Value, readers: Readers) -> tuple[Value, float]:
    """(x, c) of a value that is c * x or x / (1 / c), else the value and 1."""
    node = readers.maker(value, Mul, Div)
    for inner, constant in () if node is None else _factors(node):
        factor = constant_number(constant)
        if factor is not None and 0 < abs(factor) < np.inf and inner is not None and inner.type == value.type:
            assert node is not None
            return inner, factor if isinstance(node.op, Mul) else 1 / factor
    return value, 1.0


def _scaled(node: Node, readers: Readers) -> Scores | None:
    """Scores times or over a number. What is masked before it is scaled is masked otherwise."""
    for inner, constant in _factors(node):
        factor = constant_number(constant)
        if factor is None or factor == 0 or inner is None or inner.shape != node.output.shape:
            continue
        found = _spelled(inner, readers)
        if found is not None:
            found.scale *= factor if isinstance(node.op, Mul) else 1 / factor
            return None if found.masks else found
    return None


def _factors(node: Node) -> list[tuple[Value | None, Value | None]]:
    """[(operand, other)]: both ways for a product, one for a quotient."""
    x, y = node.inputs
    return [(x, y), (y, x)] if isinstance(node.op, Mul) else [(x, y)]


def _masked(node: Node) -> list[tuple[Value, Mask]]:
    """[(scores, mask)] for each way to read a node as scores under a mask."""
    if isinstance(node.op, Add):
        x, y = node.inputs
        return [] if x is None or y is None else [(x, y), (y, x)]
    if not isinstance(node.op, Where):
        return []
    condition, kept, other = node.inputs
    assert condition is not None and kept is not None and other is not None
    readings = ((kept, other, True), (other, kept, False))
    return [
        (inner, Choice(condition, lowest, allowed))
        for inner, lowest, allowed in readings
        if (number := constant_number(lowest)) is not None and number <= _HIDES
    ]


class Readers:
    """How often the values of a graph are read."""

    def __init__(self, graph: Graph) -> None:
        self._users = graph.users()
        self._shown = set(graph.outputs.values())

    def times(self, value: Value) -> int:
        """How often; 0 for an output of the model, which everybody sees."""
        return 0 if value in self._shown else len(self._users.get(value, ()))

    def is_shown(self, value: Value) -> bool:
        """Whether a value is an output of the model."""
        return value in self._shown

    def of(self, value: Value) -> Sequence[Node]:
        """The nodes that read a value; none of an output of the model."""
        return () if value in self._shown else self._users.get(value, ())

    def maker(self, value: Value | None, *kinds: type[Op]) -> Node | None:
        """The node of one of these kinds that makes the value, if one node alone reads it."""
        node = value.producer if value is not None and self.times(value) == 1 else None
        return node if node is not None and isinstance(node.op, kinds) else None


def constant_number(value: Value | None) -> float | None:
    """The value of a constant of one element."""
    if value is None or value.parameter is None or value.parameter.role != "constant" or value.type.size != 1:
        return None
    return float(value.parameter.data.numpy().reshape(()))
