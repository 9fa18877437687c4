"""A model as text, one line a value or node, and back (`parse_model`).

    model lenet
    source "onnx" "opset 17"
    dim N: 1 to any
    input %x: float32[N, 1, 28, 28]
    weight %conv1.weight: float32[8, 1, 5, 5]
    constant %scalar: float32[] = {0.5}
    scope @conv1: torch.nn.Conv2d
    %y: float32[N, 8, 24, 24] = Conv(%x, %conv1.weight, strides=(1, 1), pads=((0, 0), (0, 0)), dilations=(1, 1)) @conv1
    output y = %y

Regions follow their node in braces, one after the other, each opened by its name; a parameter that several graphs list
carries a number that is the same in all of them:

    %z: float32[N] = If(%c, %x, types=(float32[N],)) {
    region then
    input %a: float32[N]
    weight %w: float32[1] shared 0
    %b: float32[N] = Mul(%a, %w)
    output b = %b
    region else
    ...
    }

A value that is no tensor of known rank has a type such as `sequence(float32[any, 8])` (see OpaqueType).
Attributes that have their default are left out. A parameter's data is not in the text, except for constants of at most
16 elements. `#` starts a comment. Names that are not plain are quoted as in JSON.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from isomorph.errors import GraphError
from isomorph.ir.dtypes import DType
from isomorph.ir.graph import Graph, Model, Node, State, Value
from isomorph.ir.layout import Layout
from isomorph.ir.lexer import RESERVED
from isomorph.ir.op import Op, OpaqueType, TensorType
from isomorph.ir.origin import Origin, Scope
from isomorph.ir.params import Parameter
from isomorph.ir.parser import parse_model
from isomorph.ir.shapes import DimRange, Shape, Sym

__all__ = ["parse_model", "print_model"]

_MOST_INLINE = 16
_PLAIN_NAME = re.compile(r"\w+(?:\.\w+)*")
_PLAIN_DIM = re.compile(r"[^\W\d]\w*")


def print_model(model: Model, *, origins: bool = False) -> str:
    """The model as text. With `origins`, each node says where it comes from, after a `!`."""
    graph = model.graph
    scopes = _Scopes()
    shared = _shared(graph)
    nodes = [line for node in graph.nodes for line in _node(node, scopes, origins, shared)]
    lines = [f"model {_name(graph.name)}"]
    if model.source != ("", ""):
        lines.append(f"source {_quoted(model.source[0])} {_quoted(model.source[1])}")
    lines += [f"metadata {_quoted(key)} = {_quoted(text)}" for key, text in model.metadata.items()]
    lines += [_dim_range(name, limits) for name, limits in model.dims.items()]
    lines += _sources(graph, shared)
    lines += scopes.lines
    lines += nodes
    lines += _results(graph)
    lines += [_state(name, state) for name, state in model.state.items()]
    return "\n".join(lines) + "\n"


def _sources(graph: Graph, shared: Mapping[Parameter, int]) -> list[str]:
    return [f"input {_value(value)}" for value in graph.inputs] + [
        _parameter(value, shared) for value in graph.parameters
    ]


def _state(name: str, state: State) -> str:
    """The initial value without its data, as of every buffer."""
    parts = [f"state {_name(name)} = {_name(state.output)}"]
    if state.initial is not None:
        data = state.initial.data
        parts.append(f"initial {data.dtype}{_shape(data.shape)} named {_quoted(state.initial.name)}")
    return " ".join(parts)


def _results(graph: Graph) -> list[str]:
    return [f"output {_name(name)} = %{_name(value.name)}" for name, value in graph.outputs.items()]


def _shared(graph: Graph) -> dict[Parameter, int]:
    """The parameters that several graphs list, numbered."""
    counts = Counter(value.parameter for each in graph.graphs() for value in each.parameters if value.parameter)
    return {parameter: number for number, parameter in enumerate(each for each, count in counts.items() if count > 1)}


class _Scopes:
    """Gives each scope a label: its path, with `~1`, `~2` … where several scopes have one path."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._labels: dict[Scope, str] = {Scope(): "@"}
        self._taken: dict[str, int] = {}

    def label(self, scope: Scope) -> str:
        if scope not in self._labels:
            parent = self.label(Scope(scope.entries[:-1]))
            entry = scope.entries[-1]
            base = f"@{_name(entry.path)}"
            count = self._taken.get(base, 0)
            self._taken[base] = count + 1
            self._labels[scope] = f"{base}~{count}" if count else base
            call = f" call {entry.call}" if entry.call else ""
            inside = "" if parent == "@" else f" in {parent}"
            self.lines.append(f"scope {self._labels[scope]}: {_name(entry.cls)}{call}{inside}")
        return self._labels[scope]


