"""Attention."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.converters.torch.shape import repeat_interleave
from isomorph.ir import DType, Value, ops


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
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        times = b.static(query.shape[-3], "the number of heads") // b.static(key.shape[-3], "the number of heads")
        key = repeat_interleave(b, key, times, -3)
        value = repeat_interleave(b, value, times, -3)
    mask = attn_mask
    if mask is not None and mask.dtype is not DType.BOOL:
        mask = b.cast(mask, query.dtype)
    return b.emit(ops.ScaledDotProductAttention(is_causal, scale), query, key, value, mask)
