"""while_loops over the steps of data, as tf2onnx writes what Keras makes of a GRU or an RNN, become one op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from small_graphs import agree, built, kinds, weight

from isomorph.ir import Builder, DType, Model, Sym, TensorType, Value, ops
from isomorph.ir.passes.canonicalize import canonicalize
from isomorph.ir.passes.identities import drop_identities
from isomorph.ir.passes.raising.recurrent import raise_recurrent
from isomorph.ir.passes.states import drop_zero_states
from isomorph.ir.shapes import Dim

N, S, F32, I32 = Sym("N"), Sym("S"), DType.FLOAT32, DType.INT32
DATA, UNITS, STEPS = 5, 6, 4
MOST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class While:
    """A loop `time = begin; while time < limit and turn < trips: h = step(x[time], h); time += growth`.

    `less` is what compares; `guard` is compared in the end of a turn, too; `stays` says whether weights are carried.
    """

    steps: Dim = S
    begin: int = 0
    growth: int = 1
    short: int = 0
    trips: int | None = None
    less: type = ops.Less
    guard: bool = True
    going: bool = True
    stays: bool = True
    doubles: bool = False
    numbers: DType = F32


def looped(loop: While, *, before: bool = True, gives: str = "all") -> Model:
    """A GRU of Keras as tf2onnx writes it, and what follows the loop."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (loop.steps, N, DATA))
        rows = 3 * UNITS
        w, r, bias = weight(b, "w", DATA, rows), weight(b, "r", UNITS, rows), weight(b, "b", 2, rows)
        h0 = b.emit(ops.Expand((N, UNITS)), b.constant(np.float32(0)))
        limit = _size(b, loop.steps)
        start = b.constant(np.int32(loop.begin))
        going = _below(b, start, limit, loop) if loop.going else b.constant(np.bool_(True))
        trips = b.constant(np.int64(loop.trips)) if loop.trips is not None else _size(b, loop.steps)
        body = _body(b, x, loop, before=before)
        types = (TensorType(I32, ()), h0.type, bias.type, r.type, TensorType(F32, (Sym("turns"), N, UNITS)))
        if gives == "state":
            del body.graph.outputs["y"]
            types = types[:4]
        _, last, _, _, *stacks = b.emit_many(
            ops.Loop(types, 4, ("turns",)), trips, going, start, h0, bias, r, w, x, limit, regions=(body.graph,)
        )
        if gives == "last":
            return b.emit(ops.Gather(0), *stacks, b.constant(np.int64(-1)))
        return last if gives == "state" else stacks[0]

    return built(make)


def _size(b: Builder, steps: Dim) -> Value:
    return b.emit(ops.Dims((steps,), scalar=True)) if isinstance(steps, Sym) else b.constant(np.int64(steps))


def _below(b: Builder, one: Value, other: Value, loop: While) -> Value:
    """What tf2onnx compares numbers as."""
    if loop.short:
        other = b.emit(ops.Sub(), other, b.constant(np.int64(loop.short)))
    return b.emit(loop.less(), b.emit(ops.Cast(loop.numbers), one), b.emit(ops.Cast(loop.numbers), other))


def _body(b: Builder, x: Value, loop: While, *, before: bool) -> Builder:
    body = b.region("body")
    turn, _ = body.input("turn", DType.INT64, ()), body.input("going", DType.BOOL, ())
    time, h = body.input("time", I32, ()), body.input("h", F32, (N, UNITS))
    bias, r = body.input("bias", F32, (2, 3 * UNITS)), body.input("r", F32, (UNITS, 3 * UNITS))
    w = body.input("w", F32, (DATA, 3 * UNITS))
    data, limit = body.input("x", F32, x.shape), body.input("T", DType.INT64, ())
    later = body.emit(ops.Add(), time, body.constant(np.int32(loop.growth)))
    if loop.doubles:
        later = body.emit(ops.Add(), later, time)
    goes_on = _below(body, later, limit, loop)
    if loop.guard:
        goes_on = body.emit(ops.And(), goes_on, _below(body, turn, limit, loop))
    step = body.emit(ops.Gather(0), data, time)
    h1 = (_gru if before else _gru0)(body, step, h, (w, r, bias))
    carried = r if loop.stays else body.emit(ops.Add(), r, r)
    given = body.emit(ops.Identity(), h1)
    for name, value in {"on": goes_on, "later": later, "h1": h1, "bias": bias, "r": carried, "y": given}.items():
        body.output(name, value)
    return body


