"""Conditions on named sizes that a model was made under: `trunc((128 / min(H, W)) * H) == 128`.

A condition is text: integers and names, `+ - * / // % **`, comparisons, `and or not`, and the functions below. Division
by `/` and the functions `float`, `sqrt` give real numbers, all else integers, as in Python. It is read as syntax, of
which the few kinds below are computed; it is never executed.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isomorph.errors import MalformedError
from isomorph.ir.shapes import DimRange
from isomorph.records import record

__all__ = ["CONDITIONS", "Condition", "conditions_of"]

CONDITIONS = "isomorph.assumes"
"""Where the conditions of a model are, a JSON list, in its metadata."""
LONGEST = 4096
_DEEPEST = 40
_LARGEST_POWER = 64
_UNBOUNDED = 4096
"""What stands for "no upper bound" where sizes are tried."""
_TRIALS = 500

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": min,
    "max": max,
    "trunc": math.trunc,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "float": float,
    "int": int,
    "abs": abs,
    "sqrt": math.sqrt,
}


@record
class Condition:
    """A condition and the names of the sizes it is about."""

    text: str
    names: tuple[str, ...]
    _tree: ast.expr

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition. Raises MalformedError for anything else."""
        if len(text) > LONGEST:
            raise MalformedError(f"a condition on sizes is longer than {LONGEST} characters")
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise MalformedError(f"not a condition on sizes: {text[:80]!r}") from error
        names: dict[str, None] = {}
        _check(tree, names, 0, text)
        return cls(text, tuple(names), tree)

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether it holds for these sizes; where it cannot be computed (a division by zero) it does not."""
        try:
            return bool(_value(self._tree, sizes))
        except (ArithmeticError, ValueError):
            return False

    def counterexample(self, ranges: Mapping[str, DimRange]) -> dict[str, int] | None:
        """Sizes within their ranges for which it does not hold; None if there are none among at most 500 tried: the
        ends of the ranges, what is next to them, and seeded draws between."""
        from random import Random

        spans = [_tried(ranges.get(name, DimRange())) for name in self.names]
        draw = Random(0)
        combinations = itertools.product(*spans)
        if math.prod(map(len, spans)) > _TRIALS:
            combinations = (tuple(draw.choice(span) for span in spans) for _ in range(_TRIALS))  # type: ignore[assignment]
        for values in combinations:
            sizes = dict(zip(self.names, values, strict=True))
            if not self.holds(sizes):
                return sizes
        return None


def conditions_of(metadata: Mapping[str, str]) -> list[str]:
    """The conditions that a model's metadata states; whatever is no list of texts states none."""
    try:
        found = json.loads(metadata.get(CONDITIONS, "[]"))
    except ValueError:
        return []
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _tried(span: DimRange) -> list[int]:
    from random import Random

    low, high = span.min, _UNBOUNDED if span.max is None else span.max
    near = {low + step for step in range(6)} | {high - step for step in range(4)}
    draw = Random(low)
    near |= {draw.randint(low, max(low, high)) for _ in range(8)}
    return sorted(value for value in near if low <= value <= high) or [low]


def _check(node: ast.expr, names: dict[str, None], depth: int, text: str, degree: int = 1) -> None:
    """Raise unless the tree is made of what a condition may have; collect the names. `degree` is the product of the
    powers that the node stands under."""
    parts: Sequence[ast.expr] = ()
    known = depth <= _DEEPEST
    if isinstance(node, ast.Constant):
        known &= type(node.value) in (int, float, bool)
    elif isinstance(node, ast.Name):
        names[node.id] = None
    elif isinstance(node, ast.BinOp):
        power = _power(node)
        degree *= power
        known &= degree <= _LARGEST_POWER and (type(node.op) in _BINARY or power > 0)
        parts = (node.left, node.right)
    elif isinstance(node, ast.UnaryOp):
        known &= isinstance(node.op, (ast.USub, ast.Not))
        parts = (node.operand,)
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.Compare):
        known &= all(type(each) in _COMPARE for each in node.ops)
        parts = (node.left, *node.comparators)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords and node.args:
        known &= node.func.id in _FUNCTIONS
        parts = node.args
    else:
        known = False
    if not known:
        raise MalformedError(f"not a condition on sizes: {text[:200]!r}", because=f"{type(node).__name__} in it")
    for part in parts:
        _check(part, names, depth + 1, text, degree)


def _power(node: ast.BinOp) -> int:
    """The exponent of a power by a literal, 1 for another operation, 0 for a power by anything else."""
    if not isinstance(node.op, ast.Pow):
        return 1
    exponent = node.right
    literal = isinstance(exponent, ast.Constant) and type(exponent.value) is int and exponent.value >= 1
    return exponent.value if literal else 0  # type: ignore[attr-defined]


def _value(node: ast.expr, sizes: Mapping[str, int]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, sizes), _value(node.right, sizes)
        return left**right if isinstance(node.op, ast.Pow) else _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, sizes)
        return not inner if isinstance(node.op, ast.Not) else -inner
    if isinstance(node, ast.BoolOp):
        wanted = all if isinstance(node.op, ast.And) else any
        return wanted(_value(each, sizes) for each in node.values)
    if isinstance(node, ast.Compare):
        values = [_value(each, sizes) for each in (node.left, *node.comparators)]
        return all(_COMPARE[type(op)](*pair) for op, pair in zip(node.ops, itertools.pairwise(values), strict=True))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _FUNCTIONS[node.func.id](*(_value(each, sizes) for each in node.args))
    raise MalformedError("not a condition on sizes")
