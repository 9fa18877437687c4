"""Dropout: nothing outside of training, random in training."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from isomorph.converters.torch.aten.elementwise import both
from isomorph.converters.torch.aten.random import chosen
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Shape, Value, ops

_BOUND = -1.7580993408473766
"""SELU's lower bound, -alpha * scale."""


def _kept(b: Lowering, x: Value, p: float, channels: bool) -> Value:
    """Which elements, or whole channels, are kept: bools, True with the probability 1 - p."""
    shape: Shape = (*x.shape[:2], *(1,) * (x.rank - 2)) if channels else x.shape
    return chosen(b, shape, 1 - p, DType.BOOL)


def _dropped(b: Lowering, x: Value, p: float, *, channels: bool = False) -> Value:
    """x / (1 - p) where it is kept, else 0."""
    if p == 0:
        return x
    if p == 1:
        return b.emit(ops.Mul(), x, b.number(0, x.dtype))
    scaled = b.emit(ops.Div(), x, b.number(1 - p, x.dtype))
    return b.emit(ops.Mul(), scaled, b.cast(_kept(b, x, p, channels), x.dtype))


def _dropped_to_bound(b: Lowering, x: Value, p: float, *, channels: bool = False) -> Value:
    """What is dropped becomes SELU's lower bound; scaled and moved so that mean and variance stay."""
    if p in (0, 1):
        return _dropped(b, x, p)
    scale = 1 / math.sqrt((_BOUND**2 * p + 1) * (1 - p))
    mixed = b.emit(ops.Where(), _kept(b, x, p, channels), x, b.number(_BOUND, x.dtype))
    scaled = b.emit(ops.Mul(), mixed, b.number(scale, x.dtype))
    return b.emit(ops.Add(), scaled, b.number(-scale * _BOUND * p, x.dtype))


def _register(name: str, drop: Callable[[Lowering, Value, float], Value]) -> None:
    @rules.imports(*both(name, "default"))
    def dropout(
        b: Lowering, input: Value | None = None, p: float = 0.5, train: bool = False, self: Value | None = None
    ) -> Value:
        x = input if input is not None else self
        if x is None:
            raise b.refusal("it has no operand")
        if not train:
            return b.emit(ops.Dropout(float(p)), x) if x.dtype.is_float else x
        return drop(b, x, float(p))

    dropout.__doc__ = f"{name}(Tensor input, float p, bool train); outside of training a node that changes nothing"


_register("dropout", _dropped)
_register("feature_dropout", partial(_dropped, channels=True))
_register("alpha_dropout", _dropped_to_bound)
_register("feature_alpha_dropout", partial(_dropped_to_bound, channels=True))


@rules.imports("aten.native_dropout.default")
def native_dropout(b: Lowering, input: Value, p: float, train: bool | None = None) -> tuple[Value, ...]:
    """native_dropout(Tensor input, float p, bool? train) -> (output, mask), as decomposed"""
    if train is False or p == 0:
        return b.emit(ops.Dropout(float(p)), input), b.emit(ops.ConstantOfShape(input.shape, True, DType.BOOL))
    if p == 1:
        nothing = b.emit(ops.ConstantOfShape(input.shape, False, DType.BOOL))
        return _dropped(b, input, p), nothing
    kept = _kept(b, input, p, channels=False)
    scaled = b.emit(ops.Div(), input, b.number(1 - p, input.dtype))
    return b.emit(ops.Mul(), scaled, b.cast(kept, input.dtype)), kept
