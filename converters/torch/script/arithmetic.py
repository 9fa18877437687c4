"""Arithmetic, comparison and logic of TorchScript's numbers: known ones as C++ computes them, sizes as expressions.

An operation on floats or bools that depend on sizes or data becomes a node of the program (session.number).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import Number, Value
from isomorph.errors import MalformedError
from isomorph.ir import Dim, DimRange, Sym
from isomorph.ir.shapes import dim_max, dim_min

__all__ = ["OPERATIONS", "compute", "is_number", "kind_of"]

_Bounds = tuple[float, float]


def is_number(value: Value) -> bool:
    return isinstance(value, bool | int | float | complex | Sym | Number)


def kind_of(value: Value) -> type:
    """bool, int, float or complex."""
    if isinstance(value, Sym):
        return int
    return value.kind if isinstance(value, Number) else type(value)


def compute(session: Session, name: str, operands: list[Value]) -> Value:
    """The result of the operation `name` of numbers. Raises MalformedError for what C++ would refuse."""
    known, symbolic, graph, kind = OPERATIONS[name]
    if not any(isinstance(operand, Sym | Number) for operand in operands):
        try:
            return _checked(known(*operands))
        except (ArithmeticError, ValueError, TypeError) as error:
            because = f"{type(error).__name__}: {error}"
            raise MalformedError(f"`{name}` of {operands} cannot be computed", because=because) from None
    if symbolic is not None and all(kind_of(operand) is int for operand in operands):
        result = symbolic(session, *operands)
        if result is not None:
            return result
    if name == "pow":
        operands = [session.convert(operand, float) for operand in operands]
    bits = name in _BITWISE and any(kind_of(operand) is not bool for operand in operands)
    if graph is None or bits:
        raise MalformedError(f"`{name}` of {operands[0]} is not followed", because="it is not known when converting")
    result_kind = kind or max((kind_of(operand) for operand in operands), key=[bool, int, float, complex].index)
    return session.number(graph, operands, result_kind)


def _checked(value: Any) -> Any:
    """TorchScript's ints have 64 bits."""
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise OverflowError("the result exceeds 64 bits")
    return value


def _dims(function: Callable[..., Dim]) -> Callable[..., Dim]:
    return lambda session, *operands: function(*operands)


def _divided(function: Callable[[Dim, Dim], Dim]) -> Callable[..., Dim]:
    def divide(session: Session, left: Dim, right: Dim) -> Dim:
        if right == 0:
            raise MalformedError("a size is divided by zero")
        return function(left, right)

    return divide


def _compared(holds: Callable[[float, float], bool | None]) -> Callable[..., bool | None]:
    """A comparison of sizes by the bounds of their difference; None if they do not decide it."""

    def compare(session: Session, left: Dim, right: Dim) -> bool | None:
        return holds(*bounds(left - right, session.dims))

    return compare


def bounds(dim: Dim, ranges: Mapping[str, DimRange]) -> _Bounds:
    """An interval that holds the dimension for all sizes within the ranges."""
    if isinstance(dim, int):
        return dim, dim
    low: float = 0
    high: float = 0
    for monomial, factor in dim.terms:
        product: _Bounds = (factor, factor)
        for atom in monomial:
            product = _product(product, _atom_bounds(atom, ranges))
        low, high = low + product[0], high + product[1]
    return low, high