def _node(node: Node, scopes: _Scopes, origins: bool, shared: Mapping[Parameter, int]) -> Iterator[str]:
    results = ", ".join(map(_value, node.outputs))
    operands = ["None" if value is None else f"%{_name(value.name)}" for value in node.inputs]
    parts = [f"{results} = {node.op.name}({', '.join((*operands, *_attributes(node.op)))})"]
    if node.scope.entries:
        parts.append(scopes.label(node.scope))
    if not node.outputs or node.name != node.outputs[0].name:
        parts.append(f"as {_name(node.name)}")
    if origins:
        parts.append(_origin(node.origin))
    yield " ".join([*parts, "{"] if node.regions else parts)
    for region in node.regions:
        yield f"region {_name(region.name)}"
        yield from _sources(region, shared)
        for inner in region.nodes:
            yield from _node(inner, scopes, origins, shared)
        yield from _results(region)
    if node.regions:
        yield "}"


def _attributes(op: Op) -> Iterable[str]:
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if type(value) is not type(field.default) or value != field.default:
            yield f"{field.name}={_literal(value)}"


def _literal(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Sym):
        return _dim(value)
    if isinstance(value, DType | Layout):
        return str(value)
    if isinstance(value, TensorType):
        return _type(value)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_literal, value)) + (",)" if len(value) == 1 else ")")
    raise GraphError(f"the attribute value {value!r} has no text form")


def _parameter(value: Value, shared: Mapping[Parameter, int]) -> str:
    parameter = value.parameter
    if parameter is None or parameter.role not in ("weight", "buffer", "constant"):
        raise GraphError(f"%{value.name} is listed as a parameter and has no role", because=f"it is {parameter}")
    parts = [f"{parameter.role} {_value(value)}"]
    if parameter.name != value.name:
        parts.append(f"named {_quoted(parameter.name)}")
    if parameter.trainable != (parameter.role == "weight"):
        parts.append("trainable" if parameter.trainable else "frozen")
    if parameter in shared:
        parts.append(f"shared {shared[parameter]}")
    inline = value.dtype is DType.BOOL or value.dtype.is_integer or value.dtype.is_float
    if parameter.role == "constant" and inline and parameter.data.size <= _MOST_INLINE:
        items = parameter.data.numpy().reshape(-1)
        parts.append("= {" + ", ".join(_element(item, value.dtype) for item in items) + "}")
    return " ".join(parts)


def _element(item: Any, dtype: DType) -> str:
    if dtype is DType.FLOAT64:
        return float.__repr__(float(item))
    if dtype is DType.FLOAT32:
        return str(item)
    return str(bool(item)) if dtype is DType.BOOL else repr(float(item) if dtype.is_float else int(item))


def _origin(origin: Origin) -> str:
    parts = [f"! {_name(origin.framework)} {_quoted(origin.op)}"]
    for name in ("name", "file", "line", "code", "passes"):
        value = getattr(origin, name)
        if value:
            parts.append(f"{name}={_literal(value)}")
    return " ".join(parts)


def _dim_range(name: str, limits: DimRange) -> str:
    return f"dim {_dim_name(name)}: {limits.min} to {'any' if limits.max is None else limits.max}"


def _value(value: Value) -> str:
    return f"%{_name(value.name)}: {_type(value.type)}"


def _type(kind: TensorType) -> str:
    """`float32[N, 8]`, `sequence(float32[N, 8])`, `map(int64, float32[])`, `tensor(float32)`."""
    if not isinstance(kind, OpaqueType):
        return f"{kind.dtype}{_shape(kind.shape)}"
    inside = [*([] if kind.key is None else [str(kind.key)]), *([] if kind.element is None else [_type(kind.element)])]
    return f"{kind.form}({', '.join(inside) or kind.dtype})"


def _shape(shape: Shape) -> str:
    return "[" + ", ".join(_dim(dim) if isinstance(dim, Sym) else str(dim) for dim in shape) + "]"


def _dim(dim: Sym) -> str:
    """The expression; dimensions whose names are not plain stand in backquotes."""
    odd = {name: Sym(_dim_name(name)) for name in dim.names() if _dim_name(name) != name}
    return str(dim.substitute(odd)) if odd else str(dim)


def _dim_name(name: str) -> str:
    if _PLAIN_DIM.fullmatch(name) and name not in RESERVED:
        return name
    if "`" in name or "\n" in name or not name:
        raise GraphError(f"the dimension's name {name!r} has no text form")
    return f"`{name}`"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
