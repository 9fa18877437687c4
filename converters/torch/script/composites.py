"""Operators that exported programs take apart and TorchScript keeps whole, as the operators they stand for.

Source: aten/src/ATen/native/RNN.cpp (cells), native/transformers/attention.cpp and transformer.cpp (fast paths).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isomorph.converters.torch.script.session import Session
from isomorph.converters.torch.script.values import Value

__all__ = ["COMPOSITES"]

Call = Callable[..., Value]
"""call(name, *arguments, **keywords) emits an operator."""


def _gates(call: Call, input: Value, hidden: Value, weights: dict[str, Any]) -> tuple[Value, Value]:
    return (
        call("linear", input, weights["w_ih"], weights.get("b_ih")),
        call("linear", hidden, weights["w_hh"], weights.get("b_hh")),
    )


def _lstm_cell(session: Session, call: Call, input: Value, hx: Value, **weights: Value) -> Value:
    """(h', c') with gates i, f, g, o: c' = f * c + i * g, h' = o * tanh(c')"""
    hidden, cell = hx
    i, f, g, o = call("chunk", call("add", *_gates(call, input, hidden, weights)), 4, 1)
    kept = call("mul", call("sigmoid", f), cell)
    new = call("add", kept, call("mul", call("sigmoid", i), call("tanh", g)))
    return call("mul", call("sigmoid", o), call("tanh", new)), new


def _gru_cell(session: Session, call: Call, input: Value, hx: Value, **weights: Value) -> Value:
    """h' = n + z * (h - n), n = tanh(i_n + r * h_n)"""
    of_input, of_hidden = _gates(call, input, hx, weights)
    (i_r, i_z, i_n), (h_r, h_z, h_n) = call("chunk", of_input, 3, 1), call("chunk", of_hidden, 3, 1)
    r, z = call("sigmoid", call("add", i_r, h_r)), call("sigmoid", call("add", i_z, h_z))
    n = call("tanh", call("add", i_n, call("mul", r, h_n)))
    return call("add", n, call("mul", z, call("sub", hx, n)))


def _rnn_cell(activation: str) -> Callable[..., Value]:
    def cell(session: Session, call: Call, input: Value, hx: Value, **weights: Value) -> Value:
        return call(activation, call("add", *_gates(call, input, hx, weights)))

    return cell


def _attention(session: Session, call: Call, query: Value, key: Value, value: Value, **given: Value) -> Value:
    """_native_multi_head_attention(query, key, value, embed_dim, num_head, qkv_weight, qkv_bias, proj_weight, …)

    softmax(q k^T / sqrt(D / heads)) v for each head, batch first; with need_weights the weights, too.
    """
    size, heads = given["embed_dim"], given["num_head"]
    if given.get("mask") is not None:
        session.note("aten._native_multi_head_attention", "a mask on the fast path", session.here())
    batch, length = session.kind(query).shape[:2]
    weights = call("chunk", given["qkv_weight"], 3, 0)
    biases = call("chunk", given["qkv_bias"], 3, 0)
    parts = [
        call(
            "transpose",
            call("view", call("linear", x, w, b), [batch, session.kind(x).shape[1], heads, size // heads]),
            1,
            2,
        )
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    ]
    if given.get("need_weights", True):
        scale = call("mul", parts[0], (size // heads) ** -0.5)
        scores = call("softmax", call("matmul", scale, call("transpose", parts[1], -2, -1)), -1)
        mixed = call("matmul", scores, parts[2])
        scores = call("mean", scores, [1]) if given.get("average_attn_weights", True) else scores
    else:
        mixed, scores = call("scaled_dot_product_attention", *parts), None
    joined = call("reshape", call("transpose", mixed, 1, 2), [batch, length, size])
    return call("linear", joined, given["proj_weight"], given["proj_bias"]), scores


def _encoder_layer(session: Session, call: Call, src: Value, **given: Value) -> Value:
    """_transformer_encoder_layer_fwd: attention and feed-forward, each with its sum and norm, norm_first or not"""
    size, eps = given["embed_dim"], given["eps"]

    def norm(x: Value, number: int) -> Value:
        return call("layer_norm", x, [size], given[f"norm_weight_{number}"], given[f"norm_bias_{number}"], eps)

    def attend(x: Value) -> Value:
        names = ("embed_dim", "qkv_weight", "qkv_bias", "proj_weight", "proj_bias", "mask")
        passed = {name: given.get(name) for name in names}
        return _attention(session, call, x, x, x, num_head=given["num_heads"], need_weights=False, **passed)[0]

    def feed(x: Value) -> Value:
        inner = call("linear", x, given["ffn_weight_1"], given["ffn_bias_1"])
        inner = call("gelu" if given["use_gelu"] else "relu", inner)
        return call("linear", inner, given["ffn_weight_2"], given["ffn_bias_2"])

    if given["norm_first"]:
        x = call("add", src, attend(norm(src, 1)))
        return call("add", x, feed(norm(x, 2)))
    x = norm(call("add", src, attend(src)), 1)
    return norm(call("add", x, feed(x)), 2)


COMPOSITES: dict[str, Callable[..., Value]] = {
    "aten.lstm_cell.default": _lstm_cell,
    "aten.gru_cell.default": _gru_cell,
    "aten.rnn_tanh_cell.default": _rnn_cell("tanh"),
    "aten.rnn_relu_cell.default": _rnn_cell("relu"),
    "aten._native_multi_head_attention.default": _attention,
    "aten._transformer_encoder_layer_fwd.default": _encoder_layer,
}
"""By target: called with (session, call, **arguments)."""
