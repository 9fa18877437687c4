"""Operators that isomorph has no op for, kept as the file states them and written back.

The reader's last resort (see reader.py): what no rule reads becomes `Preserved`, with result types from the shape
inference of the onnx package, or as the file states them. Nothing is executed.
See: docs/decisions/0013-preserved-operators.md
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, TypeProto, helper

from isomorph.converters.onnx import inference
from isomorph.converters.onnx.codec import type_proto, value_type
from isomorph.converters.onnx.definitions import Use, known_attributes, opsets_for
from isomorph.converters.onnx.export import Export
from isomorph.converters.onnx.functions import names_made, names_read, rename_graph
from isomorph.converters.onnx.reading import OnnxNode, parse_size
from isomorph.converters.onnx.rules import rules
from isomorph.converters.onnx.tensors import tensor_proto, tensor_source
from isomorph.errors import MalformedError, first_line
from isomorph.ir import Dim, Node, Parameter, Sym, TensorType, Value
from isomorph.ir.op import OpaqueType
from isomorph.ir.ops.preserved import Preserved, Stated
from isomorph.ir.shapes import names_in

__all__ = ["fits", "in_newer_words", "keep", "node_proto", "versions"]

_NUMBERS = {
    AttributeProto.INT: ("int", "i"),
    AttributeProto.FLOAT: ("float", "f"),
    AttributeProto.INTS: ("ints", "ints"),
    AttributeProto.FLOATS: ("floats", "floats"),
}
_CODES = {
    "int": AttributeProto.INT,
    "float": AttributeProto.FLOAT,
    "string": AttributeProto.STRING,
    "bytes": AttributeProto.STRING,
    "ints": AttributeProto.INTS,
    "floats": AttributeProto.FLOATS,
    "strings": AttributeProto.STRINGS,
    "tensor": AttributeProto.TENSOR,
    "tensors": AttributeProto.TENSORS,
    "graph": AttributeProto.GRAPH,
    "type": AttributeProto.TYPE_PROTO,
}


@dataclass(slots=True)
class _Kept:
    """What is found of a node's attributes: as stated, the tensors among them, the names that subgraphs read."""

    stated: list[Stated] = field(default_factory=list)
    tensors: list[Parameter] = field(default_factory=list)
    captures: list[str] = field(default_factory=list)
    imports: dict[str, int] = field(default_factory=dict)


def keep(node: OnnxNode, proto: NodeProto, reason: str, declared: Mapping[str, TypeProto]) -> list[Value | None]:
    """The results of a node that is kept as it is, None for one that is left out.

    declared  the types that the file states, by name of the value
    Raises UnsupportedError for what cannot be kept, MalformedError for a node that contradicts itself.
    """
    graph = node.graph
    kept = _looked_at(node, proto, reason)
    own = [graph.value(name) for name in proto.input if name]
    captured = [graph.value(name) for name in kept.captures]
    types, decided = _results(node, proto, kept, declared, reason)
    op = Preserved(
        proto.op_type,
        _domain(proto),
        node.opset,
        tuple(kind for kind in types if kind is not None),
        tuple(kept.stated),
        tuple(position for position, name in enumerate(proto.input) if not name),
        tuple(position for position, kind in enumerate(types) if kind is None),
        tuple(kept.captures),
        tuple(decided),
        tuple(sorted(kept.imports.items())),
        reason,
    )
    tensors = [graph.builder.parameter(parameter) for parameter in kept.tensors]
    made = iter(graph.builder.emit_many(op, *own, *captured, *tensors))
    return [None if kind is None else next(made) for kind in types]


