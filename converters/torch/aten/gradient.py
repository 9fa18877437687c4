"""Numerical gradients: differences of neighbours, one-sided at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isomorph.converters.torch.aten.cumulative import diff
from isomorph.converters.torch.aten.elementwise import add, div, mul, sub
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.promotion import Number, Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, Value, ops

Axes = Sequence[int] | int | None


@dataclass(frozen=True, slots=True)
class _Line:
    """Elements x[start:stop] along an axis; negative places count from its end."""

    b: Lowering
    x: Value
    axis: int

    def __getitem__(self, place: slice) -> Value:
        size = self.x.shape[self.axis]
        start, stop = (_place(bound, size, default) for bound, default in ((place.start, 0), (place.stop, size)))
        return self.b.emit(ops.Slice((self.axis,), (start,), (stop,), (1,)), self.x)

    def weighed(self, first: int, weights: Sequence[Operand], last: int | None = None) -> Value:
        """sum_k weights[k] x[first + k], of one place, or of all places up to `last` (negative)."""
        made = None
        for step, weight in enumerate(weights):
            stop = None if first + step == -1 else first + step + 1
            here = self[first + step : stop] if last is None else self[first + step : last + step or None]
            term = mul(self.b, here, weight)
            made = term if made is None else add(self.b, made, term)
        assert made is not None
        return made


def _place(bound: int | None, size: Dim, default: Dim) -> Dim:
    if bound is None:
        return default
    return bound + size if bound < 0 else bound


def _even(b: Lowering, x: Value, axis: int, spacing: Operand, edge_order: int) -> Value:
    """(x[i + 1] - x[i - 1]) / 2h, and at the ends the formula of order `edge_order`."""
    line = _Line(b, x, axis)
    middle = div(b, div(b, sub(b, line[2:], line[:-2]), spacing), 2)
    if edge_order == 1:
        ends = sub(b, line[1:2], line[0:1]), sub(b, line[-1:], line[-2:-1])
    else:
        ends = line.weighed(0, (-1.5, 2, -0.5)), line.weighed(-3, (0.5, -2, 1.5))
    first, last = (div(b, each, spacing) for each in ends)
    return b.emit(ops.Concat(axis), *b.promoted(first, middle, last))


def _uneven(b: Lowering, x: Value, axis: int, places: Value, edge_order: int) -> Value:
    """As `_even`, of elements at the given places: the derivative of the parabola through three neighbours."""
    line, steps = _Line(b, x, axis), _Line(b, diff(b, places), 0)

    def upright(weight: Value) -> Value:
        return b.reshape(weight, (*weight.shape, *(1,) * (x.rank - axis - 1)))

    before, after = steps[:-1], steps[1:]
    both = add(b, before, after)
    weights = (
        div(b, b.emit(ops.Neg(), after), mul(b, before, both)),
        div(b, sub(b, after, before), mul(b, before, after)),
        div(b, before, mul(b, after, both)),
    )
    middle = line.weighed(0, tuple(map(upright, weights)), last=-2)
    if edge_order == 1:
        first = div(b, sub(b, line[1:2], line[0:1]), upright(steps[0:1]))
        last = div(b, sub(b, line[-1:], line[-2:-1]), upright(steps[-1:]))
    else:
        first = line.weighed(0, tuple(map(upright, _left_edge(b, steps[0:1], steps[1:2]))))
        left = _left_edge(b, steps[-1:], steps[-2:-1])
        last = line.weighed(-3, tuple(upright(b.emit(ops.Neg(), weight)) for weight in reversed(left)))
    return b.emit(ops.Concat(axis), *b.promoted(first, middle, last))


def _left_edge(b: Lowering, near: Value, far: Value) -> tuple[Value, Value, Value]:
    """The weights of x[0], x[1] and x[2] in the derivative at x[0], `near` and `far` the steps between them."""
    both = add(b, near, far)
    return (
        b.emit(ops.Neg(), div(b, add(b, near, both), mul(b, near, both))),
        div(b, both, mul(b, near, far)),
        b.emit(ops.Neg(), div(b, near, mul(b, far, both))),
    )


def _gradients(
    b: Lowering, x: Value, spacing: Sequence[Operand] | Operand | None, dim: Axes, edge_order: int
) -> list[Value]:
    axes = range(x.rank) if dim is None else [dim] if isinstance(dim, int) else dim
    steps = list(spacing) if isinstance(spacing, Sequence) else [1 if spacing is None else spacing] * len(axes)
    made = []
    for each, step in zip(axes, steps, strict=True):
        axis = axis_of(each, x)
        size = x.shape[axis]
        b.require(not isinstance(size, int) or size > edge_order, f"the gradient of {size} elements")
        if isinstance(step, Value) and step.rank:
            made.append(_uneven(b, x, axis, step, edge_order))
        else:
            made.append(_even(b, x, axis, step, edge_order))
    return made


@rules.imports("aten.gradient.scalarint", "aten.gradient.scalararray", "aten.gradient.array")
def gradient(
    b: Lowering, self: Value, spacing: Number | None = None, dim: Axes = None, edge_order: int = 1
) -> list[Value]:
    """gradient.scalarint(Tensor self, *, Scalar? spacing=None, int? dim=None, int edge_order=1), of one or all axes"""
    return _gradients(b, self, spacing, dim, edge_order)


@rules.imports("aten.gradient.scalarrayint", "aten.gradient.scalarrayarray", "aten.gradient.tensorarrayint",
               "aten.gradient.tensorarray")  # fmt: skip
def gradient_of_spacings(
    b: Lowering, self: Value, spacing: Sequence[Operand], dim: Axes = None, edge_order: int = 1
) -> list[Value]:
    """gradient.tensorarray(Tensor self, *, Tensor[] spacing, int[] dim, int edge_order=1): steps or places by axis"""
    return _gradients(b, self, spacing, dim, edge_order)
