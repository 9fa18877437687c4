"""Recurrent layers: RNN, GRU, LSTM over a whole sequence, in one direction or both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np

from isomorph.errors import DTypeError
from isomorph.ir.dtypes import DType
from isomorph.ir.op import Op, TensorType, operation
from isomorph.ir.ops.numerics import Array
from isomorph.ir.shapes import Dim, Sym

if TYPE_CHECKING:
    from isomorph.ir.builder import Builder
    from isomorph.ir.graph import Value

__all__ = ["ACTIVATIONS", "GRU", "LSTM", "RNN", "Recurrent"]

ACTIVATIONS: Mapping[str, tuple[tuple[float, ...], Callable[..., Array]]] = {
    "Affine": ((1.0, 0.0), lambda x, alpha, beta: alpha * x + beta),
    "Elu": ((1.0,), lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x)),
    "HardSigmoid": ((0.2, 0.5), lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1)),
    "LeakyRelu": ((0.01,), lambda x, alpha: np.where(x < 0, alpha * x, x)),
    "Relu": ((), lambda x: np.maximum(x, 0)),
    "ScaledTanh": ((1.0, 1.0), lambda x, alpha, beta: alpha * np.tanh(beta * x)),
    "Sigmoid": ((), lambda x: 0.5 * (1 + np.tanh(0.5 * x))),
    "Softplus": ((), lambda x: np.logaddexp(0, x)),
    "Softsign": ((), lambda x: x / (1 + np.abs(x))),
    "Tanh": ((), np.tanh),
    "ThresholdedRelu": ((1.0,), lambda x, alpha: np.where(x > alpha, x, 0)),
}
"""Defaults of (alpha, beta) and formula of each function that a gate may have. See: ONNX LSTM-22."""

Direction = Literal["forward", "reverse", "bidirectional"]


@operation
class _Recurrent(Op):
    """Base of the recurrent layers, which have D directions, G gates and H units.

    Shapes: x (T, N, I), or (N, T, I) if `batch_first`; y (T, N, D * H) likewise, the directions one after another in
    the last axis; states (D, N, H). Of each direction: w (G * H, I), r (G * H, H), input bias b and recurrent bias rb
    (G * H,). lengths (N,): after them y is 0 and the states stay; the reverse direction starts at the end of each
    sequence. A missing bias or initial state is 0.

    direction    "bidirectional" needs the operands whose names end in "_back", the others forbid them
    gates        the order of the gates in w, r, b and rb, a permutation of the class' own `GATES`
    activations  the functions of each direction one after another; () means the class' `FUNCTIONS`
    alphas       their parameters, one for each function (0 where it takes none); () means their defaults in ONNX
    betas        likewise
    clip         what a function is applied to is first clipped to [-clip, clip]
    """

    direction: Direction = "forward"
    gates: str = ""
    batch_first: bool = False
    activations: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    betas: tuple[float, ...] = ()
    clip: float | None = None

    GATES: ClassVar[str] = ""
    FUNCTIONS: ClassVar[tuple[str, ...]] = ()
    STATES: ClassVar[tuple[str, ...]] = ("h",)

    @property
    def order(self) -> str:
        """The order of the gates, a letter for each."""
        return self.gates or self.GATES

    @property
    def directions(self) -> tuple[tuple[str, bool], ...]:
        """For each direction, the ending of its operands' names and whether it runs from the end."""
        both = (("", False), ("_back", True))
        return both if self.direction == "bidirectional" else (("", self.direction == "reverse"),)

    def operands(self, given: Sequence[Value | TensorType | Array | None]) -> dict[str, object]:
        """The operands by name, None for those that are absent."""
        names = [name.rstrip("?") for name in self.inputs]
        return dict(zip(names, [*given, *[None] * (len(names) - len(given))], strict=True))

    def functions(self, direction: int) -> list[tuple[str, tuple[float, ...]]]:
        """The functions of the gates of a direction and their parameters."""
        count = len(self.FUNCTIONS)
        names = self.activations or self.FUNCTIONS * len(self.directions)
        found = []
        for place in range(direction * count, (direction + 1) * count):
            pairs = zip(ACTIVATIONS[names[place]][0], (self.alphas, self.betas), strict=False)
            found.append((names[place], tuple(stated[place] if stated else default for default, stated in pairs)))
        return found

    def infer(self, *given: TensorType | None) -> tuple[TensorType, ...]:
        named: dict[str, TensorType | None] = self.operands(given)  # type: ignore[assignment]
        self._check_attributes()
        x, lengths = named["x"], named["lengths"]
        assert x is not None
        self.require(x.rank == 3, f"data of rank 3 is needed, not {x}")
        time, batch = (x.shape[1], x.shape[0]) if self.batch_first else x.shape[:2]
        others = [kind.shape[1] for state in self.STATES if (kind := named[state]) is not None and kind.rank == 3]
        others += lengths.shape[:1] if lengths is not None else ()
        batch = next((dim for dim in (batch, *others) if isinstance(dim, int)), batch)
        width, size = 0, 0
        for suffix in ("", "_back"):
            if suffix and self.direction != "bidirectional":
                extra = [name for name, operand in named.items() if name.endswith("_back") and operand is not None]
                self.require(not extra, f"one direction has no operand {', '.join(extra)}")
            else:
                width, size = self._check_weights(named, suffix, x)
        if lengths is not None:
            if lengths.dtype not in (DType.INT32, DType.INT64):
                raise DTypeError(f"{self.name}: lengths are int32 or int64, not {lengths.dtype}")
            self.require(lengths.rank == 1 and _same(lengths.shape[0], batch), f"lengths {lengths} of data {x}")
        count = len(self.directions)
        dtype = self.require_same_dtype(*(kind for name, kind in named.items() if name != "lengths"))
        states = [TensorType(dtype, (count, batch, size if state == "c" else width)) for state in self.STATES]
        for state, kind in zip(self.STATES, states, strict=True):
            first = named[state]
            fits = first is None or (first.rank == 3 and all(map(_same, first.shape, kind.shape)))
            self.require(fits, f"the initial {state} is {first}, not {kind}")
        shape = (batch, time, count * width) if self.batch_first else (time, batch, count * width)
        return (TensorType(dtype, shape), *states)

    def _check_attributes(self) -> None:
        self.require(sorted(self.order) == sorted(self.GATES), f"gates {self.gates!r}, not an order of {self.GATES}")
        self.require(self.direction in ("forward", "reverse", "bidirectional"), f"direction {self.direction!r}")
        count = len(self.FUNCTIONS) * len(self.directions)
        for name in ("activations", "alphas", "betas"):
            listed = getattr(self, name)
            self.require(len(listed) in (0, count), f"{len(listed)} {name}, {count} are needed")
        unknown = [name for name in self.activations if name not in ACTIVATIONS]
        self.require(not unknown, f"unknown functions {', '.join(unknown)}")

    def _check_weights(self, named: Mapping[str, TensorType | None], suffix: str, x: TensorType) -> tuple[int, int]:
        """(width of h, number of units) by the weights of a direction."""
        w, r = named[f"w{suffix}"], named[f"r{suffix}"]
        if w is None or r is None:
            self.require(False, f"the weight {'w' if w is None else 'r'}{suffix} is missing")
        assert w is not None and r is not None
        rows, gates = w.shape[:1], len(self.GATES)
        count, width = (*rows, None)[0], r.shape[-1] if r.rank == 2 else None
        if not isinstance(count, int) or not isinstance(width, int) or w.rank != 2:
            self.require(False, f"weights are static matrices, not {w}, {r}")
        assert isinstance(count, int) and isinstance(width, int)
        self.require(r.shape[0] == count and count % gates == 0, f"weights {w}, {r} of {gates} gates")
        self.require(_same(w.shape[1], x.shape[2]), f"weight {w} (gates * H, I) does not fit data {x}")
        size = count // gates
        wanted: dict[str, tuple[Dim, ...]] = {"b": (count,), "rb": (count,), "p": (3 * size,), "proj": (width, size)}
        for name, shape in wanted.items():
            operand = named.get(name + suffix)
            self.require(operand is None or operand.shape == shape, f"operand {name}{suffix} is {operand}, not {shape}")
        self.require(named.get(f"proj{suffix}") is not None or width == size, f"weight {r} is not (gates * H, H)")
        return width, size

    def decompose(self, b: Builder, *given: Value | None) -> tuple[Value, ...]:
        """A few steps one after another; more, or an unknown number of them, in a Scan."""
        from isomorph.ir.ops.unrolled import unroll

        return unroll(self, b, self.operands(given))  # type: ignore[arg-type]

    def evaluate(self, *given: Array | None) -> tuple[Array, ...]:
        named: dict[str, Array | None] = self.operands(given)  # type: ignore[assignment]
        x = named["x"]
        assert x is not None
        if x.dtype.itemsize < 4:
            wide = {
                name: array if array is None or name == "lengths" else array.astype(np.float32)
                for name, array in named.items()
            }
            return tuple(array.astype(x.dtype) for array in self._run(wide))
        return self._run(named)

    def _run(self, named: Mapping[str, Array | None]) -> tuple[Array, ...]:
        x, lengths = named["x"], named["lengths"]
        assert x is not None
        steps = np.swapaxes(x, 0, 1) if self.batch_first else x
        ends = np.full(steps.shape[1], len(steps)) if lengths is None else lengths.astype(np.int64)
        results = [self._one_way(named, steps, ends, place) for place in range(len(self.directions))]
        y = np.concatenate([made[0] for made in results], -1)
        states = [np.stack([made[1][place] for made in results]) for place in range(len(self.STATES))]
        return (np.swapaxes(y, 0, 1) if self.batch_first else y, *states)

    def _one_way(
        self, named: Mapping[str, Array | None], steps: Array, ends: Array, place: int
    ) -> tuple[Array, list[Array]]:
        """y and the last states of one direction; steps (T, N, I)."""
        suffix, backwards = self.directions[place]
        own = {name: named.get(name + suffix) for name in ("w", "r", "b", "rb", "p", "proj")}
        w, r = own["w"], own["r"]
        assert w is not None and r is not None
        times = np.arange(len(steps))[:, None]
        order = np.where(backwards & (times < ends), ends - 1 - times, times)[:, :, None]
        taken = np.take_along_axis(steps, order, 0)
        sizes = {"h": r.shape[1], "c": r.shape[0] // len(self.GATES)}
        state: list[Array] = []
        for name in self.STATES:
            first = named[name]
            state.append(np.zeros((steps.shape[1], sizes[name]), steps.dtype) if first is None else first[place])
        y = np.zeros((*steps.shape[:2], r.shape[1]), steps.dtype)
        functions = [self._function(*each) for each in self.functions(place)]
        for step, data in enumerate(taken):
            live = (step < ends)[:, None]
            made = self._cell(data, state, own, functions)
            y[step] = np.where(live, made[0], 0)
            state = [np.where(live, new, old) for new, old in zip(made, state, strict=True)]
        return np.take_along_axis(y, order, 0), state

    def _function(self, name: str, parameters: tuple[float, ...]) -> Callable[[Array], Array]:
        formula, clip = ACTIVATIONS[name][1], self.clip

        def apply(x: Array) -> Array:
            inside = x if clip is None else np.clip(x, -clip, clip)
            return formula(inside, *(x.dtype.type(each) for each in parameters)).astype(x.dtype, copy=False)

        return apply

    def _split(self, gates: Array) -> dict[str, Array]:
        return dict(zip(self.order, np.split(gates, len(self.order), -1), strict=True))

    def _cell(
        self, x: Array, state: list[Array], own: Mapping[str, Array | None], f: list[Callable[[Array], Array]]
    ) -> list[Array]:
        raise NotImplementedError  # pragma: no cover


def _same(left: Dim, right: Dim) -> bool:
    """False only where two sizes are known to differ."""
    return isinstance(left, Sym) or isinstance(right, Sym) or left == right


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    assert weight is not None
    product: Array = x @ weight.T
    return product if bias is None else product + bias


@operation
class RNN(_Recurrent):
    """h[t] = f(w x[t] + b + r h[t-1] + rb). Outputs y (all h) and the last h; shapes as in the base class.

    Differs from ONNX RNN-22: the operands of each direction stand apart, y has the directions in its last axis.
    See: torch.nn.RNN; keras.layers.SimpleRNN.
    """

    inputs: ClassVar[tuple[str, ...]] = (
        "x", "w", "r", "b?", "rb?", "w_back?", "r_back?", "b_back?", "rb_back?", "lengths?", "h?",
    )  # fmt: skip
    GATES: ClassVar[str] = "i"
    FUNCTIONS: ClassVar[tuple[str, ...]] = ("Tanh",)

    def _cell(
        self, x: Array, state: list[Array], own: Mapping[str, Array | None], f: list[Callable[[Array], Array]]
    ) -> list[Array]:
        return [f[0](_affine(x, own["w"], own["b"]) + _affine(state[0], own["r"], own["rb"]))]


@operation
class GRU(_Recurrent):
    """The gated recurrent unit of Cho et al. Outputs y (all h) and the last h; shapes as in the base class, G = 3.

    z = f(w_z x + b_z + r_z h + rb_z)    update      q = f(w_r x + b_r + r_r h + rb_r)    reset
    n = g(w_h x + b_h + q * (r_h h + rb_h))          if `linear_before_reset`
    n = g(w_h x + b_h + r_h (q * h) + rb_h)          otherwise
    h' = (1 - z) * n + z * h
    `gates` is an order of "zrh". Differs from ONNX GRU-22: the operands of each direction stand apart, y has the
    directions in its last axis. See: torch.nn.GRU (gates "rzh"); keras.layers.GRU (reset_after).
    """

    linear_before_reset: bool = False

    inputs: ClassVar[tuple[str, ...]] = (
        "x", "w", "r", "b?", "rb?", "w_back?", "r_back?", "b_back?", "rb_back?", "lengths?", "h?",
    )  # fmt: skip
    GATES: ClassVar[str] = "zrh"
    FUNCTIONS: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh")

    def _cell(
        self, x: Array, state: list[Array], own: Mapping[str, Array | None], f: list[Callable[[Array], Array]]
    ) -> list[Array]:
        (h,), r, rb = state, own["r"], own["rb"]
        assert r is not None
        inside = self._split(_affine(x, own["w"], own["b"]))
        back = self._split(_affine(h, r, rb))
        z, q = f[0](inside["z"] + back["z"]), f[0](inside["r"] + back["r"])
        if self.linear_before_reset:
            again = q * back["h"]
        else:
            place, size = self.order.index("h"), len(r) // 3
            own_rows = slice(place * size, (place + 1) * size)
            again = _affine(q * h, r[own_rows], None if rb is None else rb[own_rows])
        return [(1 - z) * f[1](inside["h"] + again) + z * h]


@operation
class LSTM(_Recurrent):
    """Long short-term memory. Outputs y (all h), the last h and the last c; shapes as in the base class, G = 4.

    i = f(w_i x + b_i + r_i h + rb_i + p_i * c)    input
    u = f(w_f x + b_f + r_f h + rb_f + p_f * c)    forget; 1 - i if `input_forget`
    c' = u * c + i * g(w_c x + b_c + r_c h + rb_c)
    o = f(w_o x + b_o + r_o h + rb_o + p_o * c')   output
    h' = proj (o * h(c'))
    `gates` is an order of "iofc". p (3 * H,) are peepholes in the order i, o, f. proj (P, H) projects: h, y and the
    columns of r then have the width P. Differs from ONNX LSTM-22, which has no projection: the operands of each
    direction stand apart, y has the directions in its last axis. See: torch.nn.LSTM and keras.layers.LSTM ("ifco").
    """

    input_forget: bool = False

    inputs: ClassVar[tuple[str, ...]] = (
        "x", "w", "r", "b?", "rb?", "w_back?", "r_back?", "b_back?", "rb_back?", "lengths?", "h?", "c?", "p?",
        "p_back?", "proj?", "proj_back?",
    )  # fmt: skip
    GATES: ClassVar[str] = "iofc"
    FUNCTIONS: ClassVar[tuple[str, ...]] = ("Sigmoid", "Tanh", "Tanh")
    STATES: ClassVar[tuple[str, ...]] = ("h", "c")

    def _cell(
        self, x: Array, state: list[Array], own: Mapping[str, Array | None], f: list[Callable[[Array], Array]]
    ) -> list[Array]:
        h, c = state
        gate = self._split(_affine(x, own["w"], own["b"]) + _affine(h, own["r"], own["rb"]))
        p = own["p"]
        look = dict(zip("iof", np.split(p, 3), strict=True)) if p is not None else dict.fromkeys("iof", x.dtype.type(0))
        i = f[0](gate["i"] + look["i"] * c)
        u = 1 - i if self.input_forget else f[0](gate["f"] + look["f"] * c)
        c = u * c + i * f[1](gate["c"])
        h = f[0](gate["o"] + look["o"] * c) * f[2](c)
        return [h if own["proj"] is None else _affine(h, own["proj"], None), c]


Recurrent: TypeAlias = RNN | GRU | LSTM
