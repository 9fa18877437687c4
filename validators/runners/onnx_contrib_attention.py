"""Float64 kernels for attention of com.microsoft.

    y = softmax(scale * q k^T + mask) v        scale 1 / sqrt(E) where the node gives none

Each follows its definition in docs/ContribOperators.md of microsoft/onnxruntime, under the name of its class.
Axes: N batch, H heads, L queries, S keys in all, P of them from a cache, E the width of a head.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from onnx.reference.op_run import OpRun

from isomorph.validators.runners.onnx_contrib import Contrib

__all__ = ["ATTENTION"]

_FILTER = -10000.0


class _Masked(Contrib):
    defaults: ClassVar[dict[str, Any]] = {
        "mask_filter_value": _FILTER, "num_heads": 0, "scale": 0.0, "unidirectional": 0,
    }  # fmt: skip

    def _attended(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None, bias: np.ndarray | None
    ) -> np.ndarray:
        """Of q (N, H, L, E), k and v (N, H, S, E) with all masks; (N, L, H * E)."""
        length, total = q.shape[2], k.shape[2]
        added = self._key_mask(mask, q.shape[0], length, total)
        added = added if bias is None else added + bias
        if self.attribute("unidirectional"):
            later = np.arange(total) > np.arange(total - length, total)[:, None]
            added = np.where(later, -np.inf, added)
        return side_by_side(attend(q, k, v, added, self.attribute("scale")))

    def _key_mask(self, mask: np.ndarray | None, batch: int, length: int, total: int) -> np.ndarray:
        """`mask_filter_value` for keys that do not count: of lengths (N,), or where (N, S) or (N, L, S) is not
        positive."""
        if mask is None:
            return np.zeros(())
        if mask.shape == (batch,):
            counts = np.arange(total) < mask[:, None, None, None]
        elif mask.shape == (batch, total):
            counts = mask[:, None, None, :] > 0
        elif mask.shape == (batch, length, total):
            counts = mask[:, None] > 0
        else:
            self.refuse(f"a mask {mask.shape} for {batch} x {length} queries and {total} keys")
        return np.where(counts, 0.0, self.attribute("mask_filter_value"))


class Attention(_Masked):
    """Self-attention of x (N, L, I) with its projection: weight (I, H * (2 E + V)), bias; a mask of keys, a cache
    (2, N, H, P, E), a bias of the scores (N or 1, H or 1, L, S). Results: y, the cache with the new keys and values."""

    defaults: ClassVar[dict[str, Any]] = {**_Masked.defaults, "qkv_hidden_sizes": None, "do_rotary": 0}
    arity = 6

    def compute(self, *operands: Any) -> tuple[np.ndarray, ...]:
        x, weight, bias, mask, past, added = operands
        if self.attribute("do_rotary"):
            self.refuse("attribute `do_rotary`")
        heads, widths = self.attribute("num_heads"), self.attribute("qkv_hidden_sizes")
        packed = x @ weight if bias is None else x @ weight + bias
        ends = np.cumsum(widths)[:-1] if widths else 3
        q, k, v = (heads_apart(each, heads) for each in np.split(packed, ends, axis=-1))
        if past is not None:
            k, v = np.concatenate([past[0], k], 2), np.concatenate([past[1], v], 2)
        y = self._attended(q, k, v, mask, added)
        if len(self.onnx_node.output) == 1:
            return (y,)
        if k.shape != v.shape:
            self.refuse("a cache of keys and values of two widths")
        return y, np.stack([k, v])


class MultiHeadAttention(_Masked):
    """q (N, L, H * E), k and v (N, S, H * E) or (N, H, S, E); one bias for all three; a mask of keys; a bias of the
    scores; a cache of keys and of values (N, H, P, E). Results: y, all keys, all values (N, H, S, E)."""

    arity = 8

    def compute(self, *operands: Any) -> tuple[np.ndarray, ...]:
        q, k, v, bias, mask, added, past_k, past_v = operands
        if k is None or v is None or q.ndim != 3 or k.ndim != v.ndim or k.ndim not in (3, 4):
            self.refuse("queries, keys and values in one operand")
        if (past_k is None) != (past_v is None) or (k.ndim == 4 and (past_k is not None or bias is not None)):
            self.refuse("operand 6 (past_key) without 7, or with keys that are apart, or these with a bias")
        if self.attribute("unidirectional") and past_k is None and k.shape[-2] != q.shape[1]:
            self.refuse("attribute `unidirectional` and another number of queries than keys")
        if bias is not None:
            parts = np.split(bias, np.cumsum([q.shape[-1], k.shape[-1]]))
            q, k, v = (each + part for each, part in zip((q, k, v), parts, strict=True))
        heads = self.attribute("num_heads")
        q, k, v = (heads_apart(each, heads) if each.ndim == 3 else each for each in (q, k, v))
        if past_k is not None:
            k, v = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
        return self._attended(q, k, v, mask, added), k, v


class RotaryEmbedding(Contrib):
    """The first R elements of each head turned: pairs (x1, x2) by the angles whose cos and sin (max, R / 2) are given
    at positions (N, L), or from one position (1,) on; halves, or neighbours if `interleaved`."""

    defaults: ClassVar[dict[str, Any]] = {
        "interleaved": 0, "is_packed_batching": 0, "num_heads": 0, "rotary_embedding_dim": 0, "scale": 1.0,
    }  # fmt: skip
    arity = 4

    def compute(self, x: Any, positions: Any, cos: Any, sin: Any) -> tuple[np.ndarray, ...]:
        if self.attribute("is_packed_batching") or self.attribute("scale") != 1.0:
            self.refuse("attribute `is_packed_batching` or `scale`")
        if self.attribute("rotary_embedding_dim") not in (0, 2 * cos.shape[1]):
            self.refuse(f"{cos.shape[1]} angles for `rotary_embedding_dim`")
        width = 2 * cos.shape[1]
        apart = heads_apart(x, self.attribute("num_heads") or x.shape[2] // width) if x.ndim == 3 else x
        if positions.ndim == 1:
            positions = np.broadcast_to(positions + np.arange(apart.shape[2]), (apart.shape[0], apart.shape[2]))
        y = turned(apart, cos[positions], sin[positions], bool(self.attribute("interleaved")))
        return (side_by_side(y) if x.ndim == 3 else y,)


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, added: np.ndarray, scale: float = 0.0) -> np.ndarray:
    """softmax(scale * q k^T + added) v, rows of -inf alone give 0."""
    scores = q @ k.swapaxes(-1, -2) * (scale or 1 / math.sqrt(q.shape[-1])) + added
    peak = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(peak), 0.0, peak))
    total = e.sum(-1, keepdims=True)
    return np.asarray((e / np.where(total == 0, 1.0, total)) @ v)


def turned(x: np.ndarray, cos: np.ndarray, sin: np.ndarray, interleaved: bool) -> np.ndarray:
    """x (N, H, L, E) turned by angles (N, L, R / 2)."""
    cos, sin, half = cos[:, None], sin[:, None], cos.shape[-1]
    first = slice(0, 2 * half, 2) if interleaved else slice(0, half)
    second = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
    y = x.copy()
    y[..., first] = x[..., first] * cos - x[..., second] * sin
    y[..., second] = x[..., first] * sin + x[..., second] * cos
    return y


def heads_apart(x: np.ndarray, heads: int) -> np.ndarray:
    """(N, L, H * E) as (N, H, L, E)."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).swapaxes(1, 2)


def side_by_side(x: np.ndarray) -> np.ndarray:
    """(N, H, L, E) as (N, L, H * E)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


ATTENTION: list[type[OpRun]] = [Attention, MultiHeadAttention, RotaryEmbedding]
