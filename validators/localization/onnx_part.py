"""A piece of an ONNX graph as a model of its own: from some values, which become its inputs, to one value.

It is what one op computes when it is given the right operands, and the smallest model that shows a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper

__all__ = ["extract"]


def extract(model: ModelProto, feeds: Mapping[str, np.ndarray], wanted: Sequence[str]) -> ModelProto:
    """The nodes that make `wanted` from `feeds` and weights. Raises KeyError if a value is needed that is neither."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    sparse = {tensor.values.name: tensor for tensor in graph.sparse_initializer}
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    constants: dict[str, None] = {}
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in feeds:
            continue
        if name in makers:
            index = makers[name]
            if index not in needed:
                needed.add(index)
                pending.extend(_reads(graph.node[index]))
        elif name in weights or name in sparse:
            constants[name] = None
        else:
            raise KeyError(name)
    piece = GraphProto(name=graph.name)
    piece.node.extend(graph.node[index] for index in sorted(needed))
    used = {name for index in needed for name in _reads(graph.node[index])}
    piece.initializer.extend(weights[name] for name in constants if name in weights)
    piece.sparse_initializer.extend(sparse[name] for name in constants if name in sparse)
    piece.input.extend(_info(name, array) for name, array in feeds.items() if name in used)
    known = {value.name: value for value in (*graph.value_info, *graph.output)}
    piece.output.extend(known.get(name, onnx.ValueInfoProto(name=name)) for name in wanted)
    made = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name, graph=piece)
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    return made


def _info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, kind, list(array.shape))


def _reads(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, those that its bodies take from outside among them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            inside = {value.name for value in body.input} | {tensor.name for tensor in body.initializer}
            inside |= {name for each in body.node for name in each.output}
            for each in body.node:
                yield from (name for name in _reads(each) if name not in inside)
            yield from (value.name for value in body.output if value.name not in inside)
