"""Recurrent layers and cells. A layer of several levels becomes as many ops, which read its weights as they are.

PyTorch's gates are in the order input, forget, cell, output of an LSTM and reset, update, new of a GRU.
"""

# ruff: noqa: PLR0917 (the parameters are those of ATen's schemas, passed by name)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isomorph.converters.torch.lowering import Lowering
from isomorph.converters.torch.rules import rules
from isomorph.ir import Value, ops
from isomorph.ir.op import Op

_LSTM = ops.LSTM(gates="ifco")
_GRU = ops.GRU(gates="rzh", linear_before_reset=True)
_TANH = ops.RNN()
_RELU = ops.RNN(activations=("Relu",))
_SMALL = 4096
_ONEDNN_LSTM = 2


def _layers(
    b: Lowering,
    op: ops.Recurrent,
    input: Value,
    first: Sequence[Value],
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """y (T, N, D * H) of the last level and the last states (L * D, N, H) of all levels."""
    b.require(not train or dropout == 0 or num_layers == 1, f"dropout={dropout} is in effect in training")
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    functions = op.activations * directions
    op = replace(
        op, direction="bidirectional" if bidirectional else "forward", batch_first=batch_first, activations=functions
    )
    begins = [_each_level(b, state, num_layers, directions) for state in first]
    x, ends = input, []
    for level in range(num_layers):
        start = level * directions * each
        ways = [params[start + place * each : start + (place + 1) * each] for place in range(directions)]
        x, *states = b.emit_many(op, *_operands(op, x, ways, has_biases, [begin[level] for begin in begins]))
        ends.append(states)
    return (x, *(_joined(b, [states[place] for states in ends]) for place in range(len(first))))


def _operands(
    op: Op, x: Value, ways: Sequence[Sequence[Value]], has_biases: bool, first: Sequence[Value | None]
) -> list[Value | None]:
    """The operands of one level; `ways` has w_ih, w_hh, b_ih, b_hh, w_hr of each direction, as far as given."""
    named: dict[str, Value | None] = {"x": x, **dict(zip("hc", first, strict=False))}
    for suffix, way in zip(("", "_back"), ways, strict=False):
        named[f"w{suffix}"], named[f"r{suffix}"] = way[:2]
        rest = list(way[2:])
        if has_biases:
            named[f"b{suffix}"], named[f"rb{suffix}"], *rest = rest
        if rest:
            named[f"proj{suffix}"] = rest[0]
    return [named.get(name.rstrip("?")) for name in op.inputs]


def _each_level(b: Lowering, state: Value, levels: int, directions: int) -> list[Value | None]:
    """The initial state of each level, None where it is zero."""
    if _is_zero(state):
        return [None] * levels
    if levels == 1:
        return [state]
    return list(b.emit_many(ops.Split(0, (directions,) * levels), state))


def _is_zero(state: Value) -> bool:
    """Whether the value is known to be zeros."""
    if state.producer is not None:
        op = state.producer.op
        if isinstance(op, ops.ConstantOfShape):
            return op.value == 0
        views = ops.Expand | ops.Reshape | ops.Unsqueeze | ops.Cast
        operand = state.producer.inputs[0] if isinstance(op, views) else None
        return operand is not None and _is_zero(operand)
    parameter = state.parameter
    if parameter is None or parameter.role != "constant" or parameter.data.size > _SMALL:
        return False
    return not np.any(parameter.data.numpy())


def _joined(b: Lowering, states: Sequence[Value]) -> Value:
    return states[0] if len(states) == 1 else b.emit(ops.Concat(0), *states)


@rules.imports("aten.lstm.input")
def lstm(
    b: Lowering,
    input: Value,
    hx: Sequence[Value],
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """lstm.input(Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, …) -> (y, h_n, c_n)"""
    return _layers(b, _LSTM, input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@rules.imports("aten.gru.input")
def gru(
    b: Lowering,
    input: Value,
    hx: Value,
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """gru.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases, int num_layers, …) -> (y, h_n)"""
    return _layers(b, _GRU, input, [hx], params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@rules.imports("aten.rnn_tanh.input")
def rnn_tanh(
    b: Lowering,
    input: Value,
    hx: Value,
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """rnn_tanh.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases, int num_layers, …) -> (y, h_n)"""
    return _layers(b, _TANH, input, [hx], params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@rules.imports("aten.rnn_relu.input")
def rnn_relu(
    b: Lowering,
    input: Value,
    hx: Value,
    params: Sequence[Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Value, ...]:
    """rnn_relu.input(Tensor input, Tensor hx, Tensor[] params, bool has_biases, int num_layers, …) -> (y, h_n)"""
    return _layers(b, _RELU, input, [hx], params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


def _cell(
    b: Lowering, op: ops.Recurrent, input: Value, first: Sequence[Value], weights: Sequence[Value | None]
) -> tuple[Value, ...]:
    """The states (N, H) after one step of x (N, I): a layer of one step."""
    w, r, bias, recurrent_bias = weights
    begins = [None if _is_zero(state) else b.reshape(state, (1, *state.shape)) for state in first]
    named = {"x": b.reshape(input, (1, *input.shape)), "w": w, "r": r, "b": bias, "rb": recurrent_bias}
    named.update(zip("hc", begins, strict=False))
    _, *ends = b.emit_many(op, *(named.get(name.rstrip("?")) for name in op.inputs))
    return tuple(b.reshape(end, end.shape[1:]) for end in ends)


@rules.imports("aten.lstm_cell.default")
def lstm_cell(
    b: Lowering,
    input: Value,
    hx: Sequence[Value],
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
) -> tuple[Value, ...]:
    """lstm_cell(Tensor input, Tensor[] hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh) -> (h, c)"""
    return _cell(b, _LSTM, input, hx, [w_ih, w_hh, b_ih, b_hh])


@rules.imports("aten.gru_cell.default")
def gru_cell(
    b: Lowering,
    input: Value,
    hx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
) -> Value:
    """gru_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)"""
    return _cell(b, _GRU, input, [hx], [w_ih, w_hh, b_ih, b_hh])[0]


@rules.imports("aten.rnn_tanh_cell.default")
def rnn_tanh_cell(
    b: Lowering,
    input: Value,
    hx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
) -> Value:
    """rnn_tanh_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)"""
    return _cell(b, _TANH, input, [hx], [w_ih, w_hh, b_ih, b_hh])[0]


@rules.imports("aten.rnn_relu_cell.default")
def rnn_relu_cell(
    b: Lowering,
    input: Value,
    hx: Value,
    w_ih: Value,
    w_hh: Value,
    b_ih: Value | None = None,
    b_hh: Value | None = None,
) -> Value:
    """rnn_relu_cell(Tensor input, Tensor hx, Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None)"""
    return _cell(b, _RELU, input, [hx], [w_ih, w_hh, b_ih, b_hh])[0]


@rules.imports("aten.mkldnn_rnn_layer.default")
def mkldnn_rnn_layer(
    b: Lowering,
    input: Value,
    weight0: Value,
    weight1: Value,
    weight2: Value,
    weight3: Value,
    hx_: Value,
    cx_: Value,
    reverse: bool,
    batch_sizes: Sequence[int],
    mode: int,
    hidden_size: int,
    num_layers: int,
    has_biases: bool,
    bidirectional: bool,
    batch_first: bool,
    train: bool,
) -> tuple[Value | None, ...]:
    """mkldnn_rnn_layer(Tensor input, …) -> (y, h, c, workspace): an LSTM of one direction, decomposed"""
    b.require(mode == _ONEDNN_LSTM and num_layers == 1 and not bidirectional, f"oneDNN's layer of mode {mode}")
    b.require(not batch_sizes, "packed sequences")
    op = replace(_LSTM, direction="reverse" if reverse else "forward", batch_first=batch_first)
    weights = [weight0, weight1, *([weight2, weight3] if has_biases else [])]
    states = [None if _is_zero(state) else b.reshape(state, (1, *state.shape[-2:])) for state in (hx_, cx_)]
    y, h, c = b.emit_many(op, *_operands(op, input, [weights], has_biases, states))
    return y, b.reshape(h, hx_.shape), b.reshape(c, cx_.shape), None
