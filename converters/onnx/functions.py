"""Bodies of functions and of branches, inlined when reading.

    y = MyLayer(x, w)       ->  the nodes of MyLayer's body; its own values are called `y/...`
    y = If(condition)       ->  the nodes of the branch that a known condition takes

The ONNX specification gives a body for many operators itself: what isomorph has no op for is read as that body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto, helper

from isomorph.converters.onnx.codec import type_proto
from isomorph.ir import TensorType

__all__ = [
    "branch_nodes",
    "function_nodes",
    "inline_calls",
    "inlined_count",
    "names_made",
    "names_read",
    "rename_graph",
    "renamed",
    "specified_body",
]

Rename = Callable[[str], str]
FunctionKey = tuple[str, str, str]
"""Domain, name and overload of a model-local function."""


def function_nodes(function: FunctionProto, call: NodeProto, prefix: str) -> list[NodeProto]:
    """The nodes of the body, reading and producing what the call does. Inputs that the call leaves out are absent."""
    names = dict.fromkeys(function.input, "")
    names.update(zip(function.input, call.input, strict=False))
    names.update({inner: outer for inner, outer in zip(function.output, call.output, strict=False) if outer})
    given = {item.name: item for item in function.attribute_proto}
    given.update({item.name: item for item in call.attribute})

    def rename(name: str) -> str:
        return names.get(name, f"{prefix}{name}" if name else "")

    nodes = [renamed(node, rename, given) for node in function.node]
    read_through = [
        helper.make_node("Identity", [names[formal]], [outer])
        for formal, outer in zip(function.output, call.output, strict=False)
        if outer and formal in function.input
    ]
    return nodes + read_through


def inline_calls(
    graph: GraphProto, functions: Mapping[FunctionKey, FunctionProto], prefix: Callable[[NodeProto], str]
) -> None:
    """Put the bodies of functions in the place of their calls, in subgraphs and in bodies, too."""
    pending, nodes = list(graph.node)[::-1], []
    while pending:
        node = pending.pop()
        function = functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            pending += function_nodes(function, node, prefix(node))[::-1]
            continue
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                inline_calls(item.g, functions, prefix)
        nodes.append(node)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def branch_nodes(branch: GraphProto, outputs: Sequence[str], prefix: str) -> tuple[list[NodeProto], Rename]:
    """The nodes of a branch with `outputs` as its results, and the new name of each name in it."""
    produced = {name for node in branch.node for name in node.output if name}
    own = produced | {tensor.name for tensor in _tensors(branch)}
    names = {name: f"{prefix}{name}" for name in own}
    aliases = []
    for inner, outer in zip((item.name for item in branch.output), outputs, strict=False):
        if inner in produced and names[inner].startswith(prefix):
            names[inner] = outer
        else:
            aliases.append((inner, outer))

    def rename(name: str) -> str:
        return names.get(name, name)

    nodes = [renamed(node, rename, None) for node in branch.node]
    return nodes + [helper.make_node("Identity", [rename(inner)], [outer]) for inner, outer in aliases], rename


def renamed(node: NodeProto, rename: Rename, given: dict[str, AttributeProto] | None) -> NodeProto:
    """A copy with other value names, in subgraphs too, and with references to a function's attributes resolved."""
    made = NodeProto()
    made.CopyFrom(node)
    for names in (made.input, made.output):
        renamed = [rename(name) for name in names]
        del names[:]
        names.extend(renamed)
    del made.attribute[:]
    for item in node.attribute:
        source = item
        if item.ref_attr_name and given is not None:
            if item.ref_attr_name not in given:
                continue
            source = given[item.ref_attr_name]
        attribute = made.attribute.add()
        attribute.CopyFrom(source)
        attribute.name = item.name
        if attribute.type == AttributeProto.GRAPH and source is item:
            rename_graph(attribute.g, rename, given)
    return made


def rename_graph(graph: GraphProto, rename: Rename, given: dict[str, AttributeProto] | None = None) -> None:
    """Give every name in a subgraph, and in those in it, its new name."""
    for tensor in _tensors(graph):
        tensor.name = rename(tensor.name)
    for item in (*graph.input, *graph.output, *graph.value_info):
        item.name = rename(item.name)
    nodes = [renamed(node, rename, given) for node in graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _tensors(graph: GraphProto) -> list[Any]:
    """The messages that bear the names of initializers."""
    return [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]


def names_read(nodes: Iterable[NodeProto]) -> set[str]:
    """Every name that a node, or a node of a subgraph, reads."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                names |= names_read(item.g.node) | {output.name for output in item.g.output}
    return names


def names_made(graph: GraphProto) -> set[str]:
    """Every name that a subgraph, or one in it, gives to a value."""
    names = {item.name for item in (*graph.input, *_tensors(graph))}
    for node in graph.node:
        names.update(node.output)
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                names |= names_made(item.g)
    return names


def inlined_count(nodes: Iterable[NodeProto], functions: Mapping[FunctionKey, FunctionProto]) -> int | None:
    """How many nodes there are when all calls of functions are inlined; None if functions call themselves."""
    counts: dict[FunctionKey, int] = {}
    open_calls: set[FunctionKey] = set()

    def count(body: Iterable[NodeProto]) -> int:
        total = 0
        for node in body:
            total += 1 + sum(count(item.g.node) for item in node.attribute if item.type == AttributeProto.GRAPH)
            total += size((node.domain, node.op_type, node.overload))
        return total

    def size(key: FunctionKey) -> int:
        if key in open_calls or len(open_calls) > _DEEPEST_CALL:
            raise RecursionError
        if key in functions and key not in counts:
            open_calls.add(key)
            counts[key] = count(functions[key].node)
            open_calls.discard(key)
        return counts.get(key, 0)

    try:
        return count(nodes)
    except RecursionError:
        return None


_DEEPEST_CALL = 64


def specified_body(call: NodeProto, opset: int, types: Sequence[TensorType | None]) -> FunctionProto | None:
    """The body that the specification gives for this operator of the standard domain, or None."""
    try:
        schema: Any = onnx.defs.get_schema(call.op_type, opset)
    except onnx.defs.SchemaError:
        return None
    stated = {item.name for item in call.attribute}
    fits = schema.min_input <= len(call.input) <= schema.max_input and schema.min_output <= len(call.output)
    required = {name for name, item in schema.attributes.items() if item.required}
    if not fits or not required <= stated or not stated <= set(schema.attributes):
        return None
    if schema.has_function:
        body = FunctionProto()
        body.CopyFrom(schema.function_body)
        body.attribute_proto.extend(
            item.default_value for item in schema.attributes.values() if item.default_value.name
        )
        return body
    if not schema.has_context_dependent_function or any(
        kind is None and name for kind, name in zip(types, call.input, strict=True)
    ):
        return None
    described = [(onnx.TypeProto() if kind is None else type_proto(kind)).SerializeToString() for kind in types]
    try:
        written = schema.get_context_dependent_function(call.SerializeToString(), described)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return None  # attributes or operands that do not fit the operator
    return FunctionProto.FromString(written) if written else None
