"""Operators of com.microsoft as models of one node, with inputs: for test_contrib.py and onnx_corpus.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["CONTRIB", "Contrib"]

rng = np.random.default_rng(7)


def real(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def whole(low: int, high: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return rng.integers(low, high, shape).astype(dtype)


def single(number: float, dtype: Any = np.float32) -> np.ndarray:
    return np.asarray(number, dtype)


@dataclass
class Contrib:
    """One node. Operands named `w...` are initializers; `steps` is how far quantized results may be apart."""

    id: str
    kind: str
    operands: dict[str, np.ndarray | None]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    domain: str = "com.microsoft"
    kept: bool = False

    def model(self) -> onnx.ModelProto:
        given = {name: array for name, array in self.operands.items() if array is not None}
        names = [name if array is not None else "" for name, array in self.operands.items()]
        node = helper.make_node(self.kind, names, list(self.outputs), domain=self.domain, **self.attributes)
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in given.items()
            if not name.startswith("w")
        ]
        results = [helper.make_empty_tensor_value_info(name) for name in self.outputs if name]
        weights = [numpy_helper.from_array(array, name) for name, array in given.items() if name.startswith("w")]
        graph = helper.make_graph([node], "case", inputs, results, weights)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def stated(self, name: str, array: np.ndarray) -> np.ndarray:
        """A result without what is unspecified: steps of a cache beyond the end of a sequence."""
        last = self.operands.get("s")
        if last is None or name == "y":
            return array
        return np.concatenate([each[:, : end + 1] for each, end in zip(array, last, strict=True)], axis=1)

    def inputs(self) -> dict[str, np.ndarray]:
        return {k: a for k, a in self.operands.items() if a is not None and not k.startswith("w")}


def scales(low: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    return single(low), single(117, np.uint8)


def _activations() -> list[Contrib]:
    x, bias = real(2, 3, 8), real(8)
    return [
        Contrib("gelu", "Gelu", {"x": x}),
        Contrib("bias_gelu", "BiasGelu", {"x": x, "w": bias}),
        Contrib("fast_gelu", "FastGelu", {"x": x}),
        Contrib("fast_gelu_bias", "FastGelu", {"x": x, "w": bias}),
        Contrib("quick_gelu", "QuickGelu", {"x": x}),
        Contrib("quick_gelu_alpha", "QuickGelu", {"x": x}, {"alpha": 1.0}),
    ]


def _products() -> list[Contrib]:
    image, kernel = real(1, 4, 6, 5), real(6, 4, 3, 3)
    a, b = real(3, 5), real(5, 4)
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    return [
        Contrib(
            "fused_matmul",
            "FusedMatMul",
            {"x": real(2, 5, 3), "z": real(2, 4, 5)},
            {"transA": 1, "transB": 1, "alpha": 0.25},
        ),
        Contrib("fused_matmul_batch", "FusedMatMul", {"x": real(3, 2, 5), "z": real(2, 5, 4)}, {"transBatchA": 1}),
        Contrib(
            "fused_matmul_both",
            "FusedMatMul",
            {"x": real(5, 2, 3), "z": real(2, 5, 4)},
            {"transBatchA": 1, "transA": 1},
        ),
        Contrib(
            "fused_conv_relu", "FusedConv", {"x": image, "w": kernel, "wb": real(6)}, {**window, "activation": "Relu"}
        ),
        Contrib(
            "fused_conv_sum",
            "FusedConv",
            {"x": image, "w": kernel, "wb": real(6), "z": real(1, 6, 6, 5)},
            {**window, "activation": "Relu"},
        ),
        Contrib(
            "fused_conv_leaky",
            "FusedConv",
            {"x": image, "w": kernel},
            {**window, "activation": "LeakyRelu", "activation_params": [0.2]},
        ),
        Contrib(
            "fused_conv_clip",
            "FusedConv",
            {"x": image, "w": kernel},
            {**window, "activation": "Clip", "activation_params": [-0.5, 0.5]},
        ),
        Contrib("fused_gemm", "FusedGemm", {"x": a, "w": b, "wb": real(4)}, {"activation": "Relu", "alpha": 0.5}),
        Contrib(
            "fused_gemm_leaky",
            "FusedGemm",
            {"x": a, "w": b, "wb": real(4)},
            {"activation": "LeakyRelu", "activation_alpha": 0.3},
        ),
    ]


def _norms() -> list[Contrib]:
    x, skip, gamma, beta, bias = real(2, 3, 8), real(2, 3, 8), real(8), real(8), real(8)
    words, segments = whole(0, 9, 2, 5, dtype=np.int32), whole(0, 2, 2, 5, dtype=np.int32)
    tables = {"w0": real(9, 8), "w1": real(6, 8), "w2": real(2, 8), "w3": gamma, "w4": beta}
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    return [
        Contrib(
            "skip_norm",
            "SkipLayerNormalization",
            {"x": x, "z": skip, "w0": gamma, "w1": beta, "w2": bias},
            {"epsilon": 1e-5},
        ),
        Contrib(
            "skip_norm_sum",
            "SkipLayerNormalization",
            {"x": x, "z": skip, "w0": gamma, "w1": None, "w2": None},
            {},
            ("y", "", "", "sum"),
        ),
        Contrib(
            "skip_rms",
            "SkipSimplifiedLayerNormalization",
            {"x": x, "z": skip, "w0": gamma, "w1": bias},
            {"epsilon": 1e-5},
            ("y", "", "", "sum"),
        ),
        Contrib("rms", "SimplifiedLayerNormalization", {"x": x, "w": gamma}, {"epsilon": 1e-6, "axis": -1}, domain=""),
        Contrib(
            "embed_norm",
            "EmbedLayerNormalization",
            {"x": words, "z": segments, **tables, "m": mask},
            {"epsilon": 1e-5},
            ("y", "count"),
        ),
        Contrib(
            "embed_norm_positions",
            "EmbedLayerNormalization",
            {"x": words, "z": segments, **tables, "m": None, "p": whole(0, 6, 1, 5, dtype=np.int32)},
            {},
            ("y", "count", "sum"),
        ),
    ]


def _attention() -> list[Contrib]:
    x, w, b = real(2, 5, 8), real(8, 24), real(24)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
    heads = {"num_heads": 2}
    q, k, v = real(2, 3, 8), real(2, 5, 8), real(2, 5, 8)
    own = {"q": real(2, 5, 8), "k": k, "v": v}
    cos, sin = real(12, 4), real(12, 4)
    at = whole(0, 12, 2, 5, dtype=np.int64)
    start = np.asarray([2], np.int64)
    return [
        Contrib("attention", "Attention", {"x": x, "w": w, "wb": b}, heads),
        Contrib("attention_causal", "Attention", {"x": x, "w": w, "wb": b}, {**heads, "unidirectional": 1}),
        Contrib("attention_mask", "Attention", {"x": x, "w": w, "wb": b, "m": mask}, heads),
        Contrib(
            "attention_mask_causal", "Attention", {"x": x, "w": w, "wb": b, "m": mask}, {**heads, "unidirectional": 1}
        ),
        Contrib(
            "attention_mask_rows",
            "Attention",
            {"x": x, "w": w, "wb": b, "m": whole(0, 2, 2, 5, 5, dtype=np.int32)},
            heads,
        ),
        Contrib("attention_lengths", "Attention", {"x": x, "w": w, "wb": b, "m": np.array([3, 5], np.int32)}, heads),
        Contrib(
            "attention_bias",
            "Attention",
            {"x": x, "w": w, "wb": b, "m": None, "past": None, "a": real(2, 2, 5, 5)},
            {**heads, "scale": 0.3},
        ),
        Contrib(
            "attention_widths",
            "Attention",
            {"x": x, "w": real(8, 20), "wb": real(20)},
            {**heads, "qkv_hidden_sizes": [8, 8, 4]},
        ),
        Contrib("multi_head", "MultiHeadAttention", {"q": q, "k": k, "v": v}, heads),
        Contrib("multi_head_bias", "MultiHeadAttention", {"q": q, "k": k, "v": v, "wb": real(24)}, heads),
        Contrib("multi_head_mask", "MultiHeadAttention", {"q": q, "k": k, "v": v, "b": None, "m": mask}, heads),
        Contrib(
            "multi_head_added",
            "MultiHeadAttention",
            {"q": q, "k": k, "v": v, "b": None, "m": mask, "a": real(1, 2, 3, 5)},
            {**heads, "scale": 0.2},
        ),
        Contrib("multi_head_causal", "MultiHeadAttention", own, {**heads, "unidirectional": 1}),
        Contrib(
            "multi_head_apart", "MultiHeadAttention", {"q": q, "k": real(2, 2, 5, 4), "v": real(2, 2, 5, 4)}, heads
        ),
        Contrib("rotary", "RotaryEmbedding", {"x": real(2, 5, 24), "p": at, "w0": cos, "w1": sin}),
        Contrib(
            "rotary_apart",
            "RotaryEmbedding",
            {"x": real(2, 3, 5, 8), "p": at, "w0": cos, "w1": sin},
            {"interleaved": 1},
        ),
        Contrib("rotary_offset", "RotaryEmbedding", {"x": real(2, 5, 24), "p": start, "w0": cos, "w1": sin}),
        Contrib(
            "rotary_part",
            "RotaryEmbedding",
            {"x": real(2, 5, 24), "p": at, "w0": real(12, 2), "w1": real(12, 2)},
            {"num_heads": 3, "rotary_embedding_dim": 4},
        ),
    ]


def _cached() -> list[Contrib]:
    heads = {"num_heads": 2}
    past = {"pk": real(2, 2, 4, 4), "pv": real(2, 2, 4, 4)}
    new = {"q": real(2, 3, 8), "k": real(2, 3, 8), "v": real(2, 3, 8), "wb": real(24), "m": None, "a": None, **past}
    results = ("y", "key", "value")
    group = {"num_heads": 4, "kv_num_heads": 2}
    cos, sin = real(16, 8), real(16, 8)
    turned = {**group, "do_rotary": 1}
    prompt = {"q": real(2, 5, 64), "k": real(2, 5, 32), "v": real(2, 5, 32)}
    step = {"q": real(2, 1, 64), "k": real(2, 1, 32), "v": real(2, 1, 32)}
    none = {"pk": real(2, 2, 0, 16), "pv": real(2, 2, 0, 16)}
    kept = {"pk": real(2, 2, 6, 16), "pv": real(2, 2, 6, 16)}
    room = {"pk": real(2, 2, 9, 16), "pv": real(2, 2, 9, 16)}
    whole_prompt = {"s": np.array([4, 4], np.int32), "wt": np.asarray(5, np.int32)}
    one_more = {"s": np.array([6, 6], np.int32), "wt": np.asarray(7, np.int32)}
    shorter = {"s": np.array([6, 4], np.int32), "wt": np.asarray(7, np.int32)}
    tables = {"w0": cos, "w1": sin}
    kind = "GroupQueryAttention"
    return [
        Contrib("multi_head_cache", "MultiHeadAttention", new, heads, results),
        Contrib("multi_head_cache_causal", "MultiHeadAttention", new, {**heads, "unidirectional": 1}, results),
        Contrib("multi_head_first", "MultiHeadAttention", {k: new[k] for k in "qkv"}, heads, results),
        Contrib("group_query_prompt", kind, {**prompt, **none, **whole_prompt}, group, results),
        Contrib("group_query_prompt_alone", kind, {**prompt, "pk": None, "pv": None, **whole_prompt}, group, results),
        Contrib("group_query_rotary", kind, {**prompt, **none, **whole_prompt, **tables}, turned, results),
        Contrib("group_query_step", kind, {**step, **kept, **one_more, **tables}, turned, results),
        Contrib(
            "group_query_interleaved",
            kind,
            {**step, **kept, **one_more, **tables},
            {**turned, "rotary_interleaved": 1},
            results,
        ),
        Contrib("group_query_shorter", kind, {**step, **kept, **shorter, **tables}, turned, results),
        Contrib("group_query_room", kind, {**step, **room, **shorter, **tables}, turned, results),
        Contrib(
            "group_query_window",
            kind,
            {**step, **kept, **one_more, **tables},
            {**turned, "local_window_size": 3},
            results,
        ),
        Contrib("group_query_scale", kind, {**step, **kept, **one_more}, {**group, "scale": 0.2}, results),
        Contrib(
            "group_query_packed",
            kind,
            {"q": real(2, 1, 128), "k": None, "v": None, **kept, **one_more, **tables},
            turned,
            results,
        ),
        Contrib(
            "group_query_several",
            kind,
            {
                "q": real(1, 3, 64),
                "k": real(1, 3, 32),
                "v": real(1, 3, 32),
                "pk": real(1, 2, 6, 16),
                "pv": real(1, 2, 6, 16),
                "s": np.array([8], np.int32),
                "wt": np.asarray(9, np.int32),
                **tables,
            },
            turned,
            results,
        ),
    ]


def _quantized() -> list[Contrib]:
    x, z = whole(0, 255, 2, 3, 4), whole(0, 255, 3, 4)
    s, zero = scales()
    image = whole(0, 255, 1, 3, 6, 6)
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    one = {"x": x, "ws": s, "wz": zero, "wt": single(0.01), "wu": single(3, np.uint8)}
    a, b = whole(0, 255, 3, 5), whole(-128, 127, 5, 4, dtype=np.int8)
    low = {"wt": single(0.3), "wu": single(100, np.uint8)}
    return [
        Contrib(
            "qlinear_add",
            "QLinearAdd",
            {"x": x, "ws": s, "wz": zero, "z": z, "wr": single(0.03), "wy": single(9, np.uint8), **low},
        ),
        Contrib(
            "qlinear_mul",
            "QLinearMul",
            {"x": x, "ws": s, "wz": zero, "z": z, "wr": single(0.03), "wy": single(9, np.uint8), **low},
        ),
        Contrib("qlinear_sigmoid", "QLinearSigmoid", one),
        Contrib("qlinear_leaky", "QLinearLeakyRelu", {**one, "wt": single(0.025)}, {"alpha": 0.1}),
        Contrib(
            "qlinear_softmax",
            "QLinearSoftmax",
            {**one, "wt": single(1 / 256), "wu": single(0, np.uint8)},
            {"opset": 13, "axis": -1},
        ),
        Contrib("qlinear_average", "QLinearAveragePool", {**one, "x": image, "wt": s}, pool),
        Contrib("qlinear_global", "QLinearGlobalAveragePool", {**one, "x": image, "wt": s}),
        Contrib(
            "qlinear_concat",
            "QLinearConcat",
            {"ws": s, "wz": zero, "x": x, "wt": single(0.01), "wu": zero, "z": x, "wv": s, "wy": zero},
            {"axis": 1},
        ),
        Contrib("quantize", "QuantizeLinear", {"x": real(2, 3, 4), "ws": s, "wz": zero}),
        Contrib(
            "dequantize",
            "DequantizeLinear",
            {"x": x, "ws": np.asarray([0.1, 0.2, 0.3], np.float32), "wz": whole(0, 9, 3)},
            {"axis": 1},
        ),
        Contrib(
            "qgemm",
            "QGemm",
            {
                "x": a,
                "ws": s,
                "wz": zero,
                "w": b,
                "wr": s,
                "wy": single(0, np.int8),
                "wc": whole(-500, 500, 4, dtype=np.int32),
                "wt": single(0.2),
                "wu": zero,
            },
        ),
        Contrib(
            "qgemm_float",
            "QGemm",
            {"x": a, "ws": s, "wz": zero, "w": b, "wr": s, "wy": single(0, np.int8)},
            {"alpha": 1.0},
        ),
        Contrib(
            "dynamic_matmul",
            "DynamicQuantizeMatMul",
            {"x": real(2, 3, 5), "w": b, "ws": s, "wz": single(3, np.int8), "wb": real(4)},
        ),
        Contrib(
            "integer_to_float",
            "MatMulIntegerToFloat",
            {"x": a, "w": b, "ws": s, "wt": real(4), "wz": zero, "wu": single(3, np.int8)},
        ),
        *(
            Contrib(
                f"matmul_{bits}_bits{end}",
                "MatMulNBits",
                {"x": real(2, 3, 48), "w": whole(0, 255, 6, blocks, 16 * bits // 8), "ws": real(6, blocks), **zeros},
                {"N": 6, "K": 16 * blocks, "bits": bits, "block_size": 16},
            )
            for bits in (4, 8)
            for blocks in (3,)
            for end, zeros in (("", {}), ("_zeros", {"wz": whole(0, 255, 6, -(-blocks * bits // 8))}))
        ),
        Contrib(
            "matmul_4_bits_ragged",
            "MatMulNBits",
            {"x": real(2, 40), "w": whole(0, 255, 6, 3, 8), "ws": real(6, 3), "wz": None, "wg": None, "wb": real(6)},
            {"N": 6, "K": 40, "bits": 4, "block_size": 16},
        ),
    ]


CONTRIB = [*_activations(), *_products(), *_norms(), *_attention(), *_cached(), *_quantized()]
