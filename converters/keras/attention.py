"""Attention layers, as projections around scaled dot products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from isomorph.converters.keras.elementwise import as_list
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import refuses, rules
from isomorph.ir import DType, Node, TensorSource, Value, ops


@rules.imports("MultiHeadAttention")
def _multi_head_attention(
    layer: Layer, query: Value, value: Value | None = None, key: Value | None = None
) -> Value | Sequence[Value]:
    """Projections to heads, softmax(q k^T / sqrt(key_dim)) v for each, and a projection back; on request also the
    weights (N, heads, T, S).

    Shapes: query (N, T, D), value and key (N, S, D'); kernels (D, heads, width), the last (heads, width, O).
    """
    value = layer.kwargs.get("value") if value is None else value
    key = layer.kwargs.get("key") if key is None else key
    if value is None:
        raise layer.malformed("no value was given")
    _refuse_variants(layer, query, value)
    heads, width = layer.integer("num_heads"), layer.integer("key_dim")
    values = width if layer.config.get("value_dim") is None else layer.integer("value_dim")
    q = _heads(layer, "query", query, heads, width)
    k = _heads(layer, "key", value if key is None else key, heads, width)
    v = _heads(layer, "value", value, heads, values)
    causal, scale, weights = bool(layer.kwargs.get("use_causal_mask")), float(width) ** -0.5, None
    listed, dropped = bool(layer.kwargs.get("return_attention_scores")), layer.number("dropout", 0.0) > 0.0
    allowed = _allowed(layer, soft=(listed or dropped) and not causal)
    if allowed is not None and causal and (listed or dropped):
        allowed, causal = layer.emit(ops.And(), allowed, _not_later(layer, q, k)), False
    if listed:
        weights = _weights(layer, q, k, scale, _not_later(layer, q, k) if causal else allowed)
        attended = layer.emit(ops.MatMul(), weights, v)
    else:
        mask = None if allowed is None else _added(layer, allowed, q)
        attended = layer.emit(ops.ScaledDotProductAttention(causal=causal, scale=scale), q, k, v, mask)
        if dropped and allowed is not None:  # what has no key to attend to gives zeros, not the mean of the values
            some = layer.emit(ops.ReduceMax((-1,), keepdims=True), layer.cast(allowed, DType.INT32))
            attended = _where(layer, layer.cast(some, DType.BOOL), attended, 0.0)
    mixed = layer.emit(ops.Transpose((0, 2, 1, 3)), attended)
    joined = layer.emit(ops.Reshape((*query.shape[:2], heads * values)), mixed)
    w = layer.weight("attention_output/kernel", lambda source: _flat(layer, source, heads * values))
    made = layer.emit(ops.Linear(), joined, w, layer.optional("attention_output/bias"))
    return made if weights is None else (made, weights)


def _weights(layer: Layer, q: Value, k: Value, scale: float, allowed: Value | None) -> Value:
    """softmax(q k^T * scale), which are returned, too: 0 for a key that is not allowed, even if none is.

    See: keras/src/layers/activations/softmax.py.
    """
    scaled = layer.emit(ops.Mul(), q, layer.constant(scale, q, "scale"))
    scores = layer.emit(ops.MatMul(), scaled, layer.emit(ops.Transpose((0, 1, 3, 2)), k))
    if allowed is None:
        return layer.emit(ops.Softmax(-1), scores)
    low = -3e4 if scores.dtype is DType.FLOAT16 else -1e9
    return _where(layer, allowed, layer.emit(ops.Softmax(-1), _where(layer, allowed, scores, low)), 0.0)


def _where(layer: Layer, condition: Value, x: Value, other: float) -> Value:
    return layer.emit(ops.Where(), condition, x, layer.constant(other, x, "masked"))


def _not_later(layer: Layer, q: Value, k: Value) -> Value:
    """Where a key (S) does not come after the query (T): (T, S), bool."""
    rows, columns = q.shape[-2], k.shape[-2]
    if isinstance(rows, int) and isinstance(columns, int):
        return layer.builder.constant(np.tril(np.ones((rows, columns), bool)), f"{layer.name}/causal")
    ones = layer.emit(ops.ConstantOfShape((rows, columns), 1.0, DType.FLOAT32))
    return layer.cast(layer.emit(ops.Trilu(0, upper=False), ones), DType.BOOL)


def _causal(layer: Layer, scores: Value, lowest: float) -> Value:
    """Numbers to add to scores (..., T, S): `lowest` where a query comes before the key, else 0."""
    rows, columns = scores.shape[-2:]
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise layer.unsupported("a causal mask of unknown length beside the scores")
    later = np.triu(np.ones((rows, columns), bool), 1)
    return layer.constant(np.where(later, lowest, 0.0), scores, "causal")


@rules.imports("Attention", "AdditiveAttention")
def _attention(layer: Layer, xs: Any, *rest: Any) -> Value | Sequence[Value]:
    """softmax(scores) value of [query (N, T, D), value (N, S, D'), key (N, S, D)]; key is value where it is not given.

    Scores (N, T, S): q k^T, times `scale` if there is one ("dot"); w * sum(tanh(scale * (q + k))) over D ("concat");
    sum(scale * tanh(q + k)) over D (AdditiveAttention).
    """
    query, value, *more = as_list(layer, xs, *rest)
    key = more[0] if more else value
    if query.rank != 3 or value.rank != 3 or any(layer.kwargs.get("mask") or ()):
        raise layer.unsupported("a mask, or tensors that are not of rank 3")
    if layer.always_training and layer.config.get("dropout"):
        raise layer.unsupported("a call with training=True, which is random")
    scores = _scores(layer, query, key)
    if layer.kwargs.get("use_causal_mask"):
        lowest = -65504.0 if scores.dtype is DType.FLOAT16 else -1e9
        scores = layer.emit(ops.Add(), scores, _causal(layer, scores, lowest))
    weights = layer.emit(ops.Softmax(-1), scores)
    made = layer.emit(ops.MatMul(), weights, value)
    return (made, weights) if layer.kwargs.get("return_attention_scores") else made


def _scores(layer: Layer, query: Value, key: Value) -> Value:
    scale = layer.optional("scale")
    if layer.cls == "Attention" and layer.config.get("score_mode", "dot") == "dot":
        scores = layer.emit(ops.MatMul(), query, layer.emit(ops.Transpose((0, 2, 1)), key))
        return scores if scale is None else layer.emit(ops.Mul(), scores, scale)
    both = layer.emit(ops.Add(), layer.emit(ops.Unsqueeze((2,)), query), layer.emit(ops.Unsqueeze((1,)), key))
    if layer.cls == "AdditiveAttention":
        bent = layer.emit(ops.Tanh(), both)
        bent = bent if scale is None else layer.emit(ops.Mul(), bent, scale)
        return layer.emit(ops.ReduceSum((3,), False), bent)
    bent = layer.emit(ops.Tanh(), both if scale is None else layer.emit(ops.Mul(), both, scale))
    total = layer.emit(ops.ReduceSum((3,), False), bent)
    return layer.emit(ops.Mul(), total, layer.weight("concat_score_weight"))


def _flat(layer: Layer, source: TensorSource, rows: int) -> TensorSource:
    """A kernel of any rank seen as (O, rows)."""
    if rows <= 0 or source.size % rows:
        raise layer.malformed(f"a kernel {list(source.shape)} for {rows} inputs")
    return source.reshaped((rows, source.size // rows)).permuted((1, 0))


def _heads(layer: Layer, part: str, x: Value, heads: int, width: int) -> Value:
    """x (N, T, D) projected to (N, heads, T, width)."""
    channels = x.shape[2]
    if not isinstance(channels, int):
        raise layer.unsupported("an unknown number of channels")
    w = layer.weight(f"{part}/kernel", lambda source: _flat(layer, source, channels))
    bias = (
        layer.weight(f"{part}/bias", lambda source: source.reshaped((source.size,)))
        if layer.has(f"{part}/bias")
        else None
    )
    flat = layer.emit(ops.Linear(), x, w, bias)
    return layer.emit(ops.Transpose((0, 2, 1, 3)), layer.emit(ops.Reshape((*x.shape[:2], heads, width)), flat))


def _allowed(layer: Layer, *, soft: bool) -> Value | None:
    """The attention mask (N, T, S) as bools (N, 1, T, S). Numbers are true unless 0; if `soft`, above a half."""
    mask = layer.kwargs.get("attention_mask")
    if mask is None:
        return None
    if not isinstance(mask, Value) or not 2 <= mask.rank <= 4:
        raise layer.unsupported("an attention mask that is no tensor of rank 2 to 4")
    if mask.rank < 4:
        mask = layer.emit(ops.Unsqueeze((1,) if mask.rank == 3 else (0, 1)), mask)
    if soft and mask.dtype is not DType.BOOL:
        return layer.emit(ops.Greater(), mask, layer.constant(0.5, mask, "half"))
    return layer.cast(mask, DType.BOOL)


def _added(layer: Layer, allowed: Value, q: Value) -> Value:
    """The mask as numbers to add to scores.

    Keras puts 0.7 times the lowest number where the mask is false, so a row without any true weighs all keys alike.
    """
    low = 0.7 * float(ml_dtypes.finfo(q.dtype.numpy).min)
    zero, lowest = layer.constant(0.0, q, "zero"), layer.constant(low, q, "lowest")
    return layer.emit(ops.Where(), allowed, zero, lowest)


def _refuse_variants(layer: Layer, query: Value, value: Value) -> None:
    kwargs: Mapping[str, Any] = layer.kwargs
    if query.rank != 3 or value.rank != 3 or layer.config.get("attention_axes") not in (None, [1], (1,), 1):
        raise layer.unsupported("attention over other axes than the one of a sequence")
    if layer.always_training and layer.config.get("dropout"):
        raise layer.unsupported("a call with training=True, which is random")
    if any(kwargs.get(key) is not None for key in ("query_mask", "value_mask", "key_mask")):
        raise layer.unsupported("a mask of the queries, keys or values")
    if layer.config.get("use_gate") or layer.config.get("sliding_window"):
        raise layer.unsupported("gated or sliding-window attention")
    stated = layer.config.get("output_shape")
    if stated is not None and not (isinstance(stated, int) or len(stated) == 1):
        raise layer.unsupported("an output of several axes")


@refuses(ops.ScaledDotProductAttention)
def _attention_refusal(node: Node) -> str | None:
    """MultiHeadAttention owns its projections; separate queries, keys and values are written out as matrix products."""
    return "no layer of Keras takes separate queries, keys and values of several heads"
