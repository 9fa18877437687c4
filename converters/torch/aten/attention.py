"""Attention."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

import math

from isomorph.converters.torch.aten.rearrange import repeat_interleave
from isomorph.converters.torch.lowering import Lowering, axis_of
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Sym, Value, ops


@rules.imports("aten.scaled_dot_product_attention.default")
def scaled_dot_product_attention(
    b: Lowering,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Value:
    """scaled_dot_product_attention(query, key, value, attn_mask?, dropout_p=0.0, is_causal=False, scale?, enable_gqa)

    With `enable_gqa` a head of keys and values serves several heads of queries in a row.
    """
    b.require(dropout_p == 0.0, f"dropout_p={dropout_p} is in effect; pass 0 outside of training")
    if enable_gqa:
        key, value = (_repeated(b, each, query.shape[-3]) for each in (key, value))
    if scale is None and isinstance(query.shape[-1], Sym):
        root = b.emit(ops.Sqrt(), b.number(query.shape[-1], query.dtype))
        query, scale = b.emit(ops.Div(), query, root), 1.0
    mask = attn_mask
    if mask is not None and mask.dtype is not DType.BOOL:
        mask = b.cast(mask, query.dtype)
    return b.emit(ops.ScaledDotProductAttention(is_causal, scale), query, key, value, mask)


def _repeated(b: Lowering, x: Value, heads: Dim) -> Value:
    """Each head of keys or values as often as queries share it."""
    if x.shape[-3] == heads:
        return x
    times = b.static(heads, "the number of heads") // b.static(x.shape[-3], "the number of heads")
    return repeat_interleave(b, x, times, -3)


@rules.imports("aten._scaled_dot_product_flash_attention_for_cpu.default")
def flash_attention_on_cpu(
    b: Lowering,
    query: Value,
    key: Value,
    value: Value,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    attn_mask: Value | None = None,
    scale: float | None = None,
) -> tuple[Value | None, ...]:
    """_scaled_dot_product_flash_attention_for_cpu(…) -> (output, logsumexp of the scores), as decomposed"""
    made = scaled_dot_product_attention(b, query, key, value, attn_mask, dropout_p, is_causal, scale)
    return made, _log_of_sums(b, query, key, attn_mask, is_causal, scale)


def _log_of_sums(
    b: Lowering, q: Value, k: Value, mask: Value | None, causal: bool, scale: float | None
) -> Value | None:
    """log of the sum of exp(scores) over the keys, in float32; pruned where nothing asks for it."""
    if causal or (mask is not None and mask.dtype is DType.BOOL) or isinstance(q.shape[-1], Sym):
        return None
    factor = 1 / math.sqrt(b.static(q.shape[-1], "the width of a head")) if scale is None else scale
    wide = DType.FLOAT64 if q.dtype is DType.FLOAT64 else DType.FLOAT32
    swapped = b.emit(ops.Transpose((*range(k.rank - 2), k.rank - 1, k.rank - 2)), b.cast(k, wide))
    scores = b.emit(ops.Mul(), b.emit(ops.MatMul(), b.cast(q, wide), swapped), b.number(factor, wide))
    scores = scores if mask is None else b.emit(ops.Add(), scores, b.cast(mask, wide))
    return b.emit(ops.ReduceLogSumExp((scores.rank - 1,), keepdims=False), scores)


@rules.imports("aten._scaled_dot_product_attention_math.default")
def attention_in_parts(
    b: Lowering,
    query: Value,
    key: Value,
    value: Value,
    attn_mask: Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    dropout_mask: Value | None = None,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Value | None, ...]:
    """_scaled_dot_product_attention_math(…) -> (output, weights); the weights are not expressed"""
    b.require(dropout_mask is None, "a mask of dropout")
    made = scaled_dot_product_attention(b, query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    return made, None


@rules.imports("aten._safe_softmax.default")
def safe_softmax(b: Lowering, self: Value, dim: int, dtype: DType | None = None) -> Value:
    """_safe_softmax(Tensor self, int dim, ScalarType? dtype=None): softmax, 0 where all along `dim` is -inf"""
    x = b.lined(b.cast(self, dtype) if dtype else b.floating(self))
    axis = axis_of(dim, self)
    top = b.emit(ops.ReduceMax((axis,)), x)
    nothing = b.emit(ops.Equal(), top, b.number(-math.inf, x.dtype))
    weights = b.emit(ops.Where(), nothing, b.number(0, x.dtype), b.emit(ops.Softmax(axis=axis), x))
    return b.reshape(weights, self.shape)
