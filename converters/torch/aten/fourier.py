"""Fourier transforms: torch.fft. The results are complex (complex.py), a real signal stays real."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from isomorph.converters.torch.aten.complex import Complex, as_complex, real_dtype
from isomorph.converters.torch.aten.complex_elementwise import conjugated
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import complex_rules, rules
from isomorph.ir import Dim, DType, Sym, Value, ops
from isomorph.ir.shapes import elements

__all__ = ["scaled", "transformed"]

Tensor = Complex | Value
Sizes = Sequence[Dim] | None


def transformed(
    b: Lowering, x: Tensor, axis: int, *, inverse: bool = False, onesided: bool = False, length: Dim | None = None
) -> Tensor:
    """One `DFT`, without a norm but the inverse's 1/N; a real signal that comes as such is transformed as such."""
    part = real_dtype(b, x)
    if isinstance(x, Complex) or (inverse and onesided):
        x = as_complex(b, x, part).pair(b)
    else:
        x = b.emit(ops.Unsqueeze((x.rank,)), b.cast(x, part))
    size = x.shape[axis]
    stated = None if length == (2 * (size - 1) if inverse and onesided else size) else length
    made = b.emit(ops.DFT(axis, inverse, onesided, stated), x)
    return b.emit(ops.Squeeze((made.rank - 1,)), made) if inverse and onesided else Complex(made)


def scaled(b: Lowering, x: Tensor, points: Dim, power: float) -> Tensor:
    """x * points^power"""
    if power == 0:
        return x
    part = real_dtype(b, x)
    if isinstance(points, Sym):
        count = b.number(points, part)
        factor = count if power == 1 else b.emit(ops.Pow(), count, b.number(power, part))
    else:
        factor = b.number(float(points) ** power, part)
    if isinstance(x, Value):
        return b.emit(ops.Mul(), x, factor)
    return x.each(b, lambda each: b.emit(ops.Mul(), each, factor))


_POWERS = {None: (0.0, -1.0), "backward": (0.0, -1.0), "ortho": (-0.5, -0.5), "forward": (-1.0, 0.0)}
"""The power of N that scales a transform, and its inverse, by the name of the norm."""


def _normed(b: Lowering, x: Tensor, points: Dim, norm: str | None, *, inverse: bool) -> Tensor:
    """The scale that `norm` asks for; a DFT's inverse has 1/N already."""
    power = _POWERS[norm][inverse]
    return scaled(b, x, points, power + 1 if inverse else power)


def _axis(dim: int, x: Tensor) -> int:
    return dim % max(x.rank, 1)


def _plan(x: Tensor, s: Sizes, dim: Sequence[int] | None, *, half: bool = False) -> list[tuple[int, Dim]]:
    """(axis, points) of a transform of several axes; `half`: x has one half of the last one's spectrum."""
    if dim is None:
        count = x.rank if s is None else len(s)
        axes = list(range(x.rank - count, x.rank))
    else:
        axes = [_axis(each, x) for each in dim]
    last = 2 * (x.shape[axes[-1]] - 1) if half and axes else 0
    whole = [last if half and axis == axes[-1] else x.shape[axis] for axis in axes]
    given = list(s) if s is not None else [-1] * len(axes)
    return [(axis, size if asked == -1 else asked) for axis, size, asked in zip(axes, whole, given, strict=True)]


def _all_points(plan: Sequence[tuple[int, Dim]]) -> Dim:
    return elements(points for _, points in plan)


def _whole(b: Lowering, x: Tensor, plan: Sequence[tuple[int, Dim]], norm: str | None, *, inverse: bool) -> Tensor:
    """Complex to complex, along all axes of the plan."""
    for axis, points in reversed(plan):
        x = transformed(b, x, axis, inverse=inverse, length=points)
    made = as_complex(b, x, real_dtype(b, x))
    return _normed(b, made, _all_points(plan), norm, inverse=inverse)


def _from_real(b: Lowering, x: Value, plan: Sequence[tuple[int, Dim]], norm: str | None) -> Tensor:
    """Real to half of the spectrum."""
    (last, count), rest = plan[-1], plan[:-1]
    half = transformed(b, x, last, onesided=True, length=count)
    for axis, points in reversed(rest):
        half = transformed(b, half, axis, length=points)
    return _normed(b, half, _all_points(plan), norm, inverse=False)


def _to_real(b: Lowering, x: Tensor, plan: Sequence[tuple[int, Dim]], norm: str | None) -> Tensor:
    """Half of a spectrum to real."""
    (last, count), rest = plan[-1], plan[:-1]
    for axis, points in rest:
        x = transformed(b, x, axis, inverse=True, length=points)
    made = transformed(b, x, last, inverse=True, onesided=True, length=count)
    return _normed(b, made, _all_points(plan), norm, inverse=True)


