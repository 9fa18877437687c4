"""Normalization layers in their inference form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from isomorph.ir.layout import LayoutRule, Perm, inverse
from isomorph.ir.op import Op, TensorType, broadcast, normalize_axes, normalize_axis

__all__ = [
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LocalResponseNormalization",
    "LpNormalization", "RMSNormalization",
]  # fmt: skip


def _check_channels(op: Op, x: TensorType, axis: int, *vectors: TensorType | None) -> None:
    channels = x.shape[normalize_axis(axis, x.rank)]
    for vector in vectors:
        op.require(vector is None or (vector.rank == 1 and vector.shape[0] == channels), f"{vector} for {channels} channels of {x}")


@dataclass(frozen=True, slots=True)
class _ChannelNorm(Op):
    epsilon: float
    axis: int = 1

    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])


@dataclass(frozen=True, slots=True)
class BatchNormalization(_ChannelNorm):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, with recorded statistics per index of `axis`.

    Shapes: x and y any shape with C at `axis`; scale, bias (absent: 1 and 0), mean, var (C,).
    Differs from ONNX BatchNormalization-15: inference only, any axis, scale and bias optional.
    See: torch.nn.BatchNorm2d in eval mode; keras.layers.BatchNormalization.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?", "mean", "var")

    def infer(  # type: ignore[override]
        self, x: TensorType, scale: TensorType | None, bias: TensorType | None, mean: TensorType, var: TensorType
    ) -> tuple[TensorType, ...]:
        self.require_float(x)
        _check_channels(self, x, self.axis, scale, bias, mean, var)
        return (x,)


@dataclass(frozen=True, slots=True)
class InstanceNormalization(_ChannelNorm):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, statistics over the axes other than 0 and `axis`.

    Shapes: x and y (N, ..., C at `axis`, ...); scale, bias (C,), absent: 1 and 0. var is the biased variance.
    See: ONNX InstanceNormalization-22; torch.nn.InstanceNorm2d.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")

    def infer(self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        _check_channels(self, x, self.axis, scale, bias)
        return (x,)


@dataclass(frozen=True, slots=True)
class GroupNormalization(Op):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, statistics over each of `num_groups` runs of channels and all
    axes but 0 and `axis`.

    Shapes: x and y (N, ..., C at `axis`, ...), C divisible by num_groups; scale, bias (C,), absent: 1 and 0.
    See: ONNX GroupNormalization-21; torch.nn.GroupNorm; keras.layers.GroupNormalization.
    """

    num_groups: int
    epsilon: float
    axis: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")
    layout_rule: ClassVar[LayoutRule] = LayoutRule.AXES

    def infer(self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        _check_channels(self, x, self.axis, scale, bias)
        channels = x.shape[self.axis]
        self.require(not isinstance(channels, int) or channels % self.num_groups == 0, f"{channels} channels in {self.num_groups} groups")
        return (x,)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])


@dataclass(frozen=True, slots=True)
class LayerNormalization(Op):
    """y = scale * (x - mean) / sqrt(var + epsilon) + bias, statistics over the axes from `axis` to the last.

    Shapes: x, y any shape; scale, bias broadcast to x.shape[axis:], absent: 1 and 0. var is the biased variance.
    Differs from ONNX LayerNormalization-17: only Y; scale may be absent; statistics in the type of x.
    See: torch.nn.LayerNorm; keras.layers.LayerNormalization.
    """

    epsilon: float
    axis: int

    inputs: ClassVar[tuple[str, ...]] = ("x", "scale?", "bias?")

    def infer(self, x: TensorType, scale: TensorType | None = None, bias: TensorType | None = None) -> tuple[TensorType, ...]:  # type: ignore[override]
        self.require_float(x)
        normal = x.shape[normalize_axis(self.axis, x.rank) :]
        for vector in (scale, bias):
            self.require(vector is None or broadcast(vector.shape, normal) == normal, f"{vector} for normalized axes of {x}")
        return (x,)


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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

    def permuted(self, perm: Perm) -> Op | None:
        where = inverse(perm)
        return replace(self, axes=tuple(sorted(where[axis] for axis in self.axes)))


@dataclass(frozen=True, slots=True)
class LocalResponseNormalization(Op):
    """y[c] = x[c] / (bias + alpha / size * sum over c' in [c - floor((size-1)/2), c + ceil((size-1)/2)] of x[c']^2) ^ beta.

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
        return (x,)

    def permuted(self, perm: Perm) -> Op | None:
        return replace(self, axis=inverse(perm)[self.axis])
