"""Attention that a source spells out.

    s = q @ k^T, q or the product times or over a number
    s = s + mask, or Where(allowed, s, lowest)               lowest: a number that leaves nothing of a score
    softmax(s) @ v                                       ->  ScaledDotProductAttention(q, k, v, mask)

The same formula; rounding may differ in the last place. Where every key of a query is hidden by -inf, softmax gives NaN
and the op 0: a mask that could add -inf everywhere is left alone (`leaves_a_key`), unless the source says 0 as well,

    Where(max(s) == -inf, 0, softmax(s)) @ v

So is left alone what something else reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.activation import Softmax
from isomorph.ir.ops.attention import ScaledDotProductAttention, leaves_a_key
from isomorph.ir.ops.elementwise import Add, Div, Equal, Mul, Not, Where
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.reduce import ReduceMax
from isomorph.ir.ops.shape import Expand, Transpose
from isomorph.ir.passes.canonicalize import prune
from isomorph.ir.shapes import Shape

__all__ = ["raise_attention"]

_HIDES = -1e30
"""What such a number and a score add up to is that number, to the last place."""
_DTYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)
"""Element types for which runtimes have a kernel of attention."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A mask that chooses: scores where `condition` is `allowed`, `lowest` elsewhere."""

    condition: Value
    lowest: Value
    allowed: bool


_Mask = Value | _Choice


@dataclass(slots=True)
class _Scores:
    """Scores as they are spelled: scale * q @ keys under all `masks`, the first one first."""

    q: Value
    keys: Value
    scale: float = 1.0
    masks: list[_Mask] = field(default_factory=list)
    guarded: bool = False

    @property
    def shape(self) -> Shape:
        return (*self.q.shape[:3], self.keys.shape[3])


def raise_attention(model: Model) -> Model:
    """The model with ScaledDotProductAttention where its formula is spelled out for a batch of heads, (N, H, L, E)."""
    if not any(isinstance(node.op, Softmax) for node in model.graph.nodes):
        return model
    readers = _Readers(model.graph)

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        found = _matched(node, readers)
        if found is None:
            return None
        mask = _joined(b, found)
        if mask is not None and not found.guarded and not leaves_a_key(mask):
            return None
        values = node.inputs[1]
        assert values is not None
        keys = b.emit(Transpose((0, 1, 3, 2)), b.new(found.keys))
        return (b.emit(ScaledDotProductAttention(scale=found.scale), b.new(found.q), keys, b.new(values), mask),)

    return prune(rewrite(model, "raise_attention", change))


def _matched(node: Node, readers: _Readers) -> _Scores | None:
    """The scores of a node that is softmax(scores) @ values over a batch of heads."""
    if not isinstance(node.op, MatMul) or node.output.rank != 4 or node.output.dtype not in _DTYPES:
        return None
    weights, values = node.inputs
    found = _weighed(weights, readers)
    if found is None or values is None or not 0 < found.scale < np.inf:
        return None
    batch, dtype = node.output.shape[:2], node.output.dtype
    operands = (found.q, found.keys, values)
    same = all(value.rank == 4 and value.shape[:2] == batch and value.dtype is dtype for value in operands)
    return found if same and found.keys.shape[3] == values.shape[2] else None


def _weighed(weights: Value | None, readers: _Readers) -> _Scores | None:
    """The scores that a softmax over the keys, guarded or not, makes weights of."""
    node = readers.maker(weights, Softmax, Where)
    guard: Node | None = None
    if node is not None and isinstance(node.op, Where):
        guard, node = node, readers.maker(node.inputs[2], Softmax)
    if node is None or node.op.attributes()["axis"] % node.output.rank != node.output.rank - 1:
        return None
    (scores,) = node.inputs
    if scores is None or (guard is not None and not _guards(guard, scores)):
        return None
    found = _spelled(scores, readers, times=1 if guard is None else 2)
    if found is not None:
        found.guarded = guard is not None
    return found


def _guards(node: Node, scores: Value) -> bool:
    """Whether a node is Where(max(scores) == -inf, 0, …) over the keys."""
    condition, nothing = node.inputs[:2]
    equal = condition.producer if condition is not None else None
    if equal is None or not isinstance(equal.op, Equal) or _number(nothing) != 0:
        return False
    for top, lowest in (equal.inputs, equal.inputs[::-1]):
        maker = top.producer if top is not None else None
        if maker is None or not isinstance(maker.op, ReduceMax) or maker.inputs[0] is not scores:
            continue
        if maker.op.axes == (scores.rank - 1,) and maker.op.keepdims and _number(lowest) == -np.inf:
            return True
    return False