def _register_transforms(name: str, *, inverse: bool) -> None:
    @complex_rules.imports(f"aten.fft_{name}.default")
    def of_one(b: Lowering, self: Tensor, n: Dim | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        return _whole(b, self, _plan(self, None if n is None else (n,), (dim,)), norm, inverse=inverse)

    @complex_rules.imports(f"aten.fft_{name}2.default")
    def of_two(
        b: Lowering, self: Tensor, s: Sizes = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
    ) -> Tensor:
        return _whole(b, self, _plan(self, s, dim), norm, inverse=inverse)

    @complex_rules.imports(f"aten.fft_{name}n.default")
    def of_many(
        b: Lowering, self: Tensor, s: Sizes = None, dim: Sequence[int] | None = None, norm: str | None = None
    ) -> Tensor:
        return _whole(b, self, _plan(self, s, dim), norm, inverse=inverse)

    of_one.__doc__ = f"fft_{name}(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)"
    of_two.__doc__ = f"fft_{name}2(Tensor self, SymInt[1]? s=None, int[1] dim=[-2,-1], str? norm=None)"
    of_many.__doc__ = f"fft_{name}n(Tensor self, SymInt[1]? s=None, int[1]? dim=None, str? norm=None)"


_register_transforms("fft", inverse=False)
_register_transforms("ifft", inverse=True)


@complex_rules.imports("aten.fft_rfft.default")
def rfft(b: Lowering, self: Value, n: Dim | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """fft_rfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)"""
    return _from_real(b, self, _plan(self, None if n is None else (n,), (dim,)), norm)


@complex_rules.imports("aten.fft_rfft2.default")
def rfft2(b: Lowering, self: Value, s: Sizes = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """fft_rfft2(Tensor self, SymInt[1]? s=None, int[1] dim=[-2,-1], str? norm=None)"""
    return _from_real(b, self, _plan(self, s, dim), norm)


@complex_rules.imports("aten.fft_rfftn.default")
def rfftn(
    b: Lowering, self: Value, s: Sizes = None, dim: Sequence[int] | None = None, norm: str | None = None
) -> Tensor:
    """fft_rfftn(Tensor self, SymInt[1]? s=None, int[1]? dim=None, str? norm=None)"""
    return _from_real(b, self, _plan(self, s, dim), norm)


@rules.imports("aten.fft_irfft.default")
@complex_rules.imports("aten.fft_irfft.default")
def irfft(b: Lowering, self: Tensor, n: Dim | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """fft_irfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None)"""
    return _to_real(b, self, _plan(self, None if n is None else (n,), (dim,), half=True), norm)


@rules.imports("aten.fft_irfft2.default")
@complex_rules.imports("aten.fft_irfft2.default")
def irfft2(
    b: Lowering, self: Tensor, s: Sizes = None, dim: Sequence[int] = (-2, -1), norm: str | None = None
) -> Tensor:
    """fft_irfft2(Tensor self, SymInt[1]? s=None, int[1] dim=[-2,-1], str? norm=None)"""
    return _to_real(b, self, _plan(self, s, dim, half=True), norm)


@rules.imports("aten.fft_irfftn.default")
@complex_rules.imports("aten.fft_irfftn.default")
def irfftn(
    b: Lowering, self: Tensor, s: Sizes = None, dim: Sequence[int] | None = None, norm: str | None = None
) -> Tensor:
    """fft_irfftn(Tensor self, SymInt[1]? s=None, int[1]? dim=None, str? norm=None)"""
    return _to_real(b, self, _plan(self, s, dim, half=True), norm)


_MIRRORED = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}


@rules.imports("aten.fft_hfft.default")
@complex_rules.imports("aten.fft_hfft.default")
def hfft(b: Lowering, self: Tensor, n: Dim | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """fft_hfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None): irfft of the conjugate"""
    z = conjugated(b, as_complex(b, self, real_dtype(b, self)))
    return irfft(b, z, n, dim, _MIRRORED[norm])


@complex_rules.imports("aten.fft_ihfft.default")
def ihfft(b: Lowering, self: Value, n: Dim | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """fft_ihfft(Tensor self, SymInt? n=None, int dim=-1, str? norm=None): the conjugate of rfft"""
    made = rfft(b, self, n, dim, _MIRRORED[norm])
    return conjugated(b, as_complex(b, made, real_dtype(b, made)))


def _register_hermitian(suffix: str, default: Sequence[int] | None) -> None:
    @rules.imports(f"aten.fft_hfft{suffix}.default")
    @complex_rules.imports(f"aten.fft_hfft{suffix}.default")
    def to_real(
        b: Lowering, self: Tensor, s: Sizes = None, dim: Sequence[int] | None = default, norm: str | None = None
    ) -> Tensor:
        plan = _plan(self, s, dim, half=True)
        z: Tensor = self
        for axis, points in plan[:-1]:
            z = transformed(b, z, axis, length=points)
        z = conjugated(b, as_complex(b, z, real_dtype(b, z)))
        last, count = plan[-1]
        made = scaled(b, transformed(b, z, last, inverse=True, onesided=True, length=count), count, 1)
        return scaled(b, made, _all_points(plan), _POWERS[norm][False])

    @complex_rules.imports(f"aten.fft_ihfft{suffix}.default")
    def from_real(
        b: Lowering, self: Value, s: Sizes = None, dim: Sequence[int] | None = default, norm: str | None = None
    ) -> Tensor:
        plan = _plan(self, s, dim)
        last, count = plan[-1]
        half = transformed(b, self, last, onesided=True, length=count)
        z: Tensor = conjugated(b, as_complex(b, half, real_dtype(b, half)))
        for axis, points in plan[:-1]:
            z = transformed(b, z, axis, inverse=True, length=points)
        return scaled(b, scaled(b, z, count, -1), _all_points(plan), _POWERS[norm][True] + 1)

    to_real.__doc__ = f"fft_hfft{suffix}(Tensor self, …): fftn of all axes but the last, and hfft of that"
    from_real.__doc__ = f"fft_ihfft{suffix}(Tensor self, …): ihfft of the last axis, and ifftn of the others"


_register_hermitian("2", (-2, -1))
_register_hermitian("n", None)


_CODED = (0.0, -0.5, -1.0)
"""The power of N that scales a transform, by the code of the backend functions."""


@complex_rules.imports("aten._fft_c2c.default")
def c2c(b: Lowering, self: Complex, dim: Sequence[int], normalization: int, forward: bool) -> Tensor:
    """_fft_c2c(Tensor self, SymInt[] dim, int normalization, bool forward)"""
    plan = _plan(self, None, dim)
    x: Tensor = self
    for axis, points in plan:
        x = transformed(b, x, axis, inverse=not forward, length=points)
    return scaled(b, x, _all_points(plan), _CODED[normalization] + (not forward))


@complex_rules.imports("aten._fft_r2c.default")
def r2c(b: Lowering, self: Value, dim: Sequence[int], normalization: int, onesided: bool) -> Tensor:
    """_fft_r2c(Tensor self, int[] dim, int normalization, bool onesided)"""
    plan = _plan(self, None, dim)
    made = _from_real(b, self, plan, None) if onesided else _whole(b, self, plan, None, inverse=False)
    return scaled(b, made, _all_points(plan), _CODED[normalization])


@complex_rules.imports("aten._fft_c2r.default")
def c2r(b: Lowering, self: Complex, dim: Sequence[int], normalization: int, last_dim_size: Dim) -> Tensor:
    """_fft_c2r(Tensor self, int[] dim, int normalization, SymInt last_dim_size)"""
    sizes = [*(self.shape[_axis(each, self)] for each in dim[:-1]), last_dim_size]
    plan = _plan(self, sizes, dim, half=True)
    return scaled(b, _to_real(b, self, plan, None), _all_points(plan), _CODED[normalization] + 1)


def _register_shift(name: str, *, back: bool) -> None:
    @rules.imports(f"aten.fft_{name}.default")
    @complex_rules.imports(f"aten.fft_{name}.default")
    def shift(b: Lowering, self: Tensor, dim: Sequence[int] | None = None) -> Tensor:
        axes = [_axis(each, self) for each in (range(self.rank) if dim is None else dim)]
        shifts = [(self.shape[axis] + back) // 2 for axis in axes]
        roll = (rules if isinstance(self, Value) else complex_rules).importer("aten.roll.default")
        assert roll is not None
        return roll(b, self, shifts=shifts, dims=axes)  # type: ignore[return-value]

    shift.__doc__ = f"fft_{name}(Tensor self, int[1]? dim=None): rolled by half of each axis, 0 in the middle or back"


_register_shift("fftshift", back=False)
_register_shift("ifftshift", back=True)


def _frequencies(name: str, bins: Callable[..., npt.NDArray[np.floating[Any]]]) -> None:
    @rules.imports(f"aten.fft_{name}.default")
    def frequencies(
        b: Lowering,
        n: int,
        d: float = 1.0,
        dtype: DType | None = None,
        layout: object = None,
        device: object = None,
        pin_memory: object = None,
    ) -> Value:
        kind = (dtype or DType.FLOAT32).numpy
        return b.constant(np.round(bins(n, 1 / n)).astype(kind) * kind.type(1 / (n * d)), "frequencies")

    frequencies.__doc__ = f"fft_{name}(int n, float d=1.0, *, …): the frequencies of the bins"


_frequencies("fftfreq", np.fft.fftfreq)
_frequencies("rfftfreq", np.fft.rfftfreq)