def _parts(b: Builder, value: Value) -> list[Value]:
    cuts = [(0, UNITS), (UNITS, 2 * UNITS), (2 * UNITS, None)]
    return [b.emit(ops.Slice((0, 1), (0, start), (None, end), (1, 1)), value) for start, end in cuts]


def _mixed(b: Builder, z: Value, n: Value, h: Value) -> Value:
    rest = b.emit(ops.Sub(), b.constant(np.float32(1)), z)
    return b.emit(ops.Add(), b.emit(ops.Mul(), z, h), b.emit(ops.Mul(), rest, n))


def _gru(b: Builder, x: Value, h: Value, weights: tuple[Value, Value, Value]) -> Value:
    """reset_after=True, with a bias for the data and one for the state."""
    w, r, bias = weights
    one, other = (b.emit(ops.Squeeze((0,)), part) for part in b.emit_many(ops.Split(0, (1, 1)), bias))
    of_x = b.emit_many(ops.Split(1, (UNITS,) * 3), b.emit(ops.Add(), b.emit(ops.MatMul(), x, w), one))
    of_h = _parts(b, b.emit(ops.Add(), b.emit(ops.MatMul(), h, r), other))
    z, q = (b.emit(ops.Sigmoid(), b.emit(ops.Add(), of_x[k], of_h[k])) for k in range(2))
    n = b.emit(ops.Tanh(), b.emit(ops.Add(), of_x[2], b.emit(ops.Mul(), q, of_h[2])))
    return _mixed(b, z, n, h)


def _gru0(b: Builder, x: Value, h: Value, weights: tuple[Value, Value, Value]) -> Value:
    """reset_after=False, with a product for each run of columns of the weight of the state."""
    w, r, bias = weights
    one = b.emit(ops.Squeeze((0,)), b.emit_many(ops.Split(0, (1, 1)), bias)[0])
    of_x = b.emit_many(ops.Split(1, (UNITS,) * 3), b.emit(ops.Add(), b.emit(ops.MatMul(), x, w), one))
    parts = _parts(b, r)
    z, q = (b.emit(ops.Sigmoid(), b.emit(ops.Add(), of_x[k], b.emit(ops.MatMul(), h, parts[k]))) for k in range(2))
    reset = b.emit(ops.MatMul(), b.emit(ops.Mul(), q, h), parts[2])
    return _mixed(b, z, b.emit(ops.Tanh(), b.emit(ops.Add(), of_x[2], reset)), h)


def raised(model: Model) -> Model:
    return canonicalize(drop_identities(drop_zero_states(raise_recurrent(model))))


