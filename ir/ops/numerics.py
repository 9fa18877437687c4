"""NumPy kernels that several families share in `Op.evaluate`: accumulation, erf, sliding windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from isomorph.ir.dtypes import DType

__all__ = ["Array", "erf", "in_single", "padded", "powers_of_two", "small_float", "windows"]

Array = npt.NDArray[Any]


def in_single(compute: Callable[..., Array], *arrays: Array | None) -> Array:
    """compute(*arrays), where half and smaller floats are computed in float32 and rounded once, at the end."""
    first = next(array for array in arrays if array is not None)
    if first.dtype.itemsize >= 4 or not DType.of(first.dtype).is_float:
        return compute(*arrays)
    widened = (None if array is None else array.astype(np.float32) for array in arrays)
    return np.asarray(compute(*widened)).astype(first.dtype)


_erf_each = np.frompyfunc(math.erf, 1, 1)


def erf(x: Array) -> Array:
    """The error function, computed in float64 element by element (NumPy has none)."""
    return np.asarray(_erf_each(x.astype(np.float64))).astype(x.dtype)


def small_float(x: Array, dtype: DType, saturate: bool) -> Array:
    """Rounded to a float of 4 or 8 bits. What is too large becomes the largest number, or without `saturate` infinity,
    or NaN where the type has no infinity.
    """
    if saturate:
        largest = float(ml_dtypes.finfo(dtype.numpy).max)
        x = np.where(np.isnan(x), x, np.clip(x, -largest, largest))
    return x.astype(dtype.numpy)


def powers_of_two(x: Array, saturate: bool, rounding: str) -> Array:
    """|x| as a power of two, float8_e8m0fnu, which has neither sign nor 0: the next one "up", "down" or "nearest".

    Halves go up. Infinity and NaN become NaN, and so does what is too large, or with `saturate` the largest power.
    See: ONNX Cast-24, the table of float8e8m0.
    """
    bits = np.asarray(x, np.float32).view(np.uint32)
    exponent, fraction = (bits >> 23 & 0xFF).astype(np.int32), bits & 0x7FFFFF
    half = 1 << 22
    up = {
        "down": np.zeros(fraction.shape, np.bool_),
        "up": fraction > 0,
        "nearest": (fraction > half) | ((fraction == half) & (exponent > 0)),
    }[rounding]
    power = exponent + up
    power = np.where(exponent == 0xFF, 0xFF, np.minimum(power, 0xFE) if saturate else power)
    return power.astype(np.uint8).view(DType.FLOAT8_E8M0FNU.numpy)


def padded(x: Array, pads: Sequence[tuple[int, int]], value: Any) -> Array:
    """x with (begin, end) cells of `value` on every axis; negative numbers cut cells off."""
    cut = tuple(slice(max(-begin, 0), size - max(-end, 0)) for size, (begin, end) in zip(x.shape, pads, strict=True))
    grow = [(max(begin, 0), max(end, 0)) for begin, end in pads]
    kept = x[cut]
    if not any(begin or end for begin, end in grow):
        return kept
    shape = tuple(size + begin + end for size, (begin, end) in zip(kept.shape, grow, strict=True))
    result = np.full(shape, value, x.dtype)
    result[tuple(slice(begin, begin + size) for size, (begin, _) in zip(kept.shape, grow, strict=True))] = kept
    return result


def windows(x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Array:
    """The sliding windows of x (N, C, *D) as a view (N, C, *D', *K)."""
    rank = len(kernel)
    extents = tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, extents, axis=tuple(range(2, 2 + rank)))
    steps = (slice(None), slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))
    return view[steps]
