"""LSTMs whose gates see the cell state, put together again from their steps."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import ArrayTensor, Builder, DType, Model, Parameter, Sym, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.identities import drop_identities
from isomorph.ir.passes.legalize import legalize
from isomorph.ir.passes.raising.recurrent import raise_recurrent
from isomorph.ir.passes.states import drop_zero_states
from isomorph.ir.shapes import Dim

N, S, F32 = Sym("N"), Sym("S"), DType.FLOAT32
DATA, UNITS, STEPS = 5, 6, 4


def raised(model: Model) -> Model:
    return canonicalize(drop_identities(drop_zero_states(raise_recurrent(model))))


def peeping(
    *, steps: Dim = STEPS, way: str = "forward", vectors: int = 1, late: bool = True, gates: str = "iof"
) -> Model:
    """An LSTM whose gates see the cell state; `late` says that the output gate sees the new one."""

    def make(b: Builder) -> Value:
        x, rows = b.input("x", F32, (steps, N, DATA)), 4 * UNITS
        w, r, p = weight(b, "w", rows, DATA), weight(b, "r", rows, UNITS), weight(b, "p", 3 * UNITS)
        if vectors == 1 and late and gates == "iof":
            op = ops.LSTM(direction=way)  # type: ignore[arg-type]
            named = {"x": x, "w": w, "r": r, "p": p}
            return b.emit_many(op, *(named.get(name.rstrip("?")) for name in op.inputs))[0]
        parts = [b.parameter(vector("p", place)) for place in range(3)]
        looks = dict(zip("iof", parts, strict=True))
        h = c = b.emit(ops.Expand((N, UNITS)), number(b, 0.0))
        made = []
        for place in range(STEPS):
            step = b.emit(ops.Gather(0), x, b.constant(np.int64(place), "index"))
            total = b.emit(ops.Add(), b.emit(ops.Linear(), step, w), b.emit(ops.Linear(), h, r))
            gate = dict(zip("iofc", b.emit_many(ops.Split(1, (UNITS,) * 4), total), strict=True))

            def seen(name: str, cell: Value, gate: dict[str, Value] = gate) -> Value:
                look = b.emit(ops.Mul(), looks[name], cell) if name in gates else None
                return b.emit(ops.Sigmoid(), gate[name] if look is None else b.emit(ops.Add(), gate[name], look))

            old = c
            fresh = b.emit(ops.Mul(), seen("i", c), b.emit(ops.Tanh(), gate["c"]))
            c = b.emit(ops.Add(), b.emit(ops.Mul(), seen("f", c), c), fresh)
            h = b.emit(ops.Mul(), seen("o", c if late else old), b.emit(ops.Tanh(), c))
            made.append(b.emit(ops.Unsqueeze((0,)), h))
        return b.emit(ops.Concat(0), *made)

    return built(make)


def vector(name: str, place: int) -> Parameter:
    data = np.random.default_rng(place).normal(size=UNITS).astype(np.float32)
    return Parameter(f"{name}{place}", ArrayTensor(data), trainable=True, role="weight")


@pytest.mark.parametrize("way", ["forward", "reverse"])
@pytest.mark.parametrize("steps", [STEPS, 20, S])
def test_gates_that_see_the_cell(steps: Dim, way: str) -> None:
    model = peeping(steps=steps, way=way)
    apart = legalize(model, lambda node: "spelled" if node.op.name == "LSTM" else None, "a test")
    after = raised(apart)
    (node,) = after.graph.nodes
    assert node.op == ops.LSTM(direction=way)  # type: ignore[arg-type]
    assert node.op.operands(node.inputs)["p"] is not None
    agree(model, after, rtol=1e-4, atol=1e-5)


def test_gates_that_see_the_cell_by_a_vector_each() -> None:
    model = peeping(vectors=3)
    after = raised(model)
    assert kinds(after) == {"LSTM": 1, "Concat": 1}
    agree(model, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("late", "gates"), [(False, "iof"), (True, "io"), (True, "f")])
def test_gates_that_see_another_cell(late: bool, gates: str) -> None:
    assert "LSTM" not in kinds(raised(peeping(vectors=3, late=late, gates=gates)))
