"""Recurrent layers written to Keras: SimpleRNN, GRU, LSTM, and Bidirectional around them. See recurrent.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isomorph.converters.keras.emitter import Emitter
from isomorph.converters.keras.rules import refuses, rules
from isomorph.converters.keras.serialize import Held, Tensor, class_object, dtype_policy
from isomorph.ir import DerivedTensor, Node, TensorSource, TensorType, Value, ops

_CLASSES = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "SimpleRNN"}
_NAMES: dict[tuple[str, tuple[float, ...]], str] = {
    ("Tanh", ()): "tanh", ("Sigmoid", ()): "sigmoid", ("Relu", ()): "relu", ("Softsign", ()): "softsign",
    ("Softplus", ()): "softplus", ("Elu", (1.0,)): "elu", ("LeakyRelu", (0.2,)): "leaky_relu",
    ("Affine", (1.0, 0.0)): "linear", ("HardSigmoid", (1 / 6, 0.5)): "hard_sigmoid",
}  # fmt: skip
"""Keras' names of the functions that it has."""


def _activations(op: ops.Recurrent, place: int) -> list[str | None]:
    """Keras' names of the functions of a direction, None for one that it lacks."""
    return [
        next((key for (known, numbers), key in _NAMES.items() if known == name and np.allclose(numbers, values)), None)
        if any(known == name and len(numbers) == len(values) for known, numbers in _NAMES)
        else None
        for name, values in op.functions(place)
    ]


@refuses(ops.RNN, ops.GRU, ops.LSTM)
def _refusal(node: Node) -> str | None:
    op = node.op
    assert isinstance(op, ops.Recurrent)
    named: dict[str, Value | None] = op.operands(node.inputs)  # type: ignore[assignment]
    for key, reason in (("lengths", "lengths of sequences"), ("p", "peepholes"), ("proj", "a projection")):
        if named.get(key) is not None or named.get(f"{key}_back") is not None:
            return f"Keras has no {reason} here"
    if op.clip is not None or getattr(op, "input_forget", False):
        return "Keras has no clipped or coupled gates"
    listed = [_activations(op, place) for place in range(len(op.directions))]
    outer = {"LSTM": (1, 2)}.get(op.name, (-1,))
    if any(None in names or len({names[each] for each in outer}) > 1 for names in listed) or listed[0] != listed[-1]:
        return "Keras has other functions"
    weights = [value for name, value in named.items() if name.removesuffix("_back") in ("w", "r", "b", "rb")]
    if any(value is not None and value.parameter is None for value in weights):
        return "a weight that is computed"
    x = node.inputs[0]
    return None if x is not None and isinstance(x.shape[2], int) else "data of unknown width"


@rules.exports(ops.RNN, ops.GRU, ops.LSTM)
def _write(out: Emitter, node: Node) -> list[Tensor]:
    """A layer, or Bidirectional around one; states stand in Keras without the axis of the directions."""
    op = node.op
    assert isinstance(op, ops.Recurrent)
    named: dict[str, Value | None] = op.operands(node.inputs)  # type: ignore[assignment]
    backwards = op.direction == "reverse"
    users = out.graph.users()
    y, *states = node.outputs
    stated = any(value in out.graph.outputs.values() or users.get(value) for value in states)
    config, weights = _settings(op, named, backwards, stated)
    x = out.tensor(named["x"])
    if not op.batch_first:
        x = _swapped(out, node, x, "batch_first")
    batch, steps = x.type.shape[:2]
    kinds = [TensorType(x.type.dtype, (batch, steps, y.shape[2]))]
    if stated:
        kinds += [TensorType(x.type.dtype, (batch, state.shape[2])) for _ in op.directions for state in states]
    cls, given = _CLASSES[op.name], _initial(out, node, op, named)
    if op.direction == "bidirectional":
        inner = class_object("keras.layers", cls, {"name": "layer", **config, "dtype": dtype_policy(y.dtype)})
        cls, config = "Bidirectional", {"merge_mode": "concat", "layer": inner}
        held = [Held(each.parameter, each.data, f"{way}_layer/cell") for way, each in weights]
    else:
        held = [Held(each.parameter, each.data, "cell") for _, each in weights]
    made = out.layers(node, cls, config, x, types=kinds, weights=held, **given)
    result, ends = made[0], made[1:]
    if backwards:
        result = out.operation(node, "Flip", {"axis": 1}, result, suffix="flip", types=[result.type])
    if not op.batch_first:
        result = _swapped(out, node, result, "time_first")
    return [result, *_stacked(out, node, ends, result)]


