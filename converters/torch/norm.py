"""Normalization layers, outside of training."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Value, ops

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
    return b.emit(ops.BatchNormalization(eps, 1), input, weight, bias, running_mean, running_var)


def _by_its_own_statistics(b: Lowering, x: Value, weight: Value | None, bias: Value | None, eps: float) -> Value:
    """(x - mean) / sqrt(var + eps) weight + bias over all axes but 1: a layer that keeps no statistics, in eval too."""
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


@rules.imports("aten._weight_norm.default")
def weight_norm(b: Lowering, v: Value, g: Value, dim: int = 0) -> Value:
    """_weight_norm(Tensor v, Tensor g, int dim=0): g v / |v|, the norm over all axes but `dim` (over all for -1)"""
    axes = tuple(axis for axis in range(v.rank) if dim == -1 or axis != dim % v.rank)
    return b.emit(ops.Mul(), v, b.emit(ops.Div(), g, b.emit(ops.ReduceL2(axes, keepdims=dim != -1), v)))


@rules.imports("aten._native_batch_norm_legit_no_training.default")
def native_batch_norm(
    b: Lowering,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    running_mean: Value,
    running_var: Value,
    momentum: float,
    eps: float,
) -> tuple[Value | None, ...]:
    """_native_batch_norm_legit_no_training(…) -> (Tensor, empty, empty), as decomposed"""
    return b.emit(ops.BatchNormalization(eps, 1), input, weight, bias, running_mean, running_var), None, None


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
    return b.emit(ops.LayerNormalization(eps, input.rank - len(normalized_shape)), input, weight, bias)


@rules.imports("aten.native_layer_norm.default")
def native_layer_norm(
    b: Lowering, input: Value, normalized_shape: Sequence[int], weight: Value | None, bias: Value | None, eps: float
) -> tuple[Value | None, ...]:
    """native_layer_norm(…) -> (Tensor, mean, rstd), as decomposed; the statistics are not expressed"""
    return layer_norm(b, input, normalized_shape, weight, bias, eps), None, None


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
    return b.emit(ops.GroupNormalization(epsilon=eps, axis=1, num_groups=num_groups), input, weight, bias)


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
    if not use_input_stats:
        return b.emit(ops.BatchNormalization(eps, 1), input, weight, bias, running_mean, running_var)
    return b.emit(ops.InstanceNormalization(eps, 1), input, weight, bias)


@rules.imports("aten.rms_norm.default")
def rms_norm(
    b: Lowering, input: Value, normalized_shape: Sequence[int], weight: Value | None = None, eps: float | None = None
) -> Value:
    """rms_norm(input, SymInt[] normalized_shape, weight?, float? eps=None); by default the type's epsilon"""
    wide = np.finfo(np.float64 if input.dtype.itemsize == 8 else np.float32)
    chosen = float(wide.eps) if eps is None else eps
    return b.emit(ops.RMSNormalization(chosen, input.rank - len(normalized_shape)), input, weight)
