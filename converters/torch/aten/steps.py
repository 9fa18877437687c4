"""Numbers at even steps: linspace and logspace."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Number, Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops

_MOST_STEPS = 2**20


def _spaced(b: Lowering, start: Number, end: Number, steps: Dim, kind: DType) -> np.ndarray:
    """`steps` numbers from start to end, counted from the nearer end, as torch does; of integers in float64."""
    count = b.static(steps, "the number of steps")
    b.require(kind.is_float or kind.is_integer, f"steps of {kind}")
    b.require(count <= _MOST_STEPS, f"{count} steps")
    b.require(not isinstance(start, Sym) and not isinstance(end, Sym), "a symbolic bound")
    exact = np.float64 if kind.is_integer else kind.numpy.type
    low, high = (exact(int(bound)) if kind.is_integer else exact(bound) for bound in (start, end))  # type: ignore[arg-type]
    step = (high - low) / exact(max(count - 1, 1))
    places = np.arange(count)
    lower, upper = (low + step * places.astype(exact)), high - step * (count - 1 - places).astype(exact)
    return np.where(places < count // 2, lower, upper if count > 1 else np.full_like(upper, low))


@rules.imports("aten.linspace.default")
def linspace(
    b: Lowering,
    start: Number,
    end: Number,
    steps: Dim,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """linspace(Scalar start, Scalar end, int steps, *, dtype, …): computed from both ends, as torch does"""
    kind = dtype or DType.FLOAT32
    return b.constant(_spaced(b, start, end, steps, kind).astype(kind.numpy), "linspace")


@rules.imports("aten.logspace.default")
def logspace(
    b: Lowering,
    start: Number,
    end: Number,
    steps: Dim,
    base: float = 10.0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """logspace(Scalar start, Scalar end, int steps, float base=10.0, *, dtype, …): powers of the base"""
    kind = dtype or DType.FLOAT32
    exponents = _spaced(b, start, end, steps, kind)
    with np.errstate(all="ignore"):
        return b.constant(np.power(exponents.dtype.type(base), exponents).astype(kind.numpy), "logspace")


@rules.imports("aten.linspace.Tensor_Tensor", "aten.linspace.Tensor_Scalar", "aten.linspace.Scalar_Tensor")
def linspace_of_tensors(
    b: Lowering,
    start: Operand,
    end: Operand,
    steps: Dim,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """linspace.Tensor_Tensor(Tensor start, Tensor end, int steps, *, dtype, …): bounds of shape ()"""
    kind = dtype or DType.FLOAT32
    return b.cast(_computed_steps(b, start, end, steps, kind), kind)


def _computed_steps(b: Lowering, start: Operand, end: Operand, steps: Dim, kind: DType) -> Value:
    """As `_spaced`, of bounds that are computed."""
    count = b.static(steps, "the number of steps")
    wide = DType.FLOAT64 if kind.is_integer else kind
    b.require(wide.is_float, f"steps of {kind}")
    low, high = (b.cast(b.operand(bound, kind), wide) for bound in (start, end))
    step = b.emit(ops.Div(), b.emit(ops.Sub(), high, low), b.number(max(count - 1, 1), wide))
    places = np.arange(count)
    ahead = b.constant(places.astype(wide.numpy), "places")
    lower = b.emit(ops.Add(), low, b.emit(ops.Mul(), step, ahead))
    behind = b.constant((count - 1 - places).astype(wide.numpy), "places")
    upper = b.emit(ops.Sub(), high, b.emit(ops.Mul(), step, behind)) if count > 1 else lower
    return b.emit(ops.Where(), b.constant(places < count // 2, "nearer"), lower, upper)


@rules.imports("aten.logspace.Tensor_Tensor", "aten.logspace.Tensor_Scalar", "aten.logspace.Scalar_Tensor")
def logspace_of_tensors(
    b: Lowering,
    start: Operand,
    end: Operand,
    steps: Dim,
    base: float = 10.0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """logspace.Tensor_Tensor(Tensor start, Tensor end, int steps, float base=10.0, *, dtype, …): powers of the base"""
    kind = dtype or DType.FLOAT32
    exponents = _computed_steps(b, start, end, steps, kind)
    return b.cast(b.emit(ops.Pow(), b.number(base, exponents.dtype), exponents), kind)