def _hides_all(mask: _Mask) -> bool:
    return isinstance(mask, _Choice) and _number(mask.lowest) == -np.inf


def _spelled(scores: Value, readers: _Readers, *, times: int = 1) -> _Scores | None:
    """Scores read backwards: masks first, then the scale, then the product."""
    node = scores.producer
    if node is None or readers.times(scores) != times:
        return None
    if isinstance(node.op, MatMul):
        q, keys = node.inputs
        return None if q is None or keys is None else _unscaled(_Scores(q, keys), readers)
    if isinstance(node.op, Mul | Div):
        return _scaled(node, readers)
    for inner, mask in _masked(node):
        found = _spelled(inner, readers) if inner.shape == scores.shape else None
        if found is not None:
            found.masks.append(mask)
            return found
    return None


def _unscaled(found: _Scores, readers: _Readers) -> _Scores:
    """The same scores with a number that multiplies the queries in the scale."""
    node = readers.maker(found.q, Mul, Div)
    for inner, constant in () if node is None else _factors(node):
        factor = _number(constant)
        if factor is not None and 0 < abs(factor) < np.inf and inner is not None and inner.type == found.q.type:
            assert node is not None
            found.q = inner
            found.scale *= factor if isinstance(node.op, Mul) else 1 / factor
            break
    return found


def _scaled(node: Node, readers: _Readers) -> _Scores | None:
    """Scores times or over a number. What is masked before it is scaled is masked otherwise."""
    for inner, constant in _factors(node):
        factor = _number(constant)
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


def _masked(node: Node) -> list[tuple[Value, _Mask]]:
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
        (inner, _Choice(condition, lowest, allowed))
        for inner, lowest, allowed in readings
        if (number := _number(lowest)) is not None and number <= _HIDES
    ]


def _joined(b: Rewriter, found: _Scores) -> Value | None:
    """All masks as one (…, L, S): a truth value where one mask chooses between scores and -inf, else what is added."""
    masks = found.masks
    if len(masks) == 1 and isinstance(masks[0], _Choice) and _hides_all(masks[0]):
        condition = b.new(masks[0].condition)
        return _spread(b, condition if masks[0].allowed else b.emit(Not(), condition), found.shape)
    total: Value | None = None
    for mask in masks:
        if isinstance(mask, Value) and _number(mask) == 0:
            continue
        added = b.new(mask) if isinstance(mask, Value) else _chosen(b, mask)
        total = added if total is None else b.emit(Add(), total, added)
    return None if total is None else _spread(b, total, found.shape)


def _chosen(b: Rewriter, mask: _Choice) -> Value:
    hidden = b.new(mask.lowest)
    nothing = b.constant(np.zeros((), hidden.dtype.numpy), "zero")
    return b.emit(Where(), b.new(mask.condition), *((nothing, hidden) if mask.allowed else (hidden, nothing)))


def _spread(b: Rewriter, mask: Value, scores: Shape) -> Value:
    """The mask with its last axes as the scores have them."""
    if mask.rank >= 2 and mask.shape[-2:] == scores[-2:]:
        return mask
    return b.emit(Expand((*mask.shape[:-2], *scores[-2:])), mask)


class _Readers:
    """How often the values of a graph are read."""

    def __init__(self, graph: Graph) -> None:
        self._users = graph.users()
        self._shown = set(graph.outputs.values())

    def times(self, value: Value) -> int:
        """How often; 0 for an output of the model, which everybody sees."""
        return 0 if value in self._shown else len(self._users.get(value, ()))

    def maker(self, value: Value | None, *kinds: type[Op]) -> Node | None:
        """The node of one of these kinds that makes the value, if one node alone reads it."""
        node = value.producer if value is not None and self.times(value) == 1 else None
        return node if node is not None and isinstance(node.op, kinds) else None


def _number(value: Value | None) -> float | None:
    """The value of a constant of one element."""
    if value is None or value.parameter is None or value.parameter.role != "constant" or value.type.size != 1:
        return None
    return float(value.parameter.data.numpy().reshape(()))
