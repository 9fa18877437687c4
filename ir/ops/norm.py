"""Normalization layers in their inference form."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from isomorph.ir.layout import LayoutRule, Perm, inverse
from isomorph.ir.op import Op, TensorType, broadcast, normalize_axes, normalize_axis, operation
from isomorph.ir.ops.elementwise import Add, Div, Max, Mul, Pow, Sqrt, Sub, scalar
from isomorph.ir.ops.numerics import Array, in_single, padded
from isomorph.ir.ops.reduce import ReduceL1, ReduceL2, ReduceMean
from isomorph.ir.ops.shape import Pad, Reshape, Slice
from isomorph.ir.shapes import Shape, Sym, elements

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = [
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
    "LocalResponseNormalization", "LpNormalization", "RMSNormalization",
]  # fmt: skip


def _check_channels(op: Op, x: TensorType, axis: int, *vectors: TensorType | None) -> None:
    channels = x.shape[normalize_axis(axis, x.rank)]
    for vector in vectors:
        op.require(
            vector is None or (vector.rank == 1 and (vector.shape[0] == channels or isinstance(channels, Sym))),
            f"{vector} for {channels} channels of {x}",
        )


def _along(axis: int, rank: int) -> tuple[int, ...]:
    """The shape (1, ..., -1, ..., 1) that broadcasts a vector along `axis`."""
    return tuple(-1 if other == axis % rank else 1 for other in range(rank))


def _affine(y: Array, scale: Array | None, bias: Array | None, shape: tuple[int, ...]) -> Array:
    scaled = y if scale is None else y * scale.reshape(shape)
    return scaled if bias is None else scaled + bias.reshape(shape)


def _normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """(x - mean) / sqrt(var + epsilon) over `axes`, the variance taken of the centered values."""
    centered = x - np.mean(x, axes, keepdims=True)
    variance = np.mean(centered * centered, axes, keepdims=True)
    return centered / np.sqrt(variance + x.dtype.type(epsilon))  # type: ignore[no-any-return]


def _emit_vector(b: Builder, vector: Value, axis: int, rank: int) -> Value:
    """The vector under the shape that broadcasts it along `axis`."""
    shape: Shape = tuple(vector.shape[0] if other == axis else 1 for other in range(rank))
    return vector if axis == rank - 1 else b.emit(Reshape(shape), vector)


def _emit_affine(b: Builder, y: Value, scale: Value | None, bias: Value | None) -> Value:
    scaled = y if scale is None else b.emit(Mul(), y, scale)
    return scaled if bias is None else b.emit(Add(), scaled, bias)


def _emit_normalized(b: Builder, x: Value, axes: tuple[int, ...], epsilon: float) -> Value:
    centered = b.emit(Sub(), x, b.emit(ReduceMean(axes), x))
    variance = b.emit(ReduceMean(axes), b.emit(Mul(), centered, centered))
    return b.emit(Div(), centered, b.emit(Sqrt(), b.emit(Add(), variance, scalar(b, epsilon, x))))


@operation
class _ChannelNorm(Op):
    """Base: statistics for each index of the channel axis `axis`."""

    epsilon: float
    axis: int = 1

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])


@operation
class BatchNormalization(_ChannelNorm):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, with recorded statistics per index of `axis`.

    Shapes: x and y any shape with C at `axis`; scale, bias (absent: 1 and 0), mean, var (C,).
    `momentum` is the share of mean and var that one step of training keeps (Keras' momentum, 1 - PyTorch's); inference,
    which alone is computed here, does not look at it.
    Differs from ONNX BatchNormalization-15: inference only, any axis, scale and bias optional.
    See: torch.nn.BatchNorm2d in eval mode; keras.layers.BatchNormalization.
    """

    momentum: float = field(
        default=0.9, kw_only=True
    )  # two ops that differ here alone compute the same: they are equal

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?", "mean", "var")

    def infer(  # type: ignore[override]
        self, x: TensorType, scale: TensorType | None, bias: TensorType | None, mean: TensorType, var: TensorType
    ) -> tuple[TensorType, ...]:
        self.require_float(x)
        _check_channels(self, x, self.axis, scale, bias, mean, var)
        return (x,)

    def evaluate(self, x: Array, scale: Array | None, bias: Array | None, mean: Array, var: Array) -> Array:  # type: ignore[override]
        return in_single(self._formula, x, scale, bias, mean, var)

    def _formula(self, x: Array, scale: Array | None, bias: Array | None, mean: Array, var: Array) -> Array:
        shape = _along(self.axis, x.ndim)
        y = (x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + x.dtype.type(self.epsilon))
        return _affine(y, scale, bias, shape)

    def decompose(  # type: ignore[override]  # noqa: PLR0917
        self, b: Builder, x: Value, scale: Value | None, bias: Value | None, mean: Value, var: Value
    ) -> Value:
        axis = normalize_axis(self.axis, x.rank)
        deviation = b.emit(Sqrt(), b.emit(Add(), var, scalar(b, self.epsilon, var)))
        centered = b.emit(Sub(), x, _emit_vector(b, mean, axis, x.rank))
        y = b.emit(Div(), centered, _emit_vector(b, deviation, axis, x.rank))
        vectors = (None if vector is None else _emit_vector(b, vector, axis, x.rank) for vector in (scale, bias))
        return _emit_affine(b, y, *vectors)


