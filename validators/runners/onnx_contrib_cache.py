"""A float64 kernel for GroupQueryAttention of com.microsoft: attention of a decoder with a cache.

It follows docs/ContribOperators.md of microsoft/onnxruntime. Axes: N batch, H heads of queries, G of keys, L new steps,
S steps of the cache, E the width of a head.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from onnx.reference.op_run import OpRun

from isomorph.validators.runners.onnx_contrib import Contrib
from isomorph.validators.runners.onnx_contrib_attention import attend, heads_apart, side_by_side, turned

__all__ = ["CACHED"]

_EXPECTED = {
    "causal": (1,), "softcap": (0.0,), "smooth_softmax": (0, -1), "sliding_window_cache": (0,), "qk_output": (0,),
    "kv_cache_bit_width": (0,), "k_quant_type": ("NONE",), "v_quant_type": ("NONE",),
}  # fmt: skip


class GroupQueryAttention(Contrib):
    """Operands q (N, L, H * E), k and v (N, L, G * E), or all three in the first; keys and values of a cache
    (N, G, S, E); seqlens_k (N,), the steps of each sequence less one; total_sequence_length; cos and sin; a bias of the
    scores (N or 1, H or 1, L, S) as operand 10. Results: y, the caches.

    The new steps of sequence n are seqlens_k[n] + 1 - L and on, or 0 and on where L is the total length. Each query
    attends to the keys up to its own step, with `local_window_size` to the last ones of these alone.
    """

    defaults: ClassVar[dict[str, Any]] = {
        "num_heads": 0, "kv_num_heads": 0, "scale": 0.0, "do_rotary": 0, "rotary_interleaved": 0,
        "local_window_size": -1, **{name: values[0] for name, values in _EXPECTED.items()},
    }  # fmt: skip
    arity = 11

    def compute(self, *operands: Any) -> tuple[np.ndarray, ...]:
        for name, values in _EXPECTED.items():
            if self.attribute(name) not in values:
                self.refuse(f"attribute `{name}` = {self.attribute(name)}")
        if operands[9] is not None:
            self.refuse("operand 9 (position_ids)")
        q, k, v = self._projections(*operands[:3])
        length, total = q.shape[2], int(operands[6].item())
        ends = operands[5].reshape(-1).astype(np.int64) + 1
        first = np.zeros_like(ends) if length == total else ends - length
        if ends.shape != q.shape[:1] or first.min(initial=0) < 0:
            self.refuse(f"sequences of {ends.tolist()} steps for {length} new ones")
        steps = first[:, None] + np.arange(length)
        if self.attribute("do_rotary"):
            cos, sin, pairs = operands[7][steps], operands[8][steps], bool(self.attribute("rotary_interleaved"))
            q, k = turned(q, cos, sin, pairs), turned(k, cos, sin, pairs)
        k, v = (self._written(past, new, steps, total) for past, new in ((operands[3], k), (operands[4], v)))
        repeats = q.shape[1] // k.shape[1]
        added = self._mask(steps, k.shape[2], operands[10])
        y = attend(q, np.repeat(k, repeats, 1), np.repeat(v, repeats, 1), added, self.attribute("scale"))
        return side_by_side(y), k, v

    def _projections(self, q: Any, k: Any, v: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        heads, groups = self.attribute("num_heads"), self.attribute("kv_num_heads")
        if k is None:
            width = q.shape[2] // (heads + 2 * groups)
            q, k, v = np.split(q, [heads * width, (heads + groups) * width], axis=-1)
        if k.ndim != 3 or k.shape[1] != q.shape[1]:
            self.refuse(f"new keys {k.shape} for queries {q.shape}")
        return heads_apart(q, heads), heads_apart(k, groups), heads_apart(v, groups)

    def _written(self, past: np.ndarray | None, new: np.ndarray, steps: np.ndarray, total: int) -> np.ndarray:
        """The cache with the new steps: of `total` steps, or as many as it has if that is more."""
        kept = 0 if past is None else past.shape[2]
        if past is None and total != new.shape[2]:
            self.refuse("no operand 3 (past_key)")
        if steps.max(initial=0) >= max(total, kept):
            self.refuse(f"step {steps.max()} of a cache of {max(total, kept)}")
        grown = np.zeros((*new.shape[:2], max(total, kept), new.shape[3]))
        if past is not None:
            grown[:, :, :kept] = past
        grown[np.arange(len(steps))[:, None], :, steps] = new.swapaxes(1, 2)
        return grown

    def _mask(self, steps: np.ndarray, size: int, bias: np.ndarray | None) -> np.ndarray:
        rows, keys, window = steps[:, None, :, None], np.arange(size), self.attribute("local_window_size")
        allowed = keys <= rows
        if window >= 0:
            allowed &= keys > rows - window
        if bias is not None and bias.shape[-1] != size:
            self.refuse(f"operand 10 (attention_bias) {bias.shape} for {size} keys")
        return np.where(allowed, 0.0 if bias is None else bias, -np.inf)


CACHED: list[type[OpRun]] = [GroupQueryAttention]
