"""Complex tensors that are created, and conversions between real and complex ones."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math
from collections.abc import Sequence

from isomorph.converters.torch.aten import create
from isomorph.converters.torch.aten.complex import Complex, as_complex, real_dtype
from isomorph.converters.torch.aten.complex_shape import expanded
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.promotion import Number
from isomorph.converters.torch.rules import complex_rules
from isomorph.ir import Dim, DType, Value, ops


def _filled(b: Lowering, size: Sequence[Dim], value: complex | Number) -> Complex:
    return expanded(b, as_complex(b, value, real_dtype(b)), tuple(size))


@complex_rules.imports("aten.full.default", "aten.scalar_tensor.default")
def full(
    b: Lowering,
    size: Sequence[Dim] = (),
    fill_value: complex | Number = 0,
    s: complex | Number | None = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Complex:
    """full(SymInt[] size, Scalar fill_value, *, dtype, …), scalar_tensor(Scalar s, …)"""
    return _filled(b, size, fill_value if s is None else s)


@complex_rules.imports("aten.full_like.default", "aten.new_full.default", "aten.zeros_like.default",
                       "aten.new_zeros.default", "aten.empty_like.default", "aten.new_empty.default")  # fmt: skip
def full_like(
    b: Lowering,
    self: Complex | Value,
    size: Sequence[Dim] | None = None,
    fill_value: complex | Number = 0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Complex | Value:
    """full_like(Tensor self, Scalar fill_value, …), zeros_like(Tensor self, …), new_full(Tensor self, size, …)"""
    shape = self.shape if size is None else tuple(size)
    if dtype is not None and not dtype.is_complex:
        return b.emit(ops.Expand(shape), b.number(fill_value, dtype))  # type: ignore[arg-type]
    return _filled(b, shape, fill_value)


@complex_rules.imports("aten.zeros.default", "aten.empty.memory_format")
def zeros(
    b: Lowering,
    size: Sequence[Dim],
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Complex:
    """zeros(SymInt[] size, …)"""
    return _filled(b, size, 0)


@complex_rules.imports("aten.ones.default")
def ones(
    b: Lowering,
    size: Sequence[Dim],
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Complex:
    """ones(SymInt[] size, …)"""
    return _filled(b, size, 1)


@complex_rules.imports("aten.ones_like.default", "aten.new_ones.default")
def ones_like(
    b: Lowering,
    self: Complex | Value,
    size: Sequence[Dim] | None = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Complex | Value:
    """ones_like(Tensor self, …), new_ones(Tensor self, SymInt[] size, …)"""
    return full_like(b, self, size, 1, dtype)


def _copied(b: Lowering, x: Complex | Value, dtype: DType | None) -> Complex | Value:
    """In another type; of a complex number made real, the real part stays."""
    if dtype is None or dtype is x.dtype:
        return x
    if dtype.is_complex:
        return as_complex(b, x, real_dtype(b))
    return b.cast(x.parts(b)[0] if isinstance(x, Complex) else x, dtype)


@complex_rules.imports("aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten._to_copy.default")
def to(
    b: Lowering,
    self: Complex | Value,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: object = None,
) -> Complex | Value:
    """to.dtype(Tensor self, ScalarType dtype, …)"""
    return _copied(b, self, dtype)


@complex_rules.imports("aten.to.other", "aten.type_as.default")
def to_other(
    b: Lowering,
    self: Complex | Value,
    other: Complex | Value,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: object = None,
) -> Complex | Value:
    """to.other(Tensor self, Tensor other, …), type_as(Tensor self, Tensor other)"""
    return _copied(b, self, other.dtype)


@complex_rules.imports("aten.eye.default", "aten.eye.m")
def eye(
    b: Lowering,
    n: Dim,
    m: Dim | None = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Complex:
    """eye.m(SymInt n, SymInt m, *, dtype, …): 1 where the row is the column"""
    part = real_dtype(b)
    return as_complex(b, create.eye(b, n, m, part), part)


def _normal(b: Lowering, size: Sequence[Dim]) -> Complex:
    """Both parts normal, with half of the variance each."""
    part = real_dtype(b)
    real, imaginary = (b.emit(ops.RandomNormal(tuple(size), part, 0.0, math.sqrt(0.5))) for _ in range(2))
    return Complex(None, (real, imaginary))


@complex_rules.imports("aten.randn.default", "aten.randn.generator")
def randn(
    b: Lowering,
    size: Sequence[Dim],
    generator: object = None,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Complex:
    """randn(SymInt[] size, *, dtype, …)"""
    return _normal(b, size)


@complex_rules.imports("aten.randn_like.default")
def randn_like(
    b: Lowering,
    self: Complex | Value,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
    memory_format: object = None,
) -> Complex:
    """randn_like(Tensor self, *, dtype, …)"""
    return _normal(b, self.shape)
