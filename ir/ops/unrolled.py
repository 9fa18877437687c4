"""Recurrent layers as single steps in other ops, for targets that lack them: the specification of `decompose`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op
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
from isomorph.ir.ops.elementwise import Add, Cast, Less, Mul, Sub, Where, scalar
from isomorph.ir.ops.linear import Linear
from isomorph.ir.ops.shape import Concat, ConstantOfShape, Slice, Split, Transpose, Unsqueeze

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value
    from isomorph.ir.ops.recurrent import Recurrent

__all__ = ["unroll"]

Operands = Mapping[str, "Value | None"]
Function = Callable[["Value"], "Value"]

_SINGLE: Mapping[str, Callable[..., Op]] = {
    "Elu": Elu, "HardSigmoid": HardSigmoid, "LeakyRelu": LeakyRelu, "Relu": Relu, "Sigmoid": Sigmoid,
    "Softplus": Softplus, "Softsign": Softsign, "Tanh": Tanh, "ThresholdedRelu": ThresholdedRelu,
}  # fmt: skip
"""The functions that are one op, called with their parameters."""


def unroll(op: Recurrent, b: Builder, named: Operands) -> tuple[Value, ...]:
    """The outputs of a recurrent layer by T steps of the same ops. Steps and states have the shape (1, N, width)."""
    x = _required(named["x"])
    if op.batch_first:
        x = b.emit(Transpose((1, 0, 2)), x)
    steps = x.shape[0]
    op.require(isinstance(steps, int) and steps > 0, f"as single steps it needs a static number of them, not {steps}")
    assert isinstance(steps, int)
    live = _live(b, named["lengths"], steps)
    results = [_Way(op, b, named, place).run(x, live) for place in range(len(op.directions))]
    ways = [b.emit(Concat(0), *ys) if steps > 1 else ys[0] for ys, _ in results]
    y = b.emit(Concat(2), *ways) if len(ways) > 1 else ways[0]
    if op.batch_first:
        y = b.emit(Transpose((1, 0, 2)), y)
    ends = [[states[place] for _, states in results] for place in range(len(op.STATES))]
    return (y, *(b.emit(Concat(0), *each) if len(each) > 1 else each[0] for each in ends))


def _required(value: Value | None) -> Value:
    assert value is not None
    return value


def _live(b: Builder, lengths: Value | None, steps: int) -> list[Value] | None:
    """For each step a mask (1, N, 1): whether a sequence goes on."""
    if lengths is None:
        return None
    column = b.emit(Unsqueeze((0, 2)), b.emit(Cast(DType.INT64), lengths))
    return [b.emit(Less(), b.constant(np.asarray(step, np.int64), "step"), column) for step in range(steps)]


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

    def run(self, x: Value, live: Sequence[Value] | None) -> tuple[list[Value], list[Value]]:
        """The y of each step in the order of time, and the last states."""
        b = self.b
        inside = b.emit(Linear(), x, self.w, self.bias)
        count = int(inside.shape[0])  # type: ignore[arg-type]
        rows = list(b.emit_many(Split(0, (1,) * count), inside)) if count > 1 else [inside]
        state = [self._first(name, x) for name in self.op.STATES]
        made: list[Value | None] = [None] * count
        for step in reversed(range(count)) if self.backwards else range(count):
            after = self.cell(rows[step], state)
            y = after[0]
            if live is not None:
                y = b.emit(Where(), live[step], y, scalar(b, 0.0, y))
                after = [b.emit(Where(), live[step], new, old) for new, old in zip(after, state, strict=True)]
            made[step], state = y, after
        return [_required(y) for y in made], state

    def _first(self, name: str, x: Value) -> Value:
        given = self.named[name]
        if given is None:
            width = self.w.shape[0] // len(self.op.GATES) if name == "c" else self.r.shape[1]
            return self.b.emit(ConstantOfShape((1, x.shape[1], width), 0.0, x.dtype))
        if given.shape[0] == 1:
            return given
        return self.b.emit(Slice((0,), (self.place,), (self.place + 1,), (1,)), given)

    def _function(self, name: str, parameters: tuple[float, ...]) -> Function:
        b, clip = self.b, self.op.clip

        def apply(x: Value) -> Value:
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
