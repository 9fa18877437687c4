"""Normalization by mean and variance as sources spell it, read backwards from its result.

s = c * c, or c ^ 2
r = 1 / sqrt(mean(s, axes) + epsilon), or (…) ^ -0.5
y = c * r, or c / sqrt(…)                            root mean square of c
c = x - mean(x, axes)                                mean and variance of x
y = x * (r * w)                                      root mean square of x with a scale, as Keras has it
y = x * m + (b - mean(x, axes) * m), m = r * w       the same with scale and bias, as tf.nn.batch_normalization has it
y = x * m + (-mean(x, axes) * m + b)                 likewise, also without b

A mean over the last axes may be a GlobalAveragePool.
"""

from __future__ import annotations

from collections.abc import Iterator

from isomorph.ir.graph import Node, Value
from isomorph.ir.ops.elementwise import Add, Div, Mul, Neg, Pow, Reciprocal, Sqrt, Sub
from isomorph.ir.ops.pool import GlobalAveragePool
from isomorph.ir.ops.reduce import ReduceMean
from isomorph.ir.passes.raising.arithmetic import both_ways, made_of, operand
from isomorph.ir.passes.raising.scores import constant_number
from isomorph.records import record

__all__ = ["Normalized", "read_affine", "read_normalized", "read_scaled"]


@record
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


def read_scaled(node: Node) -> Normalized | None:
    """What a node that is c * (r * scale), r = 1 / root mean square of c, normalizes."""
    for c, factor in both_ways(node.output, Mul):
        for root, scale in both_ways(factor, Mul):
            inverse = operand(operand(root, Reciprocal), Sqrt) or _powered(root, -0.5)
            found = _matched(c, inverse)
            if found is not None:
                x = _source(c, found[1])
                return Normalized(c if x is None else x, *found[1:], x is not None, scale)
    return None


def read_affine(node: Node) -> Normalized | None:
    """What a node that is x * m + (bias - mean(x) * m) normalizes, m being scale / sqrt(variance + epsilon)."""
    for product, rest in both_ways(node.output, Add):
        for x, factor in both_ways(product, Mul):
            for mean, bias in _shifts(rest, factor):
                if (_mean(mean) or (None,))[0] is not x:
                    continue
                for root, scale in (*both_ways(factor, Mul), (factor, None)):
                    found = _of_moments(x, mean, root)
                    if found is not None:
                        return Normalized(x, *found, True, scale, bias)
    return None


def _shifts(rest: Value, factor: Value) -> Iterator[tuple[Value, Value | None]]:
    """(mean, bias) for each way to read a value as bias - mean * factor."""
    bias, shift = made_of(rest, Sub) or (None, None)
    yield from ((one, bias) for one, other in both_ways(shift, Mul) if other is factor)
    for shift, bias in (*both_ways(rest, Add), (rest, None)):
        for one, other in both_ways(shift, Mul):
            mean = operand(one, Neg)
            if other is factor and mean is not None:
                yield mean, bias


def _of_moments(x: Value, mean: Value, root: Value) -> tuple[tuple[int, ...], float] | None:
    """(axes, epsilon) of a value that is 1 / sqrt(variance of x + epsilon)."""
    inverse = operand(operand(root, Reciprocal), Sqrt) or _powered(root, -0.5)
    for variance, constant in both_ways(inverse, Add):
        squares, axes = _mean(variance) or (None, None)
        c = None if squares is None else _squared(squares)
        epsilon = constant_number(constant)
        if (
            c is None
            or axes is None
            or epsilon is None
            or epsilon <= 0
            or made_of(c, Sub) not in ((x, mean), (mean, x))
        ):
            continue
        return (axes, epsilon) if _mean(mean) == (x, axes) else None
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
        squares, axes = _mean(mean) or (None, None)
        if epsilon is None or epsilon <= 0 or squares is None or not axes:
            continue
        if _squared(squares) is c and squares.type == c.type:
            return c, axes, epsilon
    return None


def _source(c: Value, axes: tuple[int, ...]) -> Value | None:
    """x of a value that is x less its mean over these axes."""
    x, mean = made_of(c, Sub) or (None, None)
    if x is None or _mean(mean) != (x, axes):
        return None
    return x if x.type == c.type else None


def _mean(value: Value | None) -> tuple[Value, tuple[int, ...]] | None:
    """(x, axes, sorted) of a mean that keeps them."""
    node = value.producer if value is not None else None
    x = node.inputs[0] if node is not None and isinstance(node.op, ReduceMean | GlobalAveragePool) else None
    if node is None or x is None or not isinstance(node.op, ReduceMean | GlobalAveragePool) or not node.op.keepdims:
        return None
    axes = node.op.axes if isinstance(node.op, ReduceMean) else node.op.layout.spatial_axes(x.rank)
    return x, tuple(sorted(axes))


def _squared(value: Value) -> Value | None:
    """x of x * x or x ^ 2."""
    one, other = made_of(value, Mul) or (None, value)
    return one if one is other else _powered(value, 2.0)


def _powered(value: Value | None, exponent: float) -> Value | None:
    """The base of a power with this exponent."""
    base, power = made_of(value, Pow) or (None, None)
    return base if power is not None and power.rank == 0 and constant_number(power) == exponent else None
