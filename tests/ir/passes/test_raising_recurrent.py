"""Recurrent layers that a source spells out become one op; what only looks like them does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_graphs import agree, built, kinds, number, weight

from isomorph.ir import Builder, DType, Model, Node, Sym, TensorType, Value, ops
from isomorph.ir.builder import Rewriter, rewrite
from isomorph.ir.ops.recurrent import Recurrent
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


def layer(op: Recurrent, steps: Dim, *, states: bool = True, biases: bool = True) -> Model:
    def make(b: Builder) -> Value:
        rows = len(op.GATES) * UNITS
        named = {"x": b.input("x", F32, (N, steps, DATA) if op.batch_first else (steps, N, DATA))}
        for suffix, _ in op.directions:
            named[f"w{suffix}"] = weight(b, f"w{suffix}", rows, DATA)
            named[f"r{suffix}"] = weight(b, f"r{suffix}", rows, UNITS)
            for name in (f"b{suffix}", f"rb{suffix}") if biases else ():
                named[name] = weight(b, name, rows)
        for name in op.STATES if states else ():
            named[name] = b.input(name, F32, (len(op.directions), N, UNITS))
        y, *last = b.emit_many(op, *(named.get(name.rstrip("?")) for name in op.inputs))
        for place, value in enumerate(last):
            b.output(f"last{place}", value)
        return y

    return built(make)


LAYERS = [
    ops.LSTM(), ops.LSTM(gates="ifco", direction="reverse"), ops.LSTM(direction="bidirectional"),
    ops.LSTM(batch_first=True), ops.GRU(), ops.GRU(linear_before_reset=True, gates="rzh"),
    ops.GRU(direction="bidirectional"),
    ops.RNN(), ops.RNN(activations=("Relu",)), ops.RNN(direction="bidirectional"),
    ops.GRU(activations=("HardSigmoid", "Tanh")),
    ops.LSTM(activations=("HardSigmoid", "Relu", "Tanh"), alphas=(0.25, 0.0, 0.0), betas=(0.5, 0.0, 0.0)),
    ops.LSTM(activations=("Sigmoid", "Tanh", "Elu"), alphas=(0.0, 0.0, 0.5), direction="reverse"),
]  # fmt: skip


def same(op: Recurrent, wanted: Recurrent) -> bool:
    """Whether two layers are one, their numbers rounded to float32."""
    numbers = [each.functions(place) for each in (op, wanted) for place in range(len(op.directions))]
    plain = (replace(each, activations=(), alphas=(), betas=()) for each in (op, wanted))
    half = len(numbers) // 2
    rounded = [[(name, np.float32(given).tolist()) for name, given in listed] for listed in numbers]
    return len(set(plain)) == 1 and rounded[:half] == rounded[half:]


@pytest.mark.parametrize("states", [False, True], ids=["from zeros", "from states"])
@pytest.mark.parametrize("steps", [STEPS, 20, S], ids=["step by step", "a loop", "a loop of any length"])
@pytest.mark.parametrize("op", LAYERS, ids=lambda op: f"{op.name} {op.direction} {op.batch_first} {op.activations}")
def test_what_a_layer_decomposes_to_is_the_layer(op: Recurrent, steps: Dim, states: bool) -> None:
    for biases in (True, False):
        model = layer(op, steps, states=states, biases=biases)
        apart = legalize(model, lambda node: "spelled" if node.op.name == op.name else None, "a test")
        assert op.name not in kinds(apart)
        (node,) = raised(apart).graph.nodes
        assert isinstance(node.op, type(op))
        assert same(node.op, op)
        agree(model, raised(apart), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", [ops.LSTM(), ops.GRU()], ids=lambda op: op.name)
def test_a_single_step(op: Recurrent) -> None:
    model = layer(op, 1)
    apart = legalize(model, lambda node: "spelled" if node.op.name == op.name else None, "a test")
    (node,) = raised(apart).graph.nodes
    assert node.op == op
    agree(model, raised(apart), rtol=1e-4, atol=1e-5)


Step = Callable[..., tuple[Value, ...]]


def gates(b: Builder, x: Value, h: Value, name: str, rows: int, *, product: bool = False) -> Value:
    """What torch.onnx makes of a cell; as a product with a transposed weight and a bias, what tf2onnx makes of it."""
    if product:
        of_x = b.emit(ops.MatMul(), x, weight(b, f"{name}.kernel", int(x.shape[1]), rows))  # type: ignore[arg-type]
        of_h = b.emit(ops.MatMul(), h, weight(b, f"{name}.recurrent", UNITS, rows))
        return b.emit(ops.Add(), b.emit(ops.Add(), of_x, of_h), weight(b, f"{name}.bias", rows))
    of_x = b.emit(ops.Linear(), x, weight(b, f"{name}.w", rows, int(x.shape[1])), weight(b, f"{name}.b", rows))  # type: ignore[arg-type]
    return b.emit(
        ops.Add(), b.emit(ops.Linear(), h, weight(b, f"{name}.r", rows, UNITS), weight(b, f"{name}.rb", rows)), of_x
    )


def lstm(
    b: Builder, x: Value, h: Value, c: Value, *, name: str = "cell", product: bool = False, forget: type = ops.Sigmoid
) -> tuple[Value, ...]:
    total = gates(b, x, h, name, 4 * UNITS, product=product)
    i, f, g, o = b.emit_many(ops.Split(1, (UNITS,) * 4), total)
    kept = b.emit(ops.Mul(), b.emit(forget(), f), c)
    c = b.emit(ops.Add(), kept, b.emit(ops.Mul(), b.emit(ops.Sigmoid(), i), b.emit(ops.Tanh(), g)))
    return b.emit(ops.Mul(), b.emit(ops.Sigmoid(), o), b.emit(ops.Tanh(), c)), c


def gru(b: Builder, x: Value, h: Value, *, name: str = "cell", mixed: bool = True) -> tuple[Value, ...]:
    def halves(value: Value, key: str) -> Sequence[Value]:
        width = int(value.shape[1])  # type: ignore[arg-type]
        linear = b.emit(
            ops.Linear(), value, weight(b, f"{name}.{key}", 3 * UNITS, width), weight(b, f"{name}.b{key}", 3 * UNITS)
        )
        return [b.emit(ops.Slice((1,), (place * UNITS,), ((place + 1) * UNITS,), (1,)), linear) for place in range(3)]

    (rx, zx, nx), (rh, zh, nh) = halves(x, "w"), halves(h, "r")
    r, z = (b.emit(ops.Sigmoid(), b.emit(ops.Add(), one, other)) for one, other in ((rx, rh), (zx, zh)))
    n = b.emit(ops.Tanh(), b.emit(ops.Add(), nx, b.emit(ops.Mul(), r, nh)))
    other = h if mixed else x
    return (b.emit(ops.Add(), b.emit(ops.Mul(), b.emit(ops.Sub(), other, n), z), n),)


def rnn(b: Builder, x: Value, h: Value, *, name: str = "cell") -> tuple[Value, ...]:
    return (b.emit(ops.Tanh(), gates(b, x, h, name, UNITS)),)


def zeros(b: Builder) -> Value:
    return b.constant(np.zeros((2, UNITS), np.float32), "zeros")


def unrolled(
    step: Step,
    count: int,
    *,
    axis: int = 0,
    order: Sequence[int] = range(STEPS),
    stack: int | None = None,
    width: int = DATA,
) -> Callable[[Builder], list[Value]]:
    """The states of each step, in order, of steps of x; the stack of all h is an output."""

    def make(b: Builder) -> list[Value]:
        x = b.input("x", F32, (2, STEPS, width) if axis else (STEPS, 2, width))
        state: tuple[Value, ...] = tuple(zeros(b) for _ in range(count))
        made = []
        for place in order:
            state = step(b, b.emit(ops.Gather(axis), x, b.constant(np.int64(place), "index")), *state)
            made.append(state[0])
        at = axis if stack is None else stack
        b.output("last", state[-1])
        b.output("stack", b.emit(ops.Concat(at), *(b.emit(ops.Unsqueeze((at,)), each) for each in made)))
        return made

    return make


def with_output(make: Callable[[Builder], list[Value]], place: int = -1) -> Model:
    """`make` builds one graph; weights of the same name are one."""

    def shared(b: Builder) -> Value:
        known: dict[str, Value] = {}
        parameter = b.parameter
        b.parameter = lambda given: (
            known.setdefault(given.name, parameter(given)) if given.role == "weight" else parameter(given)
        )  # type: ignore[method-assign]
        return make(b)[place]

    return built(shared)


TORCH: dict[str, tuple[Callable[[Builder], list[Value]], Recurrent]] = {
    "LSTMCell": (unrolled(lstm, 2), ops.LSTM(gates="ifco")),
    "LSTMCell, batch first": (unrolled(lstm, 2, axis=1), ops.LSTM(gates="ifco", batch_first=True)),
    "LSTMCell, from the end": (unrolled(lstm, 2, order=(3, 2, 1, 0)), ops.LSTM(gates="ifco", direction="reverse")),
    "LSTMCell, stacked otherwise": (unrolled(lstm, 2, stack=1), ops.LSTM(gates="ifco")),
    "LSTMCell, data as wide as h": (unrolled(lstm, 2, width=UNITS), ops.LSTM(gates="ifco")),
    "GRUCell": (unrolled(gru, 1), ops.GRU(gates="rzh", linear_before_reset=True)),
    "RNNCell": (unrolled(rnn, 1), ops.RNN()),
    "RNNCell, data as wide as h": (unrolled(rnn, 1, width=UNITS), ops.RNN()),
    "tf2onnx's LSTM": (unrolled(partial(lstm, product=True), 2), ops.LSTM(gates="ifco")),
}


@pytest.mark.parametrize("place", [-1, 1], ids=["the last h", "an h on the way"])
@pytest.mark.parametrize("name", TORCH)
def test_steps_of_a_cell_are_a_layer(name: str, place: int) -> None:
    make, op = TORCH[name]
    model = with_output(make, place)
    after = raised(model)
    (node,) = (node for node in after.graph.nodes if isinstance(node.op, ops.LSTM | ops.GRU | ops.RNN))
    assert node.op == op
    assert not {"Sigmoid", "Tanh", "Linear", "Gather", "Mul"} & set(kinds(after))
    agree(model, after, rtol=1e-4, atol=1e-5)


def two_layers(b: Builder) -> list[Value]:
    x = b.input("x", F32, (STEPS, 2, DATA))
    lower, upper = ((zeros(b), zeros(b)) for _ in range(2))
    made = []
    for place in range(STEPS):
        lower = lstm(b, b.emit(ops.Gather(0), x, b.constant(np.int64(place), "index")), *lower, name="lower")  # type: ignore[assignment]
        upper = lstm(b, lower[0], *upper, name="upper")  # type: ignore[assignment]
        made.append(upper[0])
    return [b.emit(ops.Concat(0), *(b.emit(ops.Unsqueeze((0,)), each) for each in made))]


def test_layers_one_on_the_other() -> None:
    model = with_output(two_layers)
    after = raised(model)
    assert kinds(after) == {"LSTM": 2}
    agree(model, after, rtol=1e-4, atol=1e-5)


def both_ways(b: Builder, *, same: bool = True) -> list[Value]:
    x = b.input("x", F32, (STEPS, 2, DATA))
    z = x if same else b.input("z", F32, (STEPS, 2, DATA))
    rows = 3 * UNITS
    found = [
        b.emit_many(ops.GRU(direction=way), data, weight(b, f"w{way}", rows, DATA), weight(b, f"r{way}", rows, UNITS))  # type: ignore[arg-type]
        for way, data in (("forward", x), ("reverse", z))
    ]
    b.output("last", b.emit(ops.Concat(0), *(made[1] for made in found)))
    return [b.emit(ops.Concat(2), *(made[0] for made in found))]


def test_both_directions_are_one_layer() -> None:
    model = with_output(both_ways)
    after = raised(model)
    assert [node.op for node in after.graph.nodes] == [ops.GRU(direction="bidirectional")]
    agree(model, after, rtol=1e-4, atol=1e-5)


def other_weights(b: Builder, x: Value, h: Value, c: Value, *, calls: list[int]) -> tuple[Value, ...]:
    calls.append(0)
    return lstm(b, x, h, c, name=f"cell{len(calls)}")


def shown_on_the_way(b: Builder) -> list[Value]:
    cells: list[Value] = []

    def step(b: Builder, x: Value, h: Value, c: Value) -> tuple[Value, ...]:
        made = lstm(b, x, h, c)
        cells.append(made[1])
        return made

    made = unrolled(step, 2)(b)
    b.output("c", cells[1])
    return made


def scaled(b: Builder, x: Value, h: Value, c: Value) -> tuple[Value, ...]:
    h, c = lstm(b, x, h, c)
    return b.emit(ops.Mul(), h, number(b, 0.5)), c


def looped(
    *,
    axis: int = 0,
    trips: Dim = S,
    twice: bool = False,
    stops: bool = False,
    later: bool = False,
    steps: Dim = S,
    backwards: bool = False,
) -> Model:
    """A scripted module's loop over cells: x and the weights are read in the body."""

    def make(b: Builder) -> Value:
        x = b.input("x", F32, (2, steps, DATA) if axis else (steps, 2, DATA))
        body = b.region("body")
        turn, _ = body.input("t", DType.INT64, ()), body.input("going", DType.BOOL, ())
        h, c = (body.input(name, F32, (2, UNITS)) for name in ("h", "c"))
        data = body.input("data", F32, x.shape)
        place = body.emit(ops.Add(), turn, body.constant(np.int64(-1))) if later else turn
        if backwards:
            place = body.emit(ops.Sub(), body.constant(np.int64(STEPS - 1)), turn)
        step = body.emit(ops.Gather(axis), data, place)
        h, c = lstm(body, step, h, c)
        goes_on = body.emit(ops.Less(), turn, body.constant(np.int64(2))) if stops else body.constant(np.bool_(True))
        shown = body.emit(ops.Mul(), h, h) if twice else h
        for name, value in {"goes_on": goes_on, "h'": h, "c'": c, "y": shown}.items():
            body.output(name, value)
        kinds_ = (h.type, c.type, TensorType(F32, (Sym("turns") if stops else trips, 2, UNITS)))
        count = b.emit(ops.Dims((trips,), scalar=True)) if isinstance(trips, Sym) else b.constant(np.int64(trips))
        op = ops.Loop(kinds_, 2, ("turns",) if stops else ())
        last_h, last_c, y = b.emit_many(
            op, count, b.constant(np.bool_(True)), zeros(b), zeros(b), x, regions=(body.graph,)
        )
        for name, value in (("h", last_h), ("c", last_c)):
            b.output(name, value)
        return y

    return built(make)


