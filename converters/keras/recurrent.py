"""Recurrent layers: SimpleRNN, GRU, LSTM, Bidirectional, and RNN around cells.

Keras keeps kernel (I, G * H), recurrent_kernel (H, G * H) and one bias (G * H,), or (2, G * H) of a GRU with
reset_after. Its gates are in the order i, f, c, o of an LSTM and z, r, h of a GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isomorph.converters.keras.activation import activation_name
from isomorph.converters.keras.layer import Layer
from isomorph.converters.keras.rules import rules
from isomorph.converters.keras.weights import cells
from isomorph.ir import DerivedTensor, TensorSource, Value, ops

_KINDS: dict[str, type[ops.LSTM] | type[ops.GRU] | type[ops.RNN]] = {
    "LSTM": ops.LSTM,
    "GRU": ops.GRU,
    "SimpleRNN": ops.RNN,
}
_ORDERS = {"LSTM": "ifco", "GRU": "", "SimpleRNN": ""}


@dataclass(frozen=True, slots=True)
class _Unit:
    """The configuration of a layer or cell: `cls` as of the layer, `prefix` of its weights' names."""

    layer: Layer
    cls: str
    config: Mapping[str, Any]
    prefix: str = ""

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        return default if value is None else bool(value)

    def operands(self, suffix: str) -> dict[str, Value | None]:
        """w, r, b and rb by the names of the op's operands."""
        layer = self.layer
        named: dict[str, Value | None] = {
            f"w{suffix}": layer.weight(f"{self.prefix}kernel", _turned),
            f"r{suffix}": layer.weight(f"{self.prefix}recurrent_kernel", _turned),
        }
        bias = f"{self.prefix}bias"
        if not self.flag("use_bias", True):
            return named
        if self.cls == "GRU" and self.flag("reset_after", layer.major >= 3):
            named[f"b{suffix}"] = layer.weight(bias, _row(0))
            named[f"rb{suffix}"] = layer.weight(bias, _row(1), part="/recurrent")
        else:
            named[f"b{suffix}"] = layer.weight(bias)
        return named

    def functions(self) -> list[tuple[str, float, float]]:
        """The functions of the gates, each with alpha and beta."""
        outer = _function(self.layer, self.config.get("activation", "tanh"))
        default = "sigmoid" if self.layer.major >= 3 else "hard_sigmoid"
        inner = _function(self.layer, self.config.get("recurrent_activation", default))
        return {"LSTM": [inner, outer, outer], "GRU": [inner, outer], "SimpleRNN": [outer]}[self.cls]

    @property
    def special(self) -> dict[str, bool]:
        return {"linear_before_reset": self.flag("reset_after", self.layer.major >= 3)} if self.cls == "GRU" else {}


def _turned(source: TensorSource) -> TensorSource:
    return source.permuted((1, 0))


def _row(place: int) -> Callable[[TensorSource], TensorSource]:
    return lambda source: DerivedTensor(source.dtype, source.shape[1:], (source,), lambda array: array[place])


def _function(layer: Layer, stated: Any) -> tuple[str, float, float]:
    name = activation_name(layer, stated)
    if name == "hard_sigmoid":
        return ("HardSigmoid", 1 / 6 if layer.major >= 3 else 0.2, 0.5)
    known = {
        None: ("Affine", 1.0, 0.0), "tanh": ("Tanh", 0.0, 0.0), "sigmoid": ("Sigmoid", 0.0, 0.0),
        "relu": ("Relu", 0.0, 0.0), "softsign": ("Softsign", 0.0, 0.0), "softplus": ("Softplus", 0.0, 0.0),
        "elu": ("Elu", 1.0, 0.0), "leaky_relu": ("LeakyRelu", 0.2, 0.0),
    }  # fmt: skip
    if name not in known:
        raise layer.unsupported(f"the activation {name!r} in a recurrent layer")
    return known[name]