def _settings(
    op: ops.Recurrent, named: Mapping[str, Value | None], backwards: bool, stated: bool
) -> tuple[dict[str, Any], list[tuple[str, Held]]]:
    """The configuration of one direction, and the weights of all: (direction, weight)."""
    w = named["w"]
    assert w is not None
    functions = _activations(op, 0)
    biased = any(named.get(f"{key}{suffix}") is not None for key in ("b", "rb") for suffix, _ in op.directions)
    config: dict[str, Any] = {
        "units": int(w.shape[0]) // len(op.GATES),  # type: ignore[arg-type]
        "activation": functions[-1],
        "use_bias": biased,
        "return_sequences": True,
        "return_state": stated,
        "go_backwards": backwards,
    }
    if op.name != "RNN":
        config["recurrent_activation"] = functions[0]
    if isinstance(op, ops.GRU):
        config["reset_after"] = op.linear_before_reset
    order = _order(op)
    weights: list[tuple[str, Held]] = []
    for way, (suffix, _) in zip(("forward", "backward"), op.directions, strict=False):
        w, r = named[f"w{suffix}"], named[f"r{suffix}"]
        for value in (w, r):
            assert value is not None and value.parameter is not None
            weights.append((way, Held(value.parameter, _gates(value.parameter.data, order).permuted((1, 0)))))
        if biased:
            weights.append((way, _bias(op, named[f"b{suffix}"], named[f"rb{suffix}"], w, order)))
    return config, weights


def _order(op: ops.Recurrent) -> list[int]:
    """Where each gate of Keras stands among the op's."""
    return [op.order.index(letter) for letter in ("ifco" if op.name == "LSTM" else op.GATES)]


def _gates(source: TensorSource, order: Sequence[int]) -> TensorSource:
    """The rows in the order of Keras' gates."""
    if list(order) == sorted(order):
        return source
    rows = np.arange(source.shape[0]).reshape(len(order), -1)[list(order)].reshape(-1)
    return DerivedTensor(source.dtype, source.shape, (source,), lambda array: array[rows])


def _bias(op: ops.Recurrent, b: Value | None, rb: Value | None, w: Value | None, order: Sequence[int]) -> Held:
    """One bias, their sum, or both in two rows for a GRU with reset_after."""
    present = [value.parameter for value in (b, rb) if value is not None and value.parameter is not None]
    assert w is not None and w.parameter is not None
    dtype, rows = w.parameter.data.dtype, w.parameter.data.shape[0]
    sources = [
        None if value is None or value.parameter is None else _gates(value.parameter.data, order) for value in (b, rb)
    ]
    given = [source for source in sources if source is not None]
    owner = present[0] if present else w.parameter
    if isinstance(op, ops.GRU) and op.linear_before_reset:

        def stack(*arrays: Any) -> Any:
            found = iter(arrays)
            return np.stack([np.zeros(rows, dtype.numpy) if source is None else next(found) for source in sources])

        return Held(owner, DerivedTensor(dtype, (2, rows), given, stack))
    if len(given) == 1:
        return Held(owner, given[0])
    return Held(owner, DerivedTensor(dtype, (rows,), given, lambda *arrays: sum(arrays, np.zeros(rows, dtype.numpy))))


def _swapped(out: Emitter, node: Node, x: Tensor, suffix: str) -> Tensor:
    kind = TensorType(x.type.dtype, (x.type.shape[1], x.type.shape[0], *x.type.shape[2:]))
    return out.operation(node, "Transpose", {"axes": [1, 0, 2]}, x, suffix=suffix, types=[kind])


def _initial(out: Emitter, node: Node, op: ops.Recurrent, named: Mapping[str, Value | None]) -> dict[str, Any]:
    """The argument with the initial states (N, H), one direction after the other; one that is absent is 0."""
    like = next((state for name in op.STATES if (state := named[name]) is not None), None)
    if like is None:
        return {}
    kind = TensorType(like.dtype, like.shape[1:])
    rows = []
    for place in range(len(op.directions)):
        for name in op.STATES:
            whole = out.tensor(named[name] or like)
            row = out.operation(node, "GetItem", {}, whole, (place,), suffix="state", types=[kind])
            if named[name] is None:
                row = out.operation(node, "ZerosLike", {"dtype": kind.dtype.value}, row, suffix="zeros", types=[kind])
            rows.append(row)
    return {"initial_state": rows if len(rows) > 1 else rows[0]}


def _stacked(out: Emitter, node: Node, ends: Sequence[Tensor], y: Tensor) -> list[Tensor]:
    """The last states (D, N, H) of all directions."""
    states = node.outputs[1:]
    if not ends:  # nothing reads them
        return [y] * len(states)
    count = len(states)
    made = []
    for place, value in enumerate(states):
        each = list(ends[place::count])
        if len(each) == 1:
            made.append(out.operation(node, "ExpandDims", {"axis": 0}, each[0], suffix="last", types=[value.type]))
        else:
            made.append(out.operation(node, "Stack", {"axis": 0}, each, suffix="last", types=[value.type]))
    return made