def in_newer_words(proto: NodeProto) -> NodeProto | None:
    """An operator that opset 13 has not any more as the one that took its place; None if there is none."""
    if proto.op_type != "Upsample" or len(proto.input) != 2:
        return None
    made = helper.make_node(
        "Resize",
        [proto.input[0], "", proto.input[1]],
        list(proto.output),
        name=proto.name,
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    made.attribute.extend(item for item in proto.attribute if item.name == "mode")
    return made


def _looked_at(node: OnnxNode, proto: NodeProto, reason: str) -> _Kept:
    """The attributes of a node that is as its operator is defined."""
    kept = _Kept()
    for item in proto.attribute:
        _attribute(node, proto, item, kept)
    unreadable = [each.name for each in kept.stated if each.kind == "bytes"]
    if unreadable and not _domain(proto):
        raise MalformedError(f"attribute {unreadable[0]!r} of {node.kind} is no UTF-8", at=node.where)
    _check(node, proto, reason)
    return kept


def _check(node: OnnxNode, proto: NodeProto, reason: str) -> None:
    """Refuse a node, or one in its subgraphs, that is not as the onnx package defines its operator."""
    inside = [nested for item in proto.attribute if item.HasField("g") for nested in _graphs(item.g)]
    nodes = []
    for each in (proto, *(each for nested in inside for each in nested.node)):
        alone = NodeProto()
        alone.CopyFrom(each)
        for item in alone.attribute:
            if item.type == AttributeProto.GRAPH:
                item.g.Clear()
                item.g.name = "subgraph"  # its nodes are checked one by one, for they read what is around it
        nodes.append(alone)
    try:
        inference.check(_model(node, proto, helper.make_graph(nodes, "nodes", [], [])))
    except inference.Refusal as error:
        node.refuse(f"{reason}; it is not as its operator is defined: {first_line(error)}")
    except inference.Crash as error:
        raise MalformedError(f"{node.kind} has unusable attributes", at=node.where, because=str(error)) from None


def _model(node: OnnxNode, proto: NodeProto, graph: GraphProto) -> onnx.ModelProto:
    opsets = {**node.graph.opsets, _domain(proto): node.opset}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items() if version]
    return helper.make_model(graph, opset_imports=imports)


def _domain(proto: NodeProto) -> str:
    return "" if proto.domain == "ai.onnx" else proto.domain


def _attribute(node: OnnxNode, proto: NodeProto, item: AttributeProto, kept: _Kept) -> None:
    kind, source = _NUMBERS.get(item.type, ("", ""))
    if kind:
        found = getattr(item, source)
        kept.stated.append(Stated(item.name, kind, tuple(found) if kind.endswith("s") else found))
    elif item.type == AttributeProto.STRING:
        text = _text(item.s)
        data = base64.b64encode(item.s).decode()
        kept.stated.append(Stated(item.name, "bytes", data) if text is None else Stated(item.name, "string", text))
    elif item.type == AttributeProto.STRINGS and None not in (texts := tuple(map(_text, item.strings))):
        kept.stated.append(Stated(item.name, "strings", texts))
    elif item.type in (AttributeProto.TENSOR, AttributeProto.TENSORS):
        tensors = [item.t] if item.type == AttributeProto.TENSOR else list(item.tensors)
        kind = "tensor" if item.type == AttributeProto.TENSOR else "tensors"
        kept.stated.append(Stated(item.name, kind, len(tensors)))
        name = f"{node.outputs[0] if node.outputs else node.kind}.{item.name}"
        kept.tensors += [Parameter(name, tensor_source(each, None), False, "constant") for each in tensors]
    elif item.type == AttributeProto.TYPE_PROTO:
        kept.stated.append(Stated(item.name, "type", _encoded(item.tp)))
    elif item.type == AttributeProto.GRAPH:
        kept.captures += [name for name in _captured(node, item.g) if name not in kept.captures]
        kept.imports.update(_imports(node, proto, item.g))
        kept.stated.append(Stated(item.name, "graph", _encoded(item.g)))
    else:
        node.refuse(f"its attribute {item.name!r} is of a kind that isomorph does not keep")


