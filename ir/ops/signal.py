"""Discrete Fourier transforms. Complex numbers stand in pairs (real, imaginary) along a last axis of size 2."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.errors import GraphError
from isomorph.ir.op import Op, TensorType, normalize_axis, operation
from isomorph.ir.ops.conv import Conv
from isomorph.ir.ops.elementwise import Mul
from isomorph.ir.ops.linear import MatMul
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.shape import Reshape, Slice, Squeeze, Transpose, Unsqueeze
from isomorph.ir.shapes import Dim, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["DFT", "STFT"]


@operation
class DFT(Op):
    """The discrete Fourier transform along `axis`.

    y[k] = sum_n x[n] e^(-2 pi i k n / N); with `inverse` y[n] = 1/N sum_k x[k] e^(2 pi i k n / N)

    N is `length`, else the size of the axis; with `inverse` and `onesided` else 2 (size - 1). A longer input is cut, a
    shorter one filled up with zeros.
    Shapes: x (*A, M, *B, C) with M at `axis`, C = 1 for real numbers, 2 for pairs; y (*A, N, *B, 2).
    With `onesided`, x is real and y (*A, N // 2 + 1, *B, 2), the other half being its mirror image; `inverse` undoes
    that: x has pairs, y (*A, N, *B, 1). The imaginary parts of its first and, for even N, its last bin do not count.
    Raises: ShapeError for an axis that is not one of the signal's, or C that does not fit `onesided`.
    Differs from ONNX DFT-20: the length and the axis are attributes.
    """

    axis: int
    inverse: bool = False
    onesided: bool = False
    length: Dim | None = None

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require(x.rank >= 2, "x needs an axis for the signal and one for the parts of its numbers")
        axis = normalize_axis(self.axis, x.rank - 1)
        allowed = (2,) if self.inverse and self.onesided else (1,) if self.onesided else (1, 2)
        self.require(
            x.shape[-1] in allowed, f"the last axis has size {x.shape[-1]}, not {' or '.join(map(str, allowed))}"
        )
        count = self.points(x.shape[axis])
        self.require(isinstance(count, Sym) or count > 0, f"a transform of {count} points")
        if self.onesided and not self.inverse:
            count = count // 2 + 1
        parts = 1 if self.onesided and self.inverse else 2
        return (TensorType(x.dtype, (*x.shape[:axis], count, *x.shape[axis + 1 : -1], parts)),)

    def points(self, size: Dim) -> Dim:
        """N, for an axis of this size."""
        if self.length is not None:
            return self.length
        return 2 * (size - 1) if self.onesided and self.inverse else size

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        count = self.points(x.shape[self.axis])
        assert isinstance(count, int)
        wide = x.astype(np.float64)
        if self.onesided:
            made = (
                np.fft.irfft(_paired(wide), count, self.axis)
                if self.inverse
                else np.fft.rfft(wide[..., 0], count, self.axis)
            )
        else:
            transform = np.fft.ifft if self.inverse else np.fft.fft
            made = transform(_paired(wide) if x.shape[-1] == 2 else wide[..., 0], count, self.axis)
        parts = made[..., None] if made.dtype.kind == "f" else np.stack((made.real, made.imag), -1)
        return parts.astype(x.dtype)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """A product with the constant matrix of the transform: for short signals the fastest way, and an exact one."""
        axis, size = self.axis, x.shape[self.axis]
        count = self.points(size)
        if isinstance(size, Sym) or isinstance(count, Sym):
            raise GraphError("its length is not known")
        needed = count // 2 + 1 if self.onesided and self.inverse else count
        if size > needed:
            x, size = b.emit(Slice((axis,), (0,), (needed,), (1,)), x), needed
        order = [*(each for each in range(x.rank - 1) if each != axis), axis]
        turned = x if axis == x.rank - 2 else b.emit(Transpose((*order, x.rank - 1)), x)
        lead = turned.shape[:-2]
        if x.shape[-1] == 1:
            flat = b.emit(Squeeze((x.rank - 1,)), turned)
        else:
            flat = b.emit(Reshape((*lead, 2 * size)), turned)
        basis = self.matrix(size, count, int(x.shape[-1])).astype(x.dtype.numpy)  # type: ignore[arg-type]
        product = b.emit(MatMul(), flat, b.constant(basis, "dft"))
        if self.onesided and self.inverse:
            made = b.emit(Unsqueeze((x.rank - 1,)), product)
        else:
            made = b.emit(Reshape((*lead, basis.shape[1] // 2, 2)), product)
        if axis == x.rank - 2:
            return made
        back = sorted(range(x.rank - 1), key=order.__getitem__)
        return b.emit(Transpose((*back, x.rank - 1)), made)

    def matrix(self, size: int, count: int, parts: int) -> Array:
        """(size * parts, K * parts') of float64: the transform as a matrix, its rows and columns in pairs."""
        if self.onesided and self.inverse:
            return _inverse_real_basis(size, count)
        kept = count // 2 + 1 if self.onesided else count
        turns = np.outer(np.arange(size), np.arange(kept)) % count
        angles = 2 * np.pi / count * turns * (1 if self.inverse else -1)
        cosine, sine = np.cos(angles), np.sin(angles)
        rows = np.stack((np.stack((cosine, sine), -1), np.stack((-sine, cosine), -1)), 1)[:, :parts]
        return rows.reshape(size * parts, kept * 2) / (count if self.inverse else 1)


def _inverse_real_basis(size: int, count: int) -> Array:
    """(2 size, count): x[n] = 1/N sum_k m_k (re[k] cos - im[k] sin)(2 pi k n / N), m_k = 2 but for the outer bins."""
    bins = np.arange(size)
    angles = 2 * np.pi / count * (np.outer(bins, np.arange(count)) % count)
    outer = (bins == 0) | (2 * bins == count)
    times = np.where(outer, 1, 2)[:, None] / count
    sine = np.where(outer[:, None], 0, np.sin(angles))
    return np.stack((times * np.cos(angles), -times * sine), 1).reshape(2 * size, count)


def _paired(x: Array) -> Array:
    """Complex numbers from pairs."""
    return np.asarray(x[..., 0] + 1j * x[..., 1])


@operation
class STFT(Op):
    """The discrete Fourier transforms of the frames of a signal: of windows that start every `frame_step` samples.

    y[b, t, k] = sum_n window[n] x[b, t frame_step + n] e^(-2 pi i k n / frame_length)

    Shapes: x (B, L, C) with C = 1 for real numbers, 2 for pairs; window (frame_length,), ones if absent;
    y (B, T, K, 2), T = (L - frame_length) // frame_step + 1, K = frame_length // 2 + 1 if `onesided` else frame_length.
    Raises: ShapeError for a signal shorter than a frame, or for pairs with `onesided`.
    Differs from ONNX STFT-17: the step and the length are attributes.
    """

    frame_step: int
    frame_length: int
    onesided: bool = True

    inputs: ClassVar[tuple[str, ...]] = ("x", "window?")

    def infer(self, x: TensorType, window: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require_same_dtype(x, window)
        self.require(x.rank == 3 and x.shape[2] in ((1,) if self.onesided else (1, 2)), f"x is {x}")
        self.require(window is None or window.shape == (self.frame_length,), f"the window is {window}")
        room = x.shape[1] - self.frame_length
        self.require(isinstance(room, Sym) or room >= 0, f"the signal is shorter than a frame of {self.frame_length}")
        return (TensorType(x.dtype, (x.shape[0], room // self.frame_step + 1, self.bins, 2)),)

    @property
    def bins(self) -> int:
        """K."""
        return self.frame_length // 2 + 1 if self.onesided else self.frame_length

    def evaluate(self, x: Array, window: Array | None = None) -> Array:  # type: ignore[override]
        wide = x.astype(np.float64)
        signal = _paired(wide) if x.shape[2] == 2 else wide[..., 0]
        frames = np.lib.stride_tricks.sliding_window_view(signal, self.frame_length, 1)[:, :: self.frame_step]
        weighted = frames if window is None else frames * window.astype(np.float64)
        made = np.fft.rfft(weighted) if self.onesided else np.fft.fft(weighted)
        return np.stack((made.real, made.imag), -1).astype(x.dtype)

    def decompose(self, b: Builder, x: Value, window: Value | None = None) -> Value:  # type: ignore[override]
        """One convolution: its kernels are the rows of the transform's matrix, times the window."""
        parts = x.shape[2]
        assert isinstance(parts, int)
        basis = DFT(0, onesided=self.onesided).matrix(self.frame_length, self.frame_length, parts)
        kernels = basis.reshape(self.frame_length, parts, self.bins, 2).transpose(3, 2, 1, 0)
        rows = np.ascontiguousarray(kernels.reshape(2 * self.bins, parts, self.frame_length))
        weight = b.constant(rows.astype(x.dtype.numpy), "dft")
        if window is not None:
            weight = b.emit(Mul(), weight, window)
        conv = Conv(strides=(self.frame_step,), pads=((0, 0),), dilations=(1,))
        made = b.emit(conv, _channels_first(b, x), weight, None)
        batch, _, frames = made.shape
        return b.emit(Transpose((0, 3, 2, 1)), b.emit(Reshape((batch, 2, self.bins, frames)), made))


def _channels_first(b: Builder, x: Value) -> Value:
    """(B, L, C) as (B, C, L)."""
    if x.shape[2] != 1:
        return b.emit(Transpose((0, 2, 1)), x)
    return b.emit(Reshape((x.shape[0], 1, x.shape[1])), x)