def _run(units: Sequence[_Unit], direction: str, x: Value, states: Sequence[Value | None]) -> tuple[Value, ...]:
    """y (N, T, D * H) and the last states (D, N, H) of one unit, or of two for both directions."""
    first, kind = units[0], _KINDS[units[0].cls]
    listed = [each for unit in units for each in unit.functions()]
    plain = tuple(name for name, _, _ in listed) == kind.FUNCTIONS * len(units)
    functions: dict[str, Any] = {}
    if not plain:
        names, alphas, betas = zip(*listed, strict=True)
        functions = {"activations": names}
        functions.update({key: values for key, values in (("alphas", alphas), ("betas", betas)) if any(values)})
    op = kind(direction, _ORDERS[first.cls], batch_first=True, **functions, **first.special)  # type: ignore[arg-type]
    named: dict[str, Value | None] = {"x": x, **dict(zip("hc", states, strict=False))}
    for suffix, unit in zip(("", "_back"), units, strict=False):
        named.update(unit.operands(suffix))
    return first.layer.emit_many(op, *(named.get(name.rstrip("?")) for name in op.inputs))


def _begin(layer: Layer, given: Sequence[Value], count: int) -> list[Value | None]:
    """`given` lists the states (N, H) of one direction after the other; as (D, N, H)."""
    if not given:
        return [None] * count
    directions = len(given) // count
    if len(given) != directions * count:
        raise layer.malformed(f"{len(given)} initial states")
    stacked: list[Value | None] = []
    for place in range(count):
        rows = [layer.emit(ops.Unsqueeze((0,)), given[way * count + place]) for way in range(directions)]
        stacked.append(rows[0] if len(rows) == 1 else layer.emit(ops.Concat(0), *rows))
    return stacked


def _check(layer: Layer, config: Mapping[str, Any]) -> None:
    if layer.kwargs.get("mask") is not None:
        raise layer.unsupported("a mask")
    if layer.always_training and (config.get("dropout") or config.get("recurrent_dropout")):
        raise layer.unsupported("dropout at inference")
    for key in ("stateful", "time_major"):
        if config.get(key):
            raise layer.unsupported(f"{key}=True")


def _operands(layer: Layer, x: Any, rest: Sequence[Any]) -> tuple[Value, list[Value]]:
    """The data and the initial states, which may follow it, stand with it in a list, or have a name."""
    data, *more = x if isinstance(x, list) else [x]
    for given in (*rest, layer.kwargs.get("initial_state")):
        more += given if isinstance(given, list) else [] if given is None else [given]
    if not isinstance(data, Value) or not all(isinstance(state, Value) for state in more):
        raise layer.malformed("it is not called with tensors")
    return data, [layer.cast(state, data.dtype) for state in more]


def _slot(layer: Layer, state: Value, place: int) -> Value:
    """The state (N, H) of one direction."""
    if state.shape[0] == 1:
        return layer.emit(ops.Squeeze((0,)), state)
    return layer.emit(ops.Squeeze((0,)), layer.emit(ops.Slice((0,), (place,), (place + 1,), (1,)), state))


@rules.imports("SimpleRNN", "GRU", "LSTM")
def _layer(layer: Layer, x: Any, *rest: Any) -> list[Value]:
    return _sequence(layer, [_Unit(layer, layer.cls, layer.config)], x, rest)


@rules.imports("RNN")
def _cells(layer: Layer, x: Any, *rest: Any) -> list[Value]:
    """Stacked cells give what layers one after another give."""
    return _sequence(layer, [_Unit(layer, *each) for each in _described(layer)], x, rest)


def _described(layer: Layer) -> list[tuple[str, Mapping[str, Any], str]]:
    """(class of the layer, configuration, prefix of the weights) of each cell."""
    listed = cells(layer.config)
    known = [cls.removesuffix("Cell") for cls, _ in listed]
    for name, (cls, _) in zip(known, listed, strict=True):
        if name not in _KINDS or not cls.endswith("Cell"):
            raise layer.unsupported(f"the cell {cls}")
    if len(listed) == 1:
        return [(known[0], listed[0][1], "")]
    return [(name, config, f"{place}/") for place, (name, (_, config)) in enumerate(zip(known, listed, strict=True))]


