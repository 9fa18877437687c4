"""Named dimensions whose size has been found out: the size takes the place of the name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

from isomorph.ir.builder import Rewriter
from isomorph.ir.graph import Graph, Model
from isomorph.ir.op import Op, OpaqueType, TensorType
from isomorph.ir.shapes import Dim, Sym, substitute

__all__ = ["with_sizes"]

GraphT = TypeVar("GraphT", bound=Graph)


def with_sizes(model: Model, sizes: Mapping[str, Dim], pass_name: str) -> Model:
    """The model with sizes for names of dimensions that its nodes decide, in attributes, types and regions.

    A size may be made of names that are known wherever the name that it replaces is.
    """
    return model.with_graph(_known_graph(model.graph, sizes, pass_name))


def _known_graph(graph: GraphT, sizes: Mapping[str, Dim], pass_name: str) -> GraphT:
    b = Rewriter(graph)
    for value in graph.inputs:
        kind = _known(value.type, sizes)
        b.mapping[value] = value if kind == value.type else b.keep(b.input_of(value.name, kind), value.name)
        if kind == value.type:
            b.graph.inputs.append(value)
    for position, node in enumerate(graph.nodes):
        b.begin(position, pass_name)
        b.copy(node, _known_op(node.op, sizes), regions=[_known_graph(each, sizes, pass_name) for each in node.regions])
    b.copy_outputs()
    return b.graph  # type: ignore[return-value]


def _known_op(op: Op, sizes: Mapping[str, Dim]) -> Op:
    changed = {}
    for field in fields(op):
        before = getattr(op, field.name)
        after = _known(before, sizes)
        if field.name == "decides":
            after = tuple(name for name in before if name not in sizes)
        if after != before:
            changed[field.name] = after
    return replace(op, **changed) if changed else op


def _known(value: Any, sizes: Mapping[str, Dim]) -> Any:
    if isinstance(value, Sym):
        return substitute(value, sizes)
    if isinstance(value, TensorType) and not isinstance(value, OpaqueType):
        return TensorType(value.dtype, tuple(substitute(dim, sizes) for dim in value.shape))
    return tuple(_known(each, sizes) for each in value) if isinstance(value, tuple) else value