@pytest.mark.parametrize("steps", [STEPS, S])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_loop_over_steps_is_a_layer(axis: int, steps: Dim) -> None:
    model = looped(axis=axis, steps=steps, trips=steps)
    after = raised(model)
    (node,) = (node for node in after.graph.nodes if isinstance(node.op, ops.LSTM))
    assert node.op == ops.LSTM(gates="ifco", batch_first=bool(axis))
    assert set(kinds(after)) <= {"LSTM", "Squeeze", "Transpose"}
    agree(model, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_loop_from_the_end_stacks_the_last_step_first(axis: int) -> None:
    model = looped(axis=axis, steps=STEPS, trips=STEPS, backwards=True)
    after = raised(model)
    (node,) = (node for node in after.graph.nodes if isinstance(node.op, ops.LSTM))
    assert node.op.direction == "reverse"
    agree(model, after, rtol=1e-4, atol=1e-5)


def with_lengths(op: Recurrent, steps: Dim, dtype: DType = DType.INT32) -> Model:
    """A layer over sequences of several lengths."""

    def make(b: Builder) -> Value:
        named: dict[str, Value] = {"x": b.input("x", F32, (steps, N, DATA)), "lengths": b.input("lengths", dtype, (N,))}
        rows = len(op.GATES) * UNITS
        for suffix, _ in op.directions:
            named[f"w{suffix}"], named[f"r{suffix}"] = (
                weight(b, f"{name}{suffix}", rows, width) for name, width in (("w", DATA), ("r", UNITS))
            )
        y, *last = b.emit_many(op, *(named.get(name.rstrip("?")) for name in op.inputs))
        for place, value in enumerate(last):
            b.output(f"last{place}", value)
        return y

    return built(make)


@pytest.mark.parametrize("dtype", [DType.INT32, DType.INT64])
@pytest.mark.parametrize("steps", [20, S])
@pytest.mark.parametrize(
    "op", [ops.LSTM(), ops.GRU(direction="reverse"), ops.RNN(direction="bidirectional")], ids=lambda op: op.name
)
def test_sequences_of_several_lengths(op: Recurrent, steps: Dim, dtype: DType) -> None:
    model = with_lengths(op, steps, dtype)
    apart = legalize(model, lambda node: "spelled" if node.op.name == op.name else None, "a test")
    assert "Scan" in kinds(apart)
    after = raised(apart)
    (node,) = after.graph.nodes
    assert node.op == op
    count = 5 if steps is S else 20
    data = np.random.default_rng(0).normal(size=(count, 2, DATA)).astype(np.float32)
    for lengths in ([0, count], [3, 1]):
        feeds = {"x": data, "lengths": np.array(lengths, dtype.numpy)}
        agree(model, after, feeds, rtol=1e-4, atol=1e-5)


def masked_loop(compare: type = ops.Less, behind: float = 0.0) -> Model:
    """Sequences of which the mask compares otherwise, or y is another number behind them."""
    model = with_lengths(ops.LSTM(), 20)
    apart = legalize(model, lambda node: "spelled" if node.op.name == "LSTM" else None, "a test")

    def change(b: Rewriter, node: Node) -> Sequence[Value] | None:
        if isinstance(node.op, ops.Less):
            return (b.emit(compare(), *b.new_inputs(node)),)
        other = node.inputs[2] if isinstance(node.op, ops.Where) else None
        if other is None or other.parameter is None:
            return None
        return (b.emit(ops.Where(), *b.new_inputs(node)[:2], number(b, behind)),)

    return rewrite(apart, "a test", change, regions=True)


def loop_of(op: Recurrent) -> Model:
    return legalize(layer(op, 20), lambda node: "spelled" if node.op.name == op.name else None, "a test")


NEAR_MISSES: dict[str, Callable[[], Model]] = {
    "steps out of order": lambda: with_output(unrolled(lstm, 2, order=(0, 2, 1, 3))),
    "not all steps": lambda: with_output(unrolled(lstm, 2, order=(0, 1, 2))),
    "a step twice": lambda: with_output(unrolled(lstm, 2, order=(0, 1, 1, 2))),
    "a cell on the way that is shown": lambda: with_output(shown_on_the_way),
    "h is scaled before it goes on": lambda: with_output(unrolled(scaled, 2)),
    "the forget gate is a tanh": lambda: with_output(unrolled(partial(lstm, forget=ops.Tanh), 2)),
    "a GRU that keeps its data": lambda: with_output(unrolled(partial(gru, mixed=False), 1, width=UNITS)),
    "both directions of other data": lambda: with_output(partial(both_ways, same=False)),
    "sequences of lengths that count": lambda: masked_loop(ops.LessOrEqual),
    "sequences that begin late": lambda: masked_loop(ops.Greater),
    "what is behind a sequence is no zero": lambda: masked_loop(behind=1.0),
    "fewer turns than steps": lambda: looped(steps=5, trips=4),
    "a loop that stops by itself": lambda: looped(steps=5, trips=5, stops=True),
    "a loop that gives something else": lambda: looped(twice=True),
    "a loop that reads another step": lambda: looped(later=True),
    "a loop from the end that does not reach the begin": lambda: looped(steps=5, trips=5, backwards=True),
    "gates that are clipped": lambda: loop_of(ops.LSTM(clip=1.0)),
    "an input gate that forgets": lambda: loop_of(ops.LSTM(input_forget=True)),
    "a gate without a function": lambda: loop_of(ops.GRU(activations=("Affine", "Tanh"))),
    "gates of two functions": lambda: with_output(unrolled(partial(lstm, forget=ops.HardSigmoid), 2)),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_is_no_recurrent_layer(name: str) -> None:
    model = NEAR_MISSES[name]()
    assert kinds(canonicalize(raise_recurrent(model))) == kinds(canonicalize(model))


def test_other_weights_at_each_step_are_other_layers() -> None:
    model = with_output(unrolled(partial(other_weights, calls=[]), 2))
    after = raised(model)
    assert kinds(after)["LSTM"] == STEPS
    agree(model, after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [STEPS, 20])
def test_a_target_without_it_keeps_the_steps(steps: int) -> None:
    model = layer(replace(ops.LSTM(), direction="reverse"), steps)
    apart = legalize(model, lambda node: "spelled" if node.op.name == "LSTM" else None, "a test")
    after = raise_recurrent(apart, lambda node: "no" if node.op.name == "LSTM" else None)
    assert "LSTM" not in kinds(after)
    agree(model, after, rtol=1e-4, atol=1e-5)