def _sequence(layer: Layer, units: Sequence[_Unit], x: Any, rest: Sequence[Any]) -> list[Value]:
    """One unit after another in one direction."""
    if not units:
        raise layer.malformed("it has no cells")
    for unit in units:
        _check(layer, {**unit.config, **layer.config})
    data, given = _operands(layer, x, rest)
    backwards = layer.flag("go_backwards", False)
    counts = [len(_KINDS[unit.cls].STATES) for unit in units]
    if given and len(given) != sum(counts):
        raise layer.malformed(f"{len(given)} initial states, {sum(counts)} are needed")
    ends: list[Value] = []
    y = data
    for unit, count in zip(units, counts, strict=True):
        begins, given = given[:count], given[count:]
        y, *states = _run([unit], "reverse" if backwards else "forward", y, _begin(layer, begins, count))
        ends += states
    if not layer.flag("return_sequences", False):
        y = _slot(layer, ends[-counts[-1]], 0)
    elif backwards:
        y = layer.emit(ops.Slice((1,), (None,), (None,), (-1,)), y)
    return [y, *(_slot(layer, end, 0) for end in ends)] if layer.flag("return_state", False) else [y]


@rules.imports("Bidirectional")
def _bidirectional(layer: Layer, x: Any, *rest: Any) -> list[Value]:
    inner = layer.wrapped()
    if inner.cls not in _KINDS:
        raise layer.unsupported(f"a {inner.cls} in both directions")
    forth = _Unit(layer, inner.cls, inner.config, "forward/")
    other = layer.config.get("backward_layer")
    config = other.get("config") if isinstance(other, Mapping) else None
    back = _Unit(layer, inner.cls, config if isinstance(config, Mapping) else inner.config, "backward/")
    same = ("units", "return_sequences", "return_state", "reset_after", "use_bias")
    if isinstance(other, Mapping) and (
        other.get("class_name") != inner.cls or any(forth.config.get(key) != back.config.get(key) for key in same)
    ):
        raise layer.unsupported("two directions of different layers")
    if forth.flag("go_backwards", False):
        raise layer.unsupported("a layer that goes backwards anyway")
    for unit in (forth, back):
        _check(layer, unit.config)
    data, given = _operands(layer, x, rest)
    begins = _begin(layer, given, len(_KINDS[inner.cls].STATES))
    y, *states = _run([forth, back], "bidirectional", data, begins)
    results = _merged(layer, forth, y, states[0])
    if not forth.flag("return_state", False):
        return results
    return [*results, *(_slot(layer, state, place) for place in (0, 1) for state in states)]


def _merged(layer: Layer, unit: _Unit, y: Value, h: Value) -> list[Value]:
    """The results of both directions, all of y or the last of each, put together as `merge_mode` says."""
    mode = layer.config.get("merge_mode", "concat")
    if mode not in ("concat", "sum", "mul", "ave", None):
        raise layer.malformed(f"merge_mode is {mode!r}")
    if not unit.flag("return_sequences", False):
        forth, back = _slot(layer, h, 0), _slot(layer, h, 1)
    elif mode == "concat":
        return [y]
    else:
        width = y.shape[2] // 2
        forth, back = layer.emit_many(ops.Split(2, (width, width)), y)
    if mode is None:
        return [forth, back]
    if mode == "concat":
        return [layer.emit(ops.Concat(1), forth, back)]
    merged = layer.emit(ops.Mul() if mode == "mul" else ops.Add(), forth, back)
    return [layer.emit(ops.Mul(), merged, layer.constant(0.5, merged)) if mode == "ave" else merged]
