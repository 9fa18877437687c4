"""Float64 kernels for the quantized operators of com.microsoft: dequantize, compute in float64, quantize.

    dequantize(q) = (q - zero_point) * scale        quantize(x) = saturate(round_half_even(x / scale) + zero_point)

The grid is what such an operator means, so the float64 run rounds to it too, as `onnx.reference` does for QLinearConv.
Each follows its definition in docs/ContribOperators.md of microsoft/onnxruntime, under the name of its class.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from onnx.reference.op_run import OpRun

from isomorph.validators.runners import onnx_kernels
from isomorph.validators.runners.onnx_contrib import Contrib, sigmoid

__all__ = ["QUANTIZED"]


class QLinearAdd(Contrib):
    """a + b of operands (a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)."""

    arity = 8

    def compute(self, *operands: Any) -> Any:
        joined = self._joined(_wide(*operands[:3]), _wide(*operands[3:6]))
        return (_narrow(joined, operands[6], operands[7], operands[0].dtype),)

    def _joined(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a + b)


class QLinearMul(QLinearAdd):
    """a * b of the operands of QLinearAdd."""

    def _joined(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(a * b)


class _Unary(Contrib):
    """Of operands (x, x_scale, x_zero, y_scale, y_zero)."""

    arity = 5

    def compute(self, *operands: Any) -> Any:
        x, scale, zero, y_scale, y_zero = operands
        return (_narrow(self._applied(_wide(x, scale, zero)), y_scale, y_zero, x.dtype),)

    def _applied(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class QLinearSigmoid(_Unary):
    """1 / (1 + exp(-x))."""

    def _applied(self, x: np.ndarray) -> np.ndarray:
        return sigmoid(x)


class QLinearLeakyRelu(_Unary):
    """x, or alpha * x where x < 0."""

    defaults: ClassVar[dict[str, Any]] = {"alpha": 0.01}

    def _applied(self, x: np.ndarray) -> np.ndarray:
        return np.where(x < 0, self.attribute("alpha") * x, x)


class QLinearSoftmax(_Unary):
    """Softmax along `axis`, or before opset 13 along all axes from it on."""

    defaults: ClassVar[dict[str, Any]] = {"axis": -1, "opset": 13}

    def _applied(self, x: np.ndarray) -> np.ndarray:
        axis = self.attribute("axis") % x.ndim
        axes = (axis,) if self.attribute("opset") >= 13 else tuple(range(axis, x.ndim))
        e = np.exp(x - x.max(axes, keepdims=True))
        return np.asarray(e / e.sum(axes, keepdims=True))


class QLinearGlobalAveragePool(_Unary):
    """The mean of all spatial axes."""

    defaults: ClassVar[dict[str, Any]] = {"channels_last": 0}

    def _applied(self, x: np.ndarray) -> np.ndarray:
        first = 1 if self.attribute("channels_last") else 2
        return np.asarray(x.mean(tuple(range(first, x.ndim + first - 2)), keepdims=True))


class QLinearAveragePool(_Unary, onnx_kernels.AveragePool):  # type: ignore[misc]  # its `_run` is Contrib's
    """AveragePool."""

    op_domain = "com.microsoft"
    defaults: ClassVar[dict[str, Any]] = {
        "auto_pad": "NOTSET", "ceil_mode": 0, "channels_last": 0, "count_include_pad": 0, "kernel_shape": (),
        "pads": (), "strides": (),
    }  # fmt: skip

    def _applied(self, x: np.ndarray) -> np.ndarray:
        if not self.attribute("channels_last"):
            return onnx_kernels.AveragePool._run(self, x)[0]
        return np.moveaxis(onnx_kernels.AveragePool._run(self, np.moveaxis(x, -1, 1))[0], 1, -1)


class QLinearConcat(Contrib):
    """The concatenation along `axis` of operands (y_scale, y_zero, then x, x_scale, x_zero of each part)."""

    defaults: ClassVar[dict[str, Any]] = {"axis": None}
    arity = 1 << 16

    def compute(self, scale: Any, zero: Any, *parts: Any) -> Any:
        parts = parts[: len(self.onnx_node.input) - 2]
        wide = [_wide(*parts[at : at + 3]) for at in range(0, len(parts), 3)]
        return (_narrow(np.concatenate(wide, self.attribute("axis")), scale, zero, parts[0].dtype),)


class QuantizeLinear(Contrib):
    """Per tensor, or along `axis` where the node has it; uint8 without a zero point."""

    defaults: ClassVar[dict[str, Any]] = {"axis": None}
    arity = 3

    def compute(self, x: Any, scale: Any, zero: Any) -> Any:
        along = _axis(self, x, scale)
        return (_narrow(x, scale, zero, np.dtype(np.uint8), along),)


class DequantizeLinear(Contrib):
    """Per tensor, or along `axis` where the node has it."""

    defaults: ClassVar[dict[str, Any]] = {"axis": None}
    arity = 3

    def compute(self, x: Any, scale: Any, zero: Any) -> Any:
        return (_wide(x, scale, zero, _axis(self, x, scale)),)


class QGemm(Contrib):
    """alpha * a' b' + c, c in steps of alpha * a_scale * b_scale; operands (a, a_scale, a_zero, b, b_scale, b_zero, c,
    y_scale, y_zero). A float without y_scale. b may have a scale for each column of b'."""

    defaults: ClassVar[dict[str, Any]] = {"alpha": 1.0, "transA": 0, "transB": 0}
    arity = 9

    def compute(self, *operands: Any) -> Any:
        a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = operands
        kind = a.dtype
        if a_scale.size != 1:
            self.refuse(f"{a_scale.size} scales of operand 0")
        left = (a.T if self.attribute("transA") else a).astype(np.float64) - _flat(a_zero)
        right = (b.T if self.attribute("transB") else b).astype(np.float64) - _flat(b_zero)
        whole = left @ right if c is None else left @ right + c
        y = self.attribute("alpha") * _flat(a_scale) * _flat(b_scale) * whole
        return (np.asarray(y) if y_scale is None else _narrow(y, y_scale, y_zero, kind),)


