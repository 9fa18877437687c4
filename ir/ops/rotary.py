"""Rotary position embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.elementwise import Add, Mul, Sub
from isomorph.ir.ops.numerics import Array, in_single
from isomorph.ir.ops.shape import Concat, Reshape, Slice, Split, Unsqueeze
from isomorph.ir.shapes import Dim, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["RotaryEmbedding"]


@operation
class RotaryEmbedding(Op):
    """Pairs (a, b) of elements of each head turned by an angle: (a cos - b sin, a sin + b cos).

    Shapes: x (N, H, L, E), or with `heads` of H (N, L, H * E); cos, sin (N, L, R / 2), the type of x; y as x.
    The first R elements of a head are turned, R = 2 * cos.shape[2], the others stay. The pairs are elements i and
    i + R / 2 of a head; `interleaved`, 2 i and 2 i + 1. See: ONNX RotaryEmbedding-23; Su et al. 2021, arXiv:2104.09864.
    Differs from ONNX: positions are looked up before.
    """

    heads: int | None = None
    interleaved: bool = False

    inputs: ClassVar[tuple[str, ...]] = ("x", "cos", "sin")

    def infer(self, x: TensorType, cos: TensorType, sin: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_same_dtype(x, cos, sin)
        self.require(x.rank == (4 if self.heads is None else 3), f"heads on an axis, or packed and counted: not {x}")
        self.require(
            cos.rank == 3 and cos.shape == sin.shape, f"cos and sin of one shape (N, L, R / 2): not {cos}, {sin}"
        )
        length = x.shape[-2] if self.heads is None else x.shape[1]
        for given, wanted in zip(cos.shape, (x.shape[0], length), strict=False):
            self.require(
                given == wanted or isinstance(given, Sym) or isinstance(wanted, Sym), f"{cos} does not fit {x}"
            )
        width = self._width(x)
        if isinstance(width, int) and isinstance(cos.shape[2], int):
            self.require(2 * cos.shape[2] <= width, f"{cos} turns more than the {width} elements of a head")
        return (x,)

    def _width(self, x: TensorType) -> Dim:
        """Elements of a head."""
        if self.heads is None:
            return x.shape[3]
        self.require(self.heads > 0 and x.shape[2] % self.heads == 0, f"{x} does not hold {self.heads} heads")
        return x.shape[2] // self.heads

    def decompose(self, b: Builder, x: Value, cos: Value, sin: Value) -> Value:  # type: ignore[override]
        if self.heads is not None:
            apart = b.emit(Reshape((*x.shape[:2], self.heads, self._width(x.type))), x)
            turned = self._turned(b, apart, *(b.emit(Unsqueeze((2,)), each) for each in (cos, sin)))
            return b.emit(Reshape(x.shape), turned)
        return self._turned(b, x, *(b.emit(Unsqueeze((1,)), each) for each in (cos, sin)))

    def _turned(self, b: Builder, x: Value, cos: Value, sin: Value) -> Value:
        """x (…, E) turned by angles that broadcast."""
        half, width = cos.shape[3], x.shape[3]
        self.require(isinstance(half, int), f"a symbolic number of angles, {half}")
        turned = 2 * half
        kept: tuple[Value, ...] = ()
        if turned != width:
            kept = (b.emit(Slice((3,), (turned,), (None,), (1,)), x),)
            x = b.emit(Slice((3,), (0,), (turned,), (1,)), x)
        first, second = self._pairs(b, x, int(half))  # type: ignore[arg-type]
        real = b.emit(Sub(), b.emit(Mul(), first, cos), b.emit(Mul(), second, sin))
        imaginary = b.emit(Add(), b.emit(Mul(), first, sin), b.emit(Mul(), second, cos))
        if self.interleaved:
            parts = [b.emit(Unsqueeze((4,)), each) for each in (real, imaginary)]
            joined = b.emit(Reshape(x.shape), b.emit(Concat(4), *parts))
            return b.emit(Concat(3), joined, *kept) if kept else joined
        return b.emit(Concat(3), real, imaginary, *kept)

    def _pairs(self, b: Builder, x: Value, half: int) -> tuple[Value, Value]:
        """The first and the second elements of all pairs of x (…, R)."""
        if not self.interleaved:
            first, second = b.emit_many(Split(3, (half, half)), x)
            return first, second
        first, second = (b.emit(Slice((3,), (start,), (None,), (2,)), x) for start in (0, 1))
        return first, second

    def evaluate(self, x: Array, cos: Array, sin: Array) -> Array:  # type: ignore[override]
        return in_single(self._formula, x, cos, sin)

    def _formula(self, x: Array, cos: Array, sin: Array) -> Array:
        data = x if self.heads is None else x.reshape(*x.shape[:2], self.heads, -1)
        c, s = (np.expand_dims(each, 1 if self.heads is None else 2) for each in (cos, sin))
        half = cos.shape[2]
        y = data.copy()
        first, second = (
            (data[..., 0 : 2 * half : 2], data[..., 1 : 2 * half : 2])
            if self.interleaved
            else (data[..., :half], data[..., half : 2 * half])
        )
        real, imaginary = first * c - second * s, first * s + second * c
        if self.interleaved:
            y[..., 0 : 2 * half : 2], y[..., 1 : 2 * half : 2] = real, imaginary
        else:
            y[..., :half], y[..., half : 2 * half] = real, imaginary
        return y.reshape(x.shape)
