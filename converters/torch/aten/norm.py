"""Normalization layers, outside of training."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.aten.reduce import vector_norm
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, Sym, Value, ops

_TRAINING = "it is in training mode; call model.eval() before torch.export.export"


@rules.imports("aten.batch_norm.default")
def batch_norm(
    b: Lowering,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    """batch_norm(input, weight?, bias?, running_mean?, running_var?, training, momentum, eps, cudnn_enabled)"""
    if running_mean is None and running_var is None:
        return _by_its_own_statistics(b, input, weight, bias, eps)
    b.require(not training and running_mean is not None and running_var is not None, _TRAINING)
    _require_channels(b, input)
    op = ops.BatchNormalization(eps, 1, momentum=1 - momentum)
    return b.emit(op, input, weight, bias, running_mean, running_var)


def _require_channels(b: Lowering, x: Value) -> None:
    b.require(x.rank >= 2, f"channels of {x.type}")
    b.static(x.shape[1], "the number of channels")


def _by_its_own_statistics(b: Lowering, x: Value, weight: Value | None, bias: Value | None, eps: float) -> Value:
    """(x - mean) / sqrt(var + eps) weight + bias over all axes but 1: a layer that keeps no statistics, in eval too."""
    b.require(x.rank >= 2, f"channels of {x.type}")
    axes = tuple(axis for axis in range(x.rank) if axis != 1)
    column = (-1, *(1,) * (x.rank - 2))
    deviation = b.emit(ops.Sub(), x, b.emit(ops.ReduceMean(axes), x))
    variance = b.emit(ops.ReduceMean(axes), b.emit(ops.Mul(), deviation, deviation))
    spread = b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, b.number(eps, x.dtype)))
    made = b.emit(ops.Div(), deviation, spread)
    for kind, operand in ((ops.Mul(), weight), (ops.Add(), bias)):
        if operand is not None:
            made = b.emit(kind, made, b.reshape(operand, b.size(column, operand.shape)))
    return made


def _statistics(b: Lowering, x: Value, axes: tuple[int, ...], eps: float, *, keepdims: bool) -> tuple[Value, Value]:
    """(mean, 1 / sqrt(var + eps)) over the axes: what decomposed layers return besides; pruned where nothing asks."""
    deviation = b.emit(ops.Sub(), x, b.emit(ops.ReduceMean(axes), x))
    variance = b.emit(ops.ReduceMean(axes, keepdims), b.emit(ops.Mul(), deviation, deviation))
    spread = b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, b.number(eps, x.dtype)))
    return b.emit(ops.ReduceMean(axes, keepdims), x), b.emit(ops.Reciprocal(), spread)


@rules.imports("aten._weight_norm.default")
def weight_norm(b: Lowering, v: Value, g: Value, dim: int = 0) -> Value:
    """_weight_norm(Tensor v, Tensor g, int dim=0): g v / |v|, the norm over all axes but `dim` (over all for -1)"""
    axes = tuple(axis for axis in range(v.rank) if dim == -1 or axis != dim % v.rank)
    return b.emit(ops.Mul(), v, b.emit(ops.Div(), g, b.emit(ops.ReduceL2(axes, keepdims=dim != -1), v)))


@rules.imports(
    "aten._native_batch_norm_legit_no_training.default",
    "aten._native_batch_norm_legit.default",
    "aten._native_batch_norm_legit.no_stats",
    "aten.native_batch_norm.default",
    "aten._batch_norm_no_update.default",
)
def native_batch_norm(
    b: Lowering,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None = None,
    running_var: Value | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Value | None, ...]:
    """native_batch_norm(…) -> (Tensor, mean, rstd), as decomposed; the statistics are empty outside of training"""
    made = batch_norm(b, input, weight, bias, running_mean, running_var, training, momentum, eps)
    rest: tuple[Value | None, ...]
    if running_mean is None:
        axes = tuple(axis for axis in range(input.rank) if axis != 1)
        rest = _statistics(b, input, axes, eps, keepdims=False)
    else:
        rest = (b.emit(ops.ConstantOfShape((0,), 0, input.dtype)),) * 2
    reserved = (None,) * (len(b.recorded) - 3)  # of _batch_norm_no_update
    return made, *rest, *reserved


@rules.imports("aten.layer_norm.default")
def layer_norm(
    b: Lowering,
    input: Value,
    normalized_shape: Sequence[int],
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Value:
    """layer_norm(input, SymInt[] normalized_shape, weight?, bias?, float eps=1e-05, bool cudnn_enable=True)"""
    axis = input.rank - len(normalized_shape)
    if weight is None and any(isinstance(size, Sym) for size in input.shape[axis:]):
        return _normalized(b, input, tuple(range(axis, input.rank)), bias, eps)
    return b.emit(ops.LayerNormalization(eps, axis), input, weight, bias)


def _normalized(b: Lowering, x: Value, axes: tuple[int, ...], bias: Value | None, eps: float) -> Value:
    """(x - mean) / sqrt(var + eps) + bias over axes of symbolic sizes, for which ONNX's operator lacks a scale."""
    deviation = b.emit(ops.Sub(), x, b.emit(ops.ReduceMean(axes), x))
    variance = b.emit(ops.ReduceMean(axes), b.emit(ops.Mul(), deviation, deviation))
    spread = b.emit(ops.Sqrt(), b.emit(ops.Add(), variance, b.number(eps, x.dtype)))
    made = b.emit(ops.Div(), deviation, spread)
    return made if bias is None else b.emit(ops.Add(), made, bias)