class MatMulIntegerToFloat(Contrib):
    """(a - a_zero) (b - b_zero) * a_scale * b_scale + bias; operands (a, b, a_scale, b_scale, a_zero, b_zero, bias)."""

    arity = 7

    def compute(self, *operands: Any) -> Any:
        return (_product(self, *operands),)


class DynamicQuantizeMatMul(Contrib):
    """MatMulIntegerToFloat of a quantized to uint8 by its own range, 0 included; operands (a, b, b_scale, b_zero,
    bias)."""

    arity = 5

    def compute(self, a: Any, b: Any, b_scale: Any, b_zero: Any, bias: Any) -> Any:
        low, high = min(0.0, a.min(initial=0.0)), max(0.0, a.max(initial=0.0))
        scale = np.float64((high - low) / 255 if high > low else 1.0)
        zero = np.uint8(np.rint(np.clip(-low / scale, 0, 255)))
        codes = _narrow(a, scale, zero, zero.dtype)
        return (_product(self, codes, b, scale, b_scale, zero, b_zero, bias),)


class MatMulNBits(Contrib):
    """x w^T + bias of w (N, K), whose blocks of `block_size` along K are (code - zero_point) * scale.

    Codes of `bits` bits, the lowest bits of a byte first: weight (N, blocks, bytes), zero points (N, bytes) or as
    floats (N, blocks), by default 2^(bits - 1). `accuracy_level` says how the runtime computes, nothing about the
    result.
    """

    defaults: ClassVar[dict[str, Any]] = {"K": 0, "N": 0, "accuracy_level": 0, "bits": 4, "block_size": 0}
    arity = 6

    def compute(self, *operands: Any) -> Any:
        x, packed, scale, zero, order, bias = operands
        bits, block, width, columns = (self.attribute(name) for name in ("bits", "block_size", "K", "N"))
        if order is not None or bits not in (2, 4, 8):
            self.refuse(f"{bits} bits" if order is None else "operand 4 (g_idx)")
        blocks = -(-width // block)
        codes = _codes(packed, bits).reshape(columns, blocks, block)
        if zero is None:
            zero = np.full((columns, blocks), 1 << bits - 1)
        elif zero.dtype.kind != "f":
            zero = _codes(zero.reshape(columns, -1), bits)[:, :blocks]
        w = (codes.astype(np.float64) - zero.reshape(columns, blocks, 1)) * scale.reshape(columns, blocks, 1)
        y = x @ w.reshape(columns, -1)[:, :width].T
        return (y if bias is None else y + bias,)


def _codes(packed: np.ndarray, bits: int) -> np.ndarray:
    """Bytes (..., B) as codes (..., B * 8 / bits)."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((packed[..., None] >> shifts) & ((1 << bits) - 1)).reshape(*packed.shape[:-1], -1)


def _product(op: Contrib, *operands: Any) -> np.ndarray:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = operands
    for position, each in enumerate((a_scale, a_zero)):
        if each is not None and each.size != 1:
            op.refuse(f"{each.size} {('scales', 'zero points')[position]} of operand 0")
    if max(b_scale.ndim, 0 if b_zero is None else b_zero.ndim) > 1:
        op.refuse("scales of operand 1 that are no vector")
    whole = (a.astype(np.float64) - _flat(a_zero)) @ (b.astype(np.float64) - _flat(b_zero))
    y = whole * (_flat(a_scale) * _flat(b_scale))
    return np.asarray(y if bias is None else y + bias)


def _axis(op: Contrib, x: np.ndarray, scale: np.ndarray) -> int:
    axis = op.attribute("axis")
    if scale.size != 1 and axis is None:
        op.refuse(f"{scale.size} scales and no `axis`")
    return int(axis or 0)


def _flat(each: Any) -> Any:
    """A scale or zero point, float64, of no axes where it has one element; 0 for None."""
    if each is None:
        return np.float64(0)
    wide = np.asarray(each).astype(np.float64)
    return wide.reshape(()) if wide.size == 1 else wide


def _along(each: Any, axis: int, rank: int) -> Any:
    wide = _flat(each)
    return wide.reshape([-1 if a == axis % rank else 1 for a in range(rank)]) if wide.ndim else wide


def _wide(x: np.ndarray, scale: Any, zero: Any = None, axis: int = 0) -> np.ndarray:
    return np.asarray((x.astype(np.float64) - _along(zero, axis, x.ndim)) * _along(scale, axis, x.ndim))


def _narrow(x: np.ndarray, scale: Any, zero: Any, dtype: np.dtype[Any], axis: int = 0) -> np.ndarray:
    dtype = dtype if zero is None else zero.dtype
    if dtype.kind not in "iu":
        raise NotImplementedError(f"no float64 reference for a result of {dtype} in the domain com.microsoft")
    info = np.iinfo(dtype)
    steps = np.rint(x / _along(scale, axis, x.ndim)) + _along(zero, axis, x.ndim)
    return np.asarray(np.clip(steps, info.min, info.max).astype(dtype))


QUANTIZED: list[type[OpRun]] = [
    QLinearAdd,
    QLinearMul,
    QLinearSigmoid,
    QLinearLeakyRelu,
    QLinearSoftmax,
    QLinearGlobalAveragePool,
    QLinearAveragePool,
    QLinearConcat,
    QuantizeLinear,
    DequantizeLinear,
    QGemm,
    MatMulIntegerToFloat,
    DynamicQuantizeMatMul,
    MatMulNBits,
]
