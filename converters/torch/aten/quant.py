"""Quantization: the quantized_decomposed operators of PT2E models, and fake quantization.

torch multiplies by the reciprocal of the scale where ONNX divides by it: a value that lies within an ulp of the middle
between two steps may go to the other one, as it may when the operation before it rounds differently.
"""

# ruff: noqa: PLR0917 (the parameters are those of the operators' schemas, passed by name)
from __future__ import annotations

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import DType, Value, ops
from isomorph.ir.ops.quant import integer_range

Scalar = Value | float | int

_STORED = (DType.UINT8, DType.INT8, DType.UINT16, DType.INT16)
"""What ONNX quantizes to, and torch stores."""


def _parameter(b: Lowering, value: Scalar, dtype: DType) -> Value:
    """A scale or a zero point in the type that the quantized tensor asks for; a stored one is converted."""
    if not isinstance(value, Value):
        b.require(not dtype.is_integer or _fits(np.asarray(value), dtype), f"the zero point {value} is no {dtype}")
        return b.number(value, dtype)
    if value.parameter is None or value.dtype is dtype:
        return b.cast(value, dtype)
    if dtype.is_integer:
        b.require(_fits(value.parameter.data.numpy(), dtype), f"the zero points of {value.name} are no {dtype}")
    return b.converted(value, dtype)


def _fits(values: np.ndarray, dtype: DType) -> bool:
    low, high = integer_range(dtype)
    whole = np.asarray(values, np.float64)
    return bool(((whole >= low) & (whole <= high) & (whole == np.rint(whole))).all())


def _quantized(
    b: Lowering, x: Value, scale: Scalar, zero_point: Scalar, low: int, high: int, dtype: DType, axis: int = 0
) -> Value:
    """clamp(round(x / scale) + zero_point, low, high) in `dtype`."""
    b.require(x.dtype.is_float and x.dtype is not DType.FLOAT64, f"quantization of {x.dtype}")
    x = b.cast(x, DType.FLOAT32)
    if dtype not in _STORED:
        return _rounded(b, x, scale, zero_point, low, high, dtype, axis)
    op = ops.QuantizeLinear(dtype, axis)
    made = b.emit(op, x, _parameter(b, scale, x.dtype), _parameter(b, zero_point, dtype))
    bounds = integer_range(dtype)
    if (low, high) == bounds:
        return made
    return b.emit(ops.Clip(low if low > bounds[0] else None, high if high < bounds[1] else None), made)


def _rounded(
    b: Lowering, x: Value, scale: Scalar, zero_point: Scalar, low: int, high: int, dtype: DType, axis: int
) -> Value:
    """The same in floating-point arithmetic, for types that ONNX does not quantize to; the sum is exact."""
    b.require(dtype is DType.INT32, f"quantization to {dtype}")
    quotient = b.emit(ops.Div(), x, _along(b, _parameter(b, scale, x.dtype), x, axis))
    steps = b.cast(b.emit(ops.Round(), quotient), DType.FLOAT64)
    start = _along(b, _parameter(b, zero_point, DType.FLOAT64), x, axis)
    return b.cast(b.emit(ops.Clip(float(low), float(high)), b.emit(ops.Add(), steps, start)), dtype)


def _along(b: Lowering, value: Value, x: Value, axis: int) -> Value:
    """A vector such that it broadcasts along an axis of x."""
    return b.reshape(value, (value.shape[0], *(1,) * (x.rank - 1 - axis))) if value.rank else value


def _dequantized(
    b: Lowering, x: Value, scale: Scalar, zero_point: Scalar | None, out: DType | None, axis: int = 0
) -> Value:
    """(x - zero_point) * scale"""
    kind = out or DType.FLOAT32
    factor = _parameter(b, scale, kind)
    if x.dtype in _STORED:
        start = None if zero_point is None else _parameter(b, zero_point, x.dtype)
        return b.emit(ops.DequantizeLinear(kind, axis), x, factor, start)
    wide = b.cast(x, kind)
    if zero_point is not None and zero_point != 0:
        wide = b.emit(ops.Sub(), wide, _along(b, _parameter(b, zero_point, kind), x, axis))
    return b.emit(ops.Mul(), wide, _along(b, factor, x, axis))


_TENSOR = "quantized_decomposed.quantize_per_tensor"


@rules.imports(f"{_TENSOR}.default", f"{_TENSOR}.tensor", f"{_TENSOR}.tensor2")
def quantize_per_tensor(
    b: Lowering, input: Value, scale: Scalar, zero_point: Scalar, quant_min: Scalar, quant_max: Scalar, dtype: DType
) -> Value:
    """quantize_per_tensor(Tensor input, float scale, int zero_point, int quant_min, int quant_max, ScalarType dtype)"""
    low, high = _known(b, quant_min), _known(b, quant_max)
    return _quantized(b, input, _scalar(b, scale), _scalar(b, zero_point), low, high, dtype)


def _known(b: Lowering, bound: Scalar) -> int:
    if not isinstance(bound, Value):
        return int(bound)
    if bound.parameter is None:
        raise b.refusal("a bound that is computed")
    return int(bound.parameter.data.numpy().reshape(()))


def _scalar(b: Lowering, value: Scalar) -> Scalar:
    """A tensor of one element as one of shape ()."""
    return b.reshape(value, ()) if isinstance(value, Value) else value


_BACK = "quantized_decomposed.dequantize_per_tensor"


