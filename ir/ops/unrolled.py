"""Recurrent layers in other ops, for targets that lack them: `decompose` of recurrent.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType
from isomorph.ir.ops.activation import (
    Clip,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
)
from isomorph.ir.ops.control import Scan
from isomorph.ir.ops.elementwise import Add, Cast, Less, Mul, Sub, Where, scalar
from isomorph.ir.ops.linear import Linear
from isomorph.ir.ops.shape import (
    Concat,
    ConstantOfShape,
    Range,
    Slice,
    Split,
    Squeeze,
    Transpose,
    Unsqueeze,
)
from isomorph.ir.shapes import Dim

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value
    from isomorph.ir.ops.recurrent import Recurrent

__all__ = ["MOST_UNROLLED", "unroll"]

MOST_UNROLLED = 16
"""With more steps than this, or an unknown number of them, a loop stands for them."""

Operands = Mapping[str, "Value | None"]
Function = Callable[["Value"], "Value"]

_SINGLE: Mapping[str, Callable[..., Op]] = {
    "Elu": Elu, "HardSigmoid": HardSigmoid, "LeakyRelu": LeakyRelu, "Relu": Relu, "Sigmoid": Sigmoid,
    "Softplus": Softplus, "Softsign": Softsign, "Tanh": Tanh, "ThresholdedRelu": ThresholdedRelu,
}  # fmt: skip
"""The functions that are one op, called with their parameters."""


def unroll(op: Recurrent, b: Builder, named: Operands) -> tuple[Value, ...]:
    """The outputs of a recurrent layer in other ops: a few steps one after another, more of them in a Scan."""
    x = _required(named["x"])
    if op.batch_first:
        x = b.emit(Transpose((1, 0, 2)), x)
    lengths = named["lengths"]
    live = None if lengths is None else _live(b, lengths, x.shape[0])
    ways = [_Way(op, b, named, place) for place in range(len(op.directions))]
    steps = x.shape[0]
    few = isinstance(steps, int) and 0 < steps <= MOST_UNROLLED
    results = [way.unrolled(x, live) if few else way.scanned(x, live) for way in ways]
    y = b.emit(Concat(2), *(y for y, _ in results)) if len(results) > 1 else results[0][0]
    if op.batch_first:
        y = b.emit(Transpose((1, 0, 2)), y)
    ends = [[states[place] for _, states in results] for place in range(len(op.STATES))]
    return (y, *(b.emit(Concat(0), *each) if len(each) > 1 else each[0] for each in ends))


def _required(value: Value | None) -> Value:
    assert value is not None
    return value


def _live(b: Builder, lengths: Value, steps: Dim) -> Value:
    """A mask (T, N, 1): whether a sequence goes on at a step."""
    row = b.emit(Unsqueeze((0, 2)), b.emit(Cast(DType.INT64), lengths))
    times = b.emit(Unsqueeze((1, 2)), b.emit(Range(0, 1, steps, DType.INT64)))
    return b.emit(Less(), times, row)


class _Way:
    """One direction of a layer. The cells return the states after a step, the first of which is y."""

    def __init__(self, op: Recurrent, b: Builder, named: Operands, place: int) -> None:
        self.op, self.b, self.named, self.place = op, b, named, place
        suffix, self.backwards = op.directions[place]
        own = {name: named.get(name + suffix) for name in ("w", "r", "b", "rb", "p", "proj")}
        self.w, self.r, self.bias, self.rb = _required(own["w"]), _required(own["r"]), own["b"], own["rb"]
        self.p, self.proj = own["p"], own["proj"]
        self.f = [self._function(*each) for each in op.functions(place)]
        cells = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}
        self.cell = cells[op.name]

    def unrolled(self, x: Value, live: Value | None) -> tuple[Value, list[Value]]:
        """y and the last states; each step has the shape (1, N, width)."""
        b, count = self.b, int(x.shape[0])  # type: ignore[arg-type]

        def each(value: Value) -> Sequence[Value]:
            return b.emit_many(Split(0, (1,) * count), value) if count > 1 else [value]

        rows = each(self._inside(x))
        masks = [None] * count if live is None else each(live)
        state = [self._first(name, x) for name in self.op.STATES]
        made: list[Value] = []
        for step in reversed(range(count)) if self.backwards else range(count):
            y, state = self._step(rows[step], masks[step], state)
            made.append(y)
        ordered = made[::-1] if self.backwards else made
        return (b.emit(Concat(0), *ordered) if count > 1 else ordered[0]), state

    def scanned(self, x: Value, live: Value | None) -> tuple[Value, list[Value]]:
        """y and the last states by a Scan over the steps; each has the shape (N, width)."""
        b = self.b
        rows = self._inside(x)
        first = [b.emit(Squeeze((0,)), self._first(name, x)) for name in self.op.STATES]
        over = [rows] if live is None else [rows, live]
        read = [value for value in (self.r, self.rb, self.p, self.proj) if value is not None]
        body = b.region("step")
        state = [body.input(name, value.dtype, value.shape) for name, value in zip(self.op.STATES, first, strict=True)]
        row, *mask = (
            body.input(name, value.dtype, value.shape[1:]) for name, value in zip(("x", "live"), over, strict=False)
        )
        inside = {value: body.input(value.name, value.dtype, value.shape) for value in read}
        self.b, self.r = body, inside[self.r]
        self.rb, self.p, self.proj = (value and inside[value] for value in (self.rb, self.p, self.proj))
        y, after = self._step(row, mask[0] if mask else None, state)
        for name, value in zip((*self.op.STATES, "y"), (*after, y), strict=True):
            body.output(f"next_{name}", value)
        self.b = b
        kinds = (*(value.type for value in first), TensorType(y.dtype, (x.shape[0], *y.shape)))
        back = (self.backwards,)
        op = Scan(kinds, len(first), len(over), (0,) * len(over), (0,), back * len(over), back)
        *ends, y = b.emit_many(op, *first, *over, *read, regions=(body.graph,))  # type: ignore[arg-type]
        return y, [b.emit(Unsqueeze((0,)), end) for end in ends]

    def _step(self, row: Value, live: Value | None, state: list[Value]) -> tuple[Value, list[Value]]:
        """y of a step and the states after it."""
        after = self.cell(row, state)
        if live is None:
            return after[0], after
        y = self.b.emit(Where(), live, after[0], scalar(self.b, 0.0, after[0]))
        return y, [self.b.emit(Where(), live, new, old) for new, old in zip(after, state, strict=True)]

    def _inside(self, x: Value) -> Value:
        """What the data add to the gates of all steps, (T, N, G * H), with all biases that only are added."""
        rows = self.b.emit(Linear(), x, self.w, self.bias)
        if self.rb is not None and self.op.name != "GRU":
            rows, self.rb = self.b.emit(Add(), rows, self.rb), None
        return rows

    def _first(self, name: str, x: Value) -> Value:
        given = self.named[name]
        if given is None:
            width = self.w.shape[0] // len(self.op.GATES) if name == "c" else self.r.shape[1]
            return self.b.emit(ConstantOfShape((1, x.shape[1], width), 0.0, x.dtype))
        if given.shape[0] == 1:
            return given
        return self.b.emit(Slice((0,), (self.place,), (self.place + 1,), (1,)), given)

    def _function(self, name: str, parameters: tuple[float, ...]) -> Function:
        clip = self.op.clip

        def apply(x: Value) -> Value:
            b = self.b
            if clip is not None:
                x = b.emit(Clip(-clip, clip), x)
            if name == "Affine":
                scaled = b.emit(Mul(), x, scalar(b, parameters[0], x))
                return b.emit(Add(), scaled, scalar(b, parameters[1], x))
            if name == "ScaledTanh":
                bent = b.emit(Tanh(), b.emit(Mul(), x, scalar(b, parameters[1], x)))
                return b.emit(Mul(), bent, scalar(b, parameters[0], x))
            return b.emit(_SINGLE[name](*parameters), x)

        return apply

    def _gates(self, joined: Value) -> dict[str, Value]:
        return self._parts(joined, joined.rank - 1, self.op.order)

    def _parts(self, joined: Value, axis: int, letters: str) -> dict[str, Value]:
        size = joined.shape[axis] // len(letters)
        return dict(zip(letters, self.b.emit_many(Split(axis, (size,) * len(letters)), joined), strict=True))

    def _rnn(self, x: Value, state: list[Value]) -> list[Value]:
        return [self.f[0](self.b.emit(Add(), x, self.b.emit(Linear(), state[0], self.r, self.rb)))]

    def _gru(self, x: Value, state: list[Value]) -> list[Value]:
        b, f, (h,) = self.b, self.f, state
        inside = self._gates(x)
        if self.op.linear_before_reset:  # type: ignore[union-attr]
            back = self._gates(b.emit(Linear(), h, self.r, self.rb))
            z, q = (f[0](b.emit(Add(), inside[gate], back[gate])) for gate in "zr")
            again = b.emit(Mul(), q, back["h"])
        else:
            rows = self._parts(self.r, 0, self.op.order)
            shifts = {} if self.rb is None else self._parts(self.rb, 0, self.op.order)
            z, q = (
                f[0](b.emit(Add(), inside[gate], b.emit(Linear(), h, rows[gate], shifts.get(gate)))) for gate in "zr"
            )
            again = b.emit(Linear(), b.emit(Mul(), q, h), rows["h"], shifts.get("h"))
        fresh = f[1](b.emit(Add(), inside["h"], again))
        rest = b.emit(Sub(), scalar(b, 1.0, z), z)
        return [b.emit(Add(), b.emit(Mul(), rest, fresh), b.emit(Mul(), z, h))]

    def _lstm(self, x: Value, state: list[Value]) -> list[Value]:
        b, f, (h, c) = self.b, self.f, state
        gate = self._gates(b.emit(Add(), x, b.emit(Linear(), h, self.r, self.rb)))
        looks = {} if self.p is None else self._parts(self.p, 0, "iof")

        def seen(name: str, cell: Value) -> Value:
            return b.emit(Add(), gate[name], b.emit(Mul(), looks[name], cell)) if looks else gate[name]

        i = f[0](seen("i", c))
        coupled = self.op.input_forget  # type: ignore[union-attr]
        u = b.emit(Sub(), scalar(b, 1.0, i), i) if coupled else f[0](seen("f", c))
        c = b.emit(Add(), b.emit(Mul(), u, c), b.emit(Mul(), i, f[1](gate["c"])))
        h = b.emit(Mul(), f[0](seen("o", c)), f[2](c))
        return [h if self.proj is None else b.emit(Linear(), h, self.proj), c]