def _atom_bounds(atom: Any, ranges: Mapping[str, DimRange]) -> _Bounds:
    if atom.op == "dim":
        span = ranges.get(atom.name, DimRange())
        return span.min, math.inf if span.max is None else span.max
    (low, high), (floor, ceiling) = (bounds(arg, ranges) for arg in atom.args)
    if atom.op == "min":
        return min(low, floor), min(high, ceiling)
    if atom.op == "max":
        return max(low, floor), max(high, ceiling)
    if floor != ceiling or floor <= 0:
        return -math.inf, math.inf
    if atom.op == "%":
        return 0, floor - 1
    return (low // floor if math.isfinite(low) else low), (high // floor if math.isfinite(high) else high)


def _product(left: _Bounds, right: _Bounds) -> _Bounds:
    corners = [0 if 0 in (x, y) else x * y for x in left for y in right]
    return min(corners), max(corners)


def _equal(low: float, high: float) -> bool | None:
    return True if low == high == 0 else False if low > 0 or high < 0 else None


def _negated(holds: Callable[[float, float], bool | None]) -> Callable[[float, float], bool | None]:
    def negation(low: float, high: float) -> bool | None:
        result = holds(low, high)
        return None if result is None else not result

    return negation


def _less(low: float, high: float) -> bool | None:
    return True if high < 0 else False if low >= 0 else None


def _less_equal(low: float, high: float) -> bool | None:
    return True if high <= 0 else False if low > 0 else None


def _fmod(left: Any, right: Any) -> float:
    return math.fmod(left, right)


def _round_half_even(value: Any) -> float:
    return float(round(value)) if math.isfinite(value) else value


def _integral(function: Callable[[float], int]) -> Callable[[Any], int]:
    return lambda value: int(function(value))


def _magnitude(session: Session, value: Dim) -> Dim:
    return value if bounds(value, session.dims)[0] >= 0 else dim_max(value, -value)


_BITWISE = ("__and__", "__or__", "__xor__")
Row = tuple[Callable[..., Any], "Callable[..., Any] | None", "str | None", "type | None"]

OPERATIONS: dict[str, Row] = {
    "add": (operator.add, _dims(operator.add), "_operator.add", None),
    "sub": (operator.sub, _dims(operator.sub), "_operator.sub", None),
    "mul": (operator.mul, _dims(operator.mul), "_operator.mul", None),
    "div": (operator.truediv, None, "_operator.truediv", float),
    "floordiv": (operator.floordiv, _divided(operator.floordiv), "_operator.floordiv", None),
    "floor_divide": (operator.floordiv, _divided(operator.floordiv), "_operator.floordiv", None),
    "remainder": (operator.mod, _divided(operator.mod), "_operator.mod", None),
    "fmod": (_fmod, None, None, float),
    "pow": (lambda base, exponent: float(base) ** exponent, None, "_operator.pow", float),
    "neg": (operator.neg, _dims(operator.neg), "_operator.neg", None),
    "abs": (abs, _magnitude, None, None),
    "max": (max, _dims(dim_max), "torch.sym_max", None),
    "min": (min, _dims(dim_min), "torch.sym_min", None),
    "eq": (operator.eq, _compared(_equal), "_operator.eq", bool),
    "ne": (operator.ne, _compared(_negated(_equal)), "_operator.ne", bool),
    "lt": (operator.lt, _compared(_less), "_operator.lt", bool),
    "le": (operator.le, _compared(_less_equal), "_operator.le", bool),
    "gt": (operator.gt, _compared(_negated(_less_equal)), "_operator.gt", bool),
    "ge": (operator.ge, _compared(_negated(_less)), "_operator.ge", bool),
    "__and__": (operator.and_, None, "_operator.and_", bool),
    "__or__": (operator.or_, None, "_operator.or_", bool),
    "__xor__": (operator.xor, None, "_operator.ne", bool),
    "__not__": (operator.not_, None, "_operator.not_", bool),
    "__lshift__": (lambda value, count: value << count if 0 <= count < 64 else 1 << 64, None, None, int),
    "__rshift__": (operator.rshift, None, None, int),
    "floor": (_integral(math.floor), _dims(operator.pos), "math.floor", int),
    "ceil": (_integral(math.ceil), _dims(operator.pos), "math.ceil", int),
    "trunc": (_integral(math.trunc), _dims(operator.pos), "math.trunc", int),
    "round": (_round_half_even, None, None, float),
    "sqrt": (math.sqrt, None, "torch._sym_sqrt", float),
    "exp": (math.exp, None, None, float),
    "expm1": (math.expm1, None, None, float),
    "log": (math.log, None, None, float),
    "log2": (math.log2, None, None, float),
    "log10": (math.log10, None, None, float),
    "log1p": (math.log1p, None, None, float),
    "sin": (math.sin, None, None, float),
    "cos": (math.cos, None, None, float),
    "tan": (math.tan, None, None, float),
    "asin": (math.asin, None, None, float),
    "acos": (math.acos, None, None, float),
    "atan": (math.atan, None, None, float),
    "atan2": (math.atan2, None, None, float),
    "sinh": (math.sinh, None, None, float),
    "cosh": (math.cosh, None, None, float),
    "tanh": (math.tanh, None, None, float),
    "fabs": (math.fabs, None, None, float),
    "copysign": (math.copysign, None, None, float),
    "hypot": (math.hypot, None, None, float),
    "degrees": (math.degrees, None, None, float),
    "radians": (math.radians, None, None, float),
    "erf": (math.erf, None, None, float),
    "gcd": (math.gcd, None, None, int),
    "isnan": (math.isnan, None, None, bool),
    "isinf": (math.isinf, None, None, bool),
    "isfinite": (math.isfinite, None, None, bool),
}
"""By name: on known numbers; on sizes (None where they do not decide it); as a program node; the kind of its result."""