@rules.imports(f"{_BACK}.default", f"{_BACK}.tensor", f"{_BACK}.tensor2")
def dequantize_per_tensor(
    b: Lowering,
    input: Value,
    scale: Scalar,
    zero_point: Scalar,
    quant_min: Scalar,
    quant_max: Scalar,
    dtype: DType,
    out_dtype: DType | None = None,
) -> Value:
    """dequantize_per_tensor(Tensor input, float scale, int zero_point, …, *, ScalarType? out_dtype=None)"""
    return _dequantized(b, input, _scalar(b, scale), _scalar(b, zero_point), out_dtype)


@rules.imports("quantized_decomposed.quantize_per_channel.default")
def quantize_per_channel(
    b: Lowering,
    input: Value,
    scales: Value,
    zero_points: Value,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: DType,
) -> Value:
    """quantize_per_channel(Tensor input, Tensor scales, Tensor zero_points, int axis, int quant_min, …)"""
    return _quantized(b, input, scales, zero_points, quant_min, quant_max, dtype, axis % max(input.rank, 1))


@rules.imports("quantized_decomposed.dequantize_per_channel.default")
def dequantize_per_channel(
    b: Lowering,
    input: Value,
    scales: Value,
    zero_points: Value | None,
    axis: int,
    quant_min: int,
    quant_max: int,
    dtype: DType,
    out_dtype: DType | None = None,
) -> Value:
    """dequantize_per_channel(Tensor input, Tensor scales, Tensor? zero_points, int axis, …, *, out_dtype=None)"""
    return _dequantized(b, input, scales, zero_points, out_dtype, axis % max(input.rank, 1))


def _steps(low: int, high: int) -> DType:
    """The smallest type that ONNX quantizes to and that holds [low, high]."""
    for dtype in (DType.UINT8, DType.INT8, DType.UINT16, DType.INT16):
        bottom, top = integer_range(dtype)
        if bottom <= low and high <= top:
            return dtype
    return DType.INT32


def _faked(b: Lowering, x: Value, scale: Scalar, zero_point: Scalar, low: int, high: int, axis: int = 0) -> Value:
    """Quantized and dequantized again."""
    dtype = _steps(low, high)
    steps = _quantized(b, x, scale, zero_point, low, high, dtype, axis)
    return _dequantized(b, steps, scale, zero_point, x.dtype, axis)


@rules.imports("aten.fake_quantize_per_tensor_affine.default", "aten.fake_quantize_per_tensor_affine.tensor_qparams")
def fake_quantize(b: Lowering, self: Value, scale: Scalar, zero_point: Scalar, quant_min: int, quant_max: int) -> Value:
    """fake_quantize_per_tensor_affine(Tensor self, float scale, int zero_point, int quant_min, int quant_max)"""
    return _faked(b, self, _scalar(b, scale), _scalar(b, zero_point), quant_min, quant_max)


@rules.imports("aten.fake_quantize_per_channel_affine.default")
def fake_quantize_channels(
    b: Lowering, self: Value, scale: Value, zero_point: Value, axis: int, quant_min: int, quant_max: int
) -> Value:
    """fake_quantize_per_channel_affine(Tensor self, Tensor scale, Tensor zero_point, int axis, int quant_min, …)"""
    return _faked(b, self, scale, zero_point, quant_min, quant_max, axis % max(self.rank, 1))


# --- ranges that are taken from the data -----------------------------------------------------------------------------


def _extremes(b: Lowering, x: Value) -> tuple[Value, Value]:
    """min(x, 0) and max(x, 0) over all elements."""
    zero, axes = b.number(0, x.dtype), tuple(range(x.rank))
    low = b.emit(ops.Min(), b.emit(ops.ReduceMin(axes, keepdims=False), x), zero)
    return low, b.emit(ops.Max(), b.emit(ops.ReduceMax(axes, keepdims=False), x), zero)


def _qparams(b: Lowering, scale: Value, zero_point: Value) -> tuple[Value, Value]:
    """In the types that torch gives them, float64 and int64, of one element each."""
    return b.reshape(b.cast(scale, DType.FLOAT64), (1,)), b.reshape(b.cast(zero_point, DType.INT64), (1,))


@rules.imports("quantized_decomposed.choose_qparams.tensor")
def choose_qparams(
    b: Lowering, input: Value, quant_min: int, quant_max: int, eps: float, dtype: DType
) -> tuple[Value, Value]:
    """choose_qparams.tensor(Tensor input, int quant_min, int quant_max, float eps, …) -> (scale, zero_point)"""
    low, high = _extremes(b, input)
    kind = input.dtype
    wide = b.emit(ops.Div(), b.emit(ops.Sub(), high, low), b.number(float(quant_max - quant_min), kind))
    scale = b.emit(ops.Max(), wide, b.number(eps, kind))
    start = b.emit(ops.Sub(), b.number(quant_min, kind), b.emit(ops.Round(), b.emit(ops.Div(), low, scale)))
    return _qparams(b, scale, b.emit(ops.Clip(float(quant_min), float(quant_max)), start))


@rules.imports("quantized_decomposed.choose_qparams_symmetric.tensor")
def choose_qparams_symmetric(
    b: Lowering, input: Value, quant_min: int, quant_max: int, eps: float, dtype: DType
) -> tuple[Value, Value]:
    """choose_qparams_symmetric.tensor(Tensor input, …) -> (scale, zero_point): the same range on both sides of 0"""
    low, high = _extremes(b, input)
    kind = input.dtype
    reach = b.emit(ops.Max(), b.emit(ops.Neg(), low), high)
    half = b.emit(ops.Div(), reach, b.number((quant_max - quant_min) / 2, kind))
    scale = b.emit(ops.Max(), half, b.number(eps, kind))
    return _qparams(b, scale, b.number(128 if dtype is DType.UINT8 else 0, kind))
