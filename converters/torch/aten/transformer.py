"""The fused layers that torch.nn.MultiheadAttention and TransformerEncoderLayer call outside of training."""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from isomorph.converters.torch.aten.norm import layer_norm
from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Dim, DType, Value, ops

_OF_QUERIES, _OF_KEYS, _OF_ALL = range(3)
"""Kinds of masks: (T, T); (B, T), padding; (B, H, T, T)."""


def _heads(b: Lowering, x: Value, count: int, width: Dim) -> Value:
    """(B, T, H E) -> (B, H, T, E)"""
    split = b.reshape(x, (*x.shape[:2], count, width))
    return b.emit(ops.Transpose((0, 2, 1, 3)), split)


def _allowed(b: Lowering, mask: Value, kind: int | None) -> Value:
    """The mask as ONNX and PyTorch's functional attention have it: True takes part."""
    kept = b.emit(ops.Not(), b.cast(mask, DType.BOOL))
    b.require(kind in (_OF_QUERIES, _OF_KEYS, _OF_ALL), f"a mask of the kind {kind}")
    return b.emit(ops.Unsqueeze((1, 2)), kept) if kind == _OF_KEYS else kept


def _weights(b: Lowering, queries: Value, keys: Value, width: int) -> Value:
    """softmax(q k^T / sqrt(E)) (B, H, T, S) of heads (B, H, T, E), (B, H, S, E)."""
    scaled = b.emit(ops.Mul(), queries, b.number(width**-0.5, queries.dtype))
    return b.emit(ops.Softmax(3), b.emit(ops.MatMul(), scaled, b.emit(ops.Transpose((0, 1, 3, 2)), keys)))


@rules.imports("aten._native_multi_head_attention.default")
def native_multi_head_attention(
    b: Lowering,
    query: Value,
    key: Value,
    value: Value,
    embed_dim: int,
    num_head: int,
    qkv_weight: Value,
    qkv_bias: Value,
    proj_weight: Value,
    proj_bias: Value,
    mask: Value | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Value | None, ...]:
    """_native_multi_head_attention(query (B, T, D), key, value, …) -> (Tensor (B, T, D), weights)

    A mask is True (or not 0) where a key takes no part. The weights, of all heads or averaged, only with need_weights.
    """
    if query is key and key is value:
        packed = b.emit(ops.Linear(), query, qkv_weight, qkv_bias)
        parts = b.emit_many(ops.Split(2, (embed_dim,) * 3), packed)
    else:
        weights, biases = (b.emit_many(ops.Split(0, (embed_dim,) * 3), each) for each in (qkv_weight, qkv_bias))
        each_of = zip((query, key, value), weights, biases, strict=True)
        parts = tuple(b.emit(ops.Linear(), x, weight, bias) for x, weight, bias in each_of)
    queries, keys, values = (_heads(b, part, num_head, embed_dim // num_head) for part in parts)
    allowed = None if mask is None else _allowed(b, mask, mask_type)
    scores = None
    if need_weights:
        b.require(allowed is None, "a mask, and weights that are returned")
        scores = _weights(b, queries, keys, embed_dim // num_head)
        made = b.emit(ops.MatMul(), scores, values)
        scores = b.emit(ops.ReduceMean((1,), keepdims=False), scores) if average_attn_weights else scores
    else:
        made = b.emit(ops.ScaledDotProductAttention(False, None), queries, keys, values, allowed)
    joined = b.reshape(b.emit(ops.Transpose((0, 2, 1, 3)), made), (*query.shape[:2], embed_dim))
    return b.emit(ops.Linear(), joined, proj_weight, proj_bias), scores


@rules.imports("aten._transformer_encoder_layer_fwd.default")
def transformer_encoder_layer(
    b: Lowering,
    src: Value,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Value,
    qkv_bias: Value,
    proj_weight: Value,
    proj_bias: Value,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Value,
    norm_bias_1: Value,
    norm_weight_2: Value,
    norm_bias_2: Value,
    ffn_weight_1: Value,
    ffn_bias_1: Value,
    ffn_weight_2: Value,
    ffn_bias_2: Value,
    mask: Value | None = None,
    mask_type: int | None = None,
) -> Value:
    """_transformer_encoder_layer_fwd(src (B, T, D), …): attention and feed-forward, each with a residual and a norm"""

    def normed(x: Value, weight: Value, bias: Value) -> Value:
        return layer_norm(b, x, (embed_dim,), weight, bias, eps)

    def attended(x: Value) -> Value:
        packed = (qkv_weight, qkv_bias, proj_weight, proj_bias)
        made, _ = native_multi_head_attention(
            b, x, x, x, embed_dim, num_heads, *packed, mask, need_weights=False, mask_type=mask_type
        )
        assert made is not None
        return made

    def fed_forward(x: Value) -> Value:
        hidden = b.emit(ops.Linear(), x, ffn_weight_1, ffn_bias_1)
        return b.emit(ops.Linear(), b.emit(ops.Gelu() if use_gelu else ops.Relu(), hidden), ffn_weight_2, ffn_bias_2)

    if norm_first:
        x = b.emit(ops.Add(), src, attended(normed(src, norm_weight_1, norm_bias_1)))
        return b.emit(ops.Add(), x, fed_forward(normed(x, norm_weight_2, norm_bias_2)))
    x = normed(b.emit(ops.Add(), src, attended(src)), norm_weight_1, norm_bias_1)
    return normed(b.emit(ops.Add(), x, fed_forward(x)), norm_weight_2, norm_bias_2)
