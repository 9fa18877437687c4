"""Initial states of zeros are dropped; others stay."""

from __future__ import annotations

import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import Builder, DType, Model, Sym, Value, ops
from isomorph.ir.passes.states import drop_zero_states

N, F32 = Sym("N"), DType.FLOAT32


def layer(op: type, h: str, c: str) -> Model:
    """A layer of 3 units over (5, N, 4)."""

    def state(b: Builder, kind: str) -> Value | None:
        if kind == "expanded":
            return b.emit(ops.Expand((1, N, 3)), number(b, 0.0))
        if kind == "cut":
            return b.emit(ops.Slice((0,), (1,), (2,), (1,)), b.emit(ops.Expand((2, N, 3)), number(b, 0.0)))
        if kind == "ones":
            return b.emit(ops.Expand((1, N, 3)), number(b, 1.0))
        return None if kind == "none" else b.input(f"given_{kind}", F32, (1, N, 3))

    def make(b: Builder) -> Value:
        gates = {ops.RNN: 1, ops.GRU: 3, ops.LSTM: 4}[op]
        operands: dict[str, Value | None] = {
            "x": b.input("x", F32, (5, N, 4)),
            "w": weight(b, "w", 3 * gates, 4),
            "r": weight(b, "r", 3 * gates, 3),
            "h": state(b, h),
            "c": state(b, c),
        }
        given = [operands.get(name.rstrip("?")) for name in op.inputs]  # type: ignore[attr-defined]
        return b.emit_many(op(gates=op.GATES), *given)[0]  # type: ignore[attr-defined]

    return built(make)


@pytest.mark.parametrize("op", [ops.RNN, ops.GRU, ops.LSTM])
@pytest.mark.parametrize("zeros", ["expanded", "cut"])
def test_zeros_are_dropped(op: type, zeros: str) -> None:
    model = layer(op, zeros, zeros)
    dropped = drop_zero_states(model)
    assert kinds(dropped) == {op.__name__: 1}
    agree(model, dropped)


@pytest.mark.parametrize(("h", "c", "left"), [("ones", "h", 0), ("x", "expanded", 1), ("x", "x1", 0)])
def test_other_states_stay(h: str, c: str, left: int) -> None:
    model = layer(ops.LSTM, h, c)
    dropped = drop_zero_states(model)
    assert len(model.graph.nodes) - len(dropped.graph.nodes) == left
    (node,) = (node for node in dropped.graph.nodes if isinstance(node.op, ops.LSTM))
    assert node.inputs[10] is not None
    agree(model, dropped)
