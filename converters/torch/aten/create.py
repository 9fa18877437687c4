"""Operations that create tensors: full, zeros, ones, arange and their kin."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Number, Operand
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.shapes import ceil_div

Sizes = Sequence[Dim]


def _filled(b: Lowering, shape: Sizes, value: Operand, dtype: DType) -> Value:
    if isinstance(value, Value | Sym):
        return b.emit(ops.Expand(tuple(shape)), b.operand(value, dtype))
    if dtype.is_integer and isinstance(value, int):  # out of range it wraps around
        value = int(np.asarray(value).astype(dtype.numpy))
    return b.emit(ops.ConstantOfShape(tuple(shape), value, dtype))


def _kind(value: Number) -> DType:
    return DType.BOOL if isinstance(value, bool) else DType.FLOAT32 if isinstance(value, float) else DType.INT64


@rules.imports("aten.full.default")
def full(
    b: Lowering,
    size: Sizes,
    fill_value: Number,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """full(SymInt[] size, Scalar fill_value, *, ScalarType? dtype=None, …)"""
    return _filled(b, size, fill_value, dtype or _kind(fill_value))


@rules.imports("aten.zeros.default", "aten.empty.memory_format")
def zeros(
    b: Lowering,
    size: Sizes,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Value:
    """zeros(SymInt[] size, …); `empty` is written before it is read, so that zeros do as well"""
    return _filled(b, size, 0, dtype or DType.FLOAT32)


@rules.imports("aten.ones.default")
def ones(
    b: Lowering,
    size: Sizes,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """ones(SymInt[] size, *, ScalarType? dtype=None, …)"""
    return _filled(b, size, 1, dtype or DType.FLOAT32)


@rules.imports("aten.new_full.default", "aten.full_like.default")
def full_like(
    b: Lowering,
    self: Value,
    size: Sizes | None = None,
    fill_value: Number = 0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Value:
    """new_full(Tensor self, SymInt[] size, Scalar fill_value, …), full_like(Tensor self, Scalar fill_value, …)"""
    return _filled(b, self.shape if size is None else size, fill_value, dtype or self.dtype)


@rules.imports("aten.new_zeros.default", "aten.zeros_like.default", "aten.new_empty.default", "aten.empty_like.default")
def zeros_like(
    b: Lowering,
    self: Value,
    size: Sizes | None = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Value:
    """new_zeros(Tensor self, SymInt[] size, …), zeros_like(Tensor self, …)"""
    return full_like(b, self, size, 0, dtype)


@rules.imports("aten.new_ones.default", "aten.ones_like.default")
def ones_like(
    b: Lowering,
    self: Value,
    size: Sizes | None = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Value:
    """new_ones(Tensor self, SymInt[] size, …), ones_like(Tensor self, …)"""
    return full_like(b, self, size, 1, dtype)


@rules.imports("aten.scalar_tensor.default")
def scalar_tensor(
    b: Lowering,
    s: Number | Value,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """scalar_tensor(Scalar s, *, ScalarType? dtype=None, …)"""
    return b.reshape(b.operand(s, dtype or DType.FLOAT32), ())


@rules.imports("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(
    b: Lowering,
    end: Number,
    start: Number = 0,
    step: Number = 1,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """arange.start_step(Scalar start, Scalar end, Scalar step=1, *, dtype, …): ceil((end - start) / step) numbers"""
    kind = dtype or (DType.FLOAT32 if any(isinstance(bound, float) for bound in (start, end, step)) else DType.INT64)
    if any(isinstance(bound, Sym) for bound in (start, end, step)):
        start, end, step = (_whole(bound) for bound in (start, end, step))
    if isinstance(start, float) or isinstance(end, float) or isinstance(step, float):
        b.require(
            not any(isinstance(bound, Sym) for bound in (start, end, step)), "a symbolic bound beside a fractional one"
        )
        length: Dim = math.ceil((float(end) - float(start)) / float(step))  # type: ignore[arg-type]
        if kind.is_integer:
            start, step = int(start), int(step)  # type: ignore[arg-type]
    elif isinstance(step, Sym):
        return _symbolic_steps(b, start, step, kind)
    else:
        whole = b.static(step, "the step")
        length = ceil_div(end - start, whole) if whole > 0 else ceil_div(start - end, -whole)
    return b.emit(ops.Range(start, step, length, kind))  # type: ignore[arg-type]


def _whole(bound: Number) -> Number:
    """1 for 1.0; what has a fraction as it is."""
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


def _symbolic_steps(b: Lowering, start: Number, step: Sym, kind: DType) -> Value:
    """start + step * (0, 1, …), as many as torch recorded."""
    recorded = b.recorded[0] if b.recorded else None
    if recorded is None:
        raise b.refusal(f"the step is the symbolic size {step}; a static one is needed")
    places = b.emit(ops.Mul(), b.emit(ops.Range(0, 1, recorded.shape[0], kind)), b.number(step, kind))
    return places if start == 0 else b.emit(ops.Add(), places, b.number(start, kind))


@rules.imports("aten.empty_strided.default", "aten.empty_permuted.default")
def empty_strided(
    b: Lowering,
    size: Sizes,
    stride: Sizes = (),
    physical_layout: Sizes = (),
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """empty_strided(SymInt[] size, SymInt[] stride, …): written before it is read, so that zeros do as well"""
    return _filled(b, size, 0, dtype or DType.FLOAT32)


@rules.imports("aten.eye.default", "aten.eye.m")
def eye(
    b: Lowering,
    n: Dim,
    m: Dim | None = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """eye.m(SymInt n, SymInt m, *, dtype, …): 1 where the row is the column"""
    rows = b.emit(ops.Unsqueeze((1,)), b.emit(ops.Range(0, 1, n, DType.INT64)))
    columns = b.emit(ops.Range(0, 1, n if m is None else m, DType.INT64))
    return b.cast(b.emit(ops.Equal(), rows, columns), dtype or DType.FLOAT32)
