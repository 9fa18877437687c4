"""The quantized_decomposed operators in float64: PyTorch's own take and give float32 only, and say so by an assertion.

    quantize    clamp(round(x * (1 / scale)) + zero_point, quant_min, quant_max), as in torch/ao/quantization/fx
    dequantize  (x - zero_point) * scale

Each is what PyTorch's own computes, in float64.
"""

# ruff: noqa: PLR0917 (the parameters are those of the operators, passed by position)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["quantized_in_double", "register_operators"]


def register_operators() -> None:
    """Let torch know the operators, so that programs which use them can be loaded."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401


def quantized_in_double(function: Any) -> Callable[..., Any] | None:
    """What computes this operator in float64, None for any other operator."""
    return _FUNCTIONS.get(str(function).removeprefix("quantized_decomposed."))


def _spread(value: Any, x: torch.Tensor, axis: int) -> Any:
    """A vector of scales or zero points along its axis of x."""
    return value.reshape([-1 if place == axis % x.dim() else 1 for place in range(x.dim())])


def _quantize(x: Any, scale: Any, zero_point: Any, low: Any, high: Any, dtype: torch.dtype) -> Any:
    return torch.clamp(torch.round(x.double() * (1.0 / scale)) + zero_point, low, high).to(dtype)


def _dequantize(
    x: Any, scale: Any, zero_point: Any, low: Any, high: Any, dtype: Any = None, *, out_dtype: Any = None
) -> Any:
    return (x.double() - zero_point) * scale


def _quantize_channels(x: Any, scales: Any, zero_points: Any, axis: int, low: int, high: int, dtype: Any) -> Any:
    return _quantize(x, _spread(scales.double(), x, axis), _spread(zero_points, x, axis), low, high, dtype)


def _dequantize_channels(
    x: Any, scales: Any, zero_points: Any, axis: int, low: int, high: int, dtype: Any, *, out_dtype: Any = None
) -> Any:
    start = 0 if zero_points is None else _spread(zero_points, x, axis)
    return _dequantize(x, _spread(scales.double(), x, axis), start, low, high)


def _choose(x: Any, low: int, high: int, eps: float, dtype: Any) -> Any:
    smallest, largest = (each.double() for each in torch.aminmax(x))
    smallest, largest = smallest.clamp(max=0), largest.clamp(min=0)
    scale = ((largest - smallest) / float(high - low)).clamp(min=eps)
    start = (low - torch.round(smallest / scale)).clamp(low, high)
    return scale.reshape(1), start.to(torch.int64).reshape(1)


def _choose_symmetric(x: Any, low: int, high: int, eps: float, dtype: Any) -> Any:
    smallest, largest = (each.double() for each in torch.aminmax(x))
    reach = torch.maximum(-smallest.clamp(max=0), largest.clamp(min=0))
    scale = (reach / (float(high - low) / 2)).clamp(min=eps)
    start = torch.full((1,), 128 if dtype is torch.uint8 else 0, dtype=torch.int64)
    return scale.reshape(1), start


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        ("quantize_per_tensor.default", "quantize_per_tensor.tensor", "quantize_per_tensor.tensor2"), _quantize
    ),
    **dict.fromkeys(
        ("dequantize_per_tensor.default", "dequantize_per_tensor.tensor", "dequantize_per_tensor.tensor2"), _dequantize
    ),
    "quantize_per_channel.default": _quantize_channels,
    "dequantize_per_channel.default": _dequantize_channels,
    "choose_qparams.tensor": _choose,
    "choose_qparams_symmetric.tensor": _choose_symmetric,
}
