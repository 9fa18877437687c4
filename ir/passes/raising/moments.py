"""Normalization by mean and variance as sources spell it, read backwards from its result.

s = c * c, or c ^ 2
r = 1 / sqrt(mean(s, axes) + epsilon), or (…) ^ -0.5
y = c * r, or c / sqrt(…)                            root mean square of c
c = x - mean(x, axes)                                mean and variance of x
y = x * m + (b - mean(x, axes) * m), m = r * w       the same with scale and bias, as tf.nn.batch_normalization has it
"""

from __future__ import annotations

from dataclasses import dataclass

from isomorph.ir.graph import Node, Value
from isomorph.ir.op import Op
from isomorph.ir.ops.elementwise import Add, Div, Mul, Pow, Reciprocal, Sqrt, Sub
from isomorph.ir.ops.reduce import ReduceMean
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of, operand
from isomorph.ir.passes.raising.scores import constant_number

__all__ = ["Normalized", "read_affine", "read_normalized"]


@dataclass(frozen=True, slots=True)
class Normalized:
    """scale * (x - mean) / sqrt(variance + epsilon) + bias over `axes`, the mean only where x was `centered`."""

    x: Value
    axes: tuple[int, ...]
    epsilon: float
    centered: bool
    scale: Value | None = None
    bias: Value | None = None


def read_normalized(node: Node) -> Normalized | None:
    """What a node that is c over its root mean square normalizes."""
    found = _over_root(node)
    if found is None:
        return None
    c, axes, epsilon = found
    x = _source(c, axes)
    return Normalized(c if x is None else x, axes, epsilon, x is not None)


def read_affine(node: Node) -> Normalized | None:
    """What a node that is x * m + (bias - mean(x) * m) normalizes, m being scale / sqrt(variance + epsilon)."""
    for product, rest in both_ways(node.output, Add):
        bias, shift = made_of(rest, Sub) or (None, None)
        for x, factor in both_ways(product, Mul):
            mean = next((one for one, other in both_ways(shift, Mul) if other is factor), None)
            if bias is None or mean is None or operand(mean, ReduceMean) is not x:
                continue
            for root, scale in (*both_ways(factor, Mul), (factor, None)):
                found = _of_moments(x, mean, root)
                if found is not None:
                    return Normalized(x, *found, True, scale, bias)
    return None


def _of_moments(x: Value, mean: Value, root: Value) -> tuple[tuple[int, ...], float] | None:
    """(axes, epsilon) of a value that is 1 / sqrt(variance of x + epsilon)."""
    inverse = operand(operand(root, Reciprocal), Sqrt) or _powered(root, -0.5)
    for variance, constant in both_ways(inverse, Add):
        squares = operand(variance, ReduceMean)
        c = None if squares is None else _squared(squares)
        axes = _reduced(variance)
        epsilon = constant_number(constant)
        if (
            c is None
            or axes is None
            or epsilon is None
            or epsilon <= 0
            or made_of(c, Sub) not in ((x, mean), (mean, x))
        ):
            continue
        return (axes, epsilon) if _reduced(mean) == axes else None
    return None


def _over_root(node: Node) -> tuple[Value, tuple[int, ...], float] | None:
    """(c, axes, epsilon) of a node that is c over its root mean square."""
    if isinstance(node.op, Div):
        c, root = node.inputs
        return None if c is None else _matched(c, operand(root, Sqrt))
    if not isinstance(node.op, Mul):
        return None
    for c, factor in (node.inputs, node.inputs[::-1]):
        inverse = operand(operand(factor, Reciprocal), Sqrt) or _powered(factor, -0.5)
        found = None if c is None else _matched(c, inverse)
        if found is not None:
            return found
    return None


def _matched(c: Value, shifted: Value | None) -> tuple[Value, tuple[int, ...], float] | None:
    """(c, axes, epsilon) if the value is the mean of the squares of c, plus epsilon."""
    for mean, constant in both_ways(shifted, Add):
        epsilon = constant_number(constant) if constant.rank == 0 else None
        squares = operand(mean, ReduceMean)
        axes = _reduced(mean)
        if epsilon is None or epsilon <= 0 or squares is None or not axes:
            continue
        if _squared(squares) is c and squares.type == c.type:
            return c, axes, epsilon
    return None


def _source(c: Value, axes: tuple[int, ...]) -> Value | None:
    """x of a value that is x less its mean over these axes."""
    x, mean = made_of(c, Sub) or (None, None)
    if x is None or operand(mean, ReduceMean) is not x or _reduced(mean) != axes:
        return None
    return x if x.type == c.type else None


def _reduced(value: Value | None) -> tuple[int, ...] | None:
    """The axes, sorted, of a mean that keeps them."""
    op: Op | None = value.producer.op if value is not None and value.producer is not None else None
    return tuple(sorted(op.axes)) if isinstance(op, ReduceMean) and op.keepdims else None


def _squared(value: Value) -> Value | None:
    """x of x * x or x ^ 2."""
    one, other = made_of(value, Mul) or (None, value)
    return one if one is other else _powered(value, 2.0)


def _powered(value: Value | None, exponent: float) -> Value | None:
    """The base of a power with this exponent."""
    base, power = made_of(value, Pow) or (None, None)
    return base if power is not None and power.rank == 0 and constant_number(power) == exponent else None
