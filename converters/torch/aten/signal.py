"""Short-time Fourier transforms and the windows that go with them."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from isomorph.converters.torch.aten.complex import Complex, as_complex, real_dtype
from isomorph.converters.torch.aten.fourier import scaled
from isomorph.converters.torch.aten.pad import pad
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules, rules
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.ops.signal import DFT

Tensor = Complex | Value


@rules.imports("aten.stft.default", "aten.stft.center")
@complex_rules.imports("aten.stft.default", "aten.stft.center")
def stft(
    b: Lowering,
    self: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = False,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """stft.center(Tensor self, int n_fft, …): (B?, L) -> (B?, K, T), of pairs (B?, K, T, 2) unless return_complex"""
    b.require(not align_to_window, "frames that are aligned to the window")
    b.require(not isinstance(window, Complex), "a complex window")
    part = real_dtype(b, self)
    whole = isinstance(self, Complex)
    batch = self.shape[0] if self.rank == 2 else 1
    signal = self.pair(b) if isinstance(self, Complex) else b.cast(self, part)
    signal = b.reshape(signal, (batch, self.shape[-1], 2 if whole else 1))
    if center:
        signal = pad(b, signal, (0, 0, n_fft // 2, n_fft // 2), pad_mode)
    weights = _window(b, window, n_fft, n_fft if win_length is None else win_length, part)  # type: ignore[arg-type]
    half = not whole if onesided is None else onesided
    made = b.emit(ops.STFT(n_fft // 4 if hop_length is None else hop_length, n_fft, half), signal, weights)
    turned = b.emit(ops.Transpose((0, 2, 1, 3)), made)
    if self.rank == 1:
        turned = b.emit(ops.Squeeze((0,)), turned)
    result = scaled(b, Complex(turned), n_fft, -0.5 if normalized else 0)
    return result if return_complex or (return_complex is None and whole) else result.pair(b)  # type: ignore[union-attr]


def _window(b: Lowering, window: Value | None, n_fft: int, length: int, part: DType) -> Value | None:
    """The window with zeros on both sides up to n_fft samples; None for one of ones."""
    if window is None and length == n_fft:
        return None
    left = (n_fft - length) // 2
    sides = (left, n_fft - length - left)
    if window is None:
        return b.constant(np.pad(np.ones(length, part.numpy), sides), "window")
    return pad(b, b.cast(window, part), sides) if any(sides) else b.cast(window, part)


@rules.imports("aten.istft.default")
@complex_rules.imports("aten.istft.default")
def istft(
    b: Lowering,
    self: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Value | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: Dim | None = None,
    return_complex: bool = False,
) -> Tensor:
    """istft(Tensor self, int n_fft, …): the frames (B?, K, T) turned back, weighted and added up, by the windows' sum

    y[m] = sum_t w[m - t hop] f[t, m - t hop] / sum_t w[m - t hop]^2, where f[t] is the inverse transform of frame t.
    """
    b.require(not return_complex, "complex signals")
    z = as_complex(b, self, real_dtype(b, self))
    pair = z.pair(b) if z.rank == 3 else b.emit(ops.Unsqueeze((0,)), z.pair(b))
    if (pair.shape[1] == n_fft) if onesided is None else not onesided:
        pair = b.emit(ops.Slice((1,), (0,), (n_fft // 2 + 1,), (1,)), pair)  # the rest is taken for its mirror image
    batch, bins, frames = pair.shape[:3]
    hop = n_fft // 4 if hop_length is None else hop_length
    part = pair.dtype
    weights = _window(b, window, n_fft, n_fft if win_length is None else win_length, part)
    flat = b.reshape(b.emit(ops.Transpose((0, 3, 1, 2)), pair), (batch, 2 * b.static(bins, "the bins"), frames))
    turn = ops.ConvTranspose(strides=(hop,), pads=((0, 0),), dilations=(1,), output_padding=(0,))
    scale = float(n_fft) ** 0.5 if normalized else 1.0
    basis = DFT(0, inverse=True, onesided=True, length=n_fft).matrix(n_fft // 2 + 1, n_fft, 2)
    rows = (basis * scale).reshape(-1, 2, n_fft).transpose(1, 0, 2).reshape(-1, 1, n_fft)
    kernels = b.constant(np.ascontiguousarray(rows).astype(part.numpy), "dft")
    total = b.emit(turn, flat, kernels if weights is None else b.emit(ops.Mul(), kernels, weights), None)
    square = b.number(1, part) if weights is None else b.emit(ops.Mul(), weights, weights)
    squares = b.emit(ops.Expand((1, 1, n_fft)), square)
    envelope = b.emit(turn, b.emit(ops.ConstantOfShape((1, 1, frames), 1, part)), squares, None)
    begin = n_fft // 2 if center else 0
    end = _end(total.shape[2], begin, n_fft // 2 if center else 0, length)
    cut = ops.Slice((2,), (begin,), (end,), (1,))
    joined = b.emit(ops.Div(), b.emit(cut, total), b.emit(cut, envelope))
    shape: tuple[Dim, ...] = (batch, joined.shape[2]) if z.rank == 3 else (joined.shape[2],)
    result = b.reshape(joined, shape)
    known = b.recorded[0].shape[-1] if b.recorded and b.recorded[0] is not None else result.shape[-1]
    missing = known - result.shape[-1]
    return result if isinstance(missing, Sym) or missing <= 0 else pad(b, result, (0, missing))


def _end(total: Dim, begin: int, margin: int, length: Dim | None) -> Dim:
    """Where the signal ends; asked for more samples than there are, all there are."""
    if length is None:
        return total - margin
    end = length + begin
    return min(end, total) if isinstance(end, int) and isinstance(total, int) else end


# --- windows ---------------------------------------------------------------------------------------------------------

_LARGEST_WINDOW = 2**20
Shape = Callable[[npt.NDArray[np.float64], float], npt.NDArray[np.float64]]


def _cosines(*factors: float) -> Shape:
    """sum_k (-1)^k factors[k] cos(2 pi k n / (N - 1))"""

    def window(n: npt.NDArray[np.float64], last: float) -> npt.NDArray[np.float64]:
        terms = ((-1) ** k * factor * np.cos(2 * np.pi * k * n / last) for k, factor in enumerate(factors))
        return np.asarray(np.sum(list(terms), 0))

    return window


def _made(b: Lowering, length: int, periodic: bool, dtype: DType | None, shape: Shape) -> Value:
    """N samples of a window; a periodic one is N + 1 samples without the last."""
    b.require(0 <= length <= _LARGEST_WINDOW, f"a window of {length} samples")
    kind = (dtype or DType.FLOAT32).numpy
    if length <= 1:
        return b.constant(np.ones(length, kind), "window")
    count = length + 1 if periodic else length
    return b.constant(shape(np.arange(count, dtype=np.float64), count - 1.0)[:length].astype(kind), "window")


def _register_window(name: str, shape: Shape) -> None:
    @rules.imports(f"aten.{name}_window.default", f"aten.{name}_window.periodic")
    def window(
        b: Lowering,
        window_length: int,
        periodic: bool = True,
        dtype: DType | None = None,
        layout: object = None,
        device: object = None,
        pin_memory: object = None,
    ) -> Value:
        return _made(b, window_length, periodic, dtype, shape)

    window.__doc__ = f"{name}_window.periodic(int window_length, bool periodic, *, ScalarType? dtype=None, …)"


_register_window("hann", _cosines(0.5, 0.5))
_register_window("blackman", _cosines(0.42, 0.5, 0.08))
_register_window("bartlett", lambda n, last: 1 - np.abs(2 * n / last - 1))


@rules.imports(
    "aten.hamming_window.default",
    "aten.hamming_window.periodic",
    "aten.hamming_window.periodic_alpha",
    "aten.hamming_window.periodic_alpha_beta",
)
def hamming_window(
    b: Lowering,
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """hamming_window.periodic_alpha_beta(int window_length, bool periodic, float alpha, float beta, *, …)"""
    return _made(b, window_length, periodic, dtype, _cosines(alpha, beta))


@rules.imports("aten.kaiser_window.default", "aten.kaiser_window.periodic", "aten.kaiser_window.beta")
def kaiser_window(
    b: Lowering,
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    dtype: DType | None = None,
    layout: object = None,
    device: object = None,
    pin_memory: object = None,
) -> Value:
    """kaiser_window.beta(int window_length, bool periodic, float beta, *, …): I0(beta sqrt(1 - t^2)) / I0(beta)"""

    def shape(n: npt.NDArray[np.float64], last: float) -> npt.NDArray[np.float64]:
        return np.asarray(np.i0(beta * np.sqrt(np.maximum(1 - (2 * n / last - 1) ** 2, 0))) / np.i0(beta))

    return _made(b, window_length, periodic, dtype, shape)