LOOPS = {
    "any number of steps": While(),
    "four steps": While(steps=STEPS),
    "a single step": While(steps=1),
    "bounded by its condition alone": While(trips=MOST),
    "bounded by its condition alone, four steps": While(steps=STEPS, trips=MOST),
    "the counter alone": While(guard=False),
    "at most": While(less=ops.LessOrEqual, short=1, guard=False, trips=MOST),
    "a condition that only the turns end": While(less=ops.LessOrEqual, guard=False),
    "integers are compared": While(numbers=I32),
    "begun in any case": While(steps=STEPS, going=False),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("before", [True, False], ids=["reset after", "reset before"])
def test_a_loop_that_counts_is_a_layer(name: str, before: bool) -> None:
    model = looped(LOOPS[name], before=before)
    after = raised(model)
    (node,) = (node for node in after.graph.nodes if isinstance(node.op, ops.GRU))
    assert node.op == ops.GRU(linear_before_reset=before)
    assert not {"Loop", "Gather", "Sigmoid", "Dims"} & set(kinds(after))
    agree(model, after, rtol=1e-4, atol=1e-5)


NEAR_MISSES = {
    "every other step": While(steps=STEPS, growth=2),
    "the first step is left out": While(begin=1),
    "the last step is left out": While(short=1),
    "the last step is left out, four steps": While(steps=STEPS, short=1),
    "fewer turns": While(steps=STEPS, trips=STEPS - 1),
    "a counter that doubles": While(steps=STEPS, doubles=True),
    "a weight that changes": While(stays=False),
    "numbers that do not count beyond 2048": While(numbers=DType.FLOAT16),
    "unbounded, but for any steps": While(less=ops.LessOrEqual, short=1, guard=False, trips=7),
    "begun in any case, with no step to take": While(going=False, trips=MOST),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_takes_other_steps(name: str) -> None:
    assert "Loop" in kinds(raised(looped(NEAR_MISSES[name])))


@pytest.mark.parametrize("gives", ["last", "state"])
def test_the_last_step_of_y_is_the_last_state(gives: str) -> None:
    model = looped(While(), gives=gives)
    after = raised(model)
    assert set(kinds(after)) == {"GRU", "Squeeze", "Split", "Transpose"}
    agree(model, after, rtol=1e-4, atol=1e-5)


def turned(b: Builder, value: Value, *, axis: int = 0, lengths: str = "all") -> Value:
    size = value.shape[axis]
    if lengths == "a slice":
        return b.emit(ops.Slice((axis,), (None,), (None,), (-1,)), value)
    given = b.input("lengths", DType.INT64, (N,)) if lengths == "given" else None
    made = b.emit(ops.Dims((size,))) if lengths != "fewer" else b.constant(np.array([STEPS - 1], np.int64))
    return b.emit(ops.ReverseSequence(bool(axis)), value, given or b.emit(ops.Expand((N,)), made))


def backwards(lengths: str, *, steps: Dim = S, both: bool = False, axis: int = 0, cut: int | None = None) -> Model:
    """A layer of data that is turned around, and so is what it gives."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (N, steps, DATA) if axis else (steps, N, DATA))
        rows, given = 4 * UNITS, []
        for way in ("forward", "back") if both else ("back",):
            data = x if way == "forward" else turned(b, x, axis=axis, lengths=lengths)
            w, r = weight(b, f"w{way}", rows, DATA), weight(b, f"r{way}", rows, UNITS)
            y = b.emit_many(ops.LSTM(batch_first=bool(axis)), data, w, r)[0]
            given.append(y if way == "forward" or cut is not None else turned(b, y, axis=axis, lengths=lengths))
        if cut is not None:
            return b.emit(ops.Gather(axis), given[0], b.constant(np.int64(cut)))
        return b.emit(ops.Concat(2), *given) if both else given[0]

    return built(make)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("lengths", ["all", "a slice"])
@pytest.mark.parametrize("both", [False, True])
def test_data_that_are_turned_around(both: bool, lengths: str, axis: int) -> None:
    model = backwards(lengths, both=both, axis=axis)
    after = raised(model)
    (node,) = after.graph.nodes
    assert node.op == ops.LSTM(direction="bidirectional" if both else "reverse", batch_first=bool(axis))
    agree(model, after)


def test_the_last_step_of_data_that_are_turned_around() -> None:
    model = backwards("a slice", cut=-1)
    after = raised(model)
    assert kinds(after) == {"LSTM": 1, "Squeeze": 1}
    agree(model, after)


OTHERS: dict[str, Callable[[], Model]] = {
    "lengths from outside": lambda: backwards("given"),
    "fewer than all": lambda: backwards("fewer", steps=STEPS),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_turned_around_in_part(name: str) -> None:
    (node,) = (node for node in raised(OTHERS[name]()).graph.nodes if isinstance(node.op, ops.LSTM))
    assert node.op == ops.LSTM()


@pytest.mark.parametrize("cut", [0, 1, -2])
def test_another_step_is_no_last_state(cut: int) -> None:
    assert "Gather" in kinds(raised(backwards("a slice", cut=cut, steps=STEPS)))