@rules.imports("aten.native_layer_norm.default")
def native_layer_norm(
    b: Lowering, input: Value, normalized_shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value | None, ...]:
    """native_layer_norm(…) -> (Tensor, mean, rstd), as decomposed"""
    axes = tuple(range(input.rank - len(normalized_shape), input.rank))
    made = layer_norm(b, input, normalized_shape, weight, bias, eps)
    return made, *_statistics(b, input, axes, eps, keepdims=True)


@rules.imports("aten.group_norm.default")
def group_norm(
    b: Lowering,
    input: Value,
    num_groups: int,
    weight: Value | None = None,
    bias: Value | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Value:
    """group_norm(input, int num_groups, Tensor? weight, Tensor? bias, float eps=1e-05, bool cudnn_enabled=True)"""
    _require_channels(b, input)
    return b.emit(ops.GroupNormalization(epsilon=eps, axis=1, num_groups=num_groups), input, weight, bias)


@rules.imports("aten.native_group_norm.default")
def native_group_norm(
    b: Lowering,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    N: Dim,  # noqa: N803
    C: Dim,  # noqa: N803
    HxW: Dim,  # noqa: N803
    group: int,
    eps: float,
) -> tuple[Value | None, ...]:
    """native_group_norm(input, weight?, bias?, N, C, HxW, group, eps) -> (Tensor, mean (N, G), rstd (N, G))"""
    groups = b.reshape(input, (N, group, (C // group) * HxW))
    made = group_norm(b, input, group, weight, bias, eps)
    return made, *_statistics(b, groups, (2,), eps, keepdims=False)


@rules.imports("aten.instance_norm.default")
def instance_norm(
    b: Lowering,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value | None,
    running_var: Value | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    """instance_norm(input, weight?, bias?, running_mean?, running_var?, use_input_stats, momentum, eps, …)"""
    _require_channels(b, input)
    if not use_input_stats:
        return b.emit(ops.BatchNormalization(eps, 1), input, weight, bias, running_mean, running_var)
    return b.emit(ops.InstanceNormalization(eps, 1), input, weight, bias)


def _epsilon(x: Value) -> float:
    return float(np.finfo(np.float64 if x.dtype.itemsize == 8 else np.float32).eps)


@rules.imports("aten.rms_norm.default")
def rms_norm(
    b: Lowering, input: Value, normalized_shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    """rms_norm(input, SymInt[] normalized_shape, weight?, float? eps=None); by default the type's epsilon"""
    chosen = _epsilon(input) if eps is None else eps
    return b.emit(ops.RMSNormalization(chosen, input.rank - len(normalized_shape)), input, weight)


@rules.imports("aten._fused_rms_norm.default")
def fused_rms_norm(
    b: Lowering, input: Value, normalized_shape: Sequence[int], weight: Value | None, eps: float | None
) -> tuple[Value | None, ...]:
    """_fused_rms_norm(…) -> (Tensor, rstd), as decomposed"""
    axes = tuple(range(input.rank - len(normalized_shape), input.rank))
    chosen = _epsilon(input) if eps is None else eps
    square = b.emit(ops.ReduceMean(axes), b.emit(ops.Mul(), input, input))
    spread = b.emit(ops.Sqrt(), b.emit(ops.Add(), square, b.number(chosen, input.dtype)))
    return rms_norm(b, input, normalized_shape, weight, eps), b.emit(ops.Reciprocal(), spread)


@rules.imports("aten.renorm.default", "aten.renorm_.default")
def renorm(b: Lowering, self: Value, p: float, dim: int, maxnorm: float) -> Value:
    """renorm(Tensor self, Scalar p, int dim, Scalar maxnorm): slices along `dim` of at most this p-norm"""
    axis = axis_of(dim, self)
    length = vector_norm(b, self, p, tuple(each for each in range(self.rank) if each != axis), keepdim=True)
    scaled = b.emit(ops.Div(), b.number(maxnorm, self.dtype), b.emit(ops.Add(), length, b.number(1e-7, self.dtype)))
    long = b.emit(ops.Greater(), length, b.number(maxnorm, self.dtype))
    return b.emit(ops.Mul(), self, b.emit(ops.Where(), long, scaled, b.number(1, self.dtype)))
