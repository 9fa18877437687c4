"""Random numbers. Two runs give two results, unless a seed is given; then they are the runtime's own numbers again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.elementwise import Add, Cast, Cos, Less, Log, Mul, Neg, Sqrt
from isomorph.ir.ops.numerics import Array
from isomorph.ir.ops.reduce import ArgMax
from isomorph.ir.ops.shape import Unsqueeze
from isomorph.ir.shapes import Dim, Shape

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["Bernoulli", "Multinomial", "RandomNormal", "RandomUniform"]


def _generator(seed: float | None) -> np.random.Generator:
    """NumPy's, whose numbers are not those of any other runtime."""
    return np.random.default_rng(None if seed is None else np.asarray(seed, np.float64).view(np.uint64).item())


def _sizes(shape: Shape) -> list[int]:
    """The sizes, which are numbers in an evaluation."""
    return [size for size in shape if isinstance(size, int)]


@operation
class RandomUniform(Op):
    """y (*shape): independent numbers, uniform in [low, high).

    Differs from ONNX RandomUniform-22: sizes may be symbolic.
    """

    shape: Shape
    dtype: DType = DType.FLOAT32
    low: float = 0.0
    high: float = 1.0
    seed: float | None = None

    inputs: ClassVar[tuple[str, ...]] = ()
    is_random: ClassVar[bool] = True

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (_floating(self, self.dtype, self.shape),)

    def evaluate(self) -> Array:  # type: ignore[override]
        drawn = _generator(self.seed).uniform(self.low, self.high, _sizes(self.shape))
        return drawn.astype(self.dtype.numpy)


@operation
class RandomNormal(Op):
    """y (*shape): independent normal numbers, mean and standard deviation `scale` given.

    Differs from ONNX RandomNormal-22: sizes may be symbolic.
    """

    shape: Shape
    dtype: DType = DType.FLOAT32
    mean: float = 0.0
    scale: float = 1.0
    seed: float | None = None

    inputs: ClassVar[tuple[str, ...]] = ()
    is_random: ClassVar[bool] = True

    def infer(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return (_floating(self, self.dtype, self.shape),)

    def evaluate(self) -> Array:  # type: ignore[override]
        drawn = _generator(self.seed).normal(self.mean, self.scale, _sizes(self.shape))
        return drawn.astype(self.dtype.numpy)

    def decompose(self, b: Builder) -> Value:  # type: ignore[override]
        """mean + scale sqrt(-2 log u) cos(2 pi v) of two uniform numbers (Box and Muller)."""
        lowest = float(np.finfo(np.float32).tiny)
        seeds = (None, None) if self.seed is None else (self.seed, self.seed + 1)
        u = b.emit(RandomUniform(self.shape, self.dtype, lowest, 1.0, seeds[0]))
        v = b.emit(RandomUniform(self.shape, self.dtype, 0.0, 2 * math.pi, seeds[1]))
        radius = b.emit(Sqrt(), b.emit(Mul(), b.emit(Log(), u), self._number(b, -2.0)))
        drawn = b.emit(Mul(), radius, b.emit(Cos(), v))
        return b.emit(Add(), b.emit(Mul(), drawn, self._number(b, self.scale)), self._number(b, self.mean))

    def _number(self, b: Builder, value: float) -> Value:
        return b.constant(np.asarray(value).astype(self.dtype.numpy), "scalar")


def _floating(op: Op, dtype: DType, shape: Shape) -> TensorType:
    if not dtype.is_float:
        raise DTypeError(f"{op.name}: random numbers of {dtype}")
    return TensorType(dtype, shape)


@operation
class Bernoulli(Op):
    """y = 1 with probability p, else 0, in `dtype`; p and y of the same shape. See: ONNX Bernoulli-22."""

    dtype: DType
    seed: float | None = None

    inputs: ClassVar[tuple[str, ...]] = ("p",)
    is_random: ClassVar[bool] = True

    def infer(self, p: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(p)
        return (TensorType(self.dtype, p.shape),)

    def evaluate(self, p: Array) -> Array:  # type: ignore[override]
        return np.asarray(_generator(self.seed).random(p.shape) < p.astype(np.float64)).astype(self.dtype.numpy)

    def decompose(self, b: Builder, p: Value) -> Value:  # type: ignore[override]
        drawn = b.emit(Less(), b.emit(RandomUniform(p.shape, p.dtype, seed=self.seed)), p)
        return drawn if self.dtype is DType.BOOL else b.emit(Cast(self.dtype), drawn)


@operation
class Multinomial(Op):
    """`sample_size` indices of classes, drawn with replacement by their probabilities.

    Shapes: x (B, C), logarithms of the probabilities, each row up to a constant; y (B, sample_size) in `dtype`.
    See: ONNX Multinomial-22.
    """

    sample_size: int
    dtype: DType = DType.INT64
    seed: float | None = None

    is_random: ClassVar[bool] = True

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        self.require(x.rank == 2, f"{x} is no matrix")
        return (TensorType(self.dtype, (x.shape[0], self.sample_size)),)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        noise = _generator(self.seed).gumbel(size=(x.shape[0], self.sample_size, x.shape[1]))
        return np.asarray(np.argmax(x.astype(np.float64)[:, None] + noise, -1), self.dtype.numpy)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        """The class with the largest sum of its logarithm and a Gumbel number, -log(-log(u))."""
        shape: tuple[Dim, ...] = (x.shape[0], self.sample_size, x.shape[1])
        lowest = float(np.finfo(np.float32).tiny)
        drawn = b.emit(RandomUniform(shape, x.dtype, lowest, 1.0, self.seed))
        noise = b.emit(Neg(), b.emit(Log(), b.emit(Neg(), b.emit(Log(), drawn))))
        best = b.emit(ArgMax(2, keepdims=False), b.emit(Add(), b.emit(Unsqueeze((1,)), x), noise))
        return best if self.dtype is DType.INT64 else b.emit(Cast(self.dtype), best)