@operation
class InstanceNormalization(_ChannelNorm):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, statistics over the axes other than 0 and `axis`.

    Shapes: x and y (N, ..., C at `axis`, ...); scale, bias (C,), absent: 1 and 0. var is the biased variance.
    See: ONNX InstanceNormalization-22; torch.nn.InstanceNorm2d.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")

    def infer(  # type: ignore[override]
        self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        self.require_float(x)
        _check_channels(self, x, self.axis, scale, bias)
        return (x,)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis]) if perm[0] == 0 else None

    def _axes(self, rank: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(1, rank) if axis != self.axis % rank)

    def evaluate(self, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:  # type: ignore[override]
        return in_single(self._formula, x, scale, bias)

    def _formula(self, x: Array, scale: Array | None, bias: Array | None) -> Array:
        return _affine(_normalized(x, self._axes(x.ndim), self.epsilon), scale, bias, _along(self.axis, x.ndim))

    def decompose(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        y = _emit_normalized(b, x, self._axes(x.rank), self.epsilon)
        vectors = (None if vector is None else _emit_vector(b, vector, axis, x.rank) for vector in (scale, bias))
        return _emit_affine(b, y, *vectors)


@operation
class GroupNormalization(Op):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, statistics over runs of C / num_groups channels.

    The statistics run over all axes but 0, and along `axis` over one of `num_groups` runs of channels.

    Shapes: x and y (N, ..., C at `axis`, ...), C divisible by num_groups; scale, bias (C,), absent: 1 and 0.
    See: ONNX GroupNormalization-21; torch.nn.GroupNorm; keras.layers.GroupNormalization.
    """

    num_groups: int
    epsilon: float
    axis: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(  # type: ignore[override]
        self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        self.require_float(x)
        _check_channels(self, x, self.axis, scale, bias)
        channels = x.shape[normalize_axis(self.axis, x.rank)]
        self.require(self.num_groups > 0, f"{self.num_groups} groups")
        self.require(
            not isinstance(channels, int) or channels % self.num_groups == 0,
            f"{channels} channels in {self.num_groups} groups",
        )
        return (x,)

    def _axes(self, rank: int) -> tuple[int, ...]:
        """The axes of the statistics where `axis` is split into (groups, channels of a group)."""
        return tuple(axis for axis in range(1, rank + 1) if axis != self.axis % rank)

    def evaluate(self, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:  # type: ignore[override]
        return in_single(self._formula, x, scale, bias)

    def _formula(self, x: Array, scale: Array | None, bias: Array | None) -> Array:
        axis = self.axis % x.ndim
        split = x.reshape(*x.shape[:axis], self.num_groups, x.shape[axis] // self.num_groups, *x.shape[axis + 1 :])
        y = _normalized(split, self._axes(x.ndim), self.epsilon).reshape(x.shape)
        return _affine(y, scale, bias, _along(self.axis, x.ndim))

    def decompose(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        split = (*x.shape[:axis], self.num_groups, x.shape[axis] // self.num_groups, *x.shape[axis + 1 :])
        if axis == 1:
            groups = b.emit(Reshape((*split[:2], elements(split[2:]))), x)
            y = b.emit(InstanceNormalization(self.epsilon), groups)
        else:
            y = _emit_normalized(b, b.emit(Reshape(split), x), self._axes(x.rank), self.epsilon)
        vectors = (None if vector is None else _emit_vector(b, vector, axis, x.rank) for vector in (scale, bias))
        return _emit_affine(b, b.emit(Reshape(x.shape), y), *vectors)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis]) if perm[0] == 0 else None


@operation
class LayerNormalization(Op):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, statistics over the axes from `axis` to the last.

    Shapes: x, y any shape; scale, bias broadcast to x.shape[axis:], absent: 1 and 0. var is the biased variance.
    Differs from ONNX LayerNormalization-17: only Y; scale may be absent; statistics in the type of x.
    See: torch.nn.LayerNorm; keras.layers.LayerNormalization.
    """

    epsilon: float
    axis: int

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")

    def infer(  # type: ignore[override]
        self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None
    ) -> tuple[TensorType, ...]:
        self.require_float(x)
        normal = x.shape[normalize_axis(self.axis, x.rank) :]
        for vector in (scale, bias):
            self.require(
                vector is None or broadcast(vector.shape, normal) == normal, f"{vector} for normalized axes of {x}"
            )
        return (x,)

    def _axes(self, rank: int) -> tuple[int, ...]:
        return tuple(range(normalize_axis(self.axis, rank), rank))

    def evaluate(self, x: Array, scale: Array | None = None, bias: Array | None = None) -> Array:  # type: ignore[override]
        return in_single(self._formula, x, scale, bias)

    def _formula(self, x: Array, scale: Array | None, bias: Array | None) -> Array:
        y = _normalized(x, self._axes(x.ndim), self.epsilon)
        scaled = y if scale is None else y * scale
        return scaled if bias is None else scaled + bias

    def decompose(self, b: Builder, x: Value, scale: Value | None = None, bias: Value | None = None) -> Value:  # type: ignore[override]
        return _emit_affine(b, _emit_normalized(b, x, self._axes(x.rank), self.epsilon), scale, bias)


@operation
class RMSNormalization(Op):
    """y = scale * x / sqrt(mean(x^2) + epsilon), the mean over the axes from `axis` to the last.

    Shapes: x, y any shape; scale broadcasts to x.shape[axis:], absent: 1.
    See: ONNX RMSNormalization-23; torch.nn.RMSNorm; keras.layers.RMSNormalization.
    """

    epsilon: float
    axis: int

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?")

    def infer(self, x: TensorType, scale: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        normal = x.shape[normalize_axis(self.axis, x.rank) :]
        self.require(scale is None or broadcast(scale.shape, normal) == normal, f"{scale} for normalized axes of {x}")
        return (x,)

    def _axes(self, rank: int) -> tuple[int, ...]:
        return tuple(range(normalize_axis(self.axis, rank), rank))

    def evaluate(self, x: Array, scale: Array | None = None) -> Array:  # type: ignore[override]
        return in_single(self._formula, x, scale)

    def _formula(self, x: Array, scale: Array | None) -> Array:
        y = x / np.sqrt(np.mean(x * x, self._axes(x.ndim), keepdims=True) + x.dtype.type(self.epsilon))
        return y if scale is None else y * scale  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value, scale: Value | None = None) -> Value:  # type: ignore[override]
        squares = b.emit(Pow(), x, scalar(b, 2.0, x))  # a Pow is what runtimes recognize the formula by
        mean = b.emit(ReduceMean(self._axes(x.rank)), squares)
        y = b.emit(Div(), x, b.emit(Sqrt(), b.emit(Add(), mean, scalar(b, self.epsilon, x))))
        return _emit_affine(b, y, scale, None)


@operation
class LpNormalization(Op):
    """y = x / max(norm, epsilon), norm the p-norm (p 1 or 2) of x over `axes`.

    Differs from ONNX LpNormalization-22: several axes, an epsilon. See: torch.nn.functional.normalize.
    """

    axes: tuple[int, ...]
    p: int = 2
    epsilon: float = 0.0

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        normalize_axes(self.axes, x.rank)
        return (x,)

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self._formula, x)

    def _formula(self, x: Array) -> Array:
        norm = (ReduceL1 if self.p == 1 else ReduceL2)(self.axes).evaluate(x)
        return x / (np.maximum(norm, x.dtype.type(self.epsilon)) if self.epsilon else norm)

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        norm = b.emit((ReduceL1 if self.p == 1 else ReduceL2)(self.axes), x)
        return b.emit(Div(), x, b.emit(Max(), norm, scalar(b, self.epsilon, x)) if self.epsilon else norm)

    def permuted(self, perm: Perm) -> Op | None:
        where = inverse(perm)
        return replace(self, axes=tuple(sorted(where[axis] for axis in self.axes)))


@operation
class LocalResponseNormalization(Op):
    """y[c] = x[c] / (bias + alpha / size * sum of x[c']^2) ^ beta, c' from c - floor((size - 1) / 2)
    to c + ceil((size - 1) / 2).

    Shapes: x, y with C at `axis`. Differs from ONNX LRN-13: any axis. See: torch.nn.LocalResponseNorm.
    """

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0
    axis: int = 1

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        normalize_axis(self.axis, x.rank)
        self.require(self.size > 0, f"a window of {self.size} channels")
        return (x,)

    def _pads(self, rank: int) -> tuple[tuple[int, int], ...]:
        before, after = (self.size - 1) // 2, self.size // 2
        return tuple((before, after) if axis == self.axis % rank else (0, 0) for axis in range(rank))

    def evaluate(self, x: Array) -> Array:  # type: ignore[override]
        return in_single(self._formula, x)

    def _formula(self, x: Array) -> Array:
        squares = padded(x * x, self._pads(x.ndim), 0)
        total = np.lib.stride_tricks.sliding_window_view(squares, self.size, self.axis).sum(-1)
        kind = x.dtype.type
        return x / (kind(self.bias) + kind(self.alpha / self.size) * total) ** kind(self.beta)  # type: ignore[no-any-return]

    def decompose(self, b: Builder, x: Value) -> Value:  # type: ignore[override]
        axis = normalize_axis(self.axis, x.rank)
        squares = b.emit(Pad(self._pads(x.rank)), b.emit(Mul(), x, x))
        channels = x.shape[axis]
        pieces = [b.emit(Slice((axis,), (start,), (channels + start,), (1,)), squares) for start in range(self.size)]
        total = pieces[0]
        for piece in pieces[1:]:
            total = b.emit(Add(), total, piece)
        base = b.emit(Add(), b.emit(Mul(), total, scalar(b, self.alpha / self.size, x)), scalar(b, self.bias, x))
        return b.emit(Div(), x, b.emit(Pow(), base, scalar(b, self.beta, x)))

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])
