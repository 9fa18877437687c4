"""Modules written as model-local functions: each scope of nodes is a call, and calls of one body share it.

    conv -> relu  in `layer1` (nets.Block), again in `layer2`   ->   Block(x, w) called twice, a FunctionProto of `nets`

A function that the source itself had is such a scope, too, since reading inlines it and notes the call (see reader.py):
it comes back under its domain and name, with its attributes filled in. Functions have no weights of their own: what the
body reads is an operand of the call, but for small constants, which become Constant nodes in it. What cannot be taken
out stays where it is: nodes with others between them that depend on some and are read by some.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from onnx import FunctionProto, NodeProto, OperatorSetIdProto, helper

from isomorph.converters.onnx.functions import names_made, names_read, renamed
from isomorph.converters.onnx.tensors import tensor_proto
from isomorph.ir import TensorSource

__all__ = ["Functions", "take_out"]

_SMALL = 1024
"""Constants of fewer bytes become part of the body."""
_SCOPE = "isomorph.scope"
_Entry = tuple[str, str, int]
_Path = tuple[_Entry, ...]
_Placed = tuple[_Path, NodeProto]


@dataclass(slots=True)
class Functions:
    """The functions that were taken out, the nodes that are left, and the initializers that bodies have now."""

    made: list[FunctionProto]
    nodes: list[NodeProto]
    inside: set[str]


@dataclass(slots=True)
class _Body:
    """Nodes to be a function, where they stand, and what goes in and out."""

    path: _Path
    nodes: list[NodeProto]
    inputs: list[str]
    outputs: list[str]
    constants: list[str]


class _Library:
    """The functions so far, one for each domain, name and body."""

    def __init__(self, opsets: Sequence[OperatorSetIdProto], sources: Mapping[str, TensorSource]) -> None:
        self.opsets = {each.domain: each.version for each in opsets}
        self.sources = sources
        self.made: list[FunctionProto] = []
        self._known: dict[bytes, FunctionProto] = {}

    def function(self, body: _Body) -> FunctionProto:
        domain, _, name = body.path[-1][1].rpartition(".")
        numbers: dict[str, str] = {}

        def number(value: str) -> str:
            return numbers.setdefault(value, f"{len(numbers)}") if value else ""

        for value in body.inputs:
            number(value)
        constants = [self._constant(value) for value in body.constants]
        alike = [renamed(_bare(node), number, None) for node in (*constants, *body.nodes)]
        parts = [node.SerializeToString(deterministic=True) for node in alike]
        key = repr((domain, name, len(body.inputs), parts, [number(value) for value in body.outputs])).encode()
        if key not in self._known:
            self._known[key] = self._add(body, constants, domain, self._free(domain, name))
        return self._known[key]

    def _free(self, domain: str, name: str) -> str:
        """The name, or a numbered one. onnxruntime 1.32 takes no notice of overloads: it calls the first."""
        taken, count, chosen = self._names(), 0, name
        while (domain, chosen) in taken:
            count += 1
            chosen = f"{name}_{count}"
        return chosen

    def _names(self) -> set[tuple[str, str]]:
        return {(each.domain, each.name) for each in self.made}

    def _constant(self, value: str) -> NodeProto:
        return helper.make_node("Constant", [], [value], value=tensor_proto("", self.sources[value]))

    def _add(self, body: _Body, constants: Sequence[NodeProto], domain: str, name: str) -> FunctionProto:
        short = _short_names(body)
        nodes = [
            renamed(_bare(node), lambda value: short.get(value, value), None) for node in (*constants, *body.nodes)
        ]
        for node, inner in zip(nodes[len(constants) :], body.nodes, strict=True):
            if (inner.domain, inner.op_type) in self._names():
                node.name = inner.name.removeprefix(body.path[-1][0]).lstrip(".").rpartition("/")[2]
        used = {node.domain for node in nodes} | {""}
        imports = [helper.make_opsetid(each, self.opsets.get(each, 1)) for each in sorted(used)]
        inputs, outputs = ([short[value] for value in listed] for listed in (body.inputs, body.outputs))
        made = helper.make_function(domain, name, inputs, outputs, nodes, imports)
        self.made.append(made)
        return made


def take_out(
    nodes: Sequence[NodeProto],
    outputs: set[str],
    *,
    sources: Mapping[str, TensorSource],
    constants: set[str],
    opsets: Sequence[OperatorSetIdProto],
    least: int = 1,
) -> Functions:
    """The nodes with each module in them as a call, from the innermost out.

    outputs    names of what the graph gives
    sources    the initializers; those in `constants` are no weights
    opsets     what the graph imports: a module of one of these domains stays
    least      modules of fewer nodes stay
    """
    library = _Library(opsets, sources)
    imported = dict(library.opsets)
    small = {name for name in constants if sources[name].nbytes < _SMALL}
    left = [(_path(node), node) for node in nodes]
    inside: set[str] = set()
    for level in range(max((len(path) for path, _ in left), default=0), 0, -1):
        for module in dict.fromkeys(path[:level] for path, _ in left if len(path) >= level):
            placed = _gathered(left, module) if _is_callable(module, imported) else None
            if placed is None or len(placed[1]) < least:
                continue
            before, nodes_inside, after = placed
            body = _body(module, nodes_inside, [node for _, node in after], outputs, small)
            if not body.outputs:
                continue
            left = [*before, (module[:-1], _call(library.function(body), body)), *after]
            inside.update(body.constants)
    rest = [node for _, node in left]
    return Functions(library.made, rest, inside - names_read(rest) - outputs)


def _path(node: NodeProto) -> _Path:
    for entry in node.metadata_props:
        if entry.key == _SCOPE:
            return _parsed(entry.value)
    return ()


@cache
def _parsed(text: str) -> _Path:
    return tuple((str(path), str(cls), int(call)) for path, cls, call in json.loads(text))


def _is_callable(path: _Path, opsets: Mapping[str, int]) -> bool:
    """Whether the class of the module is a name in a domain of its own, which has no operators."""
    domain, _, name = path[-1][1].rpartition(".")
    return bool(domain and name) and domain not in opsets and domain.split(".")[:2] not in _TAKEN


_TAKEN = [["ai", "onnx"], ["com", "microsoft"]]


def _gathered(nodes: Sequence[_Placed], module: _Path) -> tuple[list[_Placed], list[NodeProto], list[_Placed]] | None:
    """The nodes before a module, in it and after it, in an order that holds; None if there is none."""
    ours = [position for position, (path, _) in enumerate(nodes) if path[: len(module)] == module]
    first, last = ours[0], ours[-1]
    before, body, after = list(nodes[:first]), list[NodeProto](), list[_Placed]()
    made: set[str] = set()
    depending: set[str] = set()
    for path, node in nodes[first : last + 1]:
        read = names_read([node])
        if path[: len(module)] == module:
            if read & depending:
                return None
            body.append(node)
            made.update(node.output)
        elif read & (made | depending):
            after.append((path, node))
            depending.update(node.output)
        else:
            before.append((path, node))
    return before, body, [*after, *nodes[last + 1 :]]


def _body(path: _Path, nodes: list[NodeProto], after: Sequence[NodeProto], outputs: set[str], small: set[str]) -> _Body:
    made = [name for node in nodes for name in node.output if name]
    needed = names_read(after) | outputs
    read = list(dict.fromkeys(name for node in nodes for name in _read(node) if name and name not in set(made)))
    return _Body(
        path,
        nodes,
        [name for name in read if name not in small],
        [name for name in made if name in needed],
        [name for name in read if name in small],
    )


def _read(node: NodeProto) -> Iterator[str]:
    """What a node reads from around it, its operands first."""
    yield from node.input
    for item in node.attribute:
        if item.HasField("g"):
            inner = names_read(item.g.node) | {output.name for output in item.g.output}
            yield from sorted(inner - names_made(item.g))


def _short_names(body: _Body) -> dict[str, str]:
    """Names inside: what follows the last slash, before which reading puts the call's, and a number where they meet."""
    short: dict[str, str] = {}
    graphs = [item.g for node in body.nodes for item in node.attribute if item.HasField("g")]
    taken = {name for graph in graphs for name in names_made(graph)}  # these stay
    values = [*body.inputs, *body.constants, *(name for node in body.nodes for name in node.output if name)]
    for value in dict.fromkeys(values):
        base = value.rpartition("/")[2] or value
        name, count = base, 0
        while name in taken:
            count += 1
            name = f"{base}_{count}"
        short[value] = name
        taken.add(name)
    return short


def _bare(node: NodeProto) -> NodeProto:
    """A node without what only one of several calls may say of it and of the subgraphs in it."""
    made = NodeProto()
    made.CopyFrom(node)
    made.ClearField("metadata_props")
    made.ClearField("name")
    for item in made.attribute:
        if item.HasField("g"):
            item.g.name = item.name
            item.g.ClearField("value_info")
            inner = [_bare(each) for each in item.g.node]
            del item.g.node[:]
            item.g.node.extend(inner)
    return made


def _call(function: FunctionProto, body: _Body) -> NodeProto:
    path, _, turn = body.path[-1]
    name = f"{path}.{turn}" if turn else path  # a module that is called again
    call = helper.make_node(function.name, body.inputs, body.outputs, name=name, domain=function.domain)
    around = [list(entry) for entry in body.path[:-1]]
    if around:
        call.metadata_props.add(key=_SCOPE, value=json.dumps(around, ensure_ascii=False, separators=(",", ":")))
    return call
