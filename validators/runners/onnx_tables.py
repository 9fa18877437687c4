"""What an ONNX file says of its own tables: how many elements they have, which inputs index them, which are states."""

from __future__ import annotations

import json

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto

from isomorph.converters.onnx.codec import STATE

__all__ = ["count", "index_bounds", "states"]


def count(graph: GraphProto) -> int:
    """Elements of all initializers."""
    return sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in graph.initializer)


def index_bounds(graph: GraphProto) -> dict[str, tuple[int, int]]:
    """Integer inputs that index a constant table, directly or through Casts and reshapes: the rows of the smallest
    table."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if tensor.dims}
    for node in graph.node:
        if node.op_type == "Constant":
            values = [a.t for a in node.attribute if a.type == AttributeProto.TENSOR]
            rows.update({node.output[0]: values[0].dims[0]} if values and values[0].dims else {})
    alias = {value.name: value.name for value in graph.input}
    bounds: dict[str, tuple[int, int]] = {}
    for node in graph.node:
        if (
            node.op_type in ("Cast", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Transpose")
            and node.input[0] in alias
        ):
            alias[node.output[0]] = alias[node.input[0]]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if node.op_type == "Gather" and axis == 0 and node.input[0] in rows and node.input[1] in alias:
            source = alias[node.input[1]]
            highest = min(rows[node.input[0]] - 1, bounds.get(source, (0, 1 << 62))[1])
            bounds[source] = (0, highest)
    return bounds


def states(proto: ModelProto) -> set[str]:
    """Inputs that the model keeps from run to run; they have defaults."""
    noted = next((entry.value for entry in proto.metadata_props if entry.key == STATE), "{}")
    return set(json.loads(noted))