def _text(data: bytes) -> str | None:
    """Bytes as text, None if they are no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _encoded(message: Any) -> str:
    return base64.b64encode(message.SerializeToString(deterministic=True)).decode()


def _captured(node: OnnxNode, graph: GraphProto) -> list[str]:
    """Names that a subgraph reads from around it. What lies in other files is not kept."""
    for inner in _graphs(graph):
        stated = (item.t for each in inner.node for item in each.attribute if item.HasField("t"))
        sparse = (part for each in inner.sparse_initializer for part in (each.values, each.indices))
        tensors = [*inner.initializer, *stated, *sparse]
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors):
            node.refuse("its subgraph has weights in another file")
    made = names_made(graph)
    outside = (names_read(graph.node) | {item.name for item in graph.output}) - made - {""}
    for name in outside:
        if not node.graph.knows(name):
            raise MalformedError(
                f"a subgraph of {node.kind} reads {name!r}, which nothing before produces", at=node.where
            )
    return sorted(outside)


def _imports(node: OnnxNode, proto: NodeProto, graph: GraphProto) -> dict[str, int]:
    """The domains of the operators in a subgraph and their versions."""
    opsets = {**node.graph.opsets, _domain(proto): node.opset}
    domains = {_domain(each) for inner in _graphs(graph) for each in inner.node}
    unknown = sorted(domain for domain in domains if not opsets.get(domain))
    if unknown:
        node.refuse(f"its subgraph has operators of the domain {unknown[0]!r}, whose version the file does not state")
    return {domain: opsets[domain] for domain in domains}


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for each in graph.node:
        for item in each.attribute:
            if item.type == AttributeProto.GRAPH:
                yield from _graphs(item.g)


def _results(
    node: OnnxNode, proto: NodeProto, kept: _Kept, declared: Mapping[str, TypeProto], reason: str
) -> tuple[list[TensorType | None], list[str]]:
    """The types of the results, None for those left out, and the dimensions that are first seen in them."""
    inferred = _inferred(node, proto, kept.captures)
    known = {str(dim): dim for name in (*proto.input, *kept.captures) if name for dim in node.graph.value(name).shape}
    decided: list[str] = []
    types: list[TensorType | None] = []

    def size(dim: onnx.TensorShapeProto.Dimension) -> Dim:
        return _size(node, dim, known, decided)

    for name in proto.output:
        kind = value_type(inferred[name], node.where, size) if name in inferred else None
        if name in declared and (kind is None or _has_any_rank(kind)):
            stated = value_type(declared[name], node.where, size)
            kind = stated if kind is None or (stated is not None and stated.dtype is kind.dtype) else kind
        if name and kind is None and name in node.outputs:
            node.refuse(f"{reason}; the type of its result {name!r} is not stated")
        types.append(kind if name else None)
    used = set(names_in(kind.shape for kind in types if kind is not None))
    return types, [name for name in decided if name in used]


def _has_any_rank(kind: TensorType) -> bool:
    return isinstance(kind, OpaqueType) and kind.form == "tensor"


def _size(node: OnnxNode, dim: onnx.TensorShapeProto.Dimension, known: dict[str, Dim], decided: list[str]) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    text = dim.dim_param
    if text in known:
        return known[text]
    stated = parse_size(text) if text and not text.startswith("unk__") else None
    if isinstance(stated, Sym) and stated.names() <= node.graph.dims():
        return stated
    fresh = node.graph.new_dim(f"{node.kind.lower()}_")
    decided.extend(fresh.names())
    if text:
        known[text] = fresh
    return fresh


def _inferred(node: OnnxNode, proto: NodeProto, captures: Sequence[str], strict: bool = False) -> dict[str, TypeProto]:
    """What the onnx package infers of the results of this node alone. Raises Refusal if `strict`."""
    names = list(dict.fromkeys(name for name in (*proto.input, *captures) if name))
    inputs = [helper.make_value_info(name, type_proto(node.graph.value(name).type)) for name in names]
    constants = [
        onnx.numpy_helper.from_array(array, name)
        for name in names
        if (array := node.graph.folded(name)) is not None and array.dtype.kind in "iufb"
    ]
    graph = helper.make_graph([proto], "node", inputs, [], constants)
    try:
        inferred = inference.infer(_model(node, proto, graph), strict=strict)
    except inference.Refusal:
        if strict:
            raise
        return {}
    except inference.Crash as error:
        raise MalformedError(f"{node.kind} has unusable attributes", at=node.where, because=str(error)) from None
    return {item.name: item.type for item in inferred.graph.value_info}


def fits(node: OnnxNode, proto: NodeProto) -> bool:
    """Whether a node that a rule finds contradictory may be right: sizes are open, and its operator takes the rest."""
    names = [name for name in proto.input if name]
    if all(node.graph.value(name).type.is_static for name in names):
        return False
    try:
        _inferred(node, proto, (), strict=True)
    except inference.Refusal:
        return False
    return True


def node_proto(
    op: Preserved,
    inputs: Sequence[str],
    outputs: Sequence[str],
    captured: Mapping[str, str],
    tensors: Sequence[TensorProto],
) -> NodeProto:
    """The operator as a node of a file.

    inputs, outputs  names of the operands and results that are there
    captured         what the names that its subgraphs read are called in this file; names made in them stay
    tensors          its tensor attributes, in order
    """
    proto = NodeProto(op_type=op.kind, domain=op.domain)
    proto.input.extend(_with_gaps(inputs, op.absent))
    proto.output.extend(_with_gaps(outputs, op.unused))
    given = iter(tensors)
    for each in (Stated(*each) for each in op.stated):
        item = proto.attribute.add(name=each.name, type=_CODES[each.kind])
        if each.kind == "int":
            item.i = each.value
        elif each.kind == "float":
            item.f = each.value
        elif each.kind in ("ints", "floats"):
            getattr(item, each.kind).extend(each.value)
        elif each.kind == "string":
            item.s = each.value.encode()
        elif each.kind == "bytes":
            item.s = base64.b64decode(each.value)
        elif each.kind == "strings":
            item.strings.extend(text.encode() for text in each.value)
        elif each.kind == "type":
            item.tp.ParseFromString(base64.b64decode(each.value))
        elif each.kind == "graph":
            item.g.ParseFromString(base64.b64decode(each.value))
            rename_graph(item.g, lambda name: captured.get(name, name))
        else:
            found = [next(given) for _ in range(each.tensors)]
            item.t.CopyFrom(found[0]) if each.kind == "tensor" else item.tensors.extend(found)
    return proto


def _with_gaps(names: Sequence[str], gaps: Sequence[int]) -> list[str]:
    """The names with "" at these positions."""
    rest = iter(names)
    return ["" if position in gaps else next(rest) for position in range(len(names) + len(gaps))]


@rules.exports(Preserved)
def write_preserved(export: Export, node: Node) -> None:
    op = node.op
    assert isinstance(op, Preserved)
    values = list(node.operands())
    own = op.own_operands(len(values))
    outside = values[own : own + len(op.captures)]
    inside = {
        name: export.fresh(name)
        for each in op.stated
        if each[1] == "graph"
        for name in sorted(names_made(GraphProto.FromString(base64.b64decode(each[2]))) - {""})
    }
    captured = {name: export.name(value) for name, value in zip(op.captures, outside, strict=True)}
    attributes = values[own + len(op.captures) :]
    tensors = [tensor_proto("", value.parameter.data) for value in attributes if value.parameter is not None]
    proto = node_proto(
        op,
        [export.name(value) for value in values[:own]],
        [export.name(value) for value in node.outputs],
        {**inside, **captured},
        tensors,
    )
    known = None if op.domain else known_attributes(op.kind, export.opset)
    if known is not None:  # what an older definition has not is at its default here
        kept = [item for item in proto.attribute if item.name in known]
        del proto.attribute[:]
        proto.attribute.extend(kept)
    export.inside_nodes.update(attributes)
    export.append(proto)


def versions(node: Node) -> tuple[int, int]:
    """The oldest and the newest opset whose definitions say of a preserved node, and of all in it, what it says."""
    op = node.op
    assert isinstance(op, Preserved)
    uses = [] if op.domain else [_use(node)]
    for each in op.stated:
        if each[1] == "graph":
            graph = GraphProto.FromString(base64.b64decode(each[2]))
            uses += [_inner_use(each) for nested in _graphs(graph) for each in nested.node if not _domain(each)]
    stated = dict(op.imports).get("", op.version)
    low, high = 1, onnx.defs.onnx_opset_version()
    for use in uses:
        oldest, newest = opsets_for(use, stated)
        low, high = max(low, oldest), min(high, newest)
    return low, high


def _use(node: Node) -> Use:
    op = node.op
    assert isinstance(op, Preserved)
    values = list(node.operands())
    inputs = _with_gaps([value.name for value in values[: op.own_operands(len(values))]], op.absent)
    outputs = _with_gaps([value.name for value in node.outputs], op.unused)
    types = {value.name: value.type for value in (*values, *node.outputs)}
    return Use(op.kind, {name: value for name, _, value in op.stated}, inputs, outputs, types)


def _inner_use(proto: NodeProto) -> Use:
    """A node in a subgraph: the types there are not known."""
    texts = {item.name: item.s.decode("utf-8", "replace") for item in proto.attribute if item.type == item.STRING}
    numbers = {item.name: helper.get_attribute_value(item) for item in proto.attribute if item.type in _NUMBERS}
    others = {item.name: None for item in proto.attribute}
    return Use(proto.op_type, {**others, **numbers, **texts}, list(proto.input), list(proto.output), {})
